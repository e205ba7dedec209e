//! A6: all clients see the same bytes at the same (room, epoch, seq), and they are the log's.
//!
//! Looks at every delivery of a place that somebody else has shown before: another client, or the log.

use std::collections::BTreeMap;

use voltron_core::trace::{Hash16, Line, Record};

use super::{Findings, Oracle, is_log};

#[derive(Default)]
pub(super) struct SameBytes {
    seen: BTreeMap<(String, u64, u64), (Hash16, String)>,
}

impl Oracle for SameBytes {
    fn name(&self) -> &'static str {
        "A6"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        let (who, room, epoch, seq, h) = match &line.record {
            Record::Recv { c, room, epoch, seq, h, .. } if *seq > 0 => (c.as_str(), room, *epoch, *seq, h),
            Record::Commit { room, epoch, seq, h, .. } if is_log(line) => ("the log", room, *epoch, *seq, h),
            _ => return,
        };
        let place = (room.clone(), epoch, seq);
        let Some((first, by)) = self.seen.get(&place) else {
            self.seen.insert(place, (h.clone(), who.to_owned()));
            return;
        };
        found.check("A6", line.n, first == h, || {
            format!("{who} has other bytes than {by} at {room} epoch {epoch} seq {seq}: {h} and {first}")
        });
    }
}
