//! What holds for each link follows from all open faults together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Stage, Trouble};
use crate::scenario::FaultKind;

/// Two hosts, the lower name first.
type Pair = (String, String);

/// What was last told to the stage, per link; a link that is not here is as usual.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<Pair, State>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    passes: Passes,
    delay: Duration,
}

/// What a link lets through. If faults contradict each other, the worst holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Passes {
    #[default]
    All,
    /// Later.
    Waits,
    /// Nothing from the lower name.
    NotFromFirst,
    /// Nothing from the higher name.
    NotFromSecond,
    Nothing,
}

impl Passes {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, worse) | (worse, Self::All) => worse,
            (Self::Waits, worse) | (worse, Self::Waits) => worse,
            (one, same) if one == same => one,
            _ => Self::Nothing,
        }
    }
}

impl Links {
    /// Brings every link to where the open faults want it.
    pub(super) fn settle<'a>(&mut self, stage: &mut impl Stage, open: impl Iterator<Item = &'a Trouble>) {
        let wanted = wanted(open);
        let pairs: BTreeSet<Pair> = self.0.keys().chain(wanted.keys()).cloned().collect();
        for pair in pairs {
            let before = self.0.get(&pair).copied().unwrap_or_default();
            let now = wanted.get(&pair).copied().unwrap_or_default();
            let (a, b) = (pair.0.as_str(), pair.1.as_str());
            if before.passes != now.passes {
                match before.passes {
                    Passes::All => {}
                    Passes::Waits => stage.release(a, b),
                    _ => stage.repair(a, b),
                }
                match now.passes {
                    Passes::All => {}
                    Passes::Waits => stage.hold(a, b),
                    Passes::NotFromFirst => stage.cut_one_way(a, b),
                    Passes::NotFromSecond => stage.cut_one_way(b, a),
                    Passes::Nothing => stage.cut(a, b),
                }
            }
            if before.delay != now.delay {
                stage.delay(a, b, now.delay);
            }
        }
        self.0 = wanted;
    }
}

fn wanted<'a>(open: impl Iterator<Item = &'a Trouble>) -> BTreeMap<Pair, State> {
    let mut wanted: BTreeMap<Pair, State> = BTreeMap::new();
    for trouble in open {
        for (a, b) in trouble.left.iter().flat_map(|a| trouble.right.iter().map(move |b| (a, b))) {
            let first = a < b;
            let passes = match trouble.kind {
                FaultKind::Hold => Passes::Waits,
                FaultKind::Partition => Passes::Nothing,
                FaultKind::OneWay if first => Passes::NotFromFirst,
                FaultKind::OneWay => Passes::NotFromSecond,
                FaultKind::Delay => Passes::All,
                _ => continue,
            };
            let pair = if first { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
            let state = wanted.entry(pair).or_default();
            state.passes = state.passes.and(passes);
            if trouble.kind == FaultKind::Delay {
                state.delay = state.delay.max(Duration::from_millis(trouble.by_ms.unsigned_abs()));
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(kind: FaultKind, left: &str, right: &str, by_ms: i64) -> Trouble {
        Trouble { kind, left: vec![left.into()], right: vec![right.into()], lasts: None, by_ms }
    }

    #[test]
    fn faults_of_one_link_add_up_and_each_ends_by_itself() {
        let hold = trouble(FaultKind::Hold, "broker", "brain-1", 0);
        let one_way = trouble(FaultKind::OneWay, "brain-1", "broker", 0);
        let back = trouble(FaultKind::OneWay, "broker", "brain-1", 0);
        let slow = trouble(FaultKind::Delay, "brain-1", "broker", 30);
        let slower = trouble(FaultKind::Delay, "broker", "brain-1", 50);
        let pair = || ("brain-1".to_owned(), "broker".to_owned());
        let state = |open: &[&Trouble]| wanted(open.iter().copied()).get(&pair()).copied().unwrap_or_default();
        assert_eq!(state(&[&hold]).passes, Passes::Waits);
        assert_eq!(state(&[&hold, &one_way]).passes, Passes::NotFromFirst);
        assert_eq!(state(&[&hold, &one_way, &back]).passes, Passes::Nothing);
        assert_eq!(state(&[&slow, &slower]), State { passes: Passes::All, delay: Duration::from_millis(50) });
        assert_eq!(state(&[]), State::default());
    }
}
