//! M1: marks that name a repair, a retry or a loss are not reached where nothing is wrong.
//!
//! A promise that is kept by repairing hides the bug behind the repair: events that leave in the wrong order are put in
//! order again, and every other oracle is content. So each of [`FORBIDDEN`] needs a trouble that explains it: one that is
//! open, or has ended less than [`CALM`] before. Only a world that tells what is left at its end (`held`) tells all of its
//! troubles, too: of any other trace nothing is judged. Looks at every such mark, and at every second in which none may be
//! reached.

use voltron_core::trace::{Line, Record};

use super::calm::Calm;
use super::{Findings, Oracle};

/// How long a trouble explains what follows, microseconds: longer than any timeout, retry and reconnect of the product.
const CALM: u64 = 15_000_000;
/// How much later than a rival the first owner may say that it is one, microseconds.
const HEARS_LATER: u64 = 2_000_000;
/// One look a second of calm, microseconds.
const LOOK: u64 = 1_000_000;

/// Marks of two owners of one room. Where a room is opened for the first time they need no trouble: each Shield asks, and
/// any Brain may hear it.
const RIVALS: [&str; 4] = ["brain.commit-resolved-other", "brain.fenced", "brain.take-over", "shield.outcome-unknown"];

/// Every mark that needs a trouble, and whether a trouble of the edge is enough. The owner of a quiet room learns long after
/// a take-over that it is fenced: the take-over is what needs the trouble.
const FORBIDDEN: [(&str, bool); 16] = [
    ("brain.clock-behind", false),
    ("brain.commit-resolved-mine", false),
    ("brain.commit-retried", false),
    ("brain.generation-changed", false),
    ("brain.head-lost", false),
    ("brain.log-full", false),
    ("brain.new-epoch", false),
    ("brain.take-over", false),
    ("brain.void-in-the-way", false),
    ("shield.gap", false),
    ("shield.gap-repaired", false),
    ("shield.outcome-unknown", false),
    ("shield.slow-consumer", true),
    ("shield.unrecoverable", false),
    ("spine.delivery-lost", false),
    ("spine.reconnect", false),
];

#[derive(Default)]
pub(super) struct NothingToRepair {
    calm: Calm,
    looked: u64,
    /// When rooms were opened for the first time, microseconds. A rival may see the entry before its writer hears of it.
    opened: Vec<u64>,
    seconds: u64,
    /// Each mark: record, time, whether it is one of [`RIVALS`], and what is wrong with it.
    marks: Vec<(u64, u64, bool, Option<String>)>,
    /// The trace is a simulated world's.
    told: bool,
}

impl Oracle for NothingToRepair {
    fn name(&self) -> &'static str {
        "M1"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        self.calm.see(line);
        self.told |= matches!(line.record, Record::Held { .. });
        if line.t >= self.looked + LOOK && self.calm.servers(line.t, CALM) {
            self.looked = line.t;
            self.seconds += 1;
        }
        if let Record::Owned { term: 1, .. } = &line.record {
            self.opened.push(line.t);
        }
        let Record::Mark { name } = &line.record else { return };
        let Some((_, edge)) = FORBIDDEN.iter().find(|(forbidden, _)| forbidden == name) else { return };
        let calm = if *edge { self.calm.everywhere(line.t, CALM) } else { self.calm.servers(line.t, CALM) };
        let rivals = RIVALS.contains(&name.as_str());
        let what = || format!("{} reached {name}, and nothing had been wrong for {} s", line.host, CALM / 1_000_000);
        self.marks.push((line.n, line.t, rivals, calm.then(what)));
    }

    fn end(&mut self, found: &mut Findings) {
        if !self.told {
            return;
        }
        (0..self.seconds).for_each(|_| found.check("M1", 0, true, String::new));
        for (n, t, rivals, objection) in &self.marks {
            let excused = *rivals && self.opened.iter().any(|at| at + CALM > *t && *at <= t + HEARS_LATER);
            found.check("M1", *n, excused || objection.is_none(), || objection.clone().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forbidden_mark_is_one_of_ours() {
        for (name, _) in FORBIDDEN {
            assert!(voltron_core::marks::known(name), "{name}");
        }
        assert!(FORBIDDEN.is_sorted_by(|a, b| a.0 < b.0));
    }
}
