//! The simulated broker's own matters: its parser against any bytes in any pieces, faults on demand, crashes and power
//! cuts, the store directory, bounds; and that `SimSpine` reaches it through `Net` alone.

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use common::{Raw, SOON, Said, api, hpub, options, publish, sim};
use proptest::prelude::*;
use proto::{RoomKey, Subject};
use spine::{AppendError, Spine, SpineOptions, StreamSeq, StreamSpec, Unresolved, Via};
use spine_sim::protocol::{Op, Parser, Violation};
use spine_sim::{Broker, Rule, SimSpine};
use tokio::io::DuplexStream;
use tokio::time::timeout;
use voltron_core::{Net, OsIds, TcpNet};

const STREAM: &[u8] = b"CONNECT {\"verbose\":false}\r\nPING\r\nSUB a.* g 1\r\nPUB a.b r 2\r\nhi\r\nHPUB c 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 1 5\r\nINFO {}\r\npong\r\nPUB x 0\r\n\r\n";

fn parse(chunks: &[&[u8]]) -> (Vec<Op>, Option<Violation>) {
    let (mut parser, mut buf, mut ops) = (Parser::new(1024), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match parser.next(&mut buf) {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(violation) => return (ops, Some(violation)),
            }
        }
    }
    (ops, None)
}

#[test]
fn fragments_at_every_boundary_give_the_same() {
    let whole = parse(&[STREAM]);
    assert_eq!((whole.0.len(), whole.1), (9, None));
    for at in 0..STREAM.len() {
        assert_eq!(parse(&[&STREAM[..at], &STREAM[at..]]), whole, "cut at {at}");
    }
    assert_eq!(parse(&STREAM.chunks(1).collect::<Vec<_>>()), whole);
}

proptest! {
    #[test]
    fn arbitrary_bytes_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let cut = cut.min(bytes.len());
        prop_assert_eq!(parse(&[&bytes]), parse(&[&bytes[..cut], &bytes[cut..]]));
    }

    #[test]
    fn damaged_streams_in_any_pieces(at in 0..STREAM.len(), byte in any::<u8>(), cut in 0..STREAM.len()) {
        let mut bytes = STREAM.to_vec();
        bytes[at] = byte;
        prop_assert_eq!(parse(&[&bytes]), parse(&[&bytes[..cut], &bytes[cut..]]));
    }
}

fn log() -> Subject {
    Subject::log(&RoomKey::new("acme".parse().expect("an id"), "lobby".parse().expect("an id")))
}

async fn spine(addr: SocketAddr) -> SimSpine<TcpNet> {
    let options = SpineOptions::new(format!("nats://{addr}"), "one", "_INBOX.w.one");
    let spine = SimSpine::connect(TcpNet, SpineOptions { publish_timeout: SOON / 20, ..options }, OsIds);
    for spec in StreamSpec::all(1, 1, 1 << 20) {
        timeout(SOON, spine.ensure(&spec)).await.expect("in time").expect("a stream");
    }
    spine
}

async fn heads(spine: &SimSpine<TcpNet>) -> Option<StreamSeq> {
    timeout(SOON, spine.last(&log(), Via::Leader)).await.expect("in time").expect("a read").map(|entry| entry.seq)
}

