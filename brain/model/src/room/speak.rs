//! Answering: what leaves once ownership is proven, and what is told when the room is served no longer.

use prost::Message as _;
use proto::{Code, MessageId, Rights, UserId, v1};
use voltron_core::mutant;

use super::{Phase, Room, Said, Waiting};
use crate::answers;
use crate::decide::Refusal;
use crate::incoming::Caller;
use crate::io::{Effect, Note, Why};
use crate::state::LockState;

impl Room {
    /// Ends it. `lost`: the code for what surely was not applied; `None` where nothing waits.
    pub(super) fn step_down(&mut self, why: Why, lost: Option<Code>) {
        let inflight = self.inflight.take();
        if let Some(code) = lost {
            let taken = inflight.map(|entry| entry.taken).unwrap_or_default();
            let queue = std::mem::take(&mut self.queue);
            for waiting in taken.into_iter().chain(queue) {
                self.tell_lost(waiting, code);
            }
        }
        for (reply, _) in std::mem::take(&mut self.opens) {
            let code = match why {
                Why::Absent => Code::RoomAbsent,
                Why::Refused => Code::LogFull,
                _ => Code::Unavailable,
            };
            let body = answers::opened(&self.me.node, &self.committed.tail, Some(code));
            self.out.push(Effect::Reply { to: reply, body });
        }
        self.held.clear();
        self.serving = false;
        self.phase = Phase::Gone;
        self.retry.at = None;
        self.out.push(Effect::StepDown(why));
    }

    pub(super) fn tell_lost(&mut self, waiting: Waiting, code: Code) {
        match waiting {
            // It may have come to the next owner as well, whose business it then is.
            Waiting::Command { arrived, .. }
                if code == Code::NotApplied && arrived >= self.alone_before && !mutant!(AbsenceIsFailure) => {}
            Waiting::Command { reply, command, .. } => {
                // A repeat of what is stored was not applied *now*; to call it "surely not applied" would mislead.
                if self.committed.state.dedupe.knows(&command.caller.user, &command.id) {
                    return;
                }
                let ack = answers::refused(Some(&command.id), &Refusal::plain(code));
                self.answered(Some(command.caller.user.clone()), &ack);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
            }
            // It needs an entry, too: of a full log no repeat makes one.
            Waiting::Get { reply, .. } if code == Code::LogFull => self.refuse_sync(reply, code),
            Waiting::Get { reply, .. } | Waiting::Sync { reply, .. } => self.refuse_sync(reply, Code::Unavailable),
        }
    }

    /// Says it now if ownership is proven, else after the next confirmation.
    pub(super) fn say(&mut self, said: Said) {
        if !self.proven() {
            return self.held.push(said);
        }
        let effect = match said {
            Said::Ack { reply, user, ack } => {
                self.answered(user, &ack);
                Effect::Reply { to: reply, body: ack.encode_to_vec().into() }
            }
            Said::Live(body) => Effect::Live { body },
            Said::Get { reply, caller } => {
                if let Some(code) = self.barred(&caller) {
                    return self.refuse_sync(reply, code);
                }
                let mut answer = answers::sync_head(&self.committed.tail);
                answer.snapshot = answers::snapshot(&self.key, &self.committed);
                Effect::Reply { to: reply, body: answer.encode_to_vec().into() }
            }
        };
        self.out.push(effect);
    }

    /// Why this caller may not see the room; `None`: it may. The same for SUB and `get`: both give the state away.
    pub(super) fn barred(&self, caller: &Caller) -> Option<Code> {
        let rights = caller.rights;
        if !rights.has(Rights::SUB) {
            return Some(Code::PermissionDenied);
        }
        let locked = !rights.has(Rights::MOD) && self.committed.state.lock().is_some_and(LockState::bars_join);
        locked.then_some(Code::RoomLocked)
    }

    pub(super) fn answered(&mut self, user: Option<UserId>, ack: &v1::Ack) {
        if let Some(message_id) = MessageId::from_slice(&ack.message_id) {
            self.note(Note::Answered { user, message_id, code: ack.code, duplicate: ack.duplicate });
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
    }
}
