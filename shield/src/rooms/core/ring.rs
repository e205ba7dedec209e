//! The newest entries that went out, for those who just come in: at most 256 entries and 1 MiB; beyond, the log is read.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::rooms::entry::Entry;

const ENTRIES_MAX: usize = 256;
const BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Kept {
    first_seq: u64,
    events: Vec<Bytes>,
    bytes: usize,
}

impl Ring {
    /// Takes the room's next entry; those without events are not worth a place.
    pub(super) fn push(&mut self, entry: &Entry) {
        if entry.events.is_empty() {
            return;
        }
        let bytes = entry.bytes();
        self.kept.push_back(Kept { first_seq: entry.first_seq, events: entry.events.clone(), bytes });
        self.bytes += bytes;
        while self.kept.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    /// True if [`Ring::after`] has them.
    pub(super) fn reaches(&self, seq: u64, head: u64) -> bool {
        seq >= head || self.kept.front().is_some_and(|oldest| oldest.first_seq <= seq + 1)
    }

    /// The events after `seq` up to `head`; `None` if the ring does not reach back so far.
    pub(super) fn after(&self, seq: u64, head: u64) -> Option<Vec<Bytes>> {
        if seq >= head {
            return Some(Vec::new());
        }
        if !self.reaches(seq, head) {
            return None;
        }
        let mut events = Vec::new();
        for kept in &self.kept {
            let skip = usize::try_from((seq + 1).saturating_sub(kept.first_seq)).unwrap_or(usize::MAX);
            events.extend(kept.events.iter().skip(skip).cloned());
        }
        Some(events)
    }
}