#[tokio::test]
async fn faults_strike_when_told() {
    let (broker, addr) = sim(options()).await;
    let spine = spine(addr).await;
    let body = Bytes::from_static(b"x");
    broker.faults(|faults| faults.lose_ack = Rule::Next(1));
    let lost = spine.append(&log(), StreamSeq(0), body.clone()).await;
    assert_eq!(lost, Err(AppendError::Unresolved(Unresolved::Timeout)));
    assert_eq!(heads(&spine).await, Some(StreamSeq(1)), "stored all the same");

    // Undecided: absent to a read, 10164 to a retry, then stored after all.
    broker.faults(|faults| faults.undecided = Rule::Next(1));
    let unknown = spine.append(&log(), StreamSeq(1), body.clone()).await;
    assert_eq!(unknown, Err(AppendError::Unresolved(Unresolved::Timeout)));
    assert_eq!(heads(&spine).await, Some(StreamSeq(1)));
    let retry = spine.append(&log(), StreamSeq(1), body.clone()).await;
    assert_eq!(retry, Err(AppendError::Unresolved(Unresolved::Undecided)));
    broker.settle_undecided(true);
    assert_eq!(heads(&spine).await, Some(StreamSeq(2)));
    let late = spine.append(&log(), StreamSeq(1), body.clone()).await;
    assert_eq!(late, Err(AppendError::Unresolved(Unresolved::WrongLast)));

    let out = Subject::output(&RoomKey::new("acme".parse().expect("an id"), "lobby".parse().expect("an id")));
    let mut raw = Raw::connect(addr).await;
    raw.send(format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {out} 1\r\n").as_bytes()).await;
    raw.until_pong().await;
    broker.faults(|faults| faults.drop_republish = Rule::Next(1));
    assert_eq!(spine.append(&log(), StreamSeq(2), body.clone()).await, Ok(StreamSeq(3)));
    assert_eq!(spine.append(&log(), StreamSeq(3), body).await, Ok(StreamSeq(4)));
    let Said::Msg { header, .. } = timeout(SOON, raw.next()).await.expect("the second") else { panic!("a message") };
    assert!(header.contains("Nats-Sequence: 4\r\n"), "{header}");
}

/// As on the server, where a PONG came first in 60 of 60: whether it does is drawn, the PubAcks' own order never changes.
#[tokio::test]
async fn a_pong_may_overtake_what_streams_say() {
    let order = async |seed: u64| {
        let mut options = options();
        (options.seed, options.late_acks) = (seed, true);
        let (broker, addr) = sim(options).await;
        drop(spine(addr).await);
        let mut raw = Raw::connect(addr).await;
        let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB _R.> 1\r\nSUB out.> 2\r\n".to_vec();
        for n in 0..3 {
            bytes.extend(hpub(log().as_str(), &format!("_R.{n}"), &[("X-N", "n")], "x"));
            bytes.extend_from_slice(b"PING\r\n");
        }
        raw.send(&bytes).await;
        let mut seen = Vec::new();
        while seen.len() < 9 {
            seen.push(match timeout(SOON, raw.next()).await.expect("all that was asked for") {
                Said::Line(line) => line,
                Said::Msg { subject, .. } => subject,
                Said::End => panic!("the end after {seen:?}"),
            });
        }
        drop(broker);
        seen
    };
    let mut overtaken = 0;
    for seed in 0..12 {
        let seen = order(seed).await;
        let acks: Vec<&String> = seen.iter().filter(|one| one.starts_with("_R.")).collect();
        assert_eq!(acks, ["_R.0", "_R.1", "_R.2"], "{seen:?}");
        let (pong, ack) = (seen.iter().position(|one| one == "PONG"), seen.iter().position(|one| one == "_R.0"));
        overtaken += usize::from(pong < ack);
        assert_eq!(order(seed).await, seen, "the same seed");
    }
    assert!((1..12).contains(&overtaken), "{overtaken} of 12");
}

/// As the server after kill -9: the removal of what a limit per subject evicted was in no file yet.
#[tokio::test]
async fn a_crash_brings_evicted_messages_back_where_a_purge_made_room() {
    for revive in [Rule::Off, Rule::Next(1)] {
        let (broker, addr) = sim(options()).await;
        let before = spine(addr).await;
        let room = |name: &str| RoomKey::new("acme".parse().expect("an id"), name.parse().expect("an id"));
        let (a, b) = (Subject::snapshot(&room("a")), Subject::snapshot(&room("b")));
        for subject in [&a, &b] {
            let mut last = StreamSeq::NONE;
            for _ in 0..5 {
                last = before.append(subject, last, Bytes::from_static(b"x")).await.expect("stored");
            }
        }
        before.purge_below(&a, StreamSeq(100)).await.expect("purged");
        assert!(positions(&before, &a).await.is_empty());
        broker.faults(|faults| faults.revive_evicted = revive);
        broker.crash(false);
        let after = spine(addr).await;
        let back: &[u64] = if revive == Rule::Off { &[] } else { &[2, 3] };
        assert_eq!((positions(&after, &a).await, positions(&after, &b).await), (back.to_vec(), vec![9, 10]));
    }
}

async fn positions(spine: &SimSpine<TcpNet>, of: &Subject) -> Vec<u64> {
    let batch = timeout(SOON, spine.read(of, StreamSeq(1), 10, Via::Leader)).await.expect("in time");
    batch.expect("a read").entries.iter().map(|entry| entry.seq.0).collect()
}

#[tokio::test]
async fn a_power_cut_loses_the_tail_and_hands_out_its_positions_again() {
    let (broker, addr) = sim(options()).await;
    let before = spine(addr).await;
    for n in 0..3 {
        assert_eq!(before.append(&log(), StreamSeq(n), Bytes::from_static(b"old")).await, Ok(StreamSeq(n + 1)));
    }
    assert_eq!(before.append(&Subject::generation(0), StreamSeq(0), Bytes::from_static(b"g")).await, Ok(StreamSeq(1)));
    broker.sync();
    for n in 3..5 {
        assert_eq!(before.append(&log(), StreamSeq(n), Bytes::from_static(b"lost")).await, Ok(StreamSeq(n + 1)));
    }
    before.close().await;
    broker.crash(true);
    let after = spine(addr).await;
    assert_eq!(heads(&after).await, Some(StreamSeq(3)));
    assert_eq!(
        after.append(&log(), StreamSeq(3), Bytes::from_static(b"new")).await,
        Ok(StreamSeq(4)),
        "a position again"
    );
    let generation = timeout(SOON, after.last(&Subject::generation(0), Via::Leader)).await.expect("in time");
    assert_eq!(generation, Ok(None), "memory does not survive");
}

#[tokio::test]
async fn the_store_directory_survives_a_restart_and_a_torn_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let serve = || async {
        let listener = TcpNet.bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let broker = Broker::with_store(options(), dir.path()).expect("a store");
        (addr, tokio::spawn(async move { broker.serve(listener, std::future::pending()).await }))
    };
    let (addr, task) = serve().await;
    let first = spine(addr).await;
    for n in 0..5 {
        assert_eq!(first.append(&log(), StreamSeq(n), Bytes::from(format!("m{n}"))).await, Ok(StreamSeq(n + 1)));
    }
    first.purge_below(&log(), StreamSeq(3)).await.expect("a purge");
    let whole = first.read(&log(), StreamSeq(1), 10, Via::Leader).await.expect("a read");
    first.close().await;
    task.abort();
    let _ = task.await;
    let path = dir.path().join("journal");
    let mut bytes = std::fs::read(&path).expect("a journal");
    bytes.extend_from_slice(b"\x20\x00\x00\x00torn");
    std::fs::write(&path, bytes).expect("a journal");
    let (addr, task) = serve().await;
    let second = spine(addr).await;
    assert_eq!(second.read(&log(), StreamSeq(1), 10, Via::Leader).await.as_ref(), Ok(&whole));
    assert_eq!(second.append(&log(), StreamSeq(5), Bytes::from_static(b"m5")).await, Ok(StreamSeq(6)));
    task.abort();
}

