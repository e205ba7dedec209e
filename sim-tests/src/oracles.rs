//! The oracles: each holds a trace, simulated or from production, to one promise. They know nothing of the simulator.
//!
//! | id | promise |
//! | --- | --- |
//! | A1 | an acknowledged command is in the room's log exactly once, at the acknowledged place |
//! | A2 | within one subscription a client is never rewound in silence; the result of a SUB is not below what was acknowledged to the client before, and counts what is replayed |
//! | A3 | no command is committed twice; no event comes twice within one subscription |
//! | A4 | what is delivered was committed, what is committed was sent |
//! | A5 | per client, room and epoch: seq strictly +1; an omission only after an announced gap covering exactly it |
//! | A6 | all clients see the same bytes at the same (room, epoch, seq), and they are the log's |
//! | A7 | one owner writes at a time |
//! | A8 | the operations on one room are linearizable |
//! | A9 | what a client sent after it received a place of a room stands above it |
//! | A10 | at most one answer per PUB frame; every code exists; what was surely not applied is not |
//! | A11 | commands of one connection to one room apply in order while every answer is code 0 |
//! | B1 | what no client should send meets its code |
//! | B2 | a code that refuses or ends a subscription, or refuses a `get`, has its cause |
//! | C1 | the close code that a Shield decides on is the one that its client reads |
//! | E1 | an ephemeral event reaches whom it may reach, at most once, and is never stored |
//! | L1 | a ttl ends: never early, and nothing stands past a due end |
//! | L3 | a room's log is bounded by its snapshots' rule, at every step |
//! | M1 | marks of repairs, retries and losses are not reached where nothing is wrong |
//! | S1 | a stored snapshot is the fold of the log up to its place, and so is what a client is given |
//! | T1 | nothing of a tenant reaches another; every subject has its shape |
//! | G2 | the tenant of a stored command is that of its sender's token |
//! | Q1 | every queue stays within its stated bound, and no client that reads is closed with 4102 or 4201 |
//! | Q2 | a stalled reader delays nobody |
//! | R1 | at rest nothing is left over |
//! | D1 | after healing every open command ends, every wanted room is joined and every cursor reaches the head, with bounded reconnects |
//! | D2 | draining loses no acknowledged command and leaves none unanswered |
//!
//! The log itself is part of the trace: `commit` records of the host [`LOG_HOST`], read from the stream when the run
//! is over (see [`crate::logbook`]). An oracle that never looked is a defect, so [`judge`] reports how often each did. One
//! of [`ALWAYS`] must look in every run; each of the others within a sweep of all scenarios.

mod a1;
mod a10;
mod a11;
mod a2;
mod a3;
mod a4;
mod a5;
mod a6;
mod a7;
mod a8;
mod a9;
mod b1;
mod b2;
mod c1;
mod calm;
mod d1;
mod d2;
mod e1;
mod grants;
mod l1;
mod l3;
mod m1;
mod q1;
mod q2;
mod r1;
mod s1;
mod t1;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use voltron_core::trace::{Line, Record};

/// The host under which the harness records what the log holds.
pub const LOG_HOST: &str = "log";
/// The host under which the harness records what a power cut took from the log.
pub const LOST_HOST: &str = "lost";
/// The host under which the harness records what was trimmed from the log.
pub const TRIMMED_HOST: &str = "trimmed";
/// The host under which the harness records entries and snapshots as they are stored, and the rules for them.
pub const STORED_HOST: &str = "stored";

/// The names of all oracles, in the order in which they are judged.
#[rustfmt::skip] // as a table
pub const NAMES: [&str; 26] = [
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "B1", "B2", "C1", "E1", "L1", "L3", "M1", "S1",
    "T1", "G2", "Q1", "Q2", "R1", "D1", "D2",
];

/// Those that have something to look at in every run: a run in which one of them did not shows nothing.
pub const ALWAYS: [&str; 3] = ["A1", "A5", "A6"];

/// Checks of answers below which a run is too small for that.
const FRAMES_MIN: u64 = 1000;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which oracle.
    pub oracle: String,
    /// `n` of the first record that breaks it.
    pub n: u64,
    /// What is wrong, for people.
    pub what: String,
}

/// One promise, checked record by record.
trait Oracle {
    fn name(&self) -> &'static str;
    fn see(&mut self, line: &Line, found: &mut Findings);
    /// The trace is over: what could not be judged before is judged now.
    fn end(&mut self, _found: &mut Findings) {}
}

