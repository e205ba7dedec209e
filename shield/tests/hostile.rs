//! What a client does to harm the Shield or others: floods, silence, names that are none, tokens of strangers. Each test
//! has a witness who must not notice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use support::world::{LIMIT, World, ask, event, now_ms, publish};
use support::{Got, Raw, claims, config, say, token};
use voltron_core::Net as _;

/// Waits until `/metrics` holds this line.
async fn until_metric(world: &World, line: &str) {
    tokio::time::timeout(LIMIT, async {
        while !world.http("/metrics").await.lines().any(|known| known == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{line} in time"));
}

/// Names that mean something to a broker, to HTTP or to a line protocol.
const NO_ROOMS: [&str; 16] = [
    "",
    ".",
    "a.b",
    "*",
    ">",
    "lobby.>",
    "a b",
    "lobby\r\nPUB x 0\r\n",
    "a\nb",
    "a\0b",
    "$JS.API.STREAM.DELETE.LOG_0",
    "$SYS",
    "_INBOX.s.shield-1.1",
    "-lobby",
    "lobb\u{443}",
    "\u{feff}lobby",
];

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

/// A room whose state takes 480 KB.
async fn fill(world: &World, room: &str) {
    use prost::Message as _;
    use proto::v1::{Command, Envelope, Set, command::Op, envelope::Payload};
    let mut owner = world.client("owner").await;
    assert_eq!(publish(&mut owner, room, "first").await["code"], 0);
    for n in 0..30u8 {
        let set = Set { key: format!("k{n}"), value: vec![n; 16_000].into(), ..Set::default() };
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
    fill(&world, "heavy").await;
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
    use prost::Message as _;
    use proto::v1::{Envelope, envelope::Payload, event::Body};
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
    fill(&world, "heavy").await;
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

#[tokio::test]
async fn who_answers_no_ping_is_closed_with_4201() {
    let mut config = config();
    config.shield.ping_ms = 200;
    config.shield.pong_ms = 100;
    let world = World::new(config).await;
    let (mut dead, mut alive) = (world.client("dead").await, world.client("alive").await);
    dead.pongs = false;
    let answering = tokio::spawn(async move {
        loop {
            if let Got::Close(code, _) = alive.next().await {
                return code;
            }
        }
    });
    assert!(matches!(dead.next().await, Got::Close(4201, _)));
    until_metric(&world, "shield_active_connections 1").await;
    assert!(!answering.is_finished(), "who answers stays");
    answering.abort();
}

#[tokio::test]
async fn strangers_tokens_open_nothing() {
    let world = World::new(config()).await;
    let good = claims("ann", now_ms() / 1000);
    let foreign = |header: &Header, key: &[u8]| encode(header, &good, &EncodingKey::from_secret(key)).unwrap();
    let none = {
        let part = |json: &str| data_encoding::BASE64URL_NOPAD.encode(json.as_bytes());
        let body = serde_json::to_string(&good).unwrap();
        format!("{}.{}.", part(r#"{"alg":"none","typ":"JWT"}"#), part(&body))
    };
    let crit = {
        let part = |json: &str| data_encoding::BASE64URL_NOPAD.encode(json.as_bytes());
        let own = token(&good);
        let rest = own.split_once('.').unwrap().1;
        format!("{}.{rest}", part(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#))
    };
    let swapped = {
        let (mut mine, other) = (good.clone(), token(&good));
        mine.tid = "victim".into();
        let (head, signature) = (other.split('.').next().unwrap(), other.rsplit('.').next().unwrap());
        format!("{head}.{}.{signature}", token(&mine).split('.').nth(1).unwrap())
    };
    let mut tenant = good.clone();
    tenant.tid = "a.b".into();
    let mut user = good.clone();
    user.sub = "*".into();
    let mut audience = good.clone();
    audience.aud = None;
    let cases = [
        ("another key", foreign(&Header::default(), b"another secret, also of 32 bytes")),
        ("another algorithm", foreign(&Header::new(jsonwebtoken::Algorithm::HS384), support::SECRET)),
        ("none", none),
        ("crit", crit),
        ("claims of another token", swapped),
        ("tenant a.b", token(&tenant)),
        ("user *", token(&user)),
        ("no audience", token(&audience)),
        ("dots", "...".into()),
        ("long", "a".repeat(17 << 10)),
    ];
    for (name, token) in cases {
        let mut client = Raw::new(world.net.connect("ws").await.unwrap());
        let headers = ["Sec-WebSocket-Protocol: arqon.v1".into(), format!("Authorization: Bearer {token}")];
        let head = client.handshake("/v1/ws", &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{name}: {head}");
        match client.next().await {
            Got::Binary(err) => assert_eq!((err[0], &err[1..3]), (0x99, &2002u16.to_be_bytes()[..]), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(client.next().await, Got::Close(4001, _)), "{name}");
    }
    until_metric(&world, "shield_active_connections 0").await;
}

#[tokio::test]
async fn names_that_are_none_reach_nobody() {
    let mut config = config();
    config.shield.linger_ms = 100;
    let world = World::new(config).await;
    let (mut ann, mut eve, mut witness) =
        (world.client("ann").await, world.client("eve").await, world.client("wit").await);
    assert_eq!(publish(&mut ann, "lobby", "first").await["code"], 0);
    assert_eq!(ask(&mut witness, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
    event(&mut witness).await;
    for (id, name) in (1u64..).zip(NO_ROOMS) {
        let mut frame = vec![proto::frame::PUB];
        frame.extend(say(name, [id as u8; 16], now_ms(), "evil", true));
        eve.binary(&frame).await;
        let Got::Binary(answer) = eve.next().await else { panic!("{name:?}: no answer") };
        let code = match proto::frame::ServerFrame::binary(&answer).unwrap() {
            proto::frame::ServerFrame::Ack(ack) => ack.code,
            proto::frame::ServerFrame::Err(code, _) => code.into(),
            other => panic!("{name:?}: {other:?}"),
        };
        assert!(code == 2006 || (name.is_empty() && code == 1006), "PUB {name:?}: {code}");
        // As a frame and in the text dialect; the answers quote the name, escaped.
        eve.text(&format!("\u{2}{}", json!({"id": id, "room": name}))).await;
        let answer = eve.json().await;
        assert_eq!(
            (&answer["id"], &answer["ok"], &answer["code"]),
            (&json!(id), &json!(false), &json!(2006)),
            "{name:?}"
        );
        for op in ["sub", "get"] {
            eve.text(&json!({"op": op, "id": id, "room": name}).to_string()).await;
            let answer = eve.json().await;
            assert_eq!((&answer["op"], &answer["code"]), (&json!(op), &json!(2006)), "{name:?}: {answer}");
            assert_eq!(answer["room"], name, "{answer}");
        }
        eve.text(&json!({"op": "pub", "id": id, "room": name, "data": "evil", "ack": true}).to_string()).await;
        let code = eve.json().await["code"].as_u64().unwrap();
        assert!(code == 2006 || (name.is_empty() && code == 1006), "text pub {name:?}: {code}");
    }
    // The same room name in another tenant is another room.
    let mut theirs = claims("eve", now_ms() / 1000);
    theirs.tid = "evil".into();
    let mut stranger = Raw::open(world.net.connect("ws").await.unwrap(), &token(&theirs)).await;
    assert_eq!(ask(&mut stranger, json!({"op": "sub", "id": 1, "room": "lobby"})).await["code"], 5001);
    assert_eq!(publish(&mut stranger, "lobby", "evil").await["seq"], 1, "a room of its own");
    assert_eq!(publish(&mut ann, "lobby", "second").await["seq"], 2);
    let seen = event(&mut witness).await;
    assert!(seen["seq"] == 2 && seen.to_string().contains("second"), "{seen}");
    until_metric(&world, "shield_rooms 1").await;
}

#[tokio::test]
async fn many_subs_at_once_are_all_answered() {
    let world = World::new(config()).await;
    let mut ann = world.client("ann").await;
    for n in 0..20 {
        assert_eq!(publish(&mut ann, &format!("room-{n}"), "x").await["code"], 0);
    }
    let mut bob = world.client("bob").await;
    let burst: Vec<u8> = (0..20)
        .flat_map(|n| {
            support::frame(1, json!({"op": "sub", "id": n, "room": format!("room-{n}")}).to_string().as_bytes())
        })
        .collect();
    bob.bytes(&burst).await;
    let mut answered = BTreeSet::new();
    while answered.len() < 20 {
        let value = bob.json().await;
        if value["op"] == "sub" {
            assert_eq!(value["ok"], true, "{value}");
            answered.insert(value["id"].as_u64());
        }
    }
}

#[tokio::test]
async fn a_flood_of_subs_and_tokens_is_refused() {
    let mut config = config();
    config.limits.pub_per_s = 1;
    config.limits.pub_burst = 10;
    config.limits.rooms = 4;
    let world = World::new(config).await;
    let mut eve = world.client("eve").await;
    // SUB and UNSUB in turns never hold more than one room, yet each SUB costs the Brain a question. Both take from the
    // budget of ten.
    let mut refused = 0;
    for n in 0..40 {
        eve.text(&json!({"op": "sub", "id": n, "room": format!("absent-{n}")}).to_string()).await;
        eve.text(&json!({"op": "unsub", "room": format!("absent-{n}")}).to_string()).await;
        loop {
            let value = eve.json().await;
            refused += u32::from(value["code"] == 4502);
            if value["op"] == "unsub" {
                break;
            }
        }
    }
    assert!((25..=35).contains(&refused), "{refused} of 40 refused");
    eve.text(&json!({"op": "auth", "token": "x"}).to_string()).await;
    assert_eq!(eve.json().await["code"], 4502);
    eve.text(&json!({"op": "get", "id": 1, "room": "absent"}).to_string()).await;
    assert_eq!(eve.json().await["code"], 4502);
    // Who does not listen is sent away.
    loop {
        eve.text(&json!({"op": "get", "id": 1, "room": "absent"}).to_string()).await;
        match eve.next().await {
            Got::Text(_) => {}
            Got::Close(code, _) => break assert_eq!(code, 4101),
            other => panic!("{other:?}"),
        }
    }
}

/// Whatever it sends, a flood ends with a close code, and its answers are bounded before that. In paused time no budget
/// refills while the flood runs.
#[tokio::test(start_paused = true)]
async fn every_flood_ends_with_its_code() {
    let mut config = config();
    config.limits.pub_per_s = 1;
    config.limits.pub_burst = 30;
    config.limits.rooms = 4;
    let world = World::new(config).await;
    let mut witness = world.client("wit").await;
    assert_eq!(publish(&mut witness, "lobby", "first").await["code"], 0);
    let frame = |opcode: u8, body: &[u8]| support::frame(2, &[&[opcode], body].concat());
    // The second field of an envelope twice: it names no command that an answer could carry.
    let twice = [0x1a, 1, b'x', 0x1a, 1, b'x'];
    let known = {
        let mut cut = say("lobby", [9; 16], now_ms(), "evil", true);
        cut.truncate(cut.len() - 1);
        cut
    };
    // (what, one frame, close code, most answers)
    let patience = 600;
    let floods: Vec<(&str, Vec<u8>, u16, usize)> = vec![
        ("an unknown opcode", frame(0x77, b""), 4000, 3),
        ("an empty message", support::frame(2, b""), 4000, 3),
        ("cut JSON", frame(proto::frame::SUB, b"{"), 4000, 3),
        ("an unknown key", frame(proto::frame::UNSUB, br#"{"rooom":"x"}"#), 4000, 3),
        ("AUTH that is no object", frame(proto::frame::AUTH, b"[]"), 4000, 3),
        ("cut text dialect", support::frame(1, br#"{"op":"sub""#), 4000, 3),
        ("an envelope without an id", frame(proto::frame::PUB, &twice), 4000, 3),
        ("a cut envelope", frame(proto::frame::PUB, &known), 4101, 30 + patience),
        ("a PUB", frame(proto::frame::PUB, &say("nobodys", [8; 16], 0, "x", false)), 4101, 30 + patience),
        ("HB", frame(proto::frame::HB, b""), 4101, 30),
        ("pings", support::frame(9, b"x"), 4101, 30 + patience),
        ("pongs", support::frame(10, b""), 4101, 0),
        ("UNSUB of nothing", frame(proto::frame::UNSUB, br#"{"room":"zz"}"#), 4101, 30 + patience),
        ("SUB of nothing", frame(proto::frame::SUB, br#"{"id":1,"room":"zz"}"#), 4101, 30 + patience),
        ("SUB of no room", frame(proto::frame::SUB, br#"{"id":1,"room":"*"}"#), 4101, 30 + patience),
        ("get of nothing", frame(proto::frame::SUB, br#"{"op":"get","id":1,"room":"zz"}"#), 4101, 30 + patience),
        ("presence", frame(proto::frame::SUB, br#"{"op":"presence","room":"zz"}"#), 4101, 0),
        ("AUTH", frame(proto::frame::AUTH, br#"{"token":"x"}"#), 4101, 30 + patience),
    ];
    for (what, one, close, most) in floods {
        let mut eve = world.client("eve").await;
        // It does not wait for answers, and stops only when it is sent away.
        eve.bytes(&one.repeat(700)).await;
        let mut answers = 0;
        let code = loop {
            match eve.next().await {
                Got::Close(code, _) => break code,
                Got::End => panic!("{what}: no close frame after {answers} answers"),
                _ => answers += 1,
            }
        };
        assert_eq!(code, close, "{what}");
        assert!(answers <= most, "{what}: {answers} answers");
        assert_eq!(publish(&mut witness, "lobby", "still here").await["code"], 0, "{what}");
    }
}

#[tokio::test]
async fn a_new_token_must_name_the_same_key() {
    let world = World::new(config()).await;
    let mut bound = claims("ann", now_ms() / 1000);
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    bound.cnf = Some(proto::json::Confirmation { jwk: proto::json::Jwk::new(key.verifying_key().as_bytes()) });
    let mut ann = Raw::open(world.net.connect("ws").await.unwrap(), &token(&bound)).await;
    let pub_unsigned = json!({"op": "pub", "room": "lobby", "data": "x", "ack": true}).to_string();
    ann.text(&pub_unsigned).await;
    assert_eq!(ann.json().await["code"], 2007);
    ann.text(&json!({"op": "auth", "token": token(&claims("ann", now_ms() / 1000))}).to_string()).await;
    assert_eq!(ann.json().await["code"], 2002, "a token without the key does not lift the duty to sign");
    ann.text(&pub_unsigned).await;
    assert_eq!(ann.json().await["code"], 2007);
    ann.text(&json!({"op": "auth", "token": token(&bound)}).to_string()).await;
    assert_eq!(ann.json().await["ok"], true);
}

#[tokio::test]
async fn sockets_that_never_finish_their_handshake_are_bounded() {
    let mut config = config();
    config.shield.handshake_ms = 3_600_000;
    let world = World::new(config).await;
    let mut idle = Vec::new();
    // More than may be in their handshake at once; most of them are over the accept rate, too.
    for _ in 0..4_100 {
        idle.push(world.net.connect("ws").await.unwrap());
    }
    let mut last = Raw::new(world.net.connect("ws").await.unwrap());
    assert!(matches!(last.next().await, Got::End), "closed without a word, at once");
    drop(idle);
}

#[tokio::test]
async fn a_new_token_that_ends_earlier_ends_the_connection_earlier() {
    let mut config = config();
    config.auth.grace_s = 0;
    let world = World::new(config).await;
    let mut ann = world.client("ann").await;
    let mut short = claims("ann", now_ms() / 1000);
    short.exp = now_ms() / 1000 + 2;
    ann.text(&json!({"op": "auth", "token": token(&short)}).to_string()).await;
    assert_eq!(ann.json().await["ok"], true);
    loop {
        match ann.next().await {
            Got::Close(code, _) => break assert_eq!(code, 4300),
            Got::End => panic!("no close frame"),
            _ => {}
        }
    }
}