#[tokio::test]
async fn a_reader_that_stalls_is_cut_off_and_memory_stays_bounded() {
    let mut small = options();
    small.max_pending = 256 * 1024;
    let (broker, addr) = sim(small).await;
    let mut stalled = Raw::connect(addr).await;
    stalled.send(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\n").await;
    stalled.until_pong().await;
    let mut writer = Raw::connect(addr).await;
    writer.send(b"CONNECT {\"verbose\":false}\r\n").await;
    let message = publish("a", "", &"x".repeat(60_000));
    // The kernel's buffers fill first.
    let cut = async {
        while broker.load().connections > 1 {
            writer.send(&message).await;
            writer.until_pong().await;
            assert!(broker.load().pending_bytes <= 256 * 1024 + 61_000);
        }
    };
    timeout(SOON, cut).await.expect("the stalled reader is cut off");
    assert_eq!(broker.load().pending_bytes, 0);
    assert_eq!(broker.load().subscriptions, 0);
}

#[tokio::test]
async fn the_same_seed_chooses_the_same_members() {
    let mut choices = Vec::new();
    for _ in 0..2 {
        let (_, addr) = sim(options()).await;
        let mut raw = Raw::connect(addr).await;
        raw.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB q g 1\r\nSUB q g 2\r\nSUB q g 3\r\n").await;
        raw.send(&publish("q", "", "x").repeat(64)).await;
        choices.push(raw.until_pong().await);
    }
    assert_eq!(choices[0], choices[1]);
    for sid in ["1", "2", "3"] {
        let had = |said: &&Said| matches!(said, Said::Msg { sid: other, .. } if other == sid);
        assert!(choices[0].iter().filter(had).count() > 8, "member {sid} gets a fair part");
    }
}

/// A network inside this process, with one switch.
#[derive(Clone)]
struct Memory {
    broker: Broker,
    cut: Arc<AtomicBool>,
}

impl Net for Memory {
    type Stream = DuplexStream;
    type Listener = Nowhere;

    async fn bind(&self, _: &str) -> io::Result<Nowhere> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _: &str) -> io::Result<DuplexStream> {
        if self.cut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(4096);
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.serve_stream(theirs, SocketAddr::from(([10, 0, 0, 1], 1))).await });
        Ok(ours)
    }
}

