//! Each operation, resolved against the model's state.

use brain_model::{Effect, Input, Outcome, Token};

use super::{World, damage, entries, remember};
use crate::lockstep::ops::{
    Ask, At, Clock, CursorIs, Damage, Dress, Expect, Foreign, HeadIs, Loss, Many, Op, Since, To,
};

/// The most calls of one `Settle`.
const SETTLE_MAX: usize = 400;

impl World<'_> {
    pub(super) fn take(&mut self, op: &Op) {
        match *op {
            Op::Call { at, times } => self.calls(at, times),
            Op::Settle => self.settle(),
            Op::Send { at, user, rights, ref ask, head, clock, dress, to, both } => {
                let (row, id, body) = self.request(at, user, rights, ask, head, clock, dress);
                self.sent.push(super::Sent { row, user, id, body: body.clone() });
                self.deliver(at, row, body, to, both);
            }
            Op::Mixed { at, rights, head, clock, known } => self.mixed(self.served(at), rights, head, clock, known),
            Op::Repeat { at, which, altered, both } => self.repeat(at, which, altered, both),
            Op::Bad { at, which, damage } => {
                let body = self.damaged(which, damage);
                self.deliver(at, "unreadable", body, To::Slot, false);
            }
            Op::Open { at, create, to } => self.open(at, create, to),
            Op::Flood { at, of } => self.flood(self.served(at), of),
            Op::Lose { at, how } => self.lose(at, how),
            Op::Late { room } => {
                let streams = self.streams(room);
                if let Some((expect, body)) = streams.late.pop() {
                    streams.append(expect, body);
                }
            }
            Op::Foreign { at, entry } => {
                let (node, room) = self.place(at);
                let Some(core) = self.cores.get(&(node, room)) else { return };
                let body = entries::foreign(entry, &core.room.committed().tail, self.rooms[room].head());
                self.rooms[room].append_any(body);
            }
            Op::PowerCut { lost } => {
                for streams in &mut self.rooms {
                    streams.lose_tail(usize::from(lost));
                }
                (0..self.nodes.len()).for_each(|node| self.all_of(node, &Input::Reconnected));
            }
            Op::ForgetGen { room } => self.streams(room).gen_id = None,
            Op::Reconnect { node } => self.all_of(usize::from(node) % self.nodes.len(), &Input::Reconnected),
            Op::Pass { ms } => {
                self.clock_ms += u64::from(ms);
                self.wake_due();
            }
            Op::Rest { times } => (0..times).for_each(|_| self.rest()),
            Op::Wake { at } => {
                let (node, room) = self.place(at);
                self.give(node, room, Input::Wake);
            }
            Op::Jump { node, ms } => {
                let node = usize::from(node) % self.nodes.len();
                self.nodes[node].skew_ms += i64::from(ms);
            }
            Op::Crash { node } => self.crash(usize::from(node) % self.nodes.len()),
            Op::Stop { at } => {
                let (node, room) = self.place(at);
                self.give(node, room, Input::Stop);
            }
            Op::Full { room, full } => self.streams(room).refuse = full.then_some(Outcome::Full),
            Op::Stray { at, token } => self.stray(at, token),
            Op::Deposed { at } => self.deposed(self.served(at)),
            Op::Huge { at } => self.huge(self.served(at)),
            Op::Locked { at } => self.locked(self.served(at)),
            Op::Stopped { at } => self.stopped(at),
            Op::Code { which, name, damage } => self.code(which, name, damage),
            Op::Forward { which, damage } => self.forward(which, damage),
            Op::Beat { node, from, incarnation, kind, draining, cut } => {
                self.beat(node, from, incarnation, kind, draining, cut);
            }
            Op::Rank { node, room, last } => self.rank(node, room, last),
        }
    }

    fn streams(&mut self, room: u8) -> &mut brain_model::fake::Streams {
        let rooms = self.rooms.len();
        &mut self.rooms[usize::from(room) % rooms]
    }

    /// Gives a message to a core, and to all others of the room if `both`.
    pub(super) fn deliver(&mut self, at: At, row: &'static str, body: bytes::Bytes, to: To, both: bool) {
        let (node, room) = self.place(at);
        let reply = self.reply_to(to, row);
        remember(&mut self.seen, &body);
        for other in 0..self.nodes.len() {
            let served = self.cores.get(&(other, room)).is_some_and(|core| core.room.serving());
            if other == node || (both && served) {
                self.give(other, room, Input::Message { reply: reply.clone(), body: body.clone() });
            }
        }
    }

    /// This core if it serves its room, else the first that serves any: a story needs somebody to happen to.
    fn served(&self, at: At) -> At {
        if self.cores.get(&self.place(at)).is_some_and(|core| core.room.serving()) {
            return at;
        }
        let serving = self.cores.iter().find(|(_, core)| core.room.serving());
        let to_u8 = |n: usize| u8::try_from(n).unwrap_or(0);
        serving.map_or(at, |((node, room), _)| At { node: to_u8(*node), room: to_u8(*room) })
    }

    fn open(&mut self, at: At, create: bool, to: To) {
        let (node, room) = self.place(at);
        if self.cores.get(&(node, room)).is_none_or(|core| core.room.gone()) {
            self.fresh(node, room);
        }
        let to = if matches!(to, To::Nowhere) { To::Slot } else { to };
        if let Some(reply) = self.reply_to(to, "open") {
            self.give(node, room, Input::Open { reply, create });
        }
    }

    fn calls(&mut self, at: At, times: u8) {
        let (node, room) = self.place(at);
        for _ in 0..times {
            self.call(node, room);
        }
    }

    /// Does a core's oldest call and answers it; false if there is none.
    fn call(&mut self, node: usize, room: usize) -> bool {
        let Some(call) = self.cores.get_mut(&(node, room)).and_then(|core| core.calls.pop_front()) else {
            return false;
        };
        if let Some(outcome) = self.perform(room, call) {
            self.give(node, room, outcome);
        }
        true
    }

    fn perform(&mut self, room: usize, call: Effect) -> Option<Input> {
        self.draws += 1;
        // Spread over all 64 bits: both sides must keep them apart.
        let draw = self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.rooms[room].perform(call, draw)
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..SETTLE_MAX {
            let places: Vec<_> = self.cores.keys().copied().collect();
            let called = places.into_iter().filter(|(node, room)| self.call(*node, *room)).count();
            if called == 0 {
                return;
            }
        }
    }

    fn all_of(&mut self, node: usize, input: &Input) {
        for room in 0..self.rooms.len() {
            self.give(node, room, input.clone());
        }
    }

    fn wake_due(&mut self) {
        for (node, room) in self.cores.keys().copied().collect::<Vec<_>>() {
            let now = self.now(node).mono_ms;
            if self.cores[&(node, room)].room.wake_at().is_some_and(|at| at <= now) {
                self.give(node, room, Input::Wake);
            }
        }
    }

    /// To the next deadline, and everything that follows from it.
    fn rest(&mut self) {
        self.settle();
        let due = |((node, _), core): (&(usize, usize), &super::Core)| {
            core.room.wake_at().map(|at| at.saturating_add(self.nodes[*node].started_ms))
        };
        let Some(next) = self.cores.iter().filter_map(due).min() else { return };
        // A deadline at the end of time is none that a history could wait for.
        if next < self.clock_ms.saturating_add(10_000_000) {
            self.clock_ms = self.clock_ms.max(next);
            self.wake_due();
            self.settle();
        }
    }

    /// What it has sent may still arrive.
    fn crash(&mut self, node: usize) {
        for room in 0..self.rooms.len() {
            let Some(core) = self.cores.remove(&(node, room)) else { continue };
            for call in core.calls {
                if let Effect::Append { expect, body, .. } = call {
                    self.rooms[room].late.push((expect, body));
                }
            }
        }
        self.nodes[node].incarnation += 1;
        self.nodes[node].session = 0;
        self.nodes[node].started_ms = self.clock_ms;
    }

    fn lose(&mut self, at: At, how: Loss) {
        let (node, room) = self.place(at);
        let Some(call) = self.cores.get_mut(&(node, room)).and_then(|core| core.calls.pop_front()) else { return };
        let snapshot = matches!(call, Effect::WriteSnapshot { .. });
        let input = match (how, call) {
            (Loss::Unheard, call) => self.perform(room, call).map(unheard),
            (Loss::BeatenByItself, call @ (Effect::Append { .. } | Effect::WriteSnapshot { .. })) => {
                self.perform(room, call).map(|done| ended(done, Outcome::WrongLast))
            }
            (Loss::Stale(cut), call @ Effect::Read { .. }) => {
                let mut behind = self.rooms[room].clone();
                let kept = behind.log.len().saturating_sub(usize::from(cut));
                behind.log.truncate(kept);
                behind.perform(call, 77)
            }
            (Loss::Later, Effect::Append { token, expect, body }) => {
                self.rooms[room].late.push((expect, body));
                Some(Input::Appended { token, outcome: Outcome::Unresolved })
            }
            (how, call) => not_done(call, how),
        };
        if let Some(input) = input {
            self.give(node, room, input);
            // The owner reads SNAP's head after a second, which few histories let pass.
            if snapshot {
                self.clock_ms += 1000;
                self.give(node, room, Input::Wake);
            }
        }
    }

    fn stray(&mut self, at: At, token: u8) {
        let (node, room) = self.place(at);
        let old = Token(u64::from(token) / 6);
        let input = match token % 6 {
            0 => Input::Appended { token: old, outcome: Outcome::Stored(u64::from(token)) },
            1 => Input::Read { token: old, draw: 9, found: None },
            2 => Input::GenWritten { token: old },
            3 => Input::Subscribed { token: old, ok: true },
            4 => Input::SnapshotWritten { token: old, outcome: Outcome::Stored(9) },
            _ => Input::Appended { token: Token(u64::MAX), outcome: Outcome::Unavailable },
        };
        self.give(node, room, input);
    }

    fn repeat(&mut self, at: At, which: u16, altered: bool, both: bool) {
        if self.sent.is_empty() {
            return;
        }
        let sent = self.sent[usize::from(which) % self.sent.len()].clone();
        let (row, body) = if altered {
            let (row, _, body) = self.under(at, sent.user, sent.id, which);
            (row, body)
        } else {
            (sent.row, sent.body)
        };
        self.deliver(at, row, body, To::Slot, both);
    }

    fn flood(&mut self, at: At, of: Many) {
        let (node, room) = self.place(at);
        let state = self.cores.get(&(node, room)).map_or(0, |core| core.room.committed().state.bytes());
        match of {
            // Each get is answered with the whole state.
            Many::Gets if state > 4096 => {}
            Many::Gets => {
                for n in 0..1030_u16 {
                    let ask = if n < 1000 { Ask::Get } else { self.any_ask(n) };
                    self.send(at, 1, &ask, Dress::Plain);
                }
                self.mixed(at, 0, HeadIs::Any, Clock::Off(0), false);
            }
            Many::Opens => {
                for _ in 0..258 {
                    let Some(reply) = self.reply_to(To::Slot, "open") else { return };
                    self.give(node, room, Input::Open { reply, create: false });
                }
            }
            Many::Says(count) => {
                for n in 0..count {
                    self.send(at, (n % 5) as u8, &Ask::Say { bytes: u32::from(n % 7), word: 1 }, Dress::Plain);
                }
            }
            Many::Big(count) => {
                for _ in 0..count {
                    self.send(at, 2, &Ask::Say { bytes: 500_000, word: 1 }, Dress::Plain);
                }
            }
        }
    }

    fn send(&mut self, at: At, user: u8, ask: &Ask, dress: Dress) {
        let (row, id, body) = self.request(at, user, 0, ask, HeadIs::Any, Clock::Off(0), dress);
        self.sent.push(super::Sent { row, user, id, body: body.clone() });
        self.deliver(at, row, body, To::Slot, false);
    }

    /// Commands that came before an own entry was stored, and wait behind it when another owner takes the room: behind
    /// a sync whose cursor makes the owner confirm, and then begin a new epoch.
    fn deposed(&mut self, at: At) {
        self.settle();
        self.send(at, 0, &Ask::Say { bytes: 1, word: 1 }, Dress::Plain);
        let (since, cursor) = (Since::Never, CursorIs::Ahead);
        self.send(at, 0, &Ask::Sync { since, history: 0, cursor, leave_only: true }, Dress::Plain);
        self.mixed(at, 0, HeadIs::Any, Clock::Off(0), false);
        self.calls(at, 3);
        self.take(&Op::Foreign { at, entry: Foreign::TakeOver });
        self.settle();
    }

    fn stopped(&mut self, at: At) {
        let (node, room) = self.place(at);
        self.fresh(node, room);
        self.open(at, true, To::Slot);
        self.mixed(at, 0, HeadIs::Any, Clock::Off(0), false);
        self.give(node, room, Input::Stop);
    }

    fn locked(&mut self, at: At) {
        const MEMBER: u8 = 4;
        self.send(at, 0, &Ask::Set { key: 1, bytes: 3, ttl_ms: 0, expect: Expect::Any, shout: false }, Dress::Plain);
        self.send(at, 0, &Ask::Lock { mode: 3, reason: 1, ttl_ms: 0 }, Dress::Plain);
        self.mixed(at, MEMBER, HeadIs::Any, Clock::Off(0), false);
        self.settle();
    }

    /// Two keys more; the second is one too many where there was room for one.
    pub(super) fn two_keys(&mut self, at: At) {
        for key in [0, 1] {
            self.send(at, 0, &Ask::Set { key, bytes: 3, ttl_ms: 0, expect: Expect::Any, shout: false }, Dress::Plain);
        }
        self.settle();
    }

    fn huge(&mut self, at: At) {
        self.send(at, 0, &Ask::Set { key: 1, bytes: 3, ttl_ms: 0, expect: Expect::Any, shout: false }, Dress::Plain);
        self.send(at, 0, &Ask::Lock { mode: 1, reason: 1, ttl_ms: 0 }, Dress::Plain);
        self.settle();
        for ask in [
            Ask::Say { bytes: 1, word: 1 },
            Ask::Set { key: 1, bytes: 3, ttl_ms: 0, expect: Expect::Any, shout: false },
            Ask::Delete { key: 1, expect: Expect::Any, shout: false },
            Ask::Lock { mode: 1, reason: 1, ttl_ms: 0 },
            Ask::Unlock { force: true },
        ] {
            self.send(at, 0, &ask, Dress::Huge);
            self.settle();
        }
    }

    pub(super) fn damaged(&self, which: u16, how: Damage) -> bytes::Bytes {
        let len = self.seen.len();
        let body = if len == 0 { bytes::Bytes::new() } else { self.seen[usize::from(which) % len].clone() };
        damage::damage(&body, how)
    }
}

