//! Heap allocations of one routed message, in the whole Shield as the binary runs it, over an in-memory stream: once on a
//! Spine that drops what it is given, once on NATS, where the way to the broker and the way back are counted apart.
//!
//! `cargo xtask bench allocations` prints the figures.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/drop_spine.rs"]
mod drop_spine;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use drop_spine::DropSpine;
use futures_util::StreamExt as _;
use proto::{NodeId, Pattern, RoomKey, Subject};
use shield::ShieldParts;
use spine::server::{NatsServer, ServerOptions};
use spine::{Delivery, Link, NatsSpine, Spine, SpineOptions};
use support::world::{ack, until_serving};
use support::{MemNet, Raw, claims, config, keys, say, token};
use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, Net as _, OsIds, SystemClock, WallClock as _};

const ROUNDS: u64 = 12;
/// Rounds before anything is counted.
const WARM_UP: u64 = 2;
/// A quarter of the reply slots: no command waits for a free one.
const ROUND: u64 = 1024;
const MEASURED: u64 = (ROUNDS - WARM_UP) * ROUND;
const BATCH: u64 = 16;
const ID: [u8; 16] = [7; 16];

/// First whole rounds, so that buffers find their size.
const fn at_once(round: u64) -> u64 {
    if round < WARM_UP { ROUND } else { BATCH }
}

