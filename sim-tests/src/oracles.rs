//! The oracles: each holds a trace, simulated or from production, to one promise. They know nothing of the simulator.
//!
//! | id | promise |
//! | --- | --- |
//! | A1 | an acknowledged command is in the room's log exactly once, at the acknowledged place |
//! | A5 | per client, room and epoch: seq strictly +1; an omission only after an announced gap covering exactly it |
//! | A6 | all clients see the same bytes at the same (room, epoch, seq), and they are the log's |
//!
//! The log itself is part of the trace: `commit` records of the host [`LOG_HOST`], read from the stream when the run
//! is over (see [`crate::logbook`]). An oracle that never looked is a defect, so [`judge`] reports how often each did,
//! and [`Judgement::held`] is false for one that never did.

mod a1;
mod a5;
mod a6;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use voltron_core::trace::{Line, Record};

/// The host under which the harness records what the log holds.
pub const LOG_HOST: &str = "log";

/// The names of all oracles, in the order in which they are judged.
pub const NAMES: [&str; 3] = ["A1", "A5", "A6"];

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
    /// The first violation of each oracle that was not excused, earliest record first.
    pub violations: Vec<Violation>,
    /// Oracles that a scenario excuses and that did find something.
    pub excused: Vec<Violation>,
}

impl Judgement {
    /// True if every oracle looked and none objected.
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.never_looked().is_empty()
    }

    /// Oracles without a single check.
    pub fn never_looked(&self) -> Vec<&str> {
        self.checks.iter().filter(|(_, checks)| **checks == 0).map(|(name, _)| name.as_str()).collect()
    }
}

/// Judges a whole trace. `excused` names oracles whose objections are reported but do not fail the run.
pub fn judge<'a>(lines: impl IntoIterator<Item = &'a Line>, excused: &[String]) -> Judgement {
    let mut oracles: [(Box<dyn Oracle>, Findings); 3] = [
        (Box::new(a1::Acked::default()), Findings::default()),
        (Box::new(a5::Order::default()), Findings::default()),
        (Box::new(a6::SameBytes::default()), Findings::default()),
    ];
    for line in lines {
        for (oracle, found) in &mut oracles {
            oracle.see(line, found);
        }
    }
    let mut judgement = Judgement::default();
    for (oracle, found) in &mut oracles {
        oracle.end(found);
        judgement.checks.insert(oracle.name().to_owned(), found.checks);
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

/// `commit` records of the log itself, not what a Brain says of its own writes.
fn is_log(line: &Line) -> bool {
    line.host == LOG_HOST && matches!(line.record, Record::Commit { .. })
}
