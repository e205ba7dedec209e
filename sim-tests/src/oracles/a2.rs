//! A2: within one subscription, counted from the `since` it gave, a client is never rewound in silence: a lower place
//! comes only after a new epoch was announced to it.
//!
//! A SUB's result is the head of the room: it is not below what was acknowledged to this client before it asked, and
//! `replay` counts the events that follow up to it.
//!
//! Places compare as (epoch, seq). Looks at every SUB that succeeds, and at every delivery within a subscription.

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, place};

#[derive(Default)]
pub(super) struct NoRewind {
    /// Per (client, room): how far it was told.
    reached: BTreeMap<(String, String), (u64, u64)>,
    /// Per (client, room): the highest place that was acknowledged to it.
    acked: BTreeMap<(String, String), (u64, u64)>,
    /// Per (client, room): the same when it asked what is not answered yet.
    asked: BTreeMap<(String, String), Option<(u64, u64)>>,
    /// Per (client, room): what the last SUB's result announced, while it is not complete.
    announced: BTreeMap<(String, String), Announced>,
}

/// The events up to the result of a SUB.
struct Announced {
    n: u64,
    head: (u64, u64),
    replay: u64,
    came: u64,
}

impl NoRewind {
    /// One event of a subscription: those up to the announced head are as many as were announced.
    fn counts(&mut self, key: &(String, String), now: (u64, u64), found: &mut Findings) {
        let Some(announced) = self.announced.get_mut(key) else { return };
        if now.0 != announced.head.0 {
            // What another epoch's event means is not this count's to say.
            self.announced.remove(key);
            return;
        }
        let within = now <= announced.head;
        announced.came += u64::from(within);
        let Announced { n, head, replay, came } = *announced;
        let holds = if within { came <= replay } else { came == replay };
        found.check("A2", n, holds, || {
            format!("{} was told of {replay} events of {} up to {}, and {came} came", key.0, key.1, place(head))
        });
        if !within {
            self.announced.remove(key);
        }
    }
}

impl Oracle for NoRewind {
    fn name(&self) -> &'static str {
        "A2"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Ack { c, room, epoch, seq, code: 0, .. } if *epoch > 0 => {
                let acked = self.acked.entry((c.clone(), room.clone())).or_default();
                *acked = (*epoch, *seq).max(*acked);
            }
            Record::Want { c, room, .. } => {
                let key = (c.clone(), room.clone());
                let acked = self.acked.get(&key).copied();
                self.asked.entry(key).or_insert(acked);
            }
            Record::Sub { c, room, since, epoch, seq, replay, .. } => {
                let now = (*epoch, *seq);
                let key = (c.clone(), room.clone());
                if let Some(acked) = self.asked.remove(&key).flatten() {
                    found.check("A2", line.n, now >= acked, || {
                        format!("{c} had a command at {} of {room}, and its SUB is at {}", place(acked), place(now))
                    });
                }
                self.announced.insert(key, Announced { n: line.n, head: now, replay: (*replay).into(), came: 0 });
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
                let key = (c.clone(), room.clone());
                self.reached.remove(&key);
                self.asked.remove(&key);
                self.announced.remove(&key);
            }
            Record::Gap { c, room, .. } => drop(self.announced.remove(&(c.clone(), room.clone()))),
            Record::Shut { c, .. } => {
                self.reached.retain(|(client, _), _| client != c);
                self.asked.retain(|(client, _), _| client != c);
                self.announced.retain(|(client, _), _| client != c);
            }
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                self.counts(&(c.clone(), room.clone()), (*epoch, *seq), found);
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