/// What one oracle found.
#[derive(Debug, Default)]
struct Findings {
    checks: u64,
    /// What could not be decided within the oracle's own bounds.
    unknown: u64,
    violations: Vec<Violation>,
}

impl Findings {
    /// Counts a look; `what` is asked only if it does not hold.
    fn check(&mut self, oracle: &str, n: u64, holds: bool, what: impl FnOnce() -> String) {
        self.checks += 1;
        if !holds {
            self.violations.push(Violation { oracle: oracle.to_owned(), n, what: what() });
        }
    }
}

/// What all oracles say about one trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// How often each oracle looked.
    pub checks: BTreeMap<String, u64>,
    /// How often each oracle came to no end within its bounds; oracles that always do are left out.
    #[serde(default)]
    pub unknown: BTreeMap<String, u64>,
    /// The first violation of each oracle that was not excused, earliest record first.
    pub violations: Vec<Violation>,
    /// Oracles that a scenario excuses and that did find something.
    pub excused: Vec<Violation>,
}

impl Judgement {
    /// True if none objected, and each of [`ALWAYS`] looked.
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.idle().is_empty()
    }

    /// Oracles of [`ALWAYS`] without a single check: a defect of this run.
    pub fn idle(&self) -> Vec<&str> {
        // A plan may draw a handful of commands, none of which is stored for good.
        if (1..FRAMES_MIN).contains(&self.checks.get("A10").copied().unwrap_or_default()) {
            return Vec::new();
        }
        self.never_looked().into_iter().filter(|name| ALWAYS.contains(name)).collect()
    }

    /// Oracles without a single check.
    pub fn never_looked(&self) -> Vec<&str> {
        self.checks.iter().filter(|(_, checks)| **checks == 0).map(|(name, _)| name.as_str()).collect()
    }
}

/// Judges a whole trace. `excused` names oracles whose objections are reported but do not fail the run.
pub fn judge<'a>(lines: impl IntoIterator<Item = &'a Line>, excused: &[String]) -> Judgement {
    let all: [Box<dyn Oracle>; NAMES.len()] = [
        Box::new(a1::Acked::default()),
        Box::new(a2::NoRewind::default()),
        Box::new(a3::Once::default()),
        Box::new(a4::Committed::default()),
        Box::new(a5::Order::default()),
        Box::new(a6::SameBytes::default()),
        Box::new(a7::OneOwner::default()),
        Box::new(a8::Linearizable::default()),
        Box::new(a9::Causal::default()),
        Box::new(a10::OneAnswer::default()),
        Box::new(a11::InOrder::default()),
        Box::new(b1::MeetsItsCode::default()),
        Box::new(b2::Reasons::default()),
        Box::new(c1::CodeArrives::default()),
        Box::new(e1::Ephemeral::default()),
        Box::new(l1::Lifetimes::default()),
        Box::new(l3::Bounded::default()),
        Box::new(m1::NothingToRepair::default()),
        Box::new(s1::Faithful::default()),
        Box::new(t1::Apart::default()),
        Box::new(t1::TokensTenant::default()),
        Box::new(q1::Bounded::default()),
        Box::new(q2::NobodyWaits::default()),
        Box::new(r1::NothingLeft),
        Box::new(d1::Ends::default()),
        Box::new(d2::Leave::default()),
    ];
    let mut oracles = all.map(|oracle| (oracle, Findings::default()));
    for line in lines {
        for (oracle, found) in &mut oracles {
            oracle.see(line, found);
        }
    }
    let mut judgement = Judgement::default();
    for (oracle, found) in &mut oracles {
        oracle.end(found);
        judgement.checks.insert(oracle.name().to_owned(), found.checks);
        if found.unknown > 0 {
            judgement.unknown.insert(oracle.name().to_owned(), found.unknown);
        }
        if let Some(first) = found.violations.iter().min_by_key(|violation| violation.n) {
            let list = if excused.iter().any(|name| name == oracle.name()) {
                &mut judgement.excused
            } else {
                &mut judgement.violations
            };
            list.push(first.clone());
        }
    }
    judgement.violations.sort_by_key(|violation| violation.n);
    judgement
}

/// `commit` records of the log itself, not what a Brain says of its own writes; also of what was trimmed from it meanwhile,
/// which stands below everything that is left.
fn is_log(line: &Line) -> bool {
    matches!(line.host.as_str(), LOG_HOST | TRIMMED_HOST) && matches!(line.record, Record::Commit { .. })
}

fn place((epoch, seq): (u64, u64)) -> String {
    format!("epoch {epoch} seq {seq}")
}
