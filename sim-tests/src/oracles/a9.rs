//! A9: causality within a room. What a client sent after it received (room, s) has a place above s in that room.
//!
//! Across rooms nothing is promised. Looks at every stored command whose client had seen something of the room before.

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log, place};

type Place = (u64, u64);

#[derive(Default)]
pub(super) struct Causal {
    users: BTreeMap<String, String>,
    /// Per (client, room): the highest place it has seen.
    seen: BTreeMap<(String, String), Place>,
    /// Per (room, user, message id): who sent it, and what that one had seen when it sent it first.
    sent: BTreeMap<(String, String, String), (String, Place)>,
}

impl Oracle for Causal {
    fn name(&self) -> &'static str {
        "A9"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, user, .. } => {
                self.users.insert(c.clone(), format!("{tenant}/{user}"));
            }
            Record::Recv { c, room, epoch, seq, .. } | Record::Ack { c, room, epoch, seq, code: 0, .. } if *seq > 0 => {
                let seen = self.seen.entry((c.clone(), room.clone())).or_default();
                *seen = (*seen).max((*epoch, *seq));
            }
            Record::Send { c, m, room, .. } => {
                let seen = self.seen.get(&(c.clone(), room.clone())).copied().unwrap_or_default();
                let user = self.users.get(c).cloned().unwrap_or_default();
                self.sent.entry((room.clone(), user, m.clone())).or_insert((c.clone(), seen));
            }
            Record::Commit { room, epoch, seq, m, user, .. } if is_log(line) && !m.is_empty() => {
                let tenant = room.split_once('/').map_or("", |(tenant, _)| tenant);
                let Some((c, seen)) = self.sent.get(&(room.clone(), format!("{tenant}/{user}"), m.clone())) else {
                    return;
                };
                if *seen == (0, 0) {
                    return;
                }
                let now = (*epoch, *seq);
                found.check("A9", line.n, now > *seen, || {
                    format!("{c} had seen {room} {} when it sent {m}, which stands at {}", place(*seen), place(now))
                });
            }
            _ => {}
        }
    }
}
