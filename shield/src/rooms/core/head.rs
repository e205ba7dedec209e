//! Where the room's head is, in its owner's own words: asked when deliveries may be lost, and to announce a new epoch.

use proto::Code;
use proto::internal::SyncReply;
use proto::v1;

use super::join::{PAUSE_MAX_MS, pause, place};
use super::{Core, Cursor, Effect, Note, Phase, SyncFor};

impl Core {
    /// Deliveries were lost. Who comes in meanwhile may have an answer that is older than the loss, so the head is asked
    /// for once somebody follows.
    pub(super) fn lost(&mut self) {
        self.lost = true;
        if !self.subs.followed() {
            self.forget();
        }
    }

    pub(super) fn resolve(&mut self, after_ms: u64) {
        let Some(cursor) = self.cursor else { return };
        if self.subs.followed() {
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

    pub(super) fn resolved(&mut self, reply: Result<SyncReply, (Code, String)>) {
        self.resolving = false;
        match reply {
            Ok(reply) if self.outdated(&reply) => self.resolve(PAUSE_MAX_MS),
            Ok(reply) => self.observe(&reply),
            Err((Code::RoomAbsent, _)) => self.unrecoverable(),
            Err(_) => self.resolve(PAUSE_MAX_MS),
        }
    }

    /// Asks for the snapshot of a new epoch, after a pause if the last such question led nowhere: each costs the owner a
    /// snapshot.
    pub(super) fn announce(&mut self) {
        let Some(cursor) = self.cursor else { return };
        if self.subs.followed() {
            if !self.announcing {
                self.announcing = true;
                let ask = v1::Sync { shield: Some(cursor.to_wire()), ..v1::Sync::default() };
                let after_ms = pause(self.announce_fails);
                self.out.push(Effect::Sync { of: SyncFor::Announce, ask, after_ms });
            }
        } else {
            self.forget();
        }
    }

    pub(super) fn announced(&mut self, reply: Result<SyncReply, (Code, String)>) {
        self.announcing = false;
        self.announce_fails = self.announce_fails.saturating_add(1);
        match reply {
            Ok(reply) if self.outdated(&reply) => self.announce(),
            Ok(reply) => {
                let before = self.cursor.map_or(0, |cursor| cursor.epoch);
                self.observe(&reply);
                self.keep_snapshot(&reply);
                if reply.snapshot.is_empty() {
                    // Whoever is stale asks again, in `pump`.
                    return;
                }
                if reply.epoch > before || self.subs.has_stale() {
                    self.announce_fails = 0;
                }
                // Its place may be far behind by now: who cannot be served from the ring reads the log.
                if let Some(shared) = self.shared.clone().filter(|shared| shared.cursor == place(&reply)) {
                    self.tell_stale(&shared.parts, shared.cursor);
                }
            }
            Err((Code::RoomAbsent, _)) => self.unrecoverable(),
            Err(_) => self.announce(),
        }
    }

    /// The owner's word on where the room stands. There is a cursor afterwards.
    pub(super) fn observe(&mut self, reply: &SyncReply) {
        let theirs = place(reply);
        let Some(mine) = self.cursor else {
            self.follow_from(theirs);
            if self.seen > theirs.pos {
                // What came meanwhile was let go: there was no telling what it followed.
                self.read_to(self.seen, false);
            }
            self.seen = 0;
            return;
        };
        if theirs.epoch > mine.epoch {
            self.note(Note::NewEpoch);
            self.forget();
            self.follow_from(theirs);
            for id in self.subs.followers() {
                self.subs.set(id, Phase::Stale);
            }
        } else if theirs.epoch == mine.epoch {
            self.vouched = self.vouched.max(theirs.pos);
            if theirs.pos > mine.pos {
                self.anchor = Some((theirs.pos, theirs.chain));
                self.read_to(theirs.pos, false);
            } else if theirs.pos == mine.pos && theirs.chain != mine.chain {
                self.unrecoverable();
                self.follow_from(theirs);
            }
        }
    }

    fn follow_from(&mut self, at: Cursor) {
        self.cursor = Some(at);
        self.vouched = at.pos;
    }
}
