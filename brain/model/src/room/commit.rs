//! The entry in flight: sending it, and finding out what became of it.

use prost::Message as _;
use proto::internal::{Kind, LogEntry};
use proto::v1::{self, envelope::Payload};
use proto::{Code, MessageId};
use voltron_core::{mark, mutant};

use super::{Inflight, Phase, Room, Said, Waiting};
use crate::answers;
use crate::chain::{Tail, chain};
use crate::io::{Effect, Found, Note, Outcome, Why};

impl Room {
    /// Sends an entry whose effect is in `ahead` already.
    pub(super) fn append(&mut self, entry: LogEntry, events: Vec<v1::Envelope>, said: Vec<Said>, taken: Vec<Waiting>) {
        debug_assert!(self.inflight.is_none(), "one entry is in flight at a time");
        let body: bytes::Bytes = entry.encode_to_vec().into();
        let chain = chain(&body);
        self.sent += 1;
        let mut inflight = Inflight { entry, events, body, chain, attempts: 0, said, taken };
        if mutant!(AckBeforeAppend) {
            for said in std::mem::take(&mut inflight.said) {
                self.say(said);
            }
        }
        self.inflight = Some(inflight);
        self.send();
    }

    /// Sends the entry in flight, for the first time or again: the same bytes, the same expectation.
    pub(super) fn send(&mut self) {
        let token = self.ask();
        let Some(inflight) = self.inflight.as_mut() else { return };
        inflight.attempts = inflight.attempts.saturating_add(1);
        if inflight.attempts > 1 {
            mark!("brain.commit-retried");
        }
        self.out.push(Effect::Append { token, expect: inflight.entry.prev, body: inflight.body.clone() });
        self.phase = Phase::Appending;
    }

    pub(super) fn on_appended(&mut self, outcome: Outcome) {
        let Some(inflight) = self.inflight.as_ref() else { return };
        match outcome {
            Outcome::Stored(pos) => self.commit(pos, true),
            Outcome::WrongLast if mutant!(FenceConflictIsSuccess) => {
                let pos = inflight.entry.prev + 1;
                self.commit(pos, true);
            }
            // A refusal settles the attempt that it answers; an earlier one may still be stored.
            Outcome::Full | Outcome::Unavailable | Outcome::TooBig
                if inflight.attempts == 1 || mutant!(UndecidedIsConflict) =>
            {
                self.refused(outcome);
            }
            _ => {
                self.note(Note::Unresolved);
                self.resolve();
            }
        }
    }

    /// Looks for the entry in flight in the log.
    pub(super) fn resolve(&mut self) {
        // From the predecessor on: is that one still there?
        let Some(from) = self.inflight.as_ref().map(|inflight| inflight.entry.prev.max(1)) else { return };
        self.resolve_on(None, from);
    }

    fn resolve_on(&mut self, walked: Option<Tail>, from: u64) {
        self.phase = Phase::Resolving(walked);
        let token = self.ask();
        self.out.push(Effect::Read { token, gen_id: false, snapshots: false, log_from: Some(from) });
    }

    pub(super) fn on_resolve(&mut self, walked: Option<Tail>, found: &Found) {
        let Some(inflight) = self.inflight.as_ref() else { return };
        let mut tail = walked.unwrap_or(self.committed.tail);
        let log = match found.log.split_first() {
            _ if walked.is_some() || tail.fence == 0 => found.log.as_slice(),
            Some((head, rest))
                if head.pos == tail.fence && (tail.pos != tail.fence || chain(&head.body) == tail.chain) =>
            {
                rest
            }
            // The log lost its tail, the predecessor with it: whatever was stored after that is gone, too, and what may
            // arrive yet is void. Waiting for it would never end.
            _ => return self.predecessor_lost(),
        };
        for (i, message) in log.iter().enumerate() {
            let entry = LogEntry::decode(message.body.clone()).unwrap_or_default();
            if tail.accepts(&entry).is_err() || entry.kind == Kind::Unknown as i32 {
                tail.fence = message.pos;
                self.out.push(Effect::Note(Note::Void { pos: message.pos }));
                continue;
            }
            if entry.entry_id != inflight.entry.entry_id {
                mark!("brain.commit-resolved-other");
                return self.fenced();
            }
            mark!("brain.commit-resolved-mine");
            self.commit(message.pos, false);
            return self.after_mine(&log[i + 1..]);
        }
        if let Some(last) = found.log.last().filter(|_| found.more) {
            // Not decided yet, and the log goes on.
            return self.resolve_on(Some(tail), last.pos.saturating_add(1));
        }
        if tail.fence != self.committed.tail.fence {
            // Void messages took its place: with this expectation it can never be stored. Judged anew.
            mark!("brain.void-in-the-way");
            return self.rebuild(tail.fence);
        }
        if mutant!(AbsenceIsFailure) {
            return self.give_up();
        }
        // Absence decides nothing: it may be stored yet. The pause grows with each attempt.
        self.phase = Phase::Appending;
        self.pause();
    }

