//! The table of commands in flight, as plain data. A slot is free, holds a command, or rests after a timeout so that a
//! late answer finds nobody. Commands of a room that nobody serves wait in its stall, in the order of their arrival.
//!
//! Order: commands of one connection to one room apply in order as long as every answer is code 0. So while a room is
//! stalled new commands queue behind the old, and a command whose successor was answered first is given up (6000).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::{MessageId, RoomKey, Subject};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ack::Brief;
use crate::outbox::Outbox;
use crate::route::Route;

/// How long a slot rests after its command timed out.
const REST: Duration = Duration::from_secs(4);
const NIL: u16 = u16::MAX;

/// In which dialect the answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text { id: Option<u64> },
}

/// A command that was taken out of the table to be answered. It counts as in flight until this is dropped: a drain must
/// not end a connection between the two.
pub(super) struct Taken {
    pending: Pending,
    leaving: Arc<AtomicUsize>,
}

impl Taken {
    /// To be called under the table's lock.
    fn new(pending: Pending, leaving: &Arc<AtomicUsize>) -> Self {
        leaving.fetch_add(1, Ordering::SeqCst);
        Self { pending, leaving: leaving.clone() }
    }
}

impl std::ops::Deref for Taken {
    type Target = Pending;

    fn deref(&self) -> &Pending {
        &self.pending
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.leaving.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A command without an answer yet.
pub(crate) struct Pending {
    /// Place in the order of arrival at this Shield.
    pub(crate) order: u64,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) route: Arc<Route>,
    pub(crate) message_id: MessageId,
    pub(crate) ack_requested: bool,
    pub(crate) form: Form,
    /// The user may bring the room into being.
    pub(crate) create: bool,
    /// What was or will be published.
    pub(crate) body: Bytes,
    /// When it arrived.
    pub(crate) since: Instant,
}

pub(super) enum Submitted {
    Publish {
        slot: u16,
        subject: Subject,
        body: Bytes,
    },
    Waits,
    Busy(Taken),
    /// Nothing is taken any more.
    Closed(Taken),
}

pub(super) enum Answered {
    /// Nobody waits for that.
    Stray,
    Done {
        pending: Taken,
        overtaken: Vec<Taken>,
    },
    /// Waits for somebody to serve the room; `begin`: the first to do so.
    Stalled {
        begin: Option<Arc<Route>>,
    },
    /// A 503 after its time.
    Late(Taken),
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    Served,
    NoResponders,
}

/// What a stall should do next.
pub(super) enum Next {
    /// Publish this, then wait for the outcome.
    Probe { slot: u16, subject: Subject, body: Bytes, outcome: oneshot::Receiver<Probed> },
    /// A later command of that connection is still in flight, or no slot is free.
    NotYet,
    /// Nothing waits any more; the stall is gone.
    Over,
}

/// The first command of a stall, as far as an open must know it.
pub(super) struct Head {
    pub(super) order: u64,
    /// Its user may bring the room into being.
    pub(super) create: bool,
    /// When it arrived.
    pub(super) since: Instant,
}

enum State {
    Free,
    Busy(Pending),
    Resting,
}

struct Slot {
    state: State,
    until: Instant,
    prev: u16,
    next: u16,
}

/// Slots in the order of their deadlines, which is that of their insertion.
#[derive(Clone, Copy)]
struct List {
    head: u16,
    tail: u16,
    len: usize,
}

#[derive(Default)]
struct Stall {
    queue: VecDeque<Pending>,
    probe: Option<(u16, oneshot::Sender<Probed>)>,
}

pub(super) struct Table {
    slots: Vec<Slot>,
    free: VecDeque<u16>,
    busy: List,
    resting: List,
    stalls: BTreeMap<RoomKey, Stall>,
    stalled: usize,
    /// Taken out, and not answered yet. Rises under the table's lock alone.
    leaving: Arc<AtomicUsize>,
    closed: bool,
}

impl List {
    const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    fn push(&mut self, slots: &mut [Slot], at: u16) {
        slots[usize::from(at)].prev = self.tail;
        slots[usize::from(at)].next = NIL;
        match self.tail {
            NIL => self.head = at,
            tail => slots[usize::from(tail)].next = at,
        }
        self.tail = at;
        self.len += 1;
    }

