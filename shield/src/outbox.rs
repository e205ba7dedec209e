//! What waits to be written to one connection. Bounded in bytes and messages: under pressure ephemeral events go first,
//! then the connection is closed with 4102, so one slow reader never holds up a room.
//!
//! Replays and snapshots (`bulk`) are not counted: a client that has just come back is not a slow one. They share
//! their buffers with other readers. While more than 256 KiB of them wait, a connection starts no further SUB and reads no
//! more of the log for one that catches up ([`Outbox::drained_to`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;
use proto::Code;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use voltron_core::mutant;
use voltron_core::trace::{self, Record};

/// One message to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// A binary WebSocket message.
    Binary(Bytes),
    /// A text WebSocket message.
    Text(Utf8Bytes),
    /// A WebSocket ping.
    Ping,
}

impl Frame {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Binary(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
            Self::Ping => 0,
        }
    }
}

/// How a message counts under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Answers and events: never dropped; too many of them close the connection.
    Firm,
    /// Ephemeral events: dropped first.
    Ephemeral,
    /// Parts of a replay or snapshot: not counted.
    Bulk,
}

/// One subscription of one connection. Once cancelled, no event of it is written any more, queued ones included. Its
/// SUB gets one result, whoever ends it: what says so changes under the outbox's lock alone.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    cancelled: AtomicBool,
    answered: AtomicBool,
}

impl Ticket {
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// True if its SUB has its result.
    pub(crate) fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}

/// Why and how a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The close code.
    pub(crate) code: Code,
    /// The close frame's text, at most 123 bytes.
    pub(crate) reason: String,
    /// Write what is queued first.
    pub(crate) flush: bool,
    /// When it was decided.
    pub(crate) since: Instant,
}

/// What became of a pushed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// An ephemeral event under pressure, or an event of a cancelled ticket.
    Dropped,
    /// The connection is ending.
    Ended,
}

struct Item {
    frame: Frame,
    class: Class,
    ticket: Option<Arc<Ticket>>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Item>,
    counted_bytes: usize,
    counted: usize,
    bulk_bytes: usize,
    /// The next depth that the trace is told of: each is twice the one before.
    telling: usize,
    waker: Option<Waker>,
    ending: Option<Ending>,
    gone: bool,
}