struct Nowhere;

impl voltron_core::Listener for Nowhere {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_reaches_the_broker_through_net_alone() {
    let broker = Broker::new(options());
    let net = Memory { broker: broker.clone(), cut: Arc::default() };
    let spine = SimSpine::connect(net.clone(), SpineOptions::new("nats://sim", "one", "_INBOX.w.one"), OsIds);
    let mut link = spine.link();
    timeout(SOON, link.wait_for(spine::Link::is_up)).await.expect("in time").expect("up");
    spine.ensure(&StreamSpec::log(0, 1, 1, 1 << 20)).await.expect("a stream");
    assert_eq!(spine.append(&log(), StreamSeq(0), Bytes::from_static(b"x")).await, Ok(StreamSeq(1)));
    net.cut.store(true, Ordering::Relaxed);
    assert_eq!(broker.cut("one"), 1);
    timeout(SOON, link.wait_for(|link| !link.is_up())).await.expect("in time").expect("down");
    let away = spine.append(&log(), StreamSeq(1), Bytes::from_static(b"x")).await;
    assert_eq!(away, Err(AppendError::Unresolved(Unresolved::Disconnected)));
    net.cut.store(false, Ordering::Relaxed);
    timeout(SOON, link.wait_for(spine::Link::is_up)).await.expect("in time").expect("up again");
    assert_eq!(
        spine.append(&log(), StreamSeq(1), Bytes::from_static(b"x")).await,
        Ok(StreamSeq(2)),
        "nothing was sent"
    );
}

#[tokio::test]
async fn a_republish_loop_ends() {
    let (_, addr) = sim(options()).await;
    let mut raw = Raw::connect(addr).await;
    raw.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB _R.> 9\r\nSUB b 1\r\n").await;
    for (name, from, to) in [("A", "a", "b"), ("B", "b", "a")] {
        let config =
            format!(r#"{{"name":"{name}","subjects":["{from}"],"republish":{{"src":"{from}","dest":"{to}"}}}}"#);
        raw.send(&api(&format!("STREAM.CREATE.{name}"), &config)).await;
    }
    raw.until_pong().await;
    raw.send(&hpub("a", "_R.p", &[("K", "v")], "round")).await;
    assert!(raw.until_pong().await.len() < 32);
}
