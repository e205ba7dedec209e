//! A4: every delivered event with a seq above 0 was committed with the same bytes; every committed one was sent by that
//! user of that tenant, or has the room as its origin (a ttl ended).
//!
//! A Brain's own `commit` counts as committed, too: what a power cut lost later had been stored. Looks at every delivery,
//! and at every commit of the log that has a message id, once the trace is over.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Hash16, Line, Record};

use super::{Findings, Oracle, is_log, place};

#[derive(Default)]
pub(super) struct Committed {
    users: BTreeMap<String, String>,
    /// Message id and who sent it, `tenant/user`, and into which room.
    sent: BTreeSet<(String, String, String)>,
    committed: BTreeSet<(String, u64, u64, Hash16)>,
    delivered: Vec<Delivered>,
    stored: Vec<Stored>,
}

struct Delivered {
    n: u64,
    client: String,
    event: (String, u64, u64, Hash16),
}

struct Stored {
    n: u64,
    place: (u64, u64),
    command: (String, String, String),
}

impl Oracle for Committed {
    fn name(&self) -> &'static str {
        "A4"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, user, .. } => {
                self.users.insert(c.clone(), format!("{tenant}/{user}"));
            }
            Record::Send { c, m, room, .. } => {
                let user = self.users.get(c).cloned().unwrap_or_default();
                self.sent.insert((m.clone(), user, room.clone()));
            }
            Record::Recv { c, room, epoch, seq, h, .. } if *seq > 0 => {
                let event = (room.clone(), *epoch, *seq, h.clone());
                self.delivered.push(Delivered { n: line.n, client: c.clone(), event });
            }
            Record::Commit { room, epoch, seq, m, user, h, .. } => {
                self.committed.insert((room.clone(), *epoch, *seq, h.clone()));
                if is_log(line) && !m.is_empty() {
                    let tenant = room.split_once('/').map_or("", |(tenant, _)| tenant);
                    let command = (m.clone(), format!("{tenant}/{user}"), room.clone());
                    self.stored.push(Stored { n: line.n, place: (*epoch, *seq), command });
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for Delivered { n, client, event } in &self.delivered {
            found.check("A4", *n, self.committed.contains(event), || {
                let (room, epoch, seq, h) = event;
                format!("{client} got {room} {} with bytes {h}, which nobody committed", place((*epoch, *seq)))
            });
        }
        for Stored { n, place: at, command } in &self.stored {
            found.check("A4", *n, self.sent.contains(command), || {
                let (m, user, room) = command;
                format!("{room} {} holds command {m} of {user}, who never sent it there", place(*at))
            });
        }
    }
}
