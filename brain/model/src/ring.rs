//! The newest entries of a room, kept for replays and to compare a Shield's cursor with: bounded in entries and bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::internal::LogEntry;

/// The most entries kept.
const RING_ENTRIES_MAX: usize = 256;
/// The most bytes of events kept.
const RING_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Kept {
    pos: u64,
    chain: u64,
    epoch: u64,
    first_seq: u64,
    events: Vec<Bytes>,
    bytes: usize,
}

/// The newest entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Ring {
    /// Takes a valid entry.
    pub(crate) fn push(&mut self, pos: u64, chain: u64, entry: &LogEntry) {
        let events = entry.envelopes.clone();
        let bytes = events.iter().map(Bytes::len).sum();
        self.kept.push_back(Kept { pos, chain, epoch: entry.epoch, first_seq: entry.first_seq, events, bytes });
        self.bytes += bytes;
        while self.kept.len() > RING_ENTRIES_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The chain of the entry at `pos`: `None` if that is older than the ring, `Some(None)` if no valid entry is there.
    pub(crate) fn chain_at(&self, pos: u64) -> Option<Option<u64>> {
        if self.kept.front()?.pos > pos {
            return None;
        }
        Some(self.kept.iter().find(|kept| kept.pos == pos).map(|kept| kept.chain))
    }

    /// Every event of `epoch` after `seq`, ascending; `None` if the ring does not reach back so far.
    pub(crate) fn after(&self, epoch: u64, seq: u64) -> Option<Vec<Bytes>> {
        let mut entries = self.kept.iter().skip_while(|kept| kept.epoch < epoch).peekable();
        if entries.peek()?.first_seq > seq.saturating_add(1) {
            return None;
        }
        let mut events = Vec::new();
        for kept in entries {
            let skip = usize::try_from(seq.saturating_add(1).saturating_sub(kept.first_seq)).unwrap_or(usize::MAX);
            events.extend(kept.events.iter().skip(skip).cloned());
        }
        Some(events)
    }

    /// The last events of `epoch`, at most `count` and `bytes_max` of them, ascending.
    pub(crate) fn newest(&self, epoch: u64, count: usize, bytes_max: usize) -> Vec<Bytes> {
        let newest = self.kept.iter().rev().take_while(|kept| kept.epoch == epoch);
        let mut bytes = 0;
        let mut events: Vec<Bytes> = newest
            .flat_map(|kept| kept.events.iter().rev())
            .take(count)
            .take_while(|event| {
                bytes += event.len();
                bytes <= bytes_max
            })
            .cloned()
            .collect();
        events.reverse();
        events
    }
}
