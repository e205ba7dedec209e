//! How a subscriber comes in: its own leave from the owner, a replay or a snapshot that may be shared, and then what
//! came after it, without a hole.
//!
//! Every SUB asks its own leave, at most [`JOINS_IN_FLIGHT`] at a time, in the order of arrival: seven Shields together
//! stay below the 1,024 requests that may wait at an owner. An owner that cannot be asked refuses nobody: the question is
//! repeated after a pause, until the room has had no answer for the core's patience.
//!
//! Every step ends in [`Core::pump`]. It alone starts questions and serves those who wait for another's snapshot, so no
//! branch can forget one of them.

use bytes::Bytes;
use prost::Message as _;
use proto::Code;
use proto::internal::SyncReply;
use proto::v1::{self, envelope::Payload};

use voltron_core::mutant;

use super::{Core, Cursor, Effect, Entry, Fit, Phase, READS_MAX, Shared, Sub, SubId, SyncFor};
use crate::outbox::Class;
use crate::rooms::entry::pubs;

/// SUBs of one room that ask their leave at a time.
pub(super) const JOINS_IN_FLIGHT: usize = 64;
/// SUBs of one room that may wait for their turn; beyond: 4501.
pub(crate) const WAITING_MAX: usize = 65_536;
/// How old a snapshot may be that others share: by the time since it came, and by the events since.
pub(super) const SHARED_MS: u64 = 1000;
pub(super) const SHARED_EVENTS: u64 = 32;
/// The first pause before a question is repeated; it doubles.
const PAUSE_MS: u64 = 100;
/// The longest such pause.
pub(super) const PAUSE_MAX_MS: u64 = 1000;

/// No head in particular.
const ANY: (u64, u64) = (0, 0);

/// The pause before the `nth` repeat.
pub(super) fn pause(nth: u32) -> u64 {
    if nth == 0 { 0 } else { (PAUSE_MS << (nth - 1).min(8)).min(PAUSE_MAX_MS) }
}

/// True if the same question may have another answer in a moment: nothing is wrong with who asks.
fn passes(code: Code) -> bool {
    matches!(code, Code::Busy | Code::Unavailable)
}

impl Core {
    pub(super) fn join(&mut self, id: SubId, ask: v1::Sync, floor: (u64, u64)) {
        if self.subs.waiting() >= WAITING_MAX {
            let message = "this room has too much to do; try again".into();
            return self.out.push(Effect::Refuse { id, code: Code::Busy, message });
        }
        self.subs.insert(id, Sub::new(ask, floor));
    }

    fn ask(&mut self, id: SubId, leave_only: bool, after_ms: u64) {
        let shield = self.cursor.map(Cursor::to_wire);
        let Some(sub) = self.subs.get(id) else { return };
        let ask = v1::Sync { leave_only, shield, ..sub.ask };
        self.subs.set(id, Phase::Syncing { leave_only });
        self.in_flight += 1;
        self.out.push(Effect::Sync { of: SyncFor::Sub(id), ask, after_ms });
    }

    /// The shared snapshot, if it is fresh for who has leave at `head`, and what came after it is still at hand.
    fn share(&self, head: (u64, u64)) -> Option<&Shared> {
        let (shared, cursor) = (self.shared.as_ref()?, self.cursor?);
        let at = shared.cursor;
        let newest = if head.0 == at.epoch { cursor.seq.max(head.1) } else { cursor.seq };
        let fresh =
            self.now_ms.saturating_sub(shared.taken_ms) <= SHARED_MS && newest.saturating_sub(at.seq) <= SHARED_EVENTS;
        let usable = at.epoch == cursor.epoch && at.epoch >= head.0 && self.ring.reaches(at.seq, cursor.seq);
        (usable && (fresh || shared.new || mutant!(SharedSnapshotStale))).then_some(shared)
    }

    pub(super) fn synced(&mut self, of: SyncFor, reply: Result<SyncReply, (Code, String)>) {
        let reply = reply.and_then(|reply| match reply.code {
            0 => Ok(reply),
            code => {
                let code = u16::try_from(code).ok().and_then(Code::from_u16).unwrap_or(Code::Unavailable);
                let text = if reply.message.is_empty() { code.message().into() } else { reply.message };
                Err((code, text))
            }
        });
        match of {
            SyncFor::Sub(id) => {
                // Whether or not its subscriber is still there, the owner has one question less.
                self.in_flight = self.in_flight.saturating_sub(1);
                self.synced_sub(id, reply);
            }
            SyncFor::Resolve => self.resolved(reply),
            SyncFor::Announce => self.announced(reply),
        }
    }

    /// True for the answer of an owner that does not know yet that it was deposed.
    pub(super) fn outdated(&self, reply: &SyncReply) -> bool {
        self.cursor.is_some_and(|cursor| (reply.epoch, reply.term) < (cursor.epoch, cursor.term))
    }