    fn remove(&mut self, slots: &mut [Slot], at: u16) {
        let (prev, next) = (slots[usize::from(at)].prev, slots[usize::from(at)].next);
        match prev {
            NIL => self.head = next,
            prev => slots[usize::from(prev)].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => slots[usize::from(next)].prev = prev,
        }
        self.len -= 1;
    }
}

impl Table {
    pub(super) fn new(slots: u16) -> Self {
        let now = Instant::now();
        Self {
            slots: (0..slots).map(|_| Slot { state: State::Free, until: now, prev: NIL, next: NIL }).collect(),
            free: (0..slots).collect(),
            busy: List::EMPTY,
            resting: List::EMPTY,
            stalls: BTreeMap::new(),
            stalled: 0,
            leaving: Arc::default(),
            closed: false,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.busy.len + self.stalled + self.leaving.load(Ordering::SeqCst)
    }

    /// Slots that hold a command or rest.
    pub(super) fn held(&self) -> usize {
        self.busy.len + self.resting.len
    }

    /// Takes nothing new from now on; what is in flight goes on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes a command in: to be published, or to wait behind others of its room.
    pub(super) fn submit(&mut self, pending: Pending, deadline: Instant) -> Submitted {
        if self.closed {
            return Submitted::Closed(self.take(pending));
        }
        if !self.stalls.is_empty()
            && let Some(stall) = self.stalls.get_mut(&pending.route.key)
        {
            if self.stalled >= self.slots.len() {
                return Submitted::Busy(Taken::new(pending, &self.leaving));
            }
            stall.queue.push_back(pending);
            self.stalled += 1;
            return Submitted::Waits;
        }
        let (subject, body) = (pending.route.input.clone(), pending.body.clone());
        match self.claim(pending, deadline) {
            Ok(slot) => Submitted::Publish { slot, subject, body },
            Err(pending) => Submitted::Busy(self.take(pending)),
        }
    }

    fn take(&self, pending: Pending) -> Taken {
        Taken::new(pending, &self.leaving)
    }

    fn claim(&mut self, pending: Pending, until: Instant) -> Result<u16, Pending> {
        let Some(slot) = self.free.pop_front() else { return Err(pending) };
        let entry = &mut self.slots[usize::from(slot)];
        entry.state = State::Busy(pending);
        entry.until = until;
        self.busy.push(&mut self.slots, slot);
        Ok(slot)
    }

    /// Empties a busy slot; it is free at once.
    fn release(&mut self, slot: u16) -> Option<Pending> {
        let entry = &mut self.slots[usize::from(slot)];
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Busy(pending) => {
                self.busy.remove(&mut self.slots, slot);
                self.free.push_back(slot);
                Some(pending)
            }
            other => {
                entry.state = other;
                None
            }
        }
    }

    /// A command that was not published after all.
    pub(super) fn withdraw(&mut self, slot: u16) -> Option<Taken> {
        let pending = self.release(slot)?;
        self.tell_probe(&pending.route.key, slot, Probed::NoResponders);
        Some(self.take(pending))
    }

    fn tell_probe(&mut self, room: &RoomKey, slot: u16, outcome: Probed) -> bool {
        if self.stalls.is_empty() {
            return false;
        }
        let Some(stall) = self.stalls.get_mut(room) else { return false };
        match stall.probe.take() {
            Some((probed, tell)) if probed == slot => {
                let _ = tell.send(outcome);
                true
            }
            other => {
                stall.probe = other;
                false
            }
        }
    }

    /// A 503 came for this slot.
    pub(super) fn no_responders(&mut self, slot: u16, now: Instant) -> Answered {
        let until = self.slots[usize::from(slot)].until;
        let Some(pending) = self.release(slot) else { return Answered::Stray };
        let route = pending.route.clone();
        self.tell_probe(&route.key, slot, Probed::NoResponders);
        if now >= until || self.stalled >= self.slots.len() {
            return Answered::Late(self.take(pending));
        }
        let begin = !self.stalls.contains_key(&route.key);
        let stall = self.stalls.entry(route.key.clone()).or_default();
        let at = stall.queue.partition_point(|other| other.order < pending.order);
        stall.queue.insert(at, pending);
        self.stalled += 1;
        Answered::Stalled { begin: begin.then_some(route) }
    }