    /// What follows the own entry: void, or the mark of another owner.
    fn after_mine(&mut self, rest: &[crate::io::StoredMessage]) {
        for message in rest {
            if self.committed.entry(message.pos, &message.body).is_ok() {
                return self.fenced();
            }
            self.ahead.tail.fence = message.pos;
            self.note(Note::Void { pos: message.pos });
        }
    }

    /// The entry in flight is stored at `pos`.
    fn commit(&mut self, pos: u64, acked: bool) {
        let Some(inflight) = self.inflight.take() else { return };
        let Inflight { entry, events, body, chain, said, .. } = inflight;
        self.committed.stored(&entry, &events, pos, chain);
        self.alone_before = self.sent;
        self.ahead.tail = self.committed.tail;
        debug_assert_eq!(
            (self.ahead.state.bytes(), self.ahead.state.dedupe.len()),
            (self.committed.state.bytes(), self.committed.state.dedupe.len()),
            "nothing was judged beyond the entry in flight"
        );
        self.ring.push(pos, chain, &entry);
        self.snap.grew(body.len());
        self.retry = super::Backoff::default();
        if acked {
            self.proof_ms = Some(self.now.mono_ms);
        }
        for (envelope, encoded) in events.iter().zip(&entry.envelopes) {
            if let Some(Payload::Event(event)) = &envelope.payload {
                self.out.push(Effect::Note(Note::Committed {
                    epoch: event.epoch,
                    seq: event.seq,
                    message_id: MessageId::from_slice(&envelope.message_id),
                    user: event.user.clone(),
                    envelope: encoded.clone(),
                }));
            }
        }
        let events = u32::try_from(events.len()).unwrap_or(u32::MAX);
        self.note(Note::Head { epoch: entry.epoch, term: entry.term, pos, events });
        self.phase = Phase::Ready;
        if entry.kind == Kind::Owned as i32 {
            return self.recheck();
        }
        for said in said {
            self.say(said);
        }
    }

    /// Another owner went on from where this one stood: nothing in flight or waiting was or will be stored by this one.
    /// But what was published since that one subscribed came to both, and it may store what this one lost.
    pub(super) fn fenced(&mut self) {
        mark!("brain.fenced");
        self.note(Note::Fenced { term: self.committed.tail.term });
        self.step_down(Why::Fenced, Some(Code::NotApplied));
    }

    /// The log refused the entry at its first attempt: surely not stored.
    fn refused(&mut self, outcome: Outcome) {
        let Some(mut inflight) = self.inflight.take() else { return };
        let owned = inflight.entry.kind == Kind::Owned as i32;
        let applied = inflight.events.iter().any(|event| !event.message_id.is_empty());
        let code = match outcome {
            Outcome::Full => {
                mark!("brain.log-full");
                Code::LogFull
            }
            // Of several commands none is known to be too large by itself, and one that is refused has no event there.
            Outcome::TooBig if applied && inflight.taken.len() == 1 => Code::MessageTooBig,
            _ => Code::Unavailable,
        };
        if owned && code == Code::LogFull {
            return self.step_down(Why::Refused, Some(code));
        }
        if owned && self.stopping {
            return self.step_down(Why::Stopped, Some(code));
        }
        if owned {
            // No leader yet, as a rule. No attempt is open any more, so the next one counts as the first.
            inflight.attempts = 0;
            self.inflight = Some(inflight);
            return self.pause();
        }
        self.ahead = self.committed.clone();
        for waiting in inflight.taken {
            self.tell_lost(waiting, code);
        }
        self.phase = Phase::Ready;
        self.pause();
    }

    /// The commands of the entry in flight are judged again, on a new fence.
    fn rebuild(&mut self, fence: u64) {
        let Some(inflight) = self.inflight.take() else { return };
        self.committed.tail.fence = fence;
        self.ahead = self.committed.clone();
        if inflight.entry.kind == Kind::Owned as i32 {
            return self.load();
        }
        self.wait_again(inflight.taken);
        self.phase = Phase::Ready;
    }

    /// What the entry in flight was to follow is gone: its commands are judged again on what the log still holds.
    fn predecessor_lost(&mut self) {
        mark!("brain.head-lost");
        let Some(inflight) = self.inflight.take() else { return };
        self.broken_at = Some(self.committed.tail);
        self.wait_again(inflight.taken);
        self.load();
    }

    fn wait_again(&mut self, taken: Vec<Waiting>) {
        for waiting in taken.into_iter().rev() {
            self.queue_bytes += waiting.bytes();
            self.queue.push_front(waiting);
        }
    }

    /// The planted bug: an entry that was not found counts as lost.
    fn give_up(&mut self) {
        let Some(inflight) = self.inflight.take() else { return };
        self.ahead = self.committed.clone();
        for waiting in inflight.taken {
            self.tell_lost(waiting, Code::NotApplied);
        }
        if inflight.entry.kind == Kind::Owned as i32 {
            return self.load();
        }
        self.phase = Phase::Ready;
    }

    pub(super) fn refuse_sync(&mut self, reply: proto::Subject, code: Code) {
        let body = answers::sync_refused(code, &self.committed.tail);
        self.out.push(Effect::Reply { to: reply, body });
    }
}
