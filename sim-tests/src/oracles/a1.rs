//! A1: an acknowledged command is in the room's log exactly once, at the acknowledged place.
//!
//! Looks at every ACK with code 0 and a seq above 0 (ephemeral commands are not stored), once the log is known.

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log};

/// A command: message ids are unique per user.
type Command = (String, String, String);

#[derive(Default)]
pub(super) struct Acked {
    users: BTreeMap<String, String>,
    acks: Vec<Ack>,
    log: BTreeMap<Command, Vec<(u64, u64)>>,
}

struct Ack {
    n: u64,
    command: Command,
    place: (u64, u64),
}

impl Oracle for Acked {
    fn name(&self) -> &'static str {
        "A1"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, user, .. } => {
                self.users.insert(c.clone(), format!("{tenant}/{user}"));
            }
            Record::Ack { c, m, room, epoch, seq, code: 0, .. } if *seq > 0 => {
                let user = self.users.get(c).cloned().unwrap_or_default();
                let command = (room.clone(), user, m.clone());
                self.acks.push(Ack { n: line.n, command, place: (*epoch, *seq) });
            }
            Record::Commit { room, epoch, seq, m, user, .. } if is_log(line) && !m.is_empty() => {
                let tenant = room.split_once('/').map_or("", |(tenant, _)| tenant);
                let command = (room.clone(), format!("{tenant}/{user}"), m.clone());
                self.log.entry(command).or_default().push((*epoch, *seq));
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for Ack { n, command, place } in &self.acks {
            let (room, user, m) = command;
            let stored = self.log.get(command).map_or(&[][..], Vec::as_slice);
            found.check("A1", *n, stored == [*place], || {
                let said = format!("command {m} of {user} was acknowledged at {}", at(room, *place));
                match stored {
                    [] => format!("{said}, but the log does not hold it"),
                    [other] => format!("{said}, but the log holds it at {}", at(room, *other)),
                    many => {
                        let places: Vec<_> = many.iter().map(|place| at(room, *place)).collect();
                        format!("{said}, but the log holds it {} times: {}", many.len(), places.join(", "))
                    }
                }
            });
        }
    }
}

fn at(room: &str, (epoch, seq): (u64, u64)) -> String {
    format!("{room} epoch {epoch} seq {seq}")
}
