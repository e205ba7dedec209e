//! A7: one owner writes at a time. No two nodes own a room at the same (epoch, term), no two commit other bytes at the same
//! place, and the places of the log only rise.
//!
//! That no void entry was acknowledged is A1's: the log that is read holds valid entries alone.

use std::collections::BTreeMap;

use voltron_core::trace::{Hash16, Line, Record};

use super::{Findings, Oracle, is_log, place};

#[derive(Default)]
pub(super) struct OneOwner {
    owners: BTreeMap<(String, u64, u64), String>,
    commits: BTreeMap<(String, u64, u64), (Hash16, String)>,
    heads: BTreeMap<String, (u64, u64)>,
}

impl Oracle for OneOwner {
    fn name(&self) -> &'static str {
        "A7"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Owned { room, epoch, term } => {
                let key = (room.clone(), *epoch, *term);
                let first = self.owners.entry(key).or_insert_with(|| line.host.clone());
                found.check("A7", line.n, *first == line.host, || {
                    format!("{} and {first} both own {room} in epoch {epoch}, term {term}", line.host)
                });
            }
            Record::Commit { room, epoch, seq, .. } if is_log(line) => {
                let now = (*epoch, *seq);
                let before = self.heads.insert(room.clone(), now);
                found.check("A7", line.n, before.is_none_or(|before| before < now), || {
                    format!("the log of {room} falls from {} to {}", place(before.unwrap_or_default()), place(now))
                });
            }
            Record::Commit { room, epoch, seq, h, .. } => {
                let key = (room.clone(), *epoch, *seq);
                let (first, by) = self.commits.entry(key).or_insert_with(|| (h.clone(), line.host.clone()));
                found.check("A7", line.n, first == h, || {
                    format!("{} and {by} committed different bytes at {room} {}", line.host, place((*epoch, *seq)))
                });
            }
            _ => {}
        }
    }
}
