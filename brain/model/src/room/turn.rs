//! What a room does when nothing is awaited: confirm, renew its epoch, answer, build the next entry, or rest.

use proto::Code;
use voltron_core::mutant;

use super::{Phase, Room};
use crate::io::Why;

impl Room {
    pub(super) fn on_wake(&mut self) {
        self.read_snapshots_if_due();
        if self.retry.at.is_some_and(|at| at <= self.now.mono_ms) {
            self.retry.at = None;
            self.retry_now();
        }
    }

    pub(super) fn on_stop(&mut self) {
        self.stopping = true;
        // An entry of which no attempt is open is surely not stored.
        if !self.serving && self.inflight.as_ref().is_none_or(|entry| entry.attempts == 0) {
            self.step_down(Why::Stopped, Some(Code::Unavailable));
        }
    }

    /// Moves on as far as nothing is awaited.
    pub(super) fn pump(&mut self) {
        if self.retry.at.is_some() {
            return;
        }
        // What is committed may be read and told whatever is in flight, as long as that is not unresolved.
        if self.serving && matches!(self.phase, Phase::Appending) && self.proven() && !self.unresolved() {
            self.answer_opens();
            self.answer_syncs();
        }
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        self.shorten();
        let ended = !self.committed.state.ended(self.room_time()).is_empty();
        let quiet = self.queue.is_empty() && self.held.is_empty() && self.opens.is_empty();
        if quiet && !ended && self.renew_above.is_none() {
            return self.rest();
        }
        if !self.proven() {
            return self.confirm();
        }
        if self.renew_above.is_some() {
            return self.claim(true);
        }
        for said in std::mem::take(&mut self.held) {
            self.say(said);
        }
        self.answer_opens();
        self.answer_syncs();
        match (self.renew_above, self.proven()) {
            (Some(_), _) => self.claim(true),
            (None, false) => self.confirm(),
            (None, true) => self.build(),
        }
        if matches!(self.phase, Phase::Ready) && self.queue.is_empty() && self.retry.at.is_none() {
            self.rest();
        }
    }

    /// Nothing is in flight, so what is committed is all there is: writes a snapshot if one is due and trims the log. After
    /// each commit, for a saturated room never rests.
    fn shorten(&mut self) {
        if self.stopping {
            return;
        }
        if !mutant!(SnapshotAtRestOnly) || self.queue.is_empty() {
            self.snapshot_if_due();
        }
        self.trim();
    }

    /// Nothing to do: stop if asked to, go dormant if it was quiet for long.
    pub(super) fn rest(&mut self) {
        if self.stopping {
            return self.step_down(Why::Stopped, None);
        }
        let idle = self.now.mono_ms.saturating_sub(self.active_ms) >= self.rules.idle_ms;
        if idle && self.serving && self.snapshot_for_dormancy() {
            self.step_down(Why::Idle, None);
        }
    }
}
