//! Judging what waits, in order, and building the entry that stores it.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Kind, LogEntry};
use proto::v1::{self, envelope::Payload, event::Body};
use proto::{Code, Subject};
use voltron_core::{mark, mutant};

use super::{Room, Said, Waiting};
use crate::answers::{self, Place};
use crate::chain::{ENTRY_BYTES_MAX, ENTRY_EVENTS_MAX};
use crate::decide::{Decision, Refusal, decide};
use crate::incoming::Command;
use crate::state::Ended;

/// What an entry costs beside its events, and each event beside its bytes: an upper bound.
const ENTRY_OVERHEAD: usize = 256;
const EVENT_OVERHEAD: usize = 8;

/// An entry being built.
#[derive(Default)]
struct Batch {
    events: Vec<v1::Envelope>,
    encoded: Vec<Bytes>,
    bytes: usize,
    said: Vec<Said>,
    taken: Vec<Waiting>,
    /// Something waits for proof that the state it was judged on was current.
    tick: bool,
}

impl Batch {
    fn full(&self) -> bool {
        self.events.len() >= ENTRY_EVENTS_MAX
    }
    fn fits(&self, event: usize) -> bool {
        ENTRY_OVERHEAD + self.bytes + event + EVENT_OVERHEAD <= ENTRY_BYTES_MAX
    }
}

impl Room {
    /// Judges as much of the queue as one entry takes, and sends that entry. Sends none if nothing needs one.
    pub(super) fn build(&mut self) {
        let mut entry = self.next_entry();
        let mut batch = Batch::default();
        // From here on `ahead` stands for the state after this entry. Nothing of it is said before the commit.
        self.ahead.begin(&entry);
        self.end_what_ended(&entry, &mut batch);
        let mut commands = 0;
        while !batch.full() {
            let Some(waiting) = self.queue.pop_front() else { break };
            self.queue_bytes -= waiting.bytes();
            match &waiting {
                Waiting::Sync { .. } => {
                    // Answered already, or waiting for a confirmation: not this entry's business.
                    self.unpop(waiting);
                    break;
                }
                Waiting::Get { reply, caller } => {
                    batch.said.push(Said::Get { reply: reply.clone(), caller: caller.clone() });
                    batch.tick = true;
                }
                Waiting::Command { reply, command, .. } => {
                    if !self.judge(&entry, &mut batch, reply, command) {
                        self.unpop(waiting);
                        break;
                    }
                    commands += 1;
                }
            }
            batch.taken.push(waiting);
        }
        if batch.events.is_empty() && !batch.tick {
            // Only ephemeral ones, if anything: ownership is proven, so they may leave at once.
            self.ahead = self.committed.clone();
            for said in batch.said {
                self.say(said);
            }
            return;
        }
        if commands > 1 {
            mark!("brain.group-commit");
        }
        mark!("brain.answer-after-commit");
        entry.kind = if batch.events.is_empty() { Kind::Tick } else { Kind::Events }.into();
        entry.envelopes = batch.encoded;
        self.append(entry, batch.events, batch.said, batch.taken);
    }

    fn unpop(&mut self, waiting: Waiting) {
        self.queue_bytes += waiting.bytes();
        self.queue.push_front(waiting);
    }

    fn next_entry(&mut self) -> LogEntry {
        let tail = self.committed.tail;
        LogEntry {
            epoch: tail.epoch,
            term: tail.term,
            first_seq: tail.seq.saturating_add(1),
            prev: tail.fence,
            prev_chain: tail.chain,
            r#gen: self.gen_id,
            at: self.now.wall_ms.max(tail.at),
            kind: Kind::Tick.into(),
            entry_id: self.next_entry_id(),
            ..LogEntry::default()
        }
    }

    fn place(&self, entry: &LogEntry, seq: u64) -> Place {
        Place { epoch: entry.epoch, term: entry.term, seq, at: entry.at, prev: entry.prev }
    }

    /// Ttls that have ended are events, before any command that could see them.
    fn end_what_ended(&mut self, entry: &LogEntry, batch: &mut Batch) {
        let early_ms = if mutant!(TtlEndsEarly) { 1000 } else { 0 };
        for ended in self.ahead.state.ended(entry.at.saturating_add(early_ms)) {
            if batch.full() {
                return;
            }
            let body = match ended {
                Ended::Key(key) => Body::KeyDeleted(v1::KeyDeleted { key, expired: true }),
                Ended::Lock => Body::Unlocked(v1::Unlocked { expired: true }),
            };
            let place = self.place(entry, self.ahead.tail.seq.saturating_add(1));
            let envelope = answers::own_event(&self.key, place, body);
            let encoded = envelope.encode_to_vec();
            self.take(batch, envelope, encoded.into());
        }
    }

    /// Judges one command; false if the entry has no room left for its event.
    fn judge(&mut self, entry: &LogEntry, batch: &mut Batch, reply: &Subject, command: &Command) -> bool {
        let user = Some(command.caller.user.clone());
        let ack = match decide(&self.ahead.state, &self.ahead.tail, entry.at, command) {
            Decision::Event(body) => {
                let place = self.place(entry, self.ahead.tail.seq.saturating_add(1));
                let envelope = answers::event(&self.key, place, command, body);
                let encoded: Bytes = envelope.encode_to_vec().into();
                if batch.fits(encoded.len()) {
                    self.take(batch, envelope, encoded);
                    answers::stored(&command.id, place.epoch, place.seq, false)
                } else if batch.events.is_empty() {
                    batch.tick = true;
                    answers::refused(Some(&command.id), &Refusal::plain(Code::MessageTooBig))
                } else {
                    return false;
                }
            }
            Decision::Ephemeral(body) => {
                let place = Place { prev: self.committed.tail.pos, ..self.place(entry, 0) };
                let envelope = answers::event(&self.key, place, command, body).encode_to_vec();
                self.live_n += 1;
                let live = answers::live(&self.ahead.tail, self.live_n, vec![envelope.into()]);
                batch.said.push(Said::Live(live));
                answers::stored(&command.id, 0, 0, false)
            }
            Decision::Repeat(seen) => {
                batch.tick = true;
                answers::stored(&command.id, seen.epoch, seen.seq, true)
            }
            Decision::Refuse(refusal) => {
                batch.tick = true;
                answers::refused(Some(&command.id), &refusal)
            }
        };
        batch.said.push(Said::Ack { reply: reply.clone(), user, ack });
        true
    }

    fn take(&mut self, batch: &mut Batch, envelope: v1::Envelope, encoded: Bytes) {
        debug_assert!(matches!(envelope.payload, Some(Payload::Event(_))), "an entry holds events alone");
        self.ahead.event(&envelope);
        batch.bytes += encoded.len() + EVENT_OVERHEAD;
        batch.encoded.push(encoded);
        batch.events.push(envelope);
    }
}
