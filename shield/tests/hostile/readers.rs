//! Readers that are slow, that stop, and that ask for more than they read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use proto::json::GetResult;
use proto::v1::{Command, Envelope, Set, command::Op, envelope::Payload, event::Body};
use serde_json::json;

use super::support::world::{World, ask, event, now_ms, publish};
use super::support::{self, Got, config};
use super::until_metric;

/// Keys of a full room.
const KEYS: u8 = 30;

#[tokio::test]
async fn a_slow_reader_goes_alone() {
    let mut config = config();
    config.limits.queue_bytes = 256 << 10;
    let world = World::new(config).await;
    let (mut ann, mut fast, mut slow) =
        (world.client("ann").await, world.client("fast").await, world.client("slow").await);
    assert_eq!(publish(&mut ann, "lobby", "first").await["code"], 0);
    for reader in [&mut fast, &mut slow] {
        assert_eq!(ask(reader, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
        event(reader).await;
    }
    // The slow one stops reading; its socket takes 256 KiB, its queue as much again.
    let data = "x".repeat(30_000);
    for seq in 2..=40 {
        assert_eq!(publish(&mut ann, "lobby", &data).await["seq"], seq);
        assert_eq!(event(&mut fast).await["seq"], seq, "every event, in order");
    }
    until_metric(&world, "shield_slow_consumers_total 1").await;
    until_metric(&world, "shield_closes_total{code=\"4102\"} 1").await;
    // Now it reads again. What it did get has no hole and no cut frame, and it learns why it must go.
    let mut seq = 1;
    loop {
        match slow.next().await {
            Got::Text(text) => {
                let event: serde_json::Value = serde_json::from_str(&text).unwrap();
                seq += 1;
                assert_eq!(event["seq"], seq);
            }
            Got::Close(code, _) => break assert_eq!(code, 4102),
            other => panic!("{other:?}"),
        }
    }
    assert!(seq < 40, "it was told {seq} of 41");
    drop(slow);
    until_metric(&world, "shield_active_connections 2").await;
    assert_eq!(publish(&mut ann, "lobby", "last").await["seq"], 41);
    assert_eq!(event(&mut fast).await["seq"], 41);
}

/// A room whose state takes 480 KB of this byte.
async fn fill(world: &World, room: &str, byte: u8) {
    let mut owner = world.client("owner").await;
    assert_eq!(publish(&mut owner, room, "first").await["code"], 0);
    for n in 0..KEYS {
        let set = Set { key: format!("k{n}"), value: vec![byte; 16_000].into(), ..Set::default() };
        let envelope = Envelope {
            room_id: room.into(),
            timestamp: now_ms(),
            message_id: vec![n + 1; 16].into(),
            ack_requested: true,
            payload: Some(Payload::Cmd(Command { op: Some(Op::Set(set)), ..Command::default() })),
            ..Envelope::default()
        };
        owner.binary(&proto::frame::publish(&envelope.encode_to_vec())).await;
        assert_eq!(support::world::ack(&mut owner).await.code, 0);
    }
}

/// 24 KB a second is a slow link and no dead peer: the pings stand in line behind what it still reads.
#[tokio::test(start_paused = true)]
async fn a_slow_link_that_reads_steadily_stays() {
    let mut config = config();
    config.shield.ping_ms = 1000;
    config.shield.pong_ms = 500;
    config.shield.stall_ms = 2000;
    let world = World::new(config).await;
    fill(&world, "heavy", b'x').await;
    let mut slow = world.narrow_client("slow", 4096).await;
    slow.binary(&[&[proto::frame::SUB][..], br#"{"id":1,"room":"heavy"}"#].concat()).await;
    let mut got = 0;
    let mut last = false;
    while !last {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(slow.sip(2400).await, "the stream ended after {got} bytes");
        while let Some(message) = slow.at_hand().await {
            let Got::Binary(bytes) = message else { panic!("{message:?} after {got} bytes") };
            got += bytes.len();
            last = snapshot_ends(&bytes);
        }
    }
    assert!(got > 480_000, "{got}");
    assert!(!world.http("/metrics").await.contains("shield_closes_total{code=\"4201\"}"));
}

fn snapshot_ends(bytes: &[u8]) -> bool {
    if bytes[0] != proto::frame::PUB {
        return false;
    }
    match Envelope::decode(&bytes[1..]).unwrap().payload {
        Some(Payload::Event(event)) => matches!(event.body, Some(Body::Snapshot(part)) if part.last),
        _ => false,
    }
}

/// It talks, so no ping of ours goes unanswered for want of life; but nothing that waits for it can leave.
#[tokio::test(start_paused = true)]
async fn who_talks_and_never_reads_is_a_slow_reader() {
    let mut config = config();
    config.shield.ping_ms = 1000;
    config.shield.pong_ms = 500;
    config.shield.stall_ms = 2000;
    let world = World::new(config).await;
    fill(&world, "heavy", b'x').await;
    let mut deaf = world.narrow_client("deaf", 4096).await;
    deaf.binary(&[&[proto::frame::SUB][..], br#"{"id":1,"room":"heavy"}"#].concat()).await;
    let talking = tokio::spawn(async move {
        loop {
            deaf.bytes(&support::frame(9, b"x")).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    until_metric(&world, "shield_closes_total{code=\"4102\"} 1").await;
    until_metric(&world, "shield_active_connections 1").await;
    talking.abort();
}

/// Answers to gets, complete: their parts and the state they join to.
async fn answers(client: &mut support::Raw<tokio::io::DuplexStream>, n: usize) -> Vec<(usize, GetResult)> {
    let mut open: BTreeMap<u64, (usize, GetResult)> = BTreeMap::new();
    let mut done = Vec::new();
    while done.len() < n {
        let text = match client.next().await {
            Got::Text(text) => text,
            Got::Binary(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?} after {} answers", done.len()),
        };
        assert!(text.len() <= 2 * (64 << 10) + (16 << 10), "a message of {} bytes", text.len());
        let part: GetResult = serde_json::from_str(text.trim_start_matches(|c: char| c < ' ')).unwrap();
        assert!(part.ok, "{part:?}");
        let (id, last) = (part.id, part.is_last());
        match open.get_mut(&id) {
            Some((parts, whole)) => {
                *parts += 1;
                whole.join(part);
            }
            None => drop(open.insert(id, (1, part))),
        }
        if last {
            done.extend(open.remove(&id));
        }
    }
    done
}

/// One answer is larger than the queue may be, and eight are asked for before the first is read.
#[tokio::test]
async fn gets_of_full_rooms_close_no_reader() {
    let mut config = config();
    config.limits.queue_bytes = 128 << 10;
    let world = World::new(config).await;
    // Characters that take six bytes each in JSON.
    fill(&world, "heavy", 1).await;
    for text in [false, true] {
        let mut reader = world.client("reader").await;
        for id in 0..8 {
            let get = json!({ "op": "get", "id": id, "room": "heavy" }).to_string();
            if text {
                reader.text(&get).await;
            } else {
                reader.binary(&[&[proto::frame::SUB], get.as_bytes()].concat()).await;
            }
        }
        for (parts, whole) in answers(&mut reader, 8).await {
            assert!(parts > 1, "{parts} parts");
            let entries = whole.state.unwrap()["entries"].as_array().unwrap().clone();
            let keys: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["key"].as_str()).collect();
            assert_eq!((entries.len(), keys.len()), (KEYS.into(), KEYS.into()), "each key once");
        }
        assert_eq!(publish(&mut reader, "heavy", "still here").await["code"], 0);
    }
}

/// Eight full rooms at once are 4 MB. Who reads nothing is given a part of them, and the rest once it reads.
#[tokio::test(start_paused = true)]
async fn who_reads_nothing_pins_little() {
    const ROOMS: usize = 8;
    let mut config = config();
    config.shield.stall_ms = 600_000;
    let world = World::new(config).await;
    for n in 0..ROOMS {
        fill(&world, &format!("heavy-{n}"), b'x').await;
    }
    let mut deaf = world.narrow_client("deaf", 4096).await;
    for n in 0..ROOMS {
        let sub = json!({ "id": n, "room": format!("heavy-{n}") }).to_string();
        deaf.binary(&[&[proto::frame::SUB], sub.as_bytes()].concat()).await;
    }
    let mut most = 0;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let metrics = world.http("/metrics").await;
        let bytes = metrics.lines().find_map(|line| line.strip_prefix("shield_queue_bytes ")).unwrap();
        most = most.max(bytes.parse::<u64>().unwrap());
    }
    assert!((256 << 10..1 << 20).contains(&most), "{most} bytes wait, and are counted");
    let (mut results, mut whole) = (0, 0);
    while (results, whole) != (ROOMS, ROOMS) {
        match deaf.next().await {
            Got::Binary(bytes) if bytes[0] == proto::frame::PUB => whole += usize::from(snapshot_ends(&bytes)),
            Got::Binary(bytes) => {
                let result: serde_json::Value = serde_json::from_slice(&bytes[1..]).unwrap();
                assert_eq!(result["ok"], true, "{result}");
                results += 1;
            }
            other => panic!("{other:?} after {results} results and {whole} snapshots"),
        }
    }
}

#[tokio::test]
async fn a_reload_holds_for_connections_that_live() {
    let world = World::new(config()).await;
    let mut ann = world.client("ann").await;
    assert_eq!(publish(&mut ann, "lobby", "first").await["code"], 0);
    let limits = |change: fn(&mut voltron_core::config::Limits)| {
        let mut limits = config().limits;
        change(&mut limits);
        world.limits.store(std::sync::Arc::new(limits));
    };
    limits(|limits| (limits.pub_per_s, limits.pub_burst) = (1, 1));
    let codes =
        [publish(&mut ann, "lobby", "a").await, publish(&mut ann, "lobby", "b").await].map(|ack| ack["code"].clone());
    assert_eq!(codes[1], 4502, "{codes:?}");
    limits(|limits| limits.message_bytes = 1024);
    assert_eq!(publish(&mut ann, "lobby", "c").await["code"], 0, "the old rate again");
    ann.text(&json!({ "op": "pub", "room": "lobby", "data": "x".repeat(2000) }).to_string()).await;
    loop {
        match ann.next().await {
            Got::Close(code, _) => break assert_eq!(code, 4002),
            Got::End => panic!("no close frame"),
            _ => {}
        }
    }
}