    fn synced_sub(&mut self, id: SubId, reply: Result<SyncReply, (Code, String)>) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Phase::Syncing { leave_only } = sub.phase else { return };
        let floor = sub.floor;
        let reply = match reply {
            Ok(reply) => reply,
            Err((code, message)) if passes(code) => return self.again(id, code, message),
            Err((code, message)) => {
                self.stuck_since = None;
                return self.refuse(id, code, message);
            }
        };
        if self.outdated(&reply) || (reply.epoch, reply.seq) < floor {
            let message = "the room has no owner that is up to date; try again".into();
            return self.again(id, Code::Unavailable, message);
        }
        self.stuck_since = None;
        if let Some(sub) = self.subs.get_mut(id) {
            (sub.attempt, sub.failing_since) = (0, None);
        }
        self.observe(&reply);
        self.keep_snapshot(&reply);
        if leave_only {
            self.subs.set(id, Phase::Granted { epoch: reply.epoch, seq: reply.seq });
        } else {
            self.admit_own(id, &reply);
        }
    }

    /// No owner answered: once more after a pause, until the patience ends.
    fn again(&mut self, id: SubId, code: Code, message: String) {
        let now_ms = self.now_ms;
        let patience_over = |since: u64| now_ms.saturating_sub(since) >= self.patience_ms;
        if patience_over(*self.stuck_since.get_or_insert(now_ms)) {
            // The room has no owner: each of those who wait would learn the same after the same time.
            self.stuck_since = None;
            for id in self.subs.without_result() {
                self.refuse(id, code, message.clone());
            }
            return;
        }
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Phase::Syncing { leave_only } = sub.phase else { return };
        let failing_since = *sub.failing_since.get_or_insert(now_ms);
        sub.attempt += 1;
        let after_ms = pause(sub.attempt);
        if !patience_over(failing_since) {
            return self.ask(id, leave_only, after_ms);
        }
        // Others are answered, but this question is not. Who waits for its snapshot would ask the same.
        let others = if leave_only { Vec::new() } else { self.subs.granted() };
        for id in std::iter::once(id).chain(others.into_iter().map(|(id, _)| id)) {
            self.refuse(id, code, message.clone());
        }
    }

    fn refuse(&mut self, id: SubId, code: Code, message: String) {
        if self.subs.remove(id).is_some() {
            self.out.push(Effect::Refuse { id, code, message });
        }
    }

    /// Keeps a snapshot for others.
    pub(super) fn keep_snapshot(&mut self, reply: &SyncReply) {
        if !reply.snapshot.is_empty() && self.cursor.is_some_and(|cursor| cursor.epoch == reply.epoch) {
            self.shared =
                Some(Shared { cursor: place(reply), parts: pubs(&reply.snapshot), taken_ms: self.now_ms, new: true });
        }
    }

    fn admit_own(&mut self, id: SubId, reply: &SyncReply) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let since = sub.ask.since;
        let whole = match since {
            Some(since) if reply.recovered => {
                since.epoch == reply.epoch && follows(&reply.events, since.seq, reply.seq)
            }
            _ => !reply.snapshot.is_empty(),
        };
        if !whole {
            // Never a partial replay: a snapshot instead.
            if sub.plain() {
                let message = "the room's owner sent neither replay nor snapshot; try again".into();
                return self.refuse(id, Code::Unavailable, message);
            }
            (sub.ask.since, sub.ask.since_pos, sub.ask.history) = (None, 0, 0);
            return self.ask(id, false, 0);
        }
        let recovered = reply.recovered && since.is_some();
        let mut replay = pubs(&reply.events);
        if mutant!(ReorderAfterResubscribe) {
            replay.reverse();
        }
        self.out.push(Effect::Admit {
            id,
            epoch: reply.epoch,
            seq: reply.seq,
            recovered,
            replays: replay.len() as u64,
            replay,
            snapshot: if recovered { Vec::new() } else { pubs(&reply.snapshot) },
            members: reply.members.clone(),
        });
        self.catch_up(id, place(reply));
    }

    /// Admits with the shared snapshot whom the owner gave leave at `head`: the result names a place not below that, and
    /// counts what stands between the two.
    fn admit_shared(&mut self, id: SubId, shared: &Shared, head: (u64, u64)) {
        let at = shared.cursor;
        let seq = if head.0 == at.epoch && !mutant!(SharedSnapshotStale) { at.seq.max(head.1) } else { at.seq };
        self.out.push(Effect::Admit {
            id,
            epoch: at.epoch,
            seq,
            recovered: false,
            replays: seq - at.seq,
            replay: Vec::new(),
            snapshot: shared.parts.clone(),
            members: Bytes::new(),
        });
        self.catch_up(id, at);
    }

    /// Ends every step: serves who can be served, and asks for whom there is room.
    pub(super) fn pump(&mut self) {
        if self.subs.has_granted() && self.share(ANY).is_some() {
            for (id, head) in self.subs.granted() {
                if let Some(shared) = self.share(head).cloned() {
                    self.admit_shared(id, &shared, head);
                }
            }
        }
        if self.subs.has_stale() {
            match self.share(ANY).cloned() {
                Some(shared) => self.tell_stale(&shared.parts, shared.cursor),
                None => self.announce(),
            }
        }
        if let Some(shared) = &mut self.shared {
            shared.new = false;
        }
        if self.subs.has_granted() && !self.subs.asks() {
            // Nobody's snapshot is on its way: the first asks for one, for all.
            if let Some((id, _)) = self.subs.granted().first() {
                self.ask(*id, false, 0);
            }
        }
        while self.in_flight < JOINS_IN_FLIGHT
            && let Some(id) = self.subs.next_waiting()
        {
            let plain = self.subs.get(id).is_some_and(Sub::plain);
            let leave_only = plain && (self.subs.asks() || self.share(ANY).is_some());
            self.ask(id, leave_only, 0);
        }
        if self.lost && !self.resolving && self.subs.followed() {
            self.lost = false;
            self.resolve(0);
        }
        if self.in_flight == 0 && !self.subs.has_granted() {
            self.stuck_since = None;
        }
    }

    /// The snapshot of a new epoch, for those who followed the old one.
    pub(super) fn tell_stale(&mut self, parts: &[Bytes], at: Cursor) {
        for id in self.subs.stale() {
            self.out.push(Effect::Announce { id, snapshot: parts.to_vec() });
            self.catch_up(id, at);
        }
    }

    /// Brings a subscriber from `at` to where the room is, then lets it follow.
    fn catch_up(&mut self, id: SubId, at: Cursor) {
        let Some(cursor) = self.cursor else { return };
        let Some(sub) = self.subs.get_mut(id) else { return };
        sub.epoch = at.epoch;
        sub.seq = at.seq;
        if cursor.epoch != at.epoch {
            return self.subs.set(id, Phase::Stale);
        }
        match self.ring.after(at.seq, cursor.seq) {
            Some(events) => {
                sub.seq = sub.seq.max(cursor.seq);
                self.subs.set(id, Phase::Live);
                self.out.extend(events.into_iter().map(|frame| Effect::Event { id, frame, class: Class::Bulk }));
            }
            None => {
                self.subs.set(id, Phase::Fetching { cursor: at, attempt: 0 });
                self.out.push(Effect::ReadFor { id, from: at.fence + 1, attempt: 0 });
            }
        }
    }

    pub(super) fn read_for(&mut self, id: SubId, entries: Option<Vec<Entry>>) {
        let vouched = self.vouched;
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Phase::Fetching { cursor, attempt } = &mut sub.phase else { return };
        let before = cursor.fence;
        for entry in entries.unwrap_or_default() {
            match cursor.judge_read(&entry, vouched) {
                Fit::Next => {
                    cursor.advance(&entry);
                    sub.seq = cursor.seq;
                    self.out.extend(entry.events.iter().map(|frame| Effect::Event {
                        id,
                        frame: frame.clone(),
                        class: Class::Bulk,
                    }));
                }
                Fit::Old => {}
                Fit::Void => cursor.skip(&entry),
                Fit::NewEpoch | Fit::Gap => break,
            }
        }
        let (at, tries) = (*cursor, if cursor.fence > before { 0 } else { *attempt + 1 });
        if tries > READS_MAX {
            self.subs.remove(id);
            return self.out.push(Effect::Remove { id, code: Code::GapUnrecoverable });
        }
        self.catch_up(id, at);
        // Still in need of the log: the new phase has forgotten how often it was tried.
        if let Some(Sub { phase: Phase::Fetching { attempt, .. }, .. }) = self.subs.get_mut(id) {
            *attempt = tries;
            if let Some(Effect::ReadFor { attempt, .. }) = self.out.last_mut() {
                *attempt = tries;
            }
        }
    }
}

pub(super) fn place(reply: &SyncReply) -> Cursor {
    Cursor {
        epoch: reply.epoch,
        term: reply.term,
        seq: reply.seq,
        pos: reply.pos,
        chain: reply.chain,
        fence: reply.pos,
    }
}

/// True if these are the events `since + 1 ..= head`, one after the other.
fn follows(events: &[Bytes], since: u64, head: u64) -> bool {
    let Some(mut next) = since.checked_add(1) else { return false };
    for bytes in events {
        let Ok(v1::Envelope { payload: Some(Payload::Event(event)), .. }) = v1::Envelope::decode(bytes.clone()) else {
            return false;
        };
        if event.seq != next {
            return false;
        }
        next = event.seq.saturating_add(1);
    }
    next.checked_sub(1) == Some(head)
}