/// The count is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A Shield on a thread of its own, the only one that counts, and a client outside of it.
struct Edge {
    client: Raw<DuplexStream>,
    frame: Vec<u8>,
    /// Like the others, but with `ack_requested`.
    last: Vec<u8>,
    bytes: usize,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Edge {
    #[allow(clippy::disallowed_methods, reason = "a thread is what is counted here")]
    async fn new<S: Spine>(spine: impl FnOnce() -> S + Send + 'static) -> Self {
        let mut config = config();
        // What happens now and then must not look like what happens for a message.
        config.shield.heartbeat_ms = 60_000;
        config.shield.stale_ms = 600_000;
        config.shield.answer_timeout_ms = 60_000;
        let net = MemNet::default();
        let (ws, http) = (net.bind("ws").await.unwrap(), net.bind("http").await.unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            counting::this_thread();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let parts = ShieldParts::<MemNet, _, _, _> {
                    node: node(),
                    ws,
                    http: Some(http),
                    spine: spine(),
                    clock: SystemClock,
                    ids: OsIds,
                    overseer: Arc::new(AllowAll),
                    keys: keys(&config),
                    config,
                    metrics: Metrics::new(),
                };
                shield::serve(parts, async { drop(stopped.await) }).await;
            });
        });
        until_serving(&net).await;
        let now_ms = SystemClock.now_ms();
        let client = Raw::open(net.connect("ws").await.unwrap(), &token(&claims("ann", now_ms.div_euclid(1000)))).await;
        let publish = |ack: bool| {
            let mut message = vec![proto::frame::PUB];
            message.extend(say("lobby", ID, now_ms, &"x".repeat(128), ack));
            message
        };
        let message = publish(false);
        Self {
            client,
            frame: support::frame(2, &message),
            last: support::frame(2, &publish(true)),
            bytes: message.len(),
            stop,
            thread,
        }
    }

    /// Sends a round, `at_once` commands at a time; returns when `published` says that all went out.
    async fn send(&mut self, at_once: u64, published: impl Fn() -> u64, ask_last: bool) {
        let (already, one) = (published(), self.frame.len());
        for sent in (at_once..=ROUND).step_by(at_once as usize) {
            let mut batch = self.frame.repeat(at_once as usize);
            if ask_last && sent == ROUND {
                batch.truncate(batch.len() - one);
                batch.extend_from_slice(&self.last);
            }
            self.client.bytes(&batch).await;
            while published() - already < sent {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends the Shield: what it would still do must not count for another test.
    fn end(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn node() -> NodeId {
    NodeId::parse("shield-1").unwrap()
}

fn answer() -> Bytes {
    let ack = proto::v1::Ack { message_id: ID.to_vec().into(), epoch: 1, seq: 1, ..proto::v1::Ack::default() };
    prost::Message::encode_to_vec(&ack).into()
}

fn report(path: &str, bytes: usize, allocations: u64) -> f64 {
    let each = allocations as f64 / MEASURED as f64;
    println!("| {path}, {bytes} B | {each:.4} ({allocations} in {MEASURED}) |");
    each
}

/// From the WebSocket read to `Spine::publish`, and back with the owner's answer.
#[tokio::test]
async fn a_routed_message_allocates_nothing() {
    let _alone = ALONE.lock().await;
    let spine = DropSpine::new(answer());
    let mut edge = Edge::new({
        let spine = spine.clone();
        move || spine
    })
    .await;
    let mut counted = 0;
    for round in 0..ROUNDS {
        let before = counting::allocations();
        edge.send(at_once(round), || spine.published(), false).await;
        if round >= WARM_UP {
            counted += counting::allocations() - before;
        }
    }
    report("WebSocket read to `Spine::publish`, and the answer back", edge.bytes, counted);
    edge.end();
    assert_eq!(counted, 0, "allocations in {MEASURED} messages");
}

/// The same with NATS. Its responder, on another thread, holds all answers of a round back until the broker has handed
/// the whole round over: so each way is counted alone.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a responder that must not be counted")]
async fn a_message_through_nats_hardly_allocates() {
    let _alone = ALONE.lock().await;
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let binary = NatsServer::pinned(root).unwrap_or_else(|error| panic!("{error}"));
    let server = NatsServer::start(ServerOptions::new(binary)).await.unwrap();
    let url = server.url();

    let received = Arc::new(AtomicU64::new(0));
    let (go, mut told) = mpsc::unbounded_channel::<()>();
    let responder = std::thread::spawn({
        let (url, received) = (url.clone(), received.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let spine = NatsSpine::connect(SpineOptions::new(url, "owner", "_INBOX.b.owner"));
                spine.link().wait_for(Link::is_up).await.unwrap();
                let room = RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap());
                let input = Pattern::exact(&Subject::input(&room));
                let mut commands = spine.subscribe(&input, None, 2 * ROUND as usize).await.unwrap();
                received.store(1, Ordering::SeqCst);
                let mut replies = Vec::new();
                loop {
                    tokio::select! {
                        biased;
                        command = commands.next() => {
                            let Some(Delivery::Msg(message)) = command else { panic!("every command") };
                            replies.extend(message.reply);
                            received.fetch_add(1, Ordering::SeqCst);
                        }
                        more = told.recv() => {
                            if more.is_none() {
                                return;
                            }
                            for reply in replies.drain(..) {
                                spine.publish(&reply, None, answer()).await.unwrap();
                            }
                        }
                    }
                }
            });
        }
    });
    while received.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut edge = Edge::new(move || NatsSpine::connect(SpineOptions::new(url, "shield-1", "_INBOX.s.shield-1"))).await;
    let (mut forward, mut back) = (0, 0);
    for round in 0..ROUNDS {
        let before = counting::allocations();
        edge.send(at_once(round), || received.load(Ordering::SeqCst), true).await;
        let between = counting::allocations();
        go.send(()).unwrap();
        let first = ack(&mut edge.client).await;
        assert_eq!(first.code, 0);
        if round >= WARM_UP {
            forward += between - before;
            back += counting::allocations() - between;
        }
    }
    let bytes = edge.bytes;
    edge.end();
    drop(go);
    responder.join().unwrap();
    let forward = report("WebSocket read to the broker, `NatsSpine` included", bytes, forward);
    let back = report("the answer back from the broker, `NatsSpine` included", bytes, back);
    assert!(forward <= 0.05, "{forward:.4} allocations a message on the way to the broker");
    // One: the client copies the subject of each message that it delivers.
    assert!(back <= 1.1, "{back:.4} allocations an answer");
}
