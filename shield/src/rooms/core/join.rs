//! How a subscriber comes in: its own leave from the owner, a replay or a snapshot that may be shared, and then what
//! came after it, without a hole.

use bytes::Bytes;
use prost::Message as _;
use proto::Code;
use proto::internal::SyncReply;
use proto::v1::{self, envelope::Payload};

use voltron_core::mutant;

use super::{Core, Cursor, Effect, Entry, Fit, Phase, READS_MAX, Shared, Sub, SubId, SyncFor};
use crate::outbox::Class;
use crate::rooms::entry::pubs;

/// How often an answer of an outdated owner is asked again.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE_MS: u64 = 100;
/// Pause before a question of the room's own is repeated.
const ROOM_PAUSE_MS: u64 = 1000;

impl Core {
    pub(super) fn join(&mut self, id: SubId, ask: v1::Sync) {
        let plain = ask.since.is_none() && ask.history == 0;
        let leave_only = plain && (self.share().is_some() || self.somebody_asks());
        self.subs.insert(id, Sub { ask, phase: Phase::Syncing { leave_only, attempt: 0 }, epoch: 0, seq: 0 });
        self.ask(id, leave_only, 0, 0);
    }

    pub(super) fn leave(&mut self, id: SubId) {
        let gone = self.subs.remove(&id);
        if gone.is_some_and(|sub| matches!(sub.phase, Phase::Syncing { leave_only: false, .. })) {
            // Its snapshot will not be taken: others may wait for it.
            self.rescue_granted();
        }
    }

    /// True if a snapshot is on its way that others may share.
    fn somebody_asks(&self) -> bool {
        self.subs.values().any(|sub| {
            matches!(sub.phase, Phase::Syncing { leave_only: false, .. })
                && sub.ask.since.is_none()
                && sub.ask.history == 0
        })
    }

    fn ask(&mut self, id: SubId, leave_only: bool, attempt: u32, after_ms: u64) {
        let shield = self.cursor.map(Cursor::to_wire);
        let Some(sub) = self.subs.get_mut(&id) else { return };
        sub.phase = Phase::Syncing { leave_only, attempt };
        let ask = v1::Sync { leave_only, shield, ..sub.ask };
        self.out.push(Effect::Sync { of: SyncFor::Sub(id), ask, after_ms });
    }

    /// The shared snapshot, if what came after it is still at hand.
    fn share(&self) -> Option<&Shared> {
        let (shared, cursor) = (self.shared.as_ref()?, self.cursor?);
        let usable = shared.cursor.epoch == cursor.epoch && self.ring.after(shared.cursor.seq, cursor.seq).is_some();
        usable.then_some(shared)
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
        match (of, reply) {
            (SyncFor::Sub(id), reply) => self.synced_sub(id, reply),
            (SyncFor::Resolve, reply) => {
                self.resolving = false;
                match reply {
                    Ok(reply) => {
                        self.observe(&reply);
                        self.announce_if_stale();
                    }
                    Err((Code::RoomAbsent, _)) => self.unrecoverable(),
                    Err(_) => self.resolve(ROOM_PAUSE_MS),
                }
            }
            (SyncFor::Announce, reply) => {
                self.announcing = false;
                match reply {
                    Ok(reply) => {
                        self.observe(&reply);
                        self.keep_snapshot(&reply);
                        self.announce_if_stale();
                    }
                    Err((Code::RoomAbsent, _)) => self.unrecoverable(),
                    Err(_) => self.announce(ROOM_PAUSE_MS),
                }
            }
        }
    }

    fn synced_sub(&mut self, id: SubId, reply: Result<SyncReply, (Code, String)>) {
        let Some(sub) = self.subs.get(&id) else { return };
        let Phase::Syncing { leave_only, attempt } = sub.phase else { return };
        let reply = match reply {
            Ok(reply) => reply,
            Err((code, message)) => {
                self.subs.remove(&id);
                self.out.push(Effect::Refuse { id, code, message });
                if !leave_only {
                    self.rescue_granted();
                }
                return;
            }
        };
        if self.cursor.is_some_and(|cursor| (reply.epoch, reply.term) < (cursor.epoch, cursor.term)) {
            // An owner that does not know yet that it was deposed.
            if attempt >= ATTEMPTS_MAX {
                self.subs.remove(&id);
                let message = "the room has no owner that is up to date; try again".into();
                return self.out.push(Effect::Refuse { id, code: Code::Unavailable, message });
            }
            return self.ask(id, leave_only, attempt + 1, PAUSE_MS);
        }
        self.observe(&reply);
        let has_snapshot = self.keep_snapshot(&reply);
        if leave_only {
            match self.share().cloned() {
                Some(shared) => self.admit_shared(id, &shared),
                None if self.somebody_asks() => {
                    if let Some(sub) = self.subs.get_mut(&id) {
                        sub.phase = Phase::Granted;
                    }
                }
                None => self.ask(id, false, attempt, 0),
            }
        } else {
            self.admit_own(id, reply, has_snapshot);
        }
        self.admit_granted();
        self.announce_if_stale();
    }

