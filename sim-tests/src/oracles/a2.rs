//! A2: within one subscription, counted from the `since` it gave, a client is never rewound in silence: a lower place
//! comes only after a new epoch was announced to it.
//!
//! Places compare as (epoch, seq). Looks at every SUB that gave a cursor, and at every delivery within a subscription.

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, place};

#[derive(Default)]
pub(super) struct NoRewind {
    /// Per (client, room): how far it was told.
    reached: BTreeMap<(String, String), (u64, u64)>,
}

impl Oracle for NoRewind {
    fn name(&self) -> &'static str {
        "A2"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Sub { c, room, since, epoch, seq, .. } => {
                let now = (*epoch, *seq);
                if let Some(since) = since {
                    found.check("A2", line.n, now >= *since, || {
                        format!("{c} asked for {room} since {} and was put back to {}", place(*since), place(now))
                    });
                }
                // Replayed events come below the head that the answer names.
                let from = since.filter(|since| since.0 == *epoch).unwrap_or((*epoch, 0));
                self.reached.insert((c.clone(), room.clone()), from);
            }
            Record::Snap { c, room, epoch, seq, .. } => {
                if let Some(reached) = self.reached.get_mut(&(c.clone(), room.clone())) {
                    let (now, before) = ((*epoch, *seq), *reached);
                    found.check("A2", line.n, epoch >= &before.0, || {
                        format!("{c} had {} of {room} and was put back to a snapshot at {}", place(before), place(now))
                    });
                    *reached = before.max(now);
                }
            }
            Record::Unsub { c, room, .. } => {
                self.reached.remove(&(c.clone(), room.clone()));
            }
            Record::Shut { c, .. } => self.reached.retain(|(client, _), _| client != c),
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                let Some(reached) = self.reached.get_mut(&(c.clone(), room.clone())) else { return };
                let (now, before) = ((*epoch, *seq), *reached);
                // An unrecovered cursor of this epoch is history: the last events up to the snapshot.
                found.check("A2", line.n, epoch >= &before.0, || {
                    format!("{c} had {} of {room} and was rewound to {}", place(before), place(now))
                });
                *reached = before.max(now);
            }
            _ => {}
        }
    }
}
