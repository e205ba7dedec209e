//! D2: draining loses no acknowledged command and leaves none unanswered.
//!
//! 1. A Shield that takes leave closes with 4200. Every command that left on that connection, and that a Brain is seen to
//!    have judged before the client sent it again, has its answer (of any code) before the close. What the Shield had not
//!    read yet was not accepted: no Brain judges it. A frame that repeats an earlier one counts once the Shield is seen to have
//!    read it, for what a Brain judged may be the earlier one.
//! 2. A Brain that takes leave says `drain` `end`. Every command that it stored has its answer by then.
//!
//! That an acknowledged one is in the log is A1's, whoever drains. Looks at every command of such a connection or Brain.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log};

/// The close code of a Shield that takes leave.
const DRAINING: u16 = 4200;

#[derive(Default)]
pub(super) struct Leave {
    /// Per client: what left on its connection and is not answered, with its record.
    asked: BTreeMap<String, BTreeMap<String, Asked>>,
    /// Every command that was sent.
    sent: BTreeSet<String>,
    /// Whose connection it is.
    connections: BTreeMap<String, String>,
    /// How many were answered on each client's connection.
    answered: BTreeMap<String, u64>,
    /// Per command: the last record by which a Brain judged it.
    judged: BTreeMap<String, u64>,
    /// Commands whose connection was closed by a drain before their answer: whose, and at which record it was sent.
    owed: BTreeMap<String, (String, u64)>,
    /// Per Brain: what it stored and has not answered, with its room.
    stored: BTreeMap<String, BTreeMap<String, String>>,
    brains: BTreeSet<String>,
}

/// A frame without its answer.
#[derive(Clone, Copy)]
struct Asked {
    n: u64,
    /// A Brain that judges this command can only have judged this frame, or this one, too.
    sure: bool,
}

impl Leave {
    fn judged(&mut self, n: u64, m: &str, found: &mut Findings) {
        self.judged.insert(m.to_owned(), n);
        if let Some((c, sent)) = self.owed.remove(m) {
            found.check("D2", sent, false, || unanswered(&c, m));
        }
    }

    fn closed(&mut self, c: &str, code: u16, found: &mut Findings) {
        let asked = self.asked.remove(c).unwrap_or_default();
        let answered = self.answered.remove(c).unwrap_or_default();
        if code != DRAINING {
            return;
        }
        (0..answered).for_each(|_| found.check("D2", 0, true, String::new));
        for (m, Asked { n: sent, .. }) in asked.into_iter().filter(|(_, asked)| asked.sure) {
            let judged = self.judged.get(&m).is_some_and(|n| *n > sent);
            found.check("D2", sent, !judged, || unanswered(c, &m));
            if !judged {
                self.owed.insert(m, (c.to_owned(), sent));
            }
        }
    }

    /// The Shield has read a command on this connection.
    fn read(&mut self, conn: &str, m: &str) {
        let asked = self.connections.get(conn).and_then(|c| self.asked.get_mut(c));
        if let Some(asked) = asked.and_then(|asked| asked.get_mut(m)) {
            asked.sure = true;
        }
    }

    fn acked(&mut self, c: &str, m: &str) {
        if self.asked.get_mut(c).and_then(|asked| asked.remove(m)).is_some() {
            *self.answered.entry(c.to_owned()).or_default() += 1;
        }
    }
}

fn unanswered(c: &str, m: &str) -> String {
    format!("{c} sent command {m} to a Shield that took leave: a Brain judged it, and no answer came before the close")
}

impl Oracle for Leave {
    fn name(&self) -> &'static str {
        "D2"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Open { c, conn, .. } => {
                self.connections.insert(conn.clone(), c.clone());
                self.asked.insert(c.clone(), BTreeMap::new());
                self.answered.insert(c.clone(), 0);
            }
            Record::Send { c, m, .. } => {
                // Sent again: what is seen of it from now on may be of this frame.
                self.owed.remove(m);
                let asked = Asked { n: line.n, sure: self.sent.insert(m.clone()) };
                self.asked.entry(c.clone()).or_default().insert(m.clone(), asked);
            }
            Record::Verdict { conn, m, .. } => self.read(conn, m),
            Record::Ack { c, m, .. } => self.acked(c, m),
            Record::Shut { c, code, .. } => self.closed(c, *code, found),
            Record::Answer { m, .. } => {
                if let Some(stored) = self.stored.get_mut(&line.host) {
                    stored.remove(m);
                }
                self.judged(line.n, m, found);
            }
            Record::Owned { .. } => {
                self.brains.insert(line.host.clone());
            }
            Record::Commit { m, room, .. } if !m.is_empty() && !is_log(line) && self.brains.contains(&line.host) => {
                self.stored.entry(line.host.clone()).or_default().insert(m.clone(), room.clone());
                self.judged(line.n, m, found);
            }
            Record::Drain { phase } if phase == "end" && self.brains.contains(&line.host) => {
                let left = self.stored.remove(&line.host).unwrap_or_default();
                found.check("D2", line.n, left.is_empty(), || {
                    let ms: Vec<&str> = left.keys().map(String::as_str).collect();
                    format!("{} took leave and never answered what it had stored: {}", line.host, ms.join(", "))
                });
            }
            // A deposed owner stays silent: the Shield says that nobody knows, and a repeat finds it out.
            Record::Fenced { room, .. } => {
                if let Some(stored) = self.stored.get_mut(&line.host) {
                    stored.retain(|_, of| of != room);
                }
            }
            Record::Crash { host } | Record::Start { host } => drop(self.stored.remove(host)),
            _ => {}
        }
    }
}
