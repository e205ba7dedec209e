//! Commands to rooms that nobody serves yet, or not for the moment, in paused time.

use std::sync::atomic::{AtomicBool, AtomicU64};

use prost::Message as _;
use proto::internal::{Open, Opened};
use proto::{MessageId, RoomId, RoomKey, TenantId, v1};
use voltron_core::metrics::Metrics;

use super::*;
use crate::mock::MockSpine;
use crate::outbox::{Frame, Outbox};
use crate::route::Route;

const SIZES: Sizes = Sizes { slots: 4096, questions: 4096 };

/// A Shield's replies with one Brain behind them, which opens a room within 10 ms.
struct World {
    spine: MockSpine,
    replies: Arc<Replies<MockSpine>>,
    absent: Arc<Absent>,
    served: Arc<AtomicBool>,
    outbox: Arc<Outbox>,
    route: Arc<Route>,
    n: AtomicU64,
    metrics: Metrics,
    /// Takes what comes and answers nothing.
    silent: Arc<AtomicBool>,
}

const OPENING_MS: u64 = 10;

impl World {
    async fn new(served: bool) -> Self {
        let served = Arc::new(AtomicBool::new(served));
        let silent = Arc::new(AtomicBool::new(false));
        let says_nothing = silent.clone();
        let serves = served.clone();
        let spine = MockSpine::new(move |spine, to, reply, body| {
            let Some(reply) = reply else { return };
            if says_nothing.load(Ordering::SeqCst) {
                return;
            }
            if to.as_str().starts_with("in.") {
                if serves.load(Ordering::SeqCst) {
                    let ack = v1::Ack { message_id: body.clone(), ..v1::Ack::default() };
                    spine.deliver(reply, None, ack.encode_to_vec());
                } else {
                    spine.deliver(reply, Some(503), Bytes::new());
                }
            } else if to.as_str().starts_with("open.") {
                let open = Open::decode(body.clone()).unwrap();
                if open.create {
                    let (serves, spine, reply) = (serves.clone(), spine.clone(), reply.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(OPENING_MS)).await;
                        serves.store(true, Ordering::SeqCst);
                        spine.deliver(&reply, None, Opened::default().encode_to_vec());
                    });
                } else {
                    let refused = Opened { code: Code::RoomAbsent.as_u16().into(), ..Opened::default() };
                    spine.deliver_after(OPENING_MS, reply, refused.encode_to_vec());
                }
            }
        });
        let metrics = Metrics::new();
        let (health, absent) = (Arc::new(Health::default()), Arc::new(Absent::default()));
        health.set_linked(true);
        let replies = Arc::new(Replies::new(
            spine.clone(),
            NodeId::parse("shield-1").unwrap(),
            1,
            Duration::from_secs(2),
            SIZES,
            health,
            absent.clone(),
            Meters::new(&metrics),
        ));
        tokio::spawn(replies.clone().run());
        tokio::spawn(replies.clone().sweep());
        // Until the inbox is subscribed.
        tokio::task::yield_now().await;
        let key = RoomKey::new(TenantId::parse("acme").unwrap(), RoomId::parse("lobby").unwrap());
        let outbox = Arc::new(Outbox::new(1 << 20, 10_000));
        Self {
            spine,
            replies,
            absent,
            served,
            outbox,
            route: Arc::new(Route::new(key)),
            n: AtomicU64::new(0),
            metrics,
            silent,
        }
    }

    async fn command(&self, create: bool) {
        let n = self.n.fetch_add(1, Ordering::SeqCst);
        let id = MessageId(u128::from(n).to_be_bytes());
        let pending = Pending {
            order: self.replies.next_order(),
            outbox: self.outbox.clone(),
            route: self.route.clone(),
            message_id: id,
            ack_requested: true,
            form: Form::Binary,
            create,
            body: Bytes::copy_from_slice(&id.0),
            since: Instant::now(),
        };
        self.replies.submit(pending).await;
    }

    /// Codes of the next answers.
    async fn answers(&self, n: usize) -> Vec<u32> {
        let mut codes = Vec::new();
        while codes.len() < n {
            match self.outbox.pop() {
                Some(Frame::Binary(frame)) => codes.push(v1::Ack::decode(frame.slice(1..)).unwrap().code),
                Some(other) => panic!("{other:?}"),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        codes
    }

    fn times(&self, prefix: &str) -> Vec<u128> {
        self.spine.published(prefix).iter().map(|one| one.at_ms).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_message_into_a_room_waits_for_the_open_alone() {
    let world = World::new(false).await;
    world.absent.note(&world.route.key, world.absent.asked(&world.route.key));
    let sent = Instant::now();
    world.command(true).await;
    assert_eq!(world.answers(1).await, [0]);
    assert!(sent.elapsed() <= Duration::from_millis(OPENING_MS + 1), "{:?}", sent.elapsed());
    assert_eq!(world.times("open."), [0], "asked at once, and once");
    assert_eq!(world.times("in."), [0, 5, 10], "the repeats go on beside it");
    let bodies = world.spine.published("in.");
    assert!(bodies.iter().all(|one| one.body == bodies[0].body), "the same bytes each time");
    assert!(!world.absent.knows(&world.route.key), "who asks now is not told that it is absent");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_there_a_moment_ago_is_given_time_first() {
    let world = World::new(true).await;
    world.command(true).await;
    assert_eq!(world.answers(1).await, [0]);
    world.served.store(false, Ordering::SeqCst);
    let start = world.spine.published("in.").len();
    let sent = tokio::time::Instant::now();
    world.command(true).await;
    assert_eq!(world.answers(1).await, [0]);
    let times = world.times("in.");
    let since: Vec<u128> = times[start..].iter().map(|at| at - times[start]).collect();
    assert_eq!(since, [0, 5, 25, 105, 425, 435]);
    assert_eq!(world.times("open.").len(), 1);
    assert!(sent.elapsed() >= Duration::from_millis(435));
    // Long after its last word it is a sign of nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.served.store(false, Ordering::SeqCst);
    let sent = tokio::time::Instant::now();
    world.command(true).await;
    assert_eq!(world.answers(1).await, [0]);
    assert!(sent.elapsed() <= Duration::from_millis(OPENING_MS + 1), "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_herd_asks_for_one_open() {
    let world = World::new(false).await;
    for _ in 0..200 {
        world.command(true).await;
    }
    let mut readers = Vec::new();
    for _ in 0..500 {
        let (replies, route) = (world.replies.clone(), world.route.clone());
        readers.push(tokio::spawn(async move { replies.open(&route, true, None, Duration::from_secs(2)).await }));
    }
    assert_eq!(world.answers(200).await, [0; 200]);
    for reader in readers {
        assert!(matches!(reader.await.unwrap(), OpenOutcome::Served));
    }
    assert_eq!(world.times("open.").len(), 1);
    assert!(world.replies.opens.len() == 0);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_create_is_refused_alone() {
    let world = World::new(false).await;
    world.command(false).await;
    world.command(true).await;
    world.command(false).await;
    let absent = u32::from(Code::RoomAbsent.as_u16());
    assert_eq!(world.answers(3).await, [absent, 0, 0], "the third finds the room that the second brought into being");
    assert_eq!(world.times("open."), [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_is_told_as_such_at_once() {
    let world = World::new(false).await;
    let full = MockSpine::new(|spine, to, reply, _| {
        let Some(reply) = reply else { return };
        if to.as_str().starts_with("open.") {
            let refused = Opened { code: Code::LogFull.as_u16().into(), ..Opened::default() };
            spine.deliver(reply, None, refused.encode_to_vec());
        } else {
            spine.deliver(reply, Some(503), Bytes::new());
        }
    });
    let health = Arc::new(Health::default());
    health.set_linked(true);
    let meters = Meters::new(&Metrics::new());
    let node = NodeId::parse("shield-1").unwrap();
    let limit = Duration::from_secs(2);
    let replies = Arc::new(Replies::new(full.clone(), node, 1, limit, SIZES, health, world.absent.clone(), meters));
    tokio::spawn(replies.clone().run());
    tokio::task::yield_now().await;
    let world = World { spine: full, replies, ..world };
    let sent = Instant::now();
    world.command(true).await;
    assert_eq!(world.answers(1).await, [u32::from(Code::LogFull.as_u16())], "not as 6000, which is repeated at once");
    assert!(sent.elapsed() < Duration::from_millis(100), "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_at_all_is_said_after_two_seconds() {
    let world = World::new(false).await;
    // No Brain hears the open either.
    let deaf = MockSpine::new(|spine, _, reply, _| {
        if let Some(reply) = reply {
            spine.deliver(reply, Some(503), Bytes::new());
        }
    });
    let health = Arc::new(Health::default());
    health.set_linked(true);
    let meters = Meters::new(&Metrics::new());
    let node = NodeId::parse("shield-1").unwrap();
    let limit = Duration::from_secs(2);
    let replies = Arc::new(Replies::new(deaf.clone(), node, 1, limit, SIZES, health, world.absent.clone(), meters));
    tokio::spawn(replies.clone().run());
    tokio::task::yield_now().await;
    let world = World { spine: deaf, replies, ..world };
    let sent = Instant::now();
    world.command(true).await;
    assert_eq!(world.answers(1).await, [u32::from(Code::Unavailable.as_u16())]);
    let took = sent.elapsed();
    assert!(took >= limit && took < limit + Duration::from_millis(200), "{took:?}");
    assert!(world.times("open.").len() < 40, "{} opens in 2 s", world.times("open.").len());
    assert_eq!(world.replies.in_flight(), 0);
}

/// Holds up whoever wakes the connection: so a test looks on while an answer is being queued.
struct Gate {
    reached: std::sync::mpsc::Sender<()>,
    pass: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl std::task::Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.reached.send(()).unwrap();
        self.pass.lock().unwrap().recv().unwrap();
    }
}

/// A drain ends a connection as soon as nothing is in flight: an answer must be in its queue by then. Two threads, as in
/// production: one takes a command out of the table and answers it, the other asks meanwhile.
#[tokio::test]
async fn a_command_is_in_flight_until_its_answer_is_queued() {
    for timed_out in [false, true] {
        let world = World { spine: MockSpine::new(|_, _, _, _| {}), ..World::new(true).await };
        let replies = Arc::new(Replies::new(
            world.spine.clone(),
            NodeId::parse("shield-1").unwrap(),
            1,
            Duration::from_secs(2),
            SIZES,
            world.replies.health.clone(),
            world.absent.clone(),
            world.replies.meters.clone(),
        ));
        replies.health.inbox_ready();
        let world = World { replies: replies.clone(), ..world };
        world.command(true).await;
        assert_eq!(replies.in_flight(), 1);
        let (reached, at_gate) = std::sync::mpsc::channel();
        let (open, pass) = std::sync::mpsc::channel();
        world.outbox.register(&Arc::new(Gate { reached, pass: Mutex::new(pass) }).into());
        #[allow(clippy::disallowed_methods, reason = "two real threads are what is tested")]
        let answering = std::thread::spawn(move || {
            if timed_out {
                replies.expire(Instant::now() + Duration::from_secs(60));
            } else {
                let ack = v1::Ack { message_id: Bytes::from(vec![0; 16]), ..v1::Ack::default() };
                replies.on_message(Message {
                    subject: replies.slots[0].clone(),
                    reply: None,
                    status: None,
                    stream_seq: None,
                    body: ack.encode_to_vec().into(),
                });
            }
        });
        at_gate.recv().unwrap();
        assert_eq!(world.replies.in_flight(), 1, "not queued yet; timed out: {timed_out}");
        open.send(()).unwrap();
        answering.join().unwrap();
        assert_eq!(world.replies.in_flight(), 0);
        let code = if timed_out { Code::OutcomeUnknown.as_u16() } else { 0 };
        assert_eq!(world.answers(1).await, [u32::from(code)]);
    }
}

/// A timeout is the slowest of all answers: left out, the worst hour would have the best figures.
#[tokio::test(start_paused = true)]
async fn every_answer_is_in_the_durations() {
    let world = World::new(true).await;
    let counted = |n: u64| {
        let text = world.metrics.encode();
        assert!(text.contains(&format!("shield_ack_duration_seconds_count {n}\n")), "{text}");
        text
    };
    world.command(true).await;
    assert_eq!(world.answers(1).await, [0]);
    counted(1);
    // An owner that takes the command and says nothing.
    world.silent.store(true, Ordering::SeqCst);
    world.command(true).await;
    assert_eq!(world.answers(1).await, [u32::from(Code::OutcomeUnknown.as_u16())]);
    let text = counted(2);
    let sum = text.lines().find_map(|line| line.strip_prefix("shield_ack_duration_seconds_sum ")).expect("a sum");
    assert!(sum.parse::<f64>().unwrap() >= 2.0, "{sum}");
}
