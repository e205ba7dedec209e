//! E1: an ephemeral event reaches whom it may reach, no more often than it was sent, and is never stored.
//!
//! 1. A client gets one only within a subscription of that room, and with a token that grants `sub` there.
//! 2. It was sent as an ephemeral command into that room, and a client gets it at most once for each frame that was sent:
//!    it is not deduplicated, so a repeat may be another event.
//! 3. Its (epoch, term) is not below one that this connection was told in that room: a deposed owner's word is dropped.
//! 4. The log does not hold it.
//!
//! Looks at every ephemeral event that a client gets, and at every ephemeral command once the trace is over.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, grants, is_log};

#[derive(Default)]
pub(super) struct Ephemeral {
    grants: grants::Grants,
    /// By message id: into which room, how many frames, and the first one's record.
    sent: BTreeMap<String, Sent>,
    stored: BTreeMap<String, u64>,
    /// Per (client, room): the highest (epoch, term) since its SUB.
    inside: BTreeMap<(String, String), (u64, u64)>,
    /// (client, message id)
    got: BTreeMap<(String, String), u64>,
    not_ephemeral: BTreeSet<String>,
}

struct Sent {
    n: u64,
    room: String,
    frames: u64,
}

impl Ephemeral {
    fn got(&mut self, line: &Line, c: &str, room: &str, m: &str, place: (u64, u64), found: &mut Findings) {
        let highest = self.inside.get(&(c.to_owned(), room.to_owned())).copied();
        found.check("E1", line.n, highest.is_some(), || {
            format!("{c} got an ephemeral event of {room} without a subscription")
        });
        found.check("E1", line.n, self.grants.has(c, room, "sub") != Some(false), || {
            format!("{c} got an ephemeral event of {room}, which its token does not grant")
        });
        found.check("E1", line.n, highest.is_none_or(|highest| highest <= place), || {
            let ((epoch, term), highest) = (place, highest.unwrap_or_default());
            format!("{c} got an ephemeral event of {room} from term {term} of epoch {epoch} after it was told of term {} of epoch {}", highest.1, highest.0)
        });
        if m.is_empty() {
            return;
        }
        let times = self.got.entry((c.to_owned(), m.to_owned())).or_default();
        *times += 1;
        let frames = self.sent.get(m).filter(|sent| sent.room == room).map_or(0, |sent| sent.frames);
        let times = *times;
        found.check("E1", line.n, times <= frames, || {
            format!("{c} got ephemeral {m} of {room} {times} times, and it was sent there {frames} times")
        });
    }
}

impl Oracle for Ephemeral {
    fn name(&self) -> &'static str {
        "E1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        self.grants.see(&line.record);
        match &line.record {
            Record::Send { m, room, op, .. } => {
                if op["ephemeral"] == true {
                    let sent = Sent { n: line.n, room: room.clone(), frames: 0 };
                    self.sent.entry(m.clone()).or_insert(sent).frames += 1;
                } else {
                    self.not_ephemeral.insert(m.clone());
                }
            }
            Record::Sub { c, room, epoch, .. } => {
                self.inside.insert((c.clone(), room.clone()), (*epoch, 0));
            }
            Record::Unsub { c, room, .. } => drop(self.inside.remove(&(c.clone(), room.clone()))),
            Record::Open { c, .. } | Record::Shut { c, .. } => self.inside.retain(|(other, _), _| other != c),
            Record::Snap { c, room, epoch, .. } => {
                if let Some(highest) = self.inside.get_mut(&(c.clone(), room.clone())) {
                    *highest = (*highest).max((*epoch, 0));
                }
            }
            Record::Recv { c, room, epoch, seq, term, m, .. } => {
                if *seq == 0 {
                    self.got(line, c, room, m, (*epoch, *term), found);
                } else if let Some(highest) = self.inside.get_mut(&(c.clone(), room.clone())) {
                    *highest = (*highest).max((*epoch, *term));
                }
            }
            Record::Commit { m, .. } if is_log(line) && !m.is_empty() => drop(self.stored.insert(m.clone(), line.n)),
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for (m, sent) in self.sent.iter().filter(|(m, _)| !self.not_ephemeral.contains(*m)) {
            found.check("E1", sent.n, !self.stored.contains_key(m), || {
                let n = self.stored.get(m).copied().unwrap_or_default();
                format!("{m} was sent into {} as ephemeral, and record {n} of the log holds it", sent.room)
            });
        }
    }
}
