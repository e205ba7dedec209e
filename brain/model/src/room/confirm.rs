//! Proof of ownership: generation and head, read from the leaders, before anything is written or said after a
//! reconnect or 2 s without a PubAck. And the one place where answers to reads and retries are sent on their way.

use voltron_core::mark;

use super::{Phase, Room};
use crate::chain::chain;
use crate::io::{Effect, Found, Note};

/// A confirmation in progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Confirm {
    /// The head was found in its place; the rest of the log is being walked.
    head_seen: bool,
    from: u64,
}

impl Room {
    pub(super) fn confirm(&mut self) {
        self.steady = true;
        self.read_on(Confirm { head_seen: false, from: self.committed.tail.pos });
    }

    fn read_on(&mut self, confirm: Confirm) {
        let token = self.ask();
        let log_from = Some(confirm.from);
        self.out.push(Effect::Read { token, gen_id: !confirm.head_seen, snapshots: false, log_from });
        self.phase = Phase::Confirming(confirm);
    }

    fn on_confirm(&mut self, confirm: Confirm, draw: u64, found: &Found) {
        let mut messages = found.log.as_slice();
        if !confirm.head_seen {
            let Some(gen_id) = found.gen_id else {
                self.phase = Phase::ConfirmGen;
                let token = self.ask();
                self.out.push(Effect::WriteGen { token, value: draw });
                return;
            };
            let tail = self.committed.tail;
            match messages.split_first() {
                Some((head, rest)) if head.pos == tail.pos && chain(&head.body) == tail.chain => messages = rest,
                _ => {
                    // What was acknowledged is no longer where it was: the log lost its tail.
                    mark!("brain.head-lost");
                    self.broken_at = Some(tail);
                    return self.load();
                }
            }
            if gen_id != self.gen_id {
                // The generation is new, but this same owner served through and its last entry is there: nothing of
                // this room was lost.
                mark!("brain.generation-changed");
                self.gen_id = gen_id;
            }
        }
        let known = self.committed.tail.fence;
        for message in messages.iter().skip_while(|message| message.pos <= known) {
            if self.committed.entry(message.pos, &message.body).is_ok() {
                return self.fenced();
            }
            self.note(Note::Void { pos: message.pos });
        }
        self.ahead.tail = self.committed.tail;
        if let Some(last) = found.log.last().filter(|_| found.more) {
            return self.read_on(Confirm { head_seen: true, from: last.pos.saturating_add(1) });
        }
        self.retry = super::Backoff::default();
        self.confirms += 1;
        self.proof_ms = Some(self.now.mono_ms);
        self.phase = Phase::Ready;
    }

    pub(super) fn on_read(&mut self, draw: u64, found: Option<Found>) {
        let Some(found) = found else { return self.pause() };
        match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::LoadHead => self.on_load_head(draw, found),
            Phase::LoadLog(load) => self.on_load_log(*load, &found),
            Phase::Recheck => self.on_recheck(&found),
            Phase::Resolving(walked) => self.on_resolve(walked, &found),
            Phase::Confirming(confirm) => self.on_confirm(confirm, draw, &found),
            other => self.phase = other,
        }
    }

    /// Asks the present phase's question again.
    pub(super) fn retry_now(&mut self) {
        match self.phase.clone() {
            Phase::LoadHead | Phase::LoadGen => self.load(),
            Phase::LoadLog(load) => self.read_log(*load),
            Phase::Appending => self.send(),
            Phase::Resolving(_) => self.resolve(),
            Phase::Recheck => self.recheck(),
            Phase::Anchoring => self.read_snapshots(),
            Phase::Subscribing => self.subscribe(),
            Phase::Confirming(_) | Phase::ConfirmGen => self.confirm(),
            Phase::New | Phase::Ready | Phase::Gone => {}
        }
    }
}
