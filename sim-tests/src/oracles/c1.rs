//! C1: the close code that a Shield decides on is the one that its client reads.
//!
//! A client acts on the code: it comes back at once, later, with another token, or never. A connection that ends in the
//! middle of a frame, or without a close frame, hides the code. So what the Shield says in `ended` must stand in the client's
//! `shut`, unless one of these explains the loss:
//!
//! - the client itself let go ([`LET_GO`]) or went home, before it read the code;
//! - something was wrong with the client, with its host's links or with the Shield, from [`BEFORE`] the decision on;
//! - the client read the rest of the connection [`PATIENCE`] later or not at all: a Shield gives a socket up that takes
//!   nothing;
//! - the client said nothing for [`SILENCE`] before it read the rest: then the Shield closes the socket, and what the client
//!   says next resets it.
//!
//! A client that reads slowly, or nothing for less than [`PATIENCE`], is no excuse: the Shield waits for it. And a client is
//! told no code of this system's own (4000 and above) that its Shield did not decide on; that is judged of Shields that say
//! `ended` at all. Looks at every `ended` of a greeted
//! connection and at every such `shut`.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

/// How a client ends its connection itself: 1000 with a goodbye, 1001 without.
const LET_GO: [u16; 2] = [1000, 1001];
/// Codes below are the WebSocket's own.
const OWN: u16 = 4000;
/// How long a trouble may be felt after its end, microseconds.
const BEFORE: u64 = 1_000_000;
/// How long a Shield waits for a socket that takes nothing, microseconds.
const PATIENCE: u64 = 10_000_000;
/// How long a Shield waits for a client that says nothing, microseconds, less two ways over a link.
const SILENCE: u64 = 980_000;
/// So long before the end of the trace clients go home, and end what the Shield ends in the same moment, microseconds.
const GOING_HOME: u64 = 2_000_000;

#[derive(Default)]
pub(super) struct CodeArrives {
    /// Per connection: its client and its Shield.
    greeted: BTreeMap<String, (String, String)>,
    /// Per connection: what its Shield decided.
    ended: BTreeMap<String, Decided>,
    /// Per client: its connection.
    connections: BTreeMap<String, String>,
    /// Open troubles: both sides as the plan names them.
    open: BTreeMap<String, String>,
    /// When the last trouble of a host or client ended, by its name.
    ended_at: BTreeMap<String, u64>,
    /// Shields that say what they decide.
    telling: BTreeSet<String>,
    /// (time, record, objection)
    found: Vec<(u64, u64, Option<String>)>,
    /// The same for codes that were not decided on, with the Shield.
    undecided: Vec<(u64, u64, String, String)>,
    last: u64,
}

struct Decided {
    n: u64,
    at: u64,
    code: u16,
    /// When the client said something last, microseconds, and the longest time between two such moments.
    heard: u64,
    silent: u64,
}

impl Decided {
    fn hears(&mut self, t: u64) {
        self.silent = self.silent.max(t.saturating_sub(self.heard));
        self.heard = t;
    }
}

/// Who a trouble's target names.
fn names(target: &str) -> impl Iterator<Item = &str> {
    target.split(['|', ',']).map(str::trim)
}

/// True if a trouble of `name` is one of this connection. Clients share hosts: a trouble of any of them counts.
fn concerns(name: &str, client: &str, shield: &str) -> bool {
    name == client || name == shield || name.starts_with("clients")
}

impl CodeArrives {
    fn troubled(&self, client: &str, shield: &str, since: u64) -> bool {
        self.open.values().flat_map(|target| names(target)).any(|name| concerns(name, client, shield))
            || self.ended_at.iter().any(|(name, at)| concerns(name, client, shield) && at + BEFORE >= since)
    }

    fn heals(&mut self, t: u64, target: &str) {
        for name in names(target) {
            self.ended_at.insert(name.to_owned(), t);
        }
    }

    fn shut(&mut self, line: &Line, conn: &str, code: u16) {
        let Some((client, shield)) = self.greeted.remove(conn) else { return };
        let decided = self.ended.remove(conn);
        let Some(Decided { n, at, code: said, silent, .. }) = decided else {
            // A code is recorded before it is written.
            if code >= OWN {
                let what = format!("{client} was told {code}, and {shield} did not decide on it");
                self.undecided.push((line.t, line.n, shield, what));
            }
            return;
        };
        let excused = LET_GO.contains(&code)
            || line.t >= at + PATIENCE
            || silent >= SILENCE
            || self.troubled(&client, &shield, at);
        let lost = (code != said && !excused)
            .then(|| format!("{shield} ended a connection of {client} with {said} (record {n}), and it read {code}"));
        self.found.push((line.t, line.n, lost));
    }
}

impl Oracle for CodeArrives {
    fn name(&self) -> &'static str {
        "C1"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        self.last = line.t;
        match &line.record {
            // Without a name it is none of a Shield's: the node that speaks in a Shield's name has no connection.
            Record::Open { c, conn, shield, .. } if !conn.is_empty() => {
                self.greeted.insert(conn.clone(), (c.clone(), shield.clone()));
                self.connections.insert(c.clone(), conn.clone());
            }
            Record::Ended { conn, code } => {
                self.telling.insert(line.host.clone());
                let decided = Decided { n: line.n, at: line.t, code: *code, heard: line.t, silent: 0 };
                self.ended.insert(conn.clone(), decided);
            }
            Record::Send { c, .. } | Record::Want { c, .. } | Record::Leave { c, .. } | Record::Get { c, .. } => {
                if let Some(decided) = self.connections.get(c).and_then(|conn| self.ended.get_mut(conn)) {
                    decided.hears(line.t);
                }
            }
            Record::Shut { conn, code, .. } => self.shut(line, conn, *code),
            // Who does not read is waited for, and a clock or a leave-taking cuts no connection.
            Record::Fault { kind, .. } if ["stall", "trickle", "drain", "skew", "drift"].contains(&kind.as_str()) => {}
            Record::Fault { id, target, .. } => {
                self.open.insert(id.clone(), target.clone());
            }
            Record::Heal { id } => {
                if let Some(target) = self.open.remove(id) {
                    self.heals(line.t, &target);
                }
            }
            Record::Crash { host } | Record::Start { host } => self.heals(line.t, host),
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        let lies = self.undecided.drain(..).filter(|(.., shield, _)| self.telling.contains(shield));
        self.found.extend(lies.map(|(t, n, _, what)| (t, n, Some(what))));
        for (t, n, objection) in &self.found {
            if t + GOING_HOME < self.last {
                found.check("C1", *n, objection.is_none(), || objection.clone().unwrap_or_default());
            }
        }
    }
}