    /// An Ack came for this slot.
    pub(super) fn answered(&mut self, slot: u16, brief: &Brief) -> Answered {
        match &self.slots[usize::from(slot)].state {
            State::Busy(pending) if pending.message_id == brief.message_id => {}
            _ => return Answered::Stray,
        }
        let Some(pending) = self.release(slot) else { return Answered::Stray };
        let mut overtaken = Vec::new();
        if !self.stalls.is_empty() {
            self.tell_probe(&pending.route.key, slot, Probed::Served);
            if brief.code == 0
                && let Some(stall) = self.stalls.get_mut(&pending.route.key)
            {
                let earlier =
                    |other: &Pending| other.order < pending.order && Arc::ptr_eq(&other.outbox, &pending.outbox);
                while let Some(at) = stall.queue.iter().position(earlier) {
                    overtaken.extend(stall.queue.remove(at).map(|earlier| Taken::new(earlier, &self.leaving)));
                    self.stalled -= 1;
                }
            }
        }
        Answered::Done { pending: self.take(pending), overtaken }
    }

    /// Commands whose answer did not come in time; their slots rest.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Taken> {
        let mut late = Vec::new();
        while self.busy.head != NIL && self.slots[usize::from(self.busy.head)].until <= now {
            let slot = self.busy.head;
            self.busy.remove(&mut self.slots, slot);
            let entry = &mut self.slots[usize::from(slot)];
            entry.until = now + REST;
            if let State::Busy(pending) = std::mem::replace(&mut entry.state, State::Resting) {
                // Somebody took it: whoever waits behind it may go on.
                self.tell_probe(&pending.route.key, slot, Probed::Served);
                late.push(self.take(pending));
            }
            self.resting.push(&mut self.slots, slot);
        }
        while self.resting.head != NIL && self.slots[usize::from(self.resting.head)].until <= now {
            let slot = self.resting.head;
            self.resting.remove(&mut self.slots, slot);
            self.slots[usize::from(slot)].state = State::Free;
            self.free.push_back(slot);
        }
        late
    }

    /// Takes out of a stall what arrived before `before`.
    pub(super) fn expire(&mut self, room: &RoomKey, before: Instant) -> Vec<Taken> {
        let Some(stall) = self.stalls.get_mut(room) else { return Vec::new() };
        let mut old = Vec::new();
        while stall.queue.front().is_some_and(|pending| pending.since <= before) {
            old.extend(stall.queue.pop_front().map(|pending| Taken::new(pending, &self.leaving)));
        }
        self.stalled -= old.len();
        old
    }

    /// Takes the first command out of a stall.
    fn pop(&mut self, room: &RoomKey) -> Option<Pending> {
        let pending = self.stalls.get_mut(room)?.queue.pop_front()?;
        self.stalled -= 1;
        Some(pending)
    }

    /// The same, if it is still this one.
    pub(super) fn pop_if(&mut self, room: &RoomKey, order: u64) -> Option<Taken> {
        let head = self.stalls.get(room)?.queue.front()?;
        if head.order != order {
            return None;
        }
        let pending = self.pop(room)?;
        Some(self.take(pending))
    }

    /// The first command of a stall.
    pub(super) fn head(&self, room: &RoomKey) -> Option<Head> {
        let head = self.stalls.get(room)?.queue.front()?;
        Some(Head { order: head.order, create: head.create, since: head.since })
    }

    /// The first command of a stall, to be published again.
    pub(super) fn next(&mut self, route: &Route, deadline: Instant) -> Next {
        let Some(stall) = self.stalls.get(&route.key) else { return Next::Over };
        let Some(head) = stall.queue.front() else {
            self.stalls.remove(&route.key);
            return Next::Over;
        };
        let mut at = self.busy.head;
        while at != NIL {
            let slot = &self.slots[usize::from(at)];
            if let State::Busy(later) = &slot.state
                && later.order > head.order
                && Arc::ptr_eq(&later.outbox, &head.outbox)
                && later.route.key == route.key
            {
                return Next::NotYet;
            }
            at = slot.next;
        }
        if self.free.is_empty() {
            return Next::NotYet;
        }
        let Some(pending) = self.pop(&route.key) else { return Next::NotYet };
        let body = pending.body.clone();
        let Ok(slot) = self.claim(pending, deadline) else { return Next::NotYet };
        let (tell, outcome) = oneshot::channel();
        if let Some(stall) = self.stalls.get_mut(&route.key) {
            stall.probe = Some((slot, tell));
        }
        Next::Probe { slot, subject: route.input.clone(), body, outcome }
    }
}

#[cfg(test)]
mod tests;
