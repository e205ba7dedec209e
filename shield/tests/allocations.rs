//! Heap allocations of one routed message, from the WebSocket read to `Spine::publish` and back with the owner's answer:
//! the whole Shield as the binary runs it, over an in-memory stream, on a Spine that drops what it is given.
//!
//! `cargo test -p shield --test allocations -- --nocapture` prints the figure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use proto::{NodeId, Pattern, Subject};
use shield::ShieldParts;
use spine::*;
use support::{MemNet, Raw, config, keys, say, token};
use tokio::sync::watch;
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, Net as _, OsIds, SystemClock, WallClock as _};

struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);
static ON: AtomicBool = AtomicBool::new(false);

#[allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator unchanged; counting touches atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Ordering::Relaxed) {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if ON.load(Ordering::Relaxed) {
            COUNTED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Drops every message and answers each command at once with the same Ack.
#[derive(Clone)]
struct DropSpine(Arc<Inner>);

struct Inner {
    link: watch::Sender<Link>,
    ack: Bytes,
    published: AtomicU64,
    answers: Mutex<(VecDeque<Subject>, Option<Waker>)>,
}

/// The inbox, or silence.
enum Inbox {
    Answers(Arc<Inner>),
    Silent,
}

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let Self::Answers(inner) = &*self else { return Poll::Pending };
        let mut answers = inner.answers.lock().unwrap();
        match answers.0.pop_front() {
            Some(subject) => {
                let body = inner.ack.clone();
                let message = Message { subject, reply: None, status: None, stream_seq: None, body };
                Poll::Ready(Some(Delivery::Msg(message)))
            }
            None => {
                answers.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Spine for DropSpine {
    type Sub = Inbox;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, _body: Bytes) -> Result<(), PublishError> {
        if let Some(reply) = reply.filter(|_| to.as_str().starts_with("in.")) {
            self.0.published.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.0.answers.lock().unwrap();
            answers.0.push_back(reply.clone());
            if let Some(waker) = answers.1.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    async fn request(&self, _: &Subject, _: Bytes, _: Duration) -> Result<Message, RequestError> {
        Err(RequestError::NoResponders)
    }

    async fn subscribe(&self, to: &Pattern, _: Option<&str>, _: usize) -> Result<Inbox, SubscribeError> {
        Ok(if to.as_str().starts_with("_INBOX.") { Inbox::Answers(self.0.clone()) } else { Inbox::Silent })
    }

    async fn append(&self, _: &Subject, _: StreamSeq, _: Bytes) -> Result<StreamSeq, AppendError> {
        Err(AppendError::Unresolved(Unresolved::Timeout))
    }

    async fn last(&self, _: &Subject, _: Via) -> Result<Option<Stored>, ReadError> {
        Ok(None)
    }

    async fn read(&self, _: &Subject, _: StreamSeq, _: u32, _: Via) -> Result<Batch, ReadError> {
        Ok(Batch::default())
    }

    async fn last_of(&self, _: &Pattern) -> Result<Batch, ReadError> {
        Ok(Batch::default())
    }

    async fn purge_below(&self, _: &Subject, _: StreamSeq) -> Result<(), PurgeError> {
        Ok(())
    }

    async fn ensure(&self, _: &StreamSpec) -> Result<(), EnsureError> {
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    async fn close(&self) {}
}

const WARM_UP: u64 = 2_000;
const MEASURED: u64 = 10_000;
const BATCH: u64 = 16;

#[tokio::test(flavor = "current_thread")]
async fn a_routed_message_allocates_nothing() {
    let id = [7; 16];
    let ack = proto::v1::Ack { message_id: id.to_vec().into(), epoch: 1, seq: 1, ..proto::v1::Ack::default() };
    let spine = DropSpine(Arc::new(Inner {
        link: watch::Sender::new(Link::Connected { broker: BrokerId("none".into()), generation: 1 }),
        ack: prost::Message::encode_to_vec(&ack).into(),
        published: AtomicU64::new(0),
        answers: Mutex::new((VecDeque::with_capacity(8192), None)),
    }));
    let net = MemNet::default();
    let config = config();
    let parts = ShieldParts::<MemNet, _, _, _> {
        node: NodeId::parse("shield-1").unwrap(),
        ws: net.bind("ws").await.unwrap(),
        http: None,
        spine: spine.clone(),
        clock: SystemClock,
        ids: OsIds,
        overseer: Arc::new(AllowAll),
        keys: keys(&config),
        config,
        metrics: Metrics::new(),
    };
    let shield = tokio::spawn(shield::serve(parts, std::future::pending()));

    let now_ms = SystemClock.now_ms();
    let token = token(&support::claims("ann", now_ms / 1000));
    let mut client = Raw::open(net.connect("ws").await.unwrap(), &token).await;
    let mut message = vec![proto::frame::PUB];
    message.extend(say("lobby", id, now_ms, &"x".repeat(128), false));
    let frame = support::frame(2, &message);
    let batch = frame.repeat(BATCH as usize);

    let published = || spine.0.published.load(Ordering::Relaxed);
    let mut sent = 0;
    while sent < WARM_UP + MEASURED {
        if sent == WARM_UP {
            ON.store(true, Ordering::SeqCst);
        }
        client.bytes(&batch).await;
        sent += BATCH;
        while published() < sent {
            tokio::task::yield_now().await;
        }
    }
    ON.store(false, Ordering::SeqCst);
    let allocations = COUNTED.load(Ordering::SeqCst);
    let each = allocations as f64 / MEASURED as f64;
    println!("allocations per routed message ({} B): {each:.4} ({allocations} in {MEASURED})", message.len());
    assert!(each < 0.01, "{allocations} allocations in {MEASURED} messages");
    shield.abort();
}
