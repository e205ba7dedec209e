//! Real processes are killed under load: nats-server, the Brain's shell and the Shield, each once, with `kill -9`, while
//! eight clients send 200 commands a second for 20 s. Then the log is read from the stream, and the simulator's oracles
//! judge the trace of the clients: every acknowledged command is in the log exactly once, at its place (A1), every client
//! got every event in order (A5), the same bytes as everybody and the log (A6).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use proto::{RoomId, RoomKey, TenantId};
use sim_tests::client::{self, Deed, Script};
use sim_tests::real::{Part, Stack};
use sim_tests::scenario::Verb;
use sim_tests::trace::{self, Trace};
use sim_tests::verdict::Counts;
use sim_tests::{logbook, oracles};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::layer::SubscriberExt as _;
use voltron_core::{OsIds, SystemClock, TcpNet, WallClock as _};

const CLIENTS: u64 = 8;
const ROOMS: u64 = 4;
/// 8 clients, one command every 40 ms: 200/s.
const PAUSE: Duration = Duration::from_millis(40);
const LOAD: Duration = Duration::from_secs(20);
/// How long the last repeats may take.
const SETTLE: Duration = Duration::from_secs(30);

fn scripts(stack: &Stack) -> Vec<Script> {
    let now_s = SystemClock.now_ms() / 1000;
    (1..=CLIENTS)
        .map(|n| Script {
            name: format!("client-{n}"),
            token: stack.token("acme", &format!("u{n}"), now_s),
            shields: vec![stack.address()],
            rooms: (1..=ROOMS).map(room).collect(),
            deeds: (0..LOAD.as_millis() / PAUSE.as_millis())
                .map(|k| Deed {
                    at: PAUSE * u32::try_from(k).unwrap(),
                    verb: if k % 5 == 4 { Verb::Set } else { Verb::Publish },
                    room: usize::try_from((n + u64::try_from(k).unwrap()) % ROOMS).unwrap(),
                })
                .collect(),
            ends: LOAD + SETTLE,
            quiet: Some(Duration::from_millis(1500)),
        })
        .collect()
}

fn room(n: u64) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

#[tokio::test]
async fn three_kills_lose_nothing_that_was_acknowledged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Clients that come back send what they owe at once.
    let mut stack = Stack::start(&root, "[limits]\npub_per_s = 1000\npub_burst = 2000")
        .await
        .unwrap_or_else(|error| panic!("{error}"));

    let begun = Instant::now();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kills.jsonl");
    let stopwatch = move || u64::try_from(begun.elapsed().as_micros()).ok();
    let trace = Trace::new(Box::new(stopwatch), Some(&file)).unwrap();
    // On one thread, so that all clients' records have one order.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(trace.layer()));

    let players: Vec<_> = scripts(&stack)
        .into_iter()
        .map(|script| tokio::spawn(client::play(TcpNet, SystemClock, OsIds, script)))
        .collect();

    sleep(Duration::from_secs(5)).await;
    stack.nats.kill_9().await;
    sleep(Duration::from_secs(1)).await;
    stack.nats.restart().await.unwrap();
    sleep(Duration::from_secs(4)).await;
    stack.kill_9(Part::Shell).await;
    sleep(Duration::from_secs(1)).await;
    stack.spawn(Part::Shell).unwrap();
    sleep(Duration::from_secs(4)).await;
    stack.kill_9(Part::Shield).await;
    sleep(Duration::from_secs(1)).await;
    stack.spawn(Part::Shield).unwrap();
    let missing = client::all(players, LOAD + SETTLE + Duration::from_secs(10)).await;

    let spine = stack.operator();
    let (mut valid, mut void) = (0, 0);
    for n in 1..=ROOMS {
        let key = RoomKey::new(TenantId::parse("acme").unwrap(), room(n));
        let log = timeout(Duration::from_secs(30), logbook::read(&spine, &key)).await.expect("within 30 s").unwrap();
        (valid, void) = (valid + log.valid, void + log.void);
        log.records.into_iter().for_each(|record| trace.push(oracles::LOG_HOST, record));
    }
    trace.flush().unwrap();

    // From the file, as `cargo sim check` reads it.
    let lines = trace::read(&file).unwrap();
    let judgement = oracles::judge(&lines, &[]);
    let counts = Counts::of(&lines);
    println!(
        "three kills in {:.0} s: sent {}, acked {}, refused {}, unknown {}, in log {} ({valid} valid entries, {void} void)",
        begun.elapsed().as_secs_f64(),
        counts.sent,
        counts.acked,
        counts.refused,
        counts.unknown,
        counts.in_log
    );
    println!("checks: {:?}", judgement.checks);
    let told = || {
        format!(
            "{:?}\ntrace: cargo sim check {}\n--- shell\n{}\n--- shield\n{}\n--- nats-server\n{}",
            judgement.violations,
            file.display(),
            stack.last_words(Part::Shell),
            stack.last_words(Part::Shield),
            stack.nats.log().lines().rev().take(5).collect::<Vec<_>>().join("\n")
        )
    };
    assert!(judgement.held(), "{}", told());
    assert_eq!(missing, 0, "clients did not come to an end: {}", told());
    assert!(
        counts.acked >= 3_600,
        "of 4,000 commands at least nine in ten are acknowledged in the end: {counts:?}\n{}",
        told()
    );
    assert!(counts.in_log >= counts.acked);
}
