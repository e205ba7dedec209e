//! A3: no command is committed twice, whatever the age of the repeat; no event comes twice within one subscription.
//!
//! Looks at every commit of the log that has a message id, and at every delivery within a subscription.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log, place};

#[derive(Default)]
pub(super) struct Once {
    /// (room, user, message id): where it stands.
    stored: BTreeMap<(String, String, String), (u64, u64)>,
    /// Per (client, room): what came since its SUB.
    came: BTreeMap<(String, String), BTreeSet<(u64, u64)>>,
}

impl Oracle for Once {
    fn name(&self) -> &'static str {
        "A3"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Commit { room, epoch, seq, m, user, .. } if is_log(line) && !m.is_empty() => {
                let now = (*epoch, *seq);
                let before = self.stored.insert((room.clone(), user.clone(), m.clone()), now);
                found.check("A3", line.n, before.is_none(), || {
                    let before = place(before.unwrap_or_default());
                    format!("command {m} of {user} is stored twice in {room}: at {before} and at {}", place(now))
                });
            }
            Record::Sub { c, room, .. } | Record::Unsub { c, room, .. } => {
                self.came.remove(&(c.clone(), room.clone()));
            }
            Record::Shut { c, .. } => self.came.retain(|(client, _), _| client != c),
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                let fresh = self.came.entry((c.clone(), room.clone())).or_default().insert((*epoch, *seq));
                found.check("A3", line.n, fresh, || {
                    format!("{c} got {room} {} twice in one subscription", place((*epoch, *seq)))
                });
            }
            _ => {}
        }
    }
}
