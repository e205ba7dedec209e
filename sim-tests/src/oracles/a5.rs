//! A5: per client, room and epoch, seq goes strictly +1; an omission only after an announced gap covering exactly it.
//!
//! A `sub` record says where delivery continues: after `since` if the cursor was honoured (`recovered`), else with the last
//! `replay` events up to the snapshot at `seq`. A higher epoch begins at seq 1, or right after the snapshot that announced it;
//! a lower one never comes. Looks at every delivered event with a seq above 0 (ephemeral events have none).

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

#[derive(Default)]
pub(super) struct Order {
    /// Per (client, room): the place that must come next.
    next: BTreeMap<(String, String), (u64, u64)>,
}

impl Oracle for Order {
    fn name(&self) -> &'static str {
        "A5"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Sub { c, room, since, epoch, seq, recovered, replay } => {
                let after = match since {
                    Some((since_epoch, since_seq)) if *recovered && since_epoch == epoch => *since_seq,
                    _ => seq.saturating_sub(u64::from(*replay)),
                };
                self.next.insert((c.clone(), room.clone()), (*epoch, after + 1));
            }
            Record::Snap { c, room, epoch, seq, .. } => {
                if let Some(next) = self.next.get_mut(&(c.clone(), room.clone()))
                    && next.0 < *epoch
                {
                    *next = (*epoch, seq + 1);
                }
            }
            Record::Unsub { c, room, .. } => {
                self.next.remove(&(c.clone(), room.clone()));
            }
            Record::Shut { c, .. } => self.next.retain(|(client, _), _| client != c),
            Record::Gap { c, room, epoch, from, to } => {
                if let Some(next) = self.next.get_mut(&(c.clone(), room.clone())) {
                    found.check("A5", line.n, *next == (*epoch, *from) && from <= to, || {
                        format!(
                            "{c} was told of a gap {from}..={to} in {room} epoch {epoch}, but expected {}",
                            at(*next)
                        )
                    });
                    *next = (*epoch, to + 1);
                }
            }
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                let key = (c.clone(), room.clone());
                let next = self.next.get(&key).copied();
                let holds = next.is_some_and(|next| next == (*epoch, *seq) || (next.0 < *epoch && *seq == 1));
                found.check("A5", line.n, holds, || match next {
                    Some(next) => format!("{c} got {room} {} but {} was next", at((*epoch, *seq)), at(next)),
                    None => format!("{c} got {room} {} without a subscription", at((*epoch, *seq))),
                });
                // Go on from here, so that one omission is one violation.
                self.next.insert(key, (*epoch, seq + 1));
            }
            _ => {}
        }
    }
}

fn at((epoch, seq): (u64, u64)) -> String {
    format!("epoch {epoch} seq {seq}")
}
