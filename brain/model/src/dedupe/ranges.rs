//! Timestamps of forgotten commands: few closed ranges that hold every one of them, and as little else as they can.

/// The most ranges of one user.
pub const RANGES_MAX: usize = 8;

/// From `lo` to `hi`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) lo: i64,
    pub(super) hi: i64,
}

/// Ascending; between two of them lies at least one timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range>);

impl Ranges {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    pub(super) fn highest(&self) -> Option<i64> {
        self.0.last().map(|range| range.hi)
    }

    pub(super) fn hold(&self, timestamp: i64) -> bool {
        self.0.iter().any(|range| range.lo <= timestamp && timestamp <= range.hi)
    }

    /// Adds one. Beyond [`RANGES_MAX`] the two neighbours with the smallest gap become one, of several the lowest.
    pub(super) fn add(&mut self, mut new: Range) {
        let begin = self.0.partition_point(|range| range.hi.saturating_add(1) < new.lo);
        let end = self.0.partition_point(|range| range.lo <= new.hi.saturating_add(1));
        for range in self.0.drain(begin..end) {
            new = Range { lo: new.lo.min(range.lo), hi: new.hi.max(range.hi) };
        }
        self.0.insert(begin, new);
        if self.0.len() > RANGES_MAX {
            let gap = |i: &usize| self.0[i + 1].lo.abs_diff(self.0[*i].hi);
            let Some(low) = (0..self.0.len() - 1).min_by_key(gap) else { return };
            let high = self.0.remove(low + 1);
            self.0[low].hi = high.hi;
        }
    }

    /// Drops those that end below `limit`; the highest timestamp of them.
    pub(super) fn drop_below(&mut self, limit: i64) -> Option<i64> {
        let count = self.0.partition_point(|range| range.hi < limit);
        self.0.drain(..count).next_back().map(|range| range.hi)
    }
}