/// The same outcome as its owner hears it when the answer is lost.
fn unheard(done: Input) -> Input {
    match done {
        Input::Read { token, draw, .. } => Input::Read { token, draw, found: None },
        Input::Subscribed { token, .. } => Input::Subscribed { token, ok: false },
        other => ended(other, Outcome::Unresolved),
    }
}

fn ended(done: Input, outcome: Outcome) -> Input {
    match done {
        Input::Appended { token, .. } => Input::Appended { token, outcome },
        Input::SnapshotWritten { token, .. } => Input::SnapshotWritten { token, outcome },
        other => other,
    }
}

/// A call that came to nothing.
fn not_done(call: Effect, how: Loss) -> Option<Input> {
    let outcome = match how {
        Loss::Beaten | Loss::BeatenByItself => Outcome::WrongLast,
        Loss::Full => Outcome::Full,
        Loss::Unavailable => Outcome::Unavailable,
        Loss::TooBig => Outcome::TooBig,
        _ => Outcome::Unresolved,
    };
    Some(match call {
        Effect::Read { token, .. } => Input::Read { token, draw: 5, found: None },
        Effect::WriteGen { token, .. } => Input::GenWritten { token },
        Effect::Append { token, .. } => Input::Appended { token, outcome },
        Effect::WriteSnapshot { token, .. } => Input::SnapshotWritten { token, outcome },
        Effect::Subscribe { token } => Input::Subscribed { token, ok: false },
        _ => return None,
    })
}
