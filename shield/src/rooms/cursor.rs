//! How far a room was followed, and whether an entry is the next one (LOG §4). Positions alone prove nothing: after a
//! lost tail they are handed out again, so the chain must fit, too.

use proto::v1;
use voltron_core::mutant;

use super::entry::Entry;

/// A place in a room's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    /// Of the last event.
    pub(crate) seq: u64,
    /// Of the last valid entry.
    pub(crate) pos: u64,
    /// Of the last valid entry.
    pub(crate) chain: u64,
    /// Of the last message, void ones included.
    pub(crate) fence: u64,
}

/// What an entry is to a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The next one.
    Next,
    /// Known.
    Old,
    /// Of a higher epoch: continuity must be announced.
    NewEpoch,
    /// Something is missing before it.
    Gap,
    /// It counts for nothing, for everyone alike.
    Void,
}

impl Cursor {
    fn is_next(&self, entry: &Entry) -> bool {
        entry.prev == self.fence
            && entry.pos > self.fence
            && entry.prev_chain == self.chain
            && entry.epoch == self.epoch
            && entry.term >= self.term
            && (entry.events.is_empty() || entry.first_seq == self.seq + 1)
    }

    /// An entry as it was delivered: anything may be missing before it.
    pub(crate) fn judge_delivered(&self, entry: &Entry) -> Fit {
        if self.is_next(entry) {
            Fit::Next
        } else if entry.epoch > self.epoch {
            Fit::NewEpoch
        } else if entry.pos <= self.fence {
            Fit::Old
        } else if mutant!(GapIgnored) {
            Fit::Next
        } else {
            Fit::Gap
        }
    }

    /// An entry read from the log, right after the one before. `vouched`: up to there the owner confirmed that this
    /// epoch goes on, so what claims a higher one below is void.
    pub(crate) fn judge_read(&self, entry: &Entry, vouched: u64) -> Fit {
        if self.is_next(entry) {
            Fit::Next
        } else if entry.pos <= self.fence {
            Fit::Old
        } else if entry.epoch > self.epoch && entry.pos > vouched {
            Fit::NewEpoch
        } else if entry.prev > self.fence {
            Fit::Gap
        } else {
            Fit::Void
        }
    }

    /// Past a valid entry.
    pub(crate) fn advance(&mut self, entry: &Entry) {
        self.term = entry.term;
        self.pos = entry.pos;
        self.fence = entry.pos;
        self.chain = entry.chain;
        if !entry.events.is_empty() {
            self.seq = entry.last_seq();
        }
    }

    /// Past a void one.
    pub(crate) fn skip(&mut self, entry: &Entry) {
        self.fence = entry.pos;
    }

    pub(crate) fn to_wire(self) -> v1::Cursor {
        v1::Cursor { epoch: self.epoch, term: self.term, pos: self.pos, chain: self.chain }
    }
}
