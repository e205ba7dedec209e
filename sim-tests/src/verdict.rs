//! What came of one run, as `cargo sim --json` prints it (CONTRACT §9), and the text for people.

use std::collections::BTreeMap;

use arq::client::Repeat;
use serde::{Deserialize, Serialize};
use voltron_core::trace::{Line, Record};

use crate::oracles::{Judgement, LOG_HOST};
use crate::twin::Lists;

/// One seed's outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// The scenario's name or path, as `replay` takes it.
    pub scenario: String,
    /// True if every oracle looked and none objected.
    pub ok: bool,
    /// The first oracle that objected, or `run` if the run itself failed.
    pub oracle: Option<String>,
    /// `n` of the first violated record.
    pub n: Option<u64>,
    /// What is wrong, for people.
    pub what: Option<String>,
    /// Chained hash of the trace, 16 hex digits; empty if the run failed before its end.
    pub hash: String,
    /// Records in the trace.
    pub records: u64,
    /// How long the run was inside.
    pub virtual_s: f64,
    /// How long it took; this and the next are the only figures that differ from run to run.
    pub wall_ms: u64,
    /// How long its process had a core, until the verdict; 0: nobody asked.
    pub cpu_us: u64,
    /// The command that runs it again.
    pub replay: String,
    /// How often each oracle looked.
    pub checks: BTreeMap<String, u64>,
    /// What an oracle could not decide within its own bounds.
    #[serde(default)]
    pub unknown: BTreeMap<String, u64>,
    /// How often each mark was reached.
    pub marks: BTreeMap<String, u64>,
    /// Commands sent, acknowledged with code 0, and events in the log.
    pub counts: Counts,
    /// What the others saw, in a run that is compared with its twin.
    #[serde(default, skip_serializing_if = "Lists::is_empty")]
    pub lists: Lists,
    /// What a scenario excuses and an oracle found all the same.
    pub excused: Vec<String>,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct commands that left a client.
    pub sent: u64,
    /// Distinct commands acknowledged with code 0.
    pub acked: u64,
    /// Distinct commands refused for good.
    pub refused: u64,
    /// Distinct commands without a final answer.
    pub unknown: u64,
    /// Events in the logs.
    pub in_log: u64,
}

impl Counts {
    /// Of a whole trace.
    pub fn of(lines: &[Line]) -> Self {
        let mut commands: BTreeMap<(&str, &str), Fate> = BTreeMap::new();
        let mut in_log = 0;
        for line in lines {
            match &line.record {
                Record::Send { c, m, .. } => drop(commands.entry((c, m)).or_insert(Fate::Unknown)),
                Record::Ack { c, m, code, .. } => {
                    let Some(fate) = commands.get_mut(&(c.as_str(), m.as_str())) else { continue };
                    if *code == 0 {
                        *fate = Fate::Acked;
                    } else if *fate == Fate::Unknown && !Repeat::allows(*code) {
                        *fate = Fate::Refused;
                    }
                }
                Record::Commit { .. } if line.host == LOG_HOST => in_log += 1,
                _ => {}
            }
        }
        let count = |fate: Fate| commands.values().filter(|one| **one == fate).count() as u64;
        Self {
            sent: commands.len() as u64,
            acked: count(Fate::Acked),
            refused: count(Fate::Refused),
            unknown: count(Fate::Unknown),
            in_log,
        }
    }
}

/// What a client knows of a command in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Acked,
    Refused,
}

impl Verdict {
    /// Takes over what the oracles say.
    pub fn judged(&mut self, judgement: &Judgement) {
        self.checks.clone_from(&judgement.checks);
        self.unknown.clone_from(&judgement.unknown);
        self.ok = judgement.held();
        self.excused =
            judgement.excused.iter().map(|violation| format!("{}: {}", violation.oracle, violation.what)).collect();
        if let Some(first) = judgement.violations.first() {
            self.oracle = Some(first.oracle.clone());
            self.n = Some(first.n);
            self.what = Some(first.what.clone());
        } else if let Some(idle) = judgement.idle().first() {
            self.oracle = Some((*idle).to_owned());
            self.what = Some("never looked: the run shows nothing that it could check".to_owned());
        }
    }

    /// A run that did not come to its end.
    pub fn broken(seed: u64, scenario: &str, what: String) -> Self {
        let oracle = Some("run".to_owned());
        Self { seed, scenario: scenario.to_owned(), oracle, what: Some(what), ..Self::default() }
    }

    /// One line for people; more if it failed.
    pub fn text(&self, commit: &str) -> String {
        let Counts { sent, acked, unknown, in_log, .. } = self.counts;
        let mut text = format!(
            "{} {} seed {}  hash {}  {} records, {:.0} virtual s in {} ms, sent {sent} acked {acked} unknown {unknown} in log {in_log}",
            if self.ok { "ok    " } else { "FAILED" },
            self.scenario,
            self.seed,
            if self.hash.is_empty() { "-" } else { &self.hash },
            self.records,
            self.virtual_s,
            self.wall_ms,
        );
        for excused in &self.excused {
            text.push_str(&format!("\n       excused {excused}"));
        }
        if !self.ok {
            let oracle = self.oracle.as_deref().unwrap_or("-");
            let place = self.n.map_or_else(String::new, |n| format!(" at record {n}"));
            let what = self.what.as_deref().unwrap_or("-");
            text.push_str(&format!("\n       commit {commit}, oracle {oracle}{place}: {what}\n       {}", self.replay));
        }
        text
    }
}
