//! What arrives on `in.…`: checked, queued, or turned away at once if the room is full.

use bytes::Bytes;
use prost::Message as _;
use proto::{Code, Subject};
use voltron_core::{mark, mutant};

use super::{Room, Waiting};
use crate::answers;
use crate::decide::Refusal;
use crate::incoming::{self, Command, Incoming};
use crate::io::{Effect, Note};

impl Room {
    pub(super) fn on_message(&mut self, reply: Option<Subject>, body: &Bytes) {
        let Some(reply) = reply.filter(|reply| reply.is_shield_inbox() || mutant!(ReplyUnchecked)) else {
            // Answering elsewhere could turn the answer into a write of the asker's choosing: refused before it is
            // looked at, and not answered.
            mark!("brain.reply-refused");
            self.note(Note::Refused(Code::NotACommand));
            return;
        };
        self.active_ms = self.now.mono_ms;
        let incoming = match incoming::read(body) {
            Ok(incoming) => incoming,
            Err(bad) => {
                self.note(Note::Refused(bad.code));
                let refusal = Refusal { code: bad.code, detail: bad.detail, ver: 0, retry_after_ms: 0 };
                let ack = answers::refused(bad.message_id.as_ref(), &refusal);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
                return;
            }
        };
        if !self.has_room() {
            return self.turn_away(reply, &incoming);
        }
        let waiting = match incoming {
            Incoming::Command(command) => Waiting::Command { reply, command, bytes: body.len(), arrived: self.sent },
            Incoming::Get(caller) => Waiting::Get { reply, caller },
            Incoming::Sync(ask) => Waiting::Sync { reply, ask, confirms: self.confirms },
        };
        self.queue_bytes += waiting.bytes();
        self.queue.push_back(waiting);
    }

    /// The queue is full: not applied, and said at once. Silent for a repeat of what is stored, or of what still waits
    /// and may yet be; and without proof of ownership, for then another owner may apply it. What has the id of such a one
    /// and says something else is no repeat: its id was used.
    pub(super) fn turn_away(&mut self, reply: Subject, incoming: &Incoming) {
        match incoming {
            Incoming::Command(command) => {
                if !self.proven() {
                    return;
                }
                let refusal = match self.repeated(command) {
                    Some(true) => return,
                    Some(false) => Refusal::plain(Code::MessageIdReused),
                    None => Refusal { retry_after_ms: 200, ..Refusal::plain(Code::Busy) },
                };
                let ack = answers::refused(Some(&command.id), &refusal);
                self.answered(Some(command.caller.user.clone()), &ack);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
            }
            Incoming::Get(_) | Incoming::Sync(_) => {
                let body = answers::sync_refused(Code::Busy, &self.committed.tail);
                self.out.push(Effect::Reply { to: reply, body });
            }
        }
    }

    /// If a command of this user and id is stored, waits, or was judged and may be stored: true if `command` may be a repeat
    /// of the first such one, false if it says something else.
    fn repeated(&self, command: &Command) -> Option<bool> {
        let (user, id) = (&command.caller.user, &command.id);
        if let Some(seen) = self.committed.state.dedupe.find(user, id) {
            return Some(command.repeats(seen));
        }
        let taken = self.inflight.iter().flat_map(|entry| &entry.taken);
        let mut waiting = taken.chain(&self.queue).filter_map(|waiting| match waiting {
            Waiting::Command { command, .. } => Some(command),
            _ => None,
        });
        let first = waiting.find(|first| first.id == *id && first.caller.user == *user)?;
        Some(!command.differs(first))
    }
}