/// The queue of one connection.
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bytes_max: usize,
    messages_max: usize,
    /// Told whenever a part of a replay or snapshot has left, and at the end.
    drained: Notify,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, messages_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max, messages_max, drained: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    /// An answer or a notice.
    pub(crate) fn push(&self, frame: Frame) -> Pushed {
        self.put(frame, Class::Firm, None)
    }

    /// An answer or a notice, from a place that need not know whether the connection is ending.
    pub(crate) fn send(&self, frame: Frame) {
        self.push(frame);
    }

    /// An event of a subscription.
    pub(crate) fn push_event(&self, frame: Frame, class: Class, ticket: &Arc<Ticket>) -> Pushed {
        self.put(frame, class, Some(ticket))
    }

    fn put(&self, frame: Frame, class: Class, ticket: Option<&Arc<Ticket>>) -> Pushed {
        self.put_in(&mut self.lock(), frame, class, ticket)
    }

    fn put_in(&self, inner: &mut Inner, frame: Frame, class: Class, ticket: Option<&Arc<Ticket>>) -> Pushed {
        if inner.gone || inner.ending.is_some() {
            return Pushed::Ended;
        }
        if ticket.is_some_and(|ticket| ticket.cancelled()) {
            return Pushed::Dropped;
        }
        if class == Class::Bulk {
            inner.bulk_bytes += frame.len();
        } else {
            if self.over(inner, frame.len()) {
                if class == Class::Ephemeral {
                    return Pushed::Dropped;
                }
                inner.drop_ephemeral();
            }
            if self.over(inner, frame.len()) {
                inner.ending = Some(Ending {
                    code: Code::CloseSlowConsumer,
                    reason: Code::CloseSlowConsumer.message().into(),
                    flush: false,
                    since: Instant::now(),
                });
                inner.wake();
                self.drained.notify_waiters();
                return Pushed::Ended;
            }
            inner.counted_bytes += frame.len();
            inner.counted += 1;
            if inner.counted > inner.telling {
                inner.telling = inner.counted * 2;
                let (len, cap) = (inner.counted as u64, self.messages_max as u64);
                trace::emit(|| Record::Queue { name: "outbox".into(), len, cap });
            }
        }
        inner.queue.push_back(Item { frame, class, ticket: ticket.cloned() });
        inner.wake();
        Pushed::Queued
    }

    /// True if a message of `len` bytes more is too much.
    fn over(&self, inner: &Inner, len: usize) -> bool {
        (inner.counted_bytes + len > self.bytes_max || inner.counted >= self.messages_max) && !mutant!(OutboxUnbounded)
    }

    /// The next message to write.
    pub(crate) fn pop(&self) -> Option<Frame> {
        let mut inner = self.lock();
        let item = inner.queue.pop_front()?;
        inner.uncount(&item);
        if item.class == Class::Bulk {
            self.drained.notify_waiters();
        }
        Some(item.frame)
    }

    /// Ends a subscription: events of it that still wait are discarded, later ones refused. False if its SUB has no
    /// result: then the caller owes it one, and nobody else will give it.
    pub(crate) fn cancel(&self, ticket: &Arc<Ticket>) -> bool {
        let mut inner = self.lock();
        ticket.cancelled.store(true, Ordering::Release);
        inner.discard(|item| item.ticket.as_ref().is_some_and(|other| Arc::ptr_eq(other, ticket)));
        self.drained.notify_waiters();
        ticket.answered.swap(true, Ordering::AcqRel)
    }

    /// The good result of a SUB, unless that was ended meanwhile. It stays queued when the subscription ends.
    pub(crate) fn admit(&self, frame: Frame, ticket: &Arc<Ticket>) {
        let mut inner = self.lock();
        if !ticket.cancelled() && !ticket.answered.swap(true, Ordering::AcqRel) {
            self.put_in(&mut inner, frame, Class::Firm, None);
        }
    }

    /// The refusal of a SUB, unless that was ended meanwhile.
    pub(crate) fn refuse(&self, frame: Frame, ticket: &Arc<Ticket>) {
        if !self.cancel(ticket) {
            self.push(frame);
        }
    }

    /// Ends the connection. The first reason stands.
    pub(crate) fn end(&self, code: Code, reason: impl Into<String>, flush: bool) {
        let mut inner = self.lock();
        if inner.ending.is_none() && !inner.gone {
            inner.ending = Some(Ending { code, reason: reason.into(), flush, since: Instant::now() });
            inner.wake();
            self.drained.notify_waiters();
        }
    }

    /// Has the connection look again, though nothing new waits to be written.
    pub(crate) fn nudge(&self) {
        self.lock().wake();
    }

    /// Why the connection must end, if it must.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.lock().ending.clone()
    }

    /// The connection is gone: nothing is taken any more.
    pub(crate) fn gone(&self) {
        let mut inner = self.lock();
        inner.gone = true;
        inner.queue = VecDeque::new();
        inner.waker = None;
        self.drained.notify_waiters();
    }

    /// Whom to wake when there is something to write or the connection must end.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut inner = self.lock();
        match &mut inner.waker {
            Some(known) if known.will_wake(waker) => {}
            slot => *slot = Some(waker.clone()),
        }
    }

    /// Bytes and messages that count against the limits.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.counted_bytes, inner.counted)
    }

    /// Bytes of replays and snapshots that wait.
    pub(crate) fn bulk(&self) -> usize {
        self.lock().bulk_bytes
    }

    /// Waits until at most `most` bytes of replays and snapshots wait, or the connection ends.
    pub(crate) async fn drained_to(&self, most: usize) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // From here on no change is missed.
            drained.as_mut().enable();
            {
                let inner = self.lock();
                if inner.bulk_bytes <= most || inner.gone || inner.ending.is_some() {
                    return;
                }
            }
            drained.await;
        }
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn uncount(&mut self, item: &Item) {
        if item.class == Class::Bulk {
            self.bulk_bytes -= item.frame.len();
        } else {
            self.counted_bytes -= item.frame.len();
            self.counted -= 1;
        }
    }

    fn drop_ephemeral(&mut self) {
        self.discard(|item| item.class == Class::Ephemeral);
    }

    fn discard(&mut self, which: impl Fn(&Item) -> bool) {
        let mut kept = VecDeque::with_capacity(self.queue.len());
        while let Some(item) = self.queue.pop_front() {
            if which(&item) {
                self.uncount(&item);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Frame {
        Frame::Binary(Bytes::from(vec![0; len]))
    }

    #[test]
    fn pressure_drops_ephemeral_then_closes() {
        let outbox = Outbox::new(100, 10);
        let ticket = Arc::new(Ticket::default());
        assert_eq!(outbox.push_event(frame(60), Class::Ephemeral, &ticket), Pushed::Queued);
        assert_eq!(outbox.push_event(frame(50), Class::Ephemeral, &ticket), Pushed::Dropped);
        assert_eq!(outbox.push_event(frame(50), Class::Firm, &ticket), Pushed::Queued, "in the place of the ephemeral");
        assert_eq!(outbox.depth(), (50, 1));
        assert_eq!(outbox.push_event(frame(51), Class::Firm, &ticket), Pushed::Ended);
        assert_eq!(outbox.ending().map(|ending| ending.code), Some(Code::CloseSlowConsumer));
        assert_eq!(outbox.push(frame(1)), Pushed::Ended);
    }

    #[test]
    fn messages_are_bounded_too() {
        let outbox = Outbox::new(100, 2);
        assert_eq!(outbox.push(frame(1)), Pushed::Queued);
        assert_eq!(outbox.push(frame(1)), Pushed::Queued);
        assert_eq!(outbox.push(frame(1)), Pushed::Ended);
    }

    #[test]
    fn bulk_is_never_slow() {
        let outbox = Outbox::new(100, 2);
        let ticket = Arc::new(Ticket::default());
        for _ in 0..10 {
            assert_eq!(outbox.push_event(frame(100), Class::Bulk, &ticket), Pushed::Queued);
        }
        assert_eq!((outbox.bulk(), outbox.depth()), (1000, (0, 0)));
        while outbox.pop().is_some() {}
        assert_eq!(outbox.bulk(), 0);
    }

    #[tokio::test]
    async fn catching_up_waits_until_the_reader_has_read() {
        let outbox = Arc::new(Outbox::new(100, 2));
        let ticket = Arc::new(Ticket::default());
        for _ in 0..4 {
            outbox.push_event(frame(100), Class::Bulk, &ticket);
        }
        let waits = |most| {
            let outbox = outbox.clone();
            tokio::spawn(async move { outbox.drained_to(most).await })
        };
        let (far, near) = (waits(300), waits(0));
        tokio::task::yield_now().await;
        assert!(!far.is_finished() && !near.is_finished());
        outbox.pop();
        far.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!near.is_finished());
        outbox.end(Code::CloseDraining, "", true);
        near.await.unwrap();
        assert_eq!(outbox.ending().map(|ending| ending.code), Some(Code::CloseDraining), "not as a slow consumer");
    }

    #[test]
    fn a_sub_gets_one_result_whoever_ends_it() {
        let outbox = Outbox::new(1000, 100);
        let (admitted, replaced, refused) = (Arc::default(), Arc::default(), Arc::default());
        outbox.admit(frame(1), &admitted);
        assert!(outbox.cancel(&admitted), "it has its result, which stays");
        outbox.refuse(frame(9), &admitted);
        assert!(!outbox.cancel(&replaced), "who ends it owes the result");
        outbox.admit(frame(9), &replaced);
        outbox.refuse(frame(9), &replaced);
        outbox.refuse(frame(2), &refused);
        assert!(refused.answered() && outbox.cancel(&refused));
        assert_eq!((outbox.pop(), outbox.pop(), outbox.pop()), (Some(frame(1)), Some(frame(2)), None));
    }

    #[test]
    fn cancelled_ticket_leaves_nothing_behind() {
        let outbox = Outbox::new(1000, 100);
        let (one, two) = (Arc::new(Ticket::default()), Arc::new(Ticket::default()));
        outbox.push_event(frame(1), Class::Firm, &one);
        outbox.push_event(frame(2), Class::Firm, &two);
        outbox.push_event(frame(3), Class::Bulk, &one);
        outbox.cancel(&one);
        assert_eq!(outbox.push_event(frame(4), Class::Firm, &one), Pushed::Dropped);
        assert_eq!(outbox.pop(), Some(frame(2)));
        assert_eq!(outbox.pop(), None);
        assert_eq!((outbox.bulk(), outbox.depth()), (0, (0, 0)));
    }
}
