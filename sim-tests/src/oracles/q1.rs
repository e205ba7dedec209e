//! Q1: every queue stays within its stated bound, and only who does not read is sent away for it. Looks at every `queue`
//! record, and at every close with 4102 or 4201.
//!
//! A client is excused once it was stalled or silent itself; one that read slowly (`trickle`) is excused of 4102 alone: it
//! reads, so it lives. Once anything else went wrong in the world, all are: a burst
//! after an outage can fill the small queues of a scenario. So can what a client sends in one moment when its stall ends:
//! all are excused for [`BURST`] after it.

use std::collections::BTreeSet;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

/// Closed for reading too slowly.
const TOO_SLOW: u16 = 4102;
/// Closed for not answering a ping.
const NO_PONG: u16 = 4201;

/// How long the burst after a stall may be felt, microseconds.
const BURST: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Bounded {
    /// Clients that did not read, or not always.
    slow: BTreeSet<String>,
    /// Clients that read slowly, once.
    narrow: BTreeSet<String>,
    /// Stalls that last, by the fault's id, and until when the burst after the last one that ended may be felt.
    stalls: BTreeSet<String>,
    burst_until: u64,
    /// Something else was wrong.
    troubled: bool,
}

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "Q1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Queue { name, len, cap } => found
                .check("Q1", line.n, len <= cap, || format!("{name} of {} holds {len}, its bound is {cap}", line.host)),
            Record::Fault { id, kind, target } if kind == "stall" || kind == "silence" => {
                self.slow.extend(target.split(", ").map(str::to_owned));
                self.stalls.insert(id.clone());
            }
            Record::Fault { kind, target, .. } if kind == "trickle" => {
                self.narrow.extend(target.split(", ").map(str::to_owned));
            }
            Record::Heal { id } if self.stalls.remove(id) => self.burst_until = line.t + BURST,
            Record::Fault { .. } | Record::Crash { .. } => self.troubled = true,
            Record::Shut { c, code: code @ (TOO_SLOW | NO_PONG), .. } => {
                let narrow = *code == TOO_SLOW && self.narrow.contains(c);
                let excused = self.troubled || self.slow.contains(c) || narrow || line.t <= self.burst_until;
                found.check("Q1", line.n, excused, || format!("{c} was closed with {code}, and it always read"));
            }
            _ => {}
        }
    }
}
