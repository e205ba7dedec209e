//! Where the room's head is, in its owner's own words: asked when deliveries may be lost, and to announce a new epoch.

use proto::internal::SyncReply;
use proto::v1;

use super::{Core, Cursor, Effect, Note, Phase, SyncFor};

impl Core {
    pub(super) fn followed(&self) -> bool {
        self.subs.values().any(|sub| matches!(sub.phase, Phase::Live | Phase::Stale | Phase::Fetching { .. }))
    }

    pub(super) fn resolve(&mut self, after_ms: u64) {
        let Some(cursor) = self.cursor else { return };
        if self.followed() {
            if !self.resolving {
                self.resolving = true;
                let ask = v1::Sync { leave_only: true, shield: Some(cursor.to_wire()), ..v1::Sync::default() };
                self.out.push(Effect::Sync { of: SyncFor::Resolve, ask, after_ms });
            }
        } else {
            // Nobody would notice: the next SUB begins anew.
            self.forget();
        }
    }

    pub(super) fn announce(&mut self, after_ms: u64) {
        let Some(cursor) = self.cursor else { return };
        if self.followed() {
            if !self.announcing {
                self.announcing = true;
                let ask = v1::Sync { shield: Some(cursor.to_wire()), ..v1::Sync::default() };
                self.out.push(Effect::Sync { of: SyncFor::Announce, ask, after_ms });
            }
        } else {
            self.forget();
        }
    }

    /// The owner's word on where the room stands.
    pub(super) fn observe(&mut self, reply: &SyncReply) {
        let theirs = Cursor {
            epoch: reply.epoch,
            term: reply.term,
            seq: reply.seq,
            pos: reply.pos,
            chain: reply.chain,
            fence: reply.pos,
        };
        let Some(mine) = self.cursor else {
            self.cursor = Some(theirs);
            self.vouched = theirs.pos;
            if self.seen > theirs.pos {
                self.repair_to(self.seen);
            }
            self.seen = 0;
            return;
        };
        if theirs.epoch > mine.epoch {
            self.note(Note::NewEpoch);
            self.forget();
            self.cursor = Some(theirs);
            self.vouched = theirs.pos;
            for sub in self.subs.values_mut() {
                if matches!(sub.phase, Phase::Live | Phase::Fetching { .. }) {
                    sub.phase = Phase::Stale;
                }
            }
        } else if theirs.epoch == mine.epoch {
            self.vouched = self.vouched.max(theirs.pos);
            if theirs.pos > mine.pos {
                self.anchor = Some((theirs.pos, theirs.chain));
                self.repair_to(theirs.pos);
            } else if theirs.pos == mine.pos && theirs.chain != mine.chain {
                self.diverged();
            }
        }
    }
}
