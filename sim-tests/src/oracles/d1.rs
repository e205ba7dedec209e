//! D1: after healing every open command ends, and every cursor reaches the head, with bounded reconnects.
//!
//! Judged once the trace is over: a command that was sent has an answer that is final (applied, or refused for good), and a
//! client that was still subscribed when it went home has come to the last event of the log (of those
//! stored up to [`LEAVING`] before it went: a ttl may end later). A client wants a room from its SUB to its UNSUB, or to
//! a refusal for good: on its last connection it is in every room that it wants and that exists, or was told last that the
//! room is locked (B2 holds that to the lock). Every client whose
//! token is known was greeted at least once. On the way no client was
//! greeted more than [`GREETINGS_MAX`] times within a second: it waits longer after every failure. Looks at every command,
//! every such subscription, every wanted room, every client, and every connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arq::client::Repeat;
use proto::Code;
use proto::error::Retry;
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log, place};

/// Connections of one client within a second of time: the shortest pause between two is 100 ms.
const GREETINGS_MAX: usize = 12;

/// What was stored so shortly before a client went home may not have reached it, microseconds.
const LEAVING: u64 = 500_000;

#[derive(Default)]
pub(super) struct Ends {
    /// Per client: when it was greeted last, microseconds.
    greeted: BTreeMap<String, VecDeque<u64>>,
    /// Per (client, message id): the last frame's record, and whether a final answer came.
    commands: BTreeMap<(String, String), (u64, bool)>,
    /// Per (client, room): how far it came, and at which record; `None` as long as it waits for its SUB's answer.
    cursors: BTreeMap<(String, String), (u64, (u64, u64))>,
    /// Per (client, room): the SUB by which it wants to be there.
    wanted: BTreeMap<(String, String), u64>,
    /// (client, room): subscribed on the connection of the moment.
    inside: BTreeSet<(String, String)>,
    /// (client, room): the last SUB was refused for the room's lock.
    locked_out: BTreeSet<(String, String)>,
    /// Clients whose token is known and who were not greeted yet, with that record.
    outside: BTreeMap<String, u64>,
    /// Per room: every place of the log, and whether somebody sent what stands there.
    log: BTreeMap<String, BTreeMap<(u64, u64), bool>>,
    /// When a Brain said that it stored a place of a room, microseconds.
    stored: BTreeMap<(String, (u64, u64)), u64>,
    /// When a client that did not come back went home.
    left: BTreeMap<String, u64>,
}

impl Ends {
    /// The last place of the room that this client has to know. Where no Brain tells when it stored, a ttl's end counts as
    /// late: what clients sent was answered while they were there.
    fn head(&self, c: &str, room: &str) -> Option<(u64, u64)> {
        let known = |(place, sent): &(&(u64, u64), &bool)| {
            let stored = self.stored.get(&(room.to_owned(), **place));
            match (self.left.get(c), stored) {
                (Some(left), Some(stored)) => stored + LEAVING <= *left,
                (Some(_), None) => **sent,
                (None, _) => true,
            }
        };
        self.log.get(room)?.iter().rev().find(known).map(|(place, _)| *place)
    }
}

impl Oracle for Ends {
    fn name(&self) -> &'static str {
        "D1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Shut { c, .. } => {
                self.left.insert(c.clone(), line.t);
            }
            Record::Grant { c, .. } => drop(self.outside.entry(c.clone()).or_insert(line.n)),
            Record::Open { c, .. } => {
                self.outside.remove(c);
                self.inside.retain(|(other, _)| other != c);
                self.left.remove(c);
                let times = self.greeted.entry(c.clone()).or_default();
                times.push_back(line.t);
                while times.front().is_some_and(|first| first + 1_000_000 < line.t) {
                    times.pop_front();
                }
                found.check("D1", line.n, times.len() <= GREETINGS_MAX, || {
                    format!("{c} connected {} times within a second: it comes back without a pause", times.len())
                });
            }
            Record::Send { c, m, .. } => {
                self.commands.entry((c.clone(), m.clone())).or_default().0 = line.n;
            }
            Record::Ack { c, m, code, .. } => {
                if let Some((_, ended)) = self.commands.get_mut(&(c.clone(), m.clone())) {
                    *ended |= *code == 0 || !Repeat::allows(*code);
                }
            }
            Record::Sub { c, room, epoch, seq, recovered, replay, .. } => {
                // What is replayed still has to come.
                let from = if *recovered || *replay > 0 { seq.saturating_sub(u64::from(*replay)) } else { *seq };
                self.inside.insert((c.clone(), room.clone()));
                self.locked_out.remove(&(c.clone(), room.clone()));
                self.cursors.insert((c.clone(), room.clone()), (line.n, (*epoch, from)));
            }
            Record::Want { c, room, .. } => {
                self.wanted.insert((c.clone(), room.clone()), line.n);
            }
            Record::Leave { c, room } => drop(self.wanted.remove(&(c.clone(), room.clone()))),
            Record::Unsub { c, room, code } => {
                let key = (c.clone(), room.clone());
                self.cursors.remove(&key);
                self.inside.remove(&key);
                if *code == u32::from(Code::RoomLocked.as_u16()) {
                    self.locked_out.insert(key.clone());
                } else {
                    self.locked_out.remove(&key);
                }
                if for_good(*code) {
                    self.wanted.remove(&key);
                }
            }
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                if let Some(cursor) = self.cursors.get_mut(&(c.clone(), room.clone())) {
                    *cursor = (line.n, cursor.1.max((*epoch, *seq)));
                }
            }
            Record::Gap { c, room, epoch, to: seq, .. } | Record::Snap { c, room, epoch, seq, .. } => {
                if let Some(cursor) = self.cursors.get_mut(&(c.clone(), room.clone())) {
                    *cursor = (line.n, cursor.1.max((*epoch, *seq)));
                }
            }
            Record::Commit { room, epoch, seq, m, .. } if is_log(line) => {
                self.log.entry(room.clone()).or_default().insert((*epoch, *seq), !m.is_empty());
            }
            Record::Commit { room, epoch, seq, .. } => {
                self.stored.entry((room.clone(), (*epoch, *seq))).or_insert(line.t);
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for ((c, m), (n, ended)) in &self.commands {
            found.check("D1", *n, *ended, || format!("{c} sent command {m} and never learned what became of it"));
        }
        for (c, n) in &self.outside {
            found.check("D1", *n, false, || format!("{c} was never greeted"));
        }
        for (key @ (c, room), n) in &self.wanted {
            if self.head(c, room).is_none() {
                continue;
            }
            found.check("D1", *n, self.inside.contains(key) || self.locked_out.contains(key), || {
                format!("{c} wants {room}, which exists, and is not in it at the end")
            });
        }
        for ((c, room), (n, reached)) in &self.cursors {
            let Some(head) = self.head(c, room) else { continue };
            found.check("D1", *n, *reached >= head, || {
                format!("{c} came to {} of {room}, whose head is {}", place(*reached), place(head))
            });
        }
    }
}

/// True if a client does not ask again after this code.
fn for_good(code: u32) -> bool {
    let known = u16::try_from(code).ok().and_then(Code::from_u16);
    !known.is_some_and(|code| matches!(code.retry(), Retry::Later | Retry::Same))
}
