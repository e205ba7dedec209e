//! What waits to be written to one connection. Bounded in bytes and messages: under pressure ephemeral events go first,
//! then the connection is closed with 4102, so one slow reader never holds up a room.
//!
//! Replays, snapshots and answers to `get` (`bulk`) are not counted as slowness: a client that has just come back is not
//! a slow one. They have bounds of their own:
//!
//! - While more than [`BULK_BEGIN`] waits, a connection begins no further SUB or get and reads no more of the log for a
//!   subscriber that catches up ([`Outbox::drained_to`]).
//! - While more than [`BULK_CROWDED`] waits, no further answer is taken: a SUB that was under way is asked again later
//!   ([`Outbox::defer`]). So at most one answer (896 KiB), what came after it (1 MiB) and one read of the log (1 MiB)
//!   stand above that bound: [`BULK_MAX`] in all.
//! - While more than [`SHIELD_BULK_MAX`] waits for all connections of the Shield, none begins anything.
//!
//! Bulk shares its buffers with other readers where it can, and is rendered only when it is written.

mod frame;
mod limits;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use proto::Code;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use voltron_core::mutant;
use voltron_core::trace::{self, Record};

pub(crate) use frame::{Frame, StatePart};
pub(crate) use limits::{Bounds, Pool};

/// Bytes of bulk waiting, above which nothing begins that brings more.
pub(crate) const BULK_BEGIN: usize = 256 << 10;
/// Bytes of bulk waiting, above which no further answer is taken.
const BULK_CROWDED: usize = 512 << 10;
/// The most bulk that may wait for one connection.
const BULK_MAX: usize = 4 << 20;
/// Bytes of bulk waiting for all connections, above which nothing begins.
const SHIELD_BULK_MAX: usize = 256 << 20;

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
    /// Its answer was not taken: it has to be asked again.
    deferred: AtomicBool,
}

impl Ticket {
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// True if its answer came at a bad time and has to be asked for again.
    pub(crate) fn deferred(&self) -> bool {
        self.deferred.load(Ordering::Acquire)
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
    /// The next depths that the trace is told of: each is twice the one before.
    telling: usize,
    telling_bulk: usize,
    waker: Option<Waker>,
    ending: Option<Ending>,
    gone: bool,
}

/// The queue of one connection.
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bounds: Bounds,
    pool: Arc<Pool>,
    /// A SUB was deferred since this was last looked at.
    deferred: AtomicBool,
    /// Held by the subscription that catches up from the log: one at a time.
    catching_up: Semaphore,
    /// Told whenever a part of a replay or snapshot has left, and at the end.
    drained: Notify,
}

impl Outbox {
    /// With bounds that stay.
    #[cfg(test)]
    pub(crate) fn new(bytes_max: usize, messages_max: usize) -> Self {
        Self::with(Bounds::Fixed(bytes_max, messages_max), Arc::default())
    }

    /// With these bounds; its bulk counts in `pool`.
    pub(crate) fn with(bounds: Bounds, pool: Arc<Pool>) -> Self {
        Self {
            inner: Mutex::default(),
            bounds,
            pool,
            deferred: AtomicBool::new(false),
            catching_up: Semaphore::new(1),
            drained: Notify::new(),
        }
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

    /// A part of a long answer that belongs to no subscription.
    pub(crate) fn push_bulk(&self, frame: Frame) {
        self.put(frame, Class::Bulk, None);
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
            self.pool.add(frame.len());
            if inner.bulk_bytes > inner.telling_bulk {
                inner.telling_bulk = inner.bulk_bytes * 2;
                let (len, cap) = (inner.bulk_bytes as u64, BULK_MAX as u64);
                trace::emit(|| Record::Queue { name: "outbox.bulk".into(), len, cap });
            }
        } else {
            if self.over(inner, frame.len()) {
                if class == Class::Ephemeral {
                    return Pushed::Dropped;
                }
                inner.drop_ephemeral(&self.pool);
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
                let (len, cap) = (inner.counted as u64, self.bounds.get().1 as u64);
                trace::emit(|| Record::Queue { name: "outbox".into(), len, cap });
            }
        }
        inner.queue.push_back(Item { frame, class, ticket: ticket.cloned() });
        inner.wake();
        Pushed::Queued
    }

    /// True if a message of `len` bytes more is too much.
    fn over(&self, inner: &Inner, len: usize) -> bool {
        let (bytes_max, messages_max) = self.bounds.get();
        (inner.counted_bytes + len > bytes_max || inner.counted >= messages_max) && !mutant!(OutboxUnbounded)
    }

    /// The next message to write.
    pub(crate) fn pop(&self) -> Option<Frame> {
        let mut inner = self.lock();
        let item = inner.queue.pop_front()?;
        inner.uncount(&item, &self.pool);
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
        inner.discard(&self.pool, |item| item.ticket.as_ref().is_some_and(|other| Arc::ptr_eq(other, ticket)));
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
        inner.discard(&self.pool, |_| true);
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

    /// Bytes of bulk that wait.
    pub(crate) fn bulk(&self) -> usize {
        self.lock().bulk_bytes
    }

    /// True if what brings more bulk may begin.
    pub(crate) fn may_begin(&self) -> bool {
        !self.pool.is_full() && self.bulk() <= BULK_BEGIN
    }

    /// True if the whole Shield holds so much bulk that nothing begins. Nobody tells when that is over: look again.
    pub(crate) fn pool_is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// True if so much bulk waits that no further answer is taken.
    pub(crate) fn crowded(&self) -> bool {
        self.bulk() > BULK_CROWDED && !mutant!(OutboxUnbounded)
    }

    /// The answer of a SUB was not taken: the connection asks again once it has room.
    pub(crate) fn defer(&self, ticket: &Ticket) {
        ticket.deferred.store(true, Ordering::Release);
        self.deferred.store(true, Ordering::Release);
        self.lock().wake();
    }

    /// True if a SUB was deferred that has not been taken back yet.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.load(Ordering::Acquire)
    }

    /// Says that the deferred ones are taken back.
    pub(crate) fn take_deferred(&self) -> bool {
        self.deferred.swap(false, Ordering::AcqRel)
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn shrink(&self) {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            inner.queue = VecDeque::new();
        }
    }

    /// Waits until this connection may catch up from the log: one subscription at a time, and only with at most
    /// [`BULK_BEGIN`] waiting.
    pub(crate) async fn turn_to_catch_up(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let turn = self.catching_up.acquire().await.ok();
        self.drained_to(BULK_BEGIN).await;
        turn
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

    fn uncount(&mut self, item: &Item, pool: &Pool) {
        if item.class == Class::Bulk {
            self.bulk_bytes -= item.frame.len();
            pool.sub(item.frame.len());
        } else {
            self.counted_bytes -= item.frame.len();
            self.counted -= 1;
        }
    }

    fn drop_ephemeral(&mut self, pool: &Pool) {
        self.discard(pool, |item| item.class == Class::Ephemeral);
    }

    fn discard(&mut self, pool: &Pool, which: impl Fn(&Item) -> bool) {
        let mut kept = VecDeque::with_capacity(self.queue.len());
        while let Some(item) = self.queue.pop_front() {
            if which(&item) {
                self.uncount(&item, pool);
            } else {
                kept.push_back(item);
            }
        }
        self.queue = kept;
    }
}

#[cfg(test)]
mod tests;
