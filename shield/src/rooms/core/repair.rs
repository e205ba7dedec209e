//! Closing gaps: the log is read from the cursor on, as far as is known to be stored; what cannot be had any more sends the
//! subscribers away to come anew.

use proto::Code;
use voltron_core::mutant;

use super::{Core, Effect, Entry, Fit, Note, READS_MAX, RESOLVES_MAX, Repair, Ring};
use crate::outbox::Class;

impl Core {
    pub(super) fn tail(&mut self, epoch: u64, term: u64, pos: u64, node: &str) {
        let Some(cursor) = self.cursor else { return };
        // Who came after the take-over did not see its entry.
        if (epoch, term) >= (cursor.epoch, cursor.term) {
            self.owner = Some((node.to_owned(), term));
        }
        if mutant!(GapForNothing) && epoch == cursor.epoch && pos == cursor.fence {
            return self.unrecoverable();
        }
        if epoch > cursor.epoch {
            self.announce();
        } else if epoch == cursor.epoch && pos > cursor.fence {
            self.repair_to(pos);
        }
    }

    /// Something is missing up to `target`.
    pub(super) fn repair_to(&mut self, target: u64) {
        if self.repair.is_none() {
            self.note(Note::Gap);
        }
        self.read_to(target, true);
    }

    /// Reads up to `target`. Where that is `lost`, deliveries are missing; else they came, or will, while the owner was asked.
    pub(super) fn read_to(&mut self, target: u64, lost: bool) {
        let Some(cursor) = self.cursor else { return };
        match &mut self.repair {
            Some(repair) => repair.target = repair.target.max(target),
            None => {
                self.repair = Some(Repair { target, attempt: 0, lost });
                self.out.push(Effect::Read { from: cursor.fence + 1, attempt: 0 });
            }
        }
    }

    pub(super) fn repaired(&mut self) {
        if let Some(repair) = self.repair.take() {
            self.resolves = 0;
            if repair.lost {
                self.note(Note::Repaired);
            }
        }
    }

    pub(super) fn read(&mut self, entries: Option<Vec<Entry>>) {
        let (Some(before), Some(_)) = (self.cursor, &self.repair) else { return };
        for entry in entries.unwrap_or_default() {
            let Some(cursor) = &mut self.cursor else { return };
            match cursor.judge_read(&entry, self.vouched) {
                Fit::Next => self.accept(&entry, Class::Firm),
                Fit::Old => {}
                Fit::Void => {
                    cursor.skip(&entry);
                    self.note(Note::Void);
                }
                Fit::NewEpoch => {
                    self.repair = None;
                    return self.announce();
                }
                // What stood between was trimmed away.
                Fit::Gap => return self.unrecoverable(),
            }
        }
        let (Some(cursor), Some(repair)) = (self.cursor, &mut self.repair) else { return };
        if cursor.fence >= repair.target {
            return self.repaired();
        }
        repair.attempt = if cursor.fence > before.fence { 0 } else { repair.attempt + 1 };
        if repair.attempt > READS_MAX {
            // Perhaps there is nothing up to there: a position of a lost tail, or an entry of an outdated heartbeat.
            self.repair = None;
            self.resolves += 1;
            return if self.resolves > RESOLVES_MAX { self.unrecoverable() } else { self.resolve(0) };
        }
        let attempt = repair.attempt;
        self.out.push(Effect::Read { from: cursor.fence + 1, attempt });
    }

    /// What was lost cannot be had any more: everybody comes anew.
    pub(super) fn unrecoverable(&mut self) {
        self.note(Note::Unrecoverable);
        self.forget();
        for id in self.subs.followers() {
            self.subs.remove(id);
            self.out.push(Effect::Remove { id, code: Code::GapUnrecoverable });
        }
    }

    pub(super) fn forget(&mut self) {
        self.cursor = None;
        self.ring = Ring::default();
        self.shared = None;
        self.repair = None;
        self.anchor = None;
        self.vouched = 0;
        self.resolves = 0;
    }
}