    /// Keeps a snapshot for others; true if there was one.
    fn keep_snapshot(&mut self, reply: &SyncReply) -> bool {
        if reply.snapshot.is_empty() {
            return false;
        }
        if self.cursor.is_some_and(|cursor| cursor.epoch == reply.epoch) {
            self.shared = Some(Shared { cursor: place(reply), parts: pubs(&reply.snapshot) });
        }
        true
    }

    fn admit_own(&mut self, id: SubId, reply: SyncReply, has_snapshot: bool) {
        let Some(sub) = self.subs.get(&id) else { return };
        let since = sub.ask.since;
        let whole = match since {
            Some(since) if reply.recovered => {
                since.epoch == reply.epoch && follows(&reply.events, since.seq, reply.seq)
            }
            _ => has_snapshot,
        };
        if !whole {
            // Never a partial replay: a snapshot instead.
            if let Some(sub) = self.subs.get_mut(&id) {
                if sub.ask.since.is_none() && sub.ask.history == 0 {
                    self.subs.remove(&id);
                    let message = "the room's owner sent neither replay nor snapshot; try again".into();
                    return self.out.push(Effect::Refuse { id, code: Code::Unavailable, message });
                }
                sub.ask.since = None;
                sub.ask.since_pos = 0;
                sub.ask.history = 0;
            }
            return self.ask(id, false, 0, 0);
        }
        let recovered = reply.recovered && since.is_some();
        self.out.push(Effect::Admit {
            id,
            epoch: reply.epoch,
            seq: reply.seq,
            recovered,
            replay: if mutant!(ReorderAfterResubscribe) {
                pubs(&reply.events).into_iter().rev().collect()
            } else {
                pubs(&reply.events)
            },
            snapshot: if recovered { Vec::new() } else { pubs(&reply.snapshot) },
            members: reply.members.clone(),
        });
        self.catch_up(id, place(&reply));
    }

    fn admit_shared(&mut self, id: SubId, shared: &Shared) {
        self.out.push(Effect::Admit {
            id,
            epoch: shared.cursor.epoch,
            seq: shared.cursor.seq,
            recovered: false,
            replay: Vec::new(),
            snapshot: shared.parts.clone(),
            members: Bytes::new(),
        });
        self.catch_up(id, shared.cursor);
    }

    fn admit_granted(&mut self) {
        let Some(shared) = self.share().cloned() else { return };
        let granted: Vec<SubId> =
            self.subs.iter().filter(|(_, sub)| matches!(sub.phase, Phase::Granted)).map(|(id, _)| *id).collect();
        for id in granted {
            self.admit_shared(id, &shared);
        }
    }

    /// The one they waited for failed: each asks for itself, the first with a snapshot for all.
    pub(super) fn rescue_granted(&mut self) {
        let granted = self.subs.iter().filter(|(_, sub)| matches!(sub.phase, Phase::Granted));
        let first = granted.map(|(id, _)| *id).next();
        if let Some(id) = first
            && !self.somebody_asks()
        {
            self.ask(id, false, 0, 0);
        }
    }

    /// After a new epoch was learned: a snapshot for those who followed the old one.
    fn announce_if_stale(&mut self) {
        let stale: Vec<SubId> =
            self.subs.iter().filter(|(_, sub)| matches!(sub.phase, Phase::Stale)).map(|(id, _)| *id).collect();
        if stale.is_empty() {
            return;
        }
        let Some(shared) = self.share().cloned() else { return self.announce(0) };
        for id in stale {
            self.out.push(Effect::Announce { id, snapshot: shared.parts.clone() });
            self.catch_up(id, shared.cursor);
        }
    }

    /// Brings a subscriber from `at` to where the room is, then lets it follow.
    fn catch_up(&mut self, id: SubId, at: Cursor) {
        let Some(cursor) = self.cursor else { return };
        let Some(sub) = self.subs.get_mut(&id) else { return };
        sub.epoch = at.epoch;
        sub.seq = at.seq;
        if cursor.epoch != at.epoch {
            sub.phase = Phase::Stale;
            return;
        }
        match self.ring.after(at.seq, cursor.seq) {
            Some(events) => {
                sub.phase = Phase::Live;
                sub.seq = sub.seq.max(cursor.seq);
                self.out.extend(events.into_iter().map(|frame| Effect::Event { id, frame, class: Class::Bulk }));
            }
            None => {
                sub.phase = Phase::Fetching { cursor: at, attempt: 0 };
                self.out.push(Effect::ReadFor { id, from: at.fence + 1, attempt: 0 });
            }
        }
    }

    pub(super) fn read_for(&mut self, id: SubId, entries: Option<Vec<Entry>>) {
        let vouched = self.vouched;
        let Some(sub) = self.subs.get_mut(&id) else { return };
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
            self.subs.remove(&id);
            return self.out.push(Effect::Remove { id, code: Code::GapUnrecoverable });
        }
        self.catch_up(id, at);
        // Still in need of the log: the new phase has forgotten how often it was tried.
        if let Some(Sub { phase: Phase::Fetching { attempt, .. }, .. }) = self.subs.get_mut(&id) {
            *attempt = tries;
            if let Some(Effect::ReadFor { attempt, .. }) = self.out.last_mut() {
                *attempt = tries;
            }
        }
    }
}

fn place(reply: &SyncReply) -> Cursor {
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
