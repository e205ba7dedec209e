//! Commands without an outcome. Each is in exactly one phase; `ready` and `timers` are indexes over them, so that one
//! send or answer costs O(log n).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proto::{MessageId, RoomId, v1};
use tokio::time::Instant;

use super::super::event::Repeat;
use super::{COMMANDS_MAX, Full};

/// How many settled ids are remembered, to name the room of a late or repeated answer.
const SETTLED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Commands {
    next: u64,
    all: BTreeMap<u64, Command>,
    by_id: BTreeMap<MessageId, u64>,
    ready: BTreeSet<u64>,
    timers: BTreeSet<(Instant, u64)>,
    settled: VecDeque<(MessageId, RoomId)>,
}

#[derive(Debug)]
struct Command {
    message_id: MessageId,
    room: RoomId,
    command: v1::Command,
    ack: bool,
    /// The frame, from the first send on.
    bytes: Option<Bytes>,
    sends: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In `ready`.
    Ready,
    /// In `timers`: no answer by then counts as lost.
    Sent(Instant),
    /// In `timers`: to be sent again then.
    Paused(Instant),
}

/// One frame to send.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) message_id: MessageId,
    pub(super) room: RoomId,
    pub(super) command: v1::Command,
    pub(super) bytes: Bytes,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) room: Option<RoomId>,
    pub(super) repeating: bool,
}

impl Commands {
    pub(super) const fn new() -> Self {
        Self {
            next: 0,
            all: BTreeMap::new(),
            by_id: BTreeMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            settled: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes a command. At the bound, the oldest one sent without `ack` makes room: its success would be silent.
    pub(super) fn add(
        &mut self,
        message_id: MessageId,
        room: RoomId,
        command: v1::Command,
        ack: bool,
    ) -> Result<(), Full> {
        if self.all.len() >= COMMANDS_MAX {
            let silent = self.all.iter().find(|(_, one)| !one.ack && matches!(one.phase, Phase::Sent(_)));
            let oldest = silent.map(|(order, _)| *order).ok_or(Full)?;
            self.remove(oldest);
        }
        let order = self.next;
        self.next += 1;
        self.by_id.insert(message_id, order);
        self.ready.insert(order);
        let command = Command { message_id, room, command, ack, bytes: None, sends: 0, phase: Phase::Ready };
        self.all.insert(order, command);
        Ok(())
    }

    /// Moves everything that is due to "sent", oldest first. `build` makes the bytes at the first send.
    pub(super) fn send(
        &mut self,
        now: Instant,
        policy: Repeat,
        build: impl Fn(MessageId, &RoomId, &v1::Command, bool) -> Bytes,
    ) -> Vec<Sent> {
        for order in self.due(now) {
            if self.all.get(&order).is_some_and(|one| matches!(one.phase, Phase::Paused(_))) {
                self.move_to(order, Phase::Ready);
            }
        }
        let mut out = Vec::with_capacity(self.ready.len());
        while let Some(order) = self.ready.first().copied() {
            self.move_to(order, Phase::Sent(now + policy.answer));
            let one = self.all.get_mut(&order).expect("the indexes name commands that are there");
            one.sends += 1;
            let bytes = match &one.bytes {
                Some(bytes) => bytes.clone(),
                None => {
                    let bytes = build(one.message_id, &one.room, &one.command, one.ack);
                    one.bytes = Some(bytes.clone());
                    bytes
                }
            };
            let (room, command) = (one.room.clone(), one.command.clone());
            out.push(Sent { message_id: one.message_id, room, command, bytes });
        }
        out
    }

    /// An answer came.
    pub(super) fn answered(
        &mut self,
        id: MessageId,
        code: u32,
        retry_after: Duration,
        now: Instant,
        policy: Repeat,
    ) -> Settled {
        let Some(order) = self.by_id.get(&id).copied() else {
            let room = self.settled.iter().find(|(settled, _)| *settled == id).map(|(_, room)| room.clone());
            return Settled { room, repeating: false };
        };
        let one = self.all.get(&order).expect("the indexes name commands that are there");
        let room = Some(one.room.clone());
        if one.sends < policy.sends && Repeat::allows(code) {
            let doubled = policy.pause.saturating_mul(1 << one.sends.saturating_sub(1).min(16));
            let pause = doubled.min(policy.pause_max).max(retry_after);
            self.move_to(order, Phase::Paused(now + pause));
            return Settled { room, repeating: true };
        }
        self.remove(order);
        Settled { room, repeating: false }
    }

    /// Sends that got no answer in time are repeated if the policy allows; the others are given up, and returned with
    /// whether their sender wanted to know.
    pub(super) fn expire(&mut self, now: Instant, policy: Repeat) -> Vec<(MessageId, RoomId, bool)> {
        let mut lost = Vec::new();
        for order in self.due(now) {
            let Some(one) = self.all.get(&order) else { continue };
            if !matches!(one.phase, Phase::Sent(_)) {
                continue;
            }
            if one.ack && one.sends < policy.sends {
                self.move_to(order, Phase::Ready);
            } else {
                lost.push((one.message_id, one.room.clone(), one.ack));
                self.remove(order);
            }
        }
        lost
    }

    /// The connection is gone: what was sent is sent again on the next one, if the policy allows. Returned are those
    /// given up whose sender wanted to know.
    pub(super) fn disconnected(&mut self, policy: Repeat) -> Vec<(MessageId, RoomId)> {
        let mut lost = Vec::new();
        let sent: Vec<u64> =
            self.all.iter().filter(|(_, one)| one.phase != Phase::Ready).map(|(order, _)| *order).collect();
        for order in sent {
            let one = self.all.get(&order).expect("just listed");
            if one.sends < policy.sends {
                self.move_to(order, Phase::Ready);
            } else {
                if one.ack {
                    lost.push((one.message_id, one.room.clone()));
                }
                self.remove(order);
            }
        }
        lost
    }

    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn due(&self, now: Instant) -> Vec<u64> {
        self.timers.range(..=(now, u64::MAX)).map(|(_, order)| *order).collect()
    }

    fn move_to(&mut self, order: u64, phase: Phase) {
        let one = self.all.get_mut(&order).expect("the indexes name commands that are there");
        match std::mem::replace(&mut one.phase, phase) {
            Phase::Ready => self.ready.remove(&order),
            Phase::Sent(at) | Phase::Paused(at) => self.timers.remove(&(at, order)),
        };
        match phase {
            Phase::Ready => self.ready.insert(order),
            Phase::Sent(at) | Phase::Paused(at) => self.timers.insert((at, order)),
        };
    }

    fn remove(&mut self, order: u64) {
        self.move_to(order, Phase::Ready);
        self.ready.remove(&order);
        let one = self.all.remove(&order).expect("the indexes name commands that are there");
        self.by_id.remove(&one.message_id);
        if self.settled.len() == SETTLED_MAX {
            self.settled.pop_front();
        }
        self.settled.push_back((one.message_id, one.room));
    }
}
