//! What holds for each link follows from all open faults together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Stage, Trouble};
use crate::plan::WorldPlan;
use crate::scenario::{Aim, FaultKind, One, Target};

/// Two hosts, the lower name first.
type Pair = (String, String);

/// What was last told to the stage, per link; a link that is not here is as usual.
#[derive(Debug)]
pub(super) struct Links {
    told: BTreeMap<Pair, State>,
    /// What the world itself makes of them, whatever is open.
    distant: BTreeMap<Pair, State>,
}

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
    /// Nothing is told yet.
    pub(super) fn new(world: &WorldPlan) -> Self {
        let mut distant = BTreeMap::new();
        if let Some(One(distance)) = world.distance {
            let state = State { delay: distance.0, ..State::default() };
            let brains = world.named(&Target("brain".into()), Aim::Links);
            distant.extend(brains.into_iter().map(|brain| ((brain, "broker".to_owned()), state)));
        }
        Self { told: BTreeMap::new(), distant }
    }

    /// True until the stage knows what the world makes of them.
    pub(super) fn are_new(&self) -> bool {
        self.told.is_empty() && !self.distant.is_empty()
    }

    /// Brings every link to where the open faults want it.
    pub(super) fn settle<'a>(&mut self, stage: &mut impl Stage, open: impl Iterator<Item = &'a Trouble>) {
        let wanted = wanted(self.distant.clone(), open);
        let pairs: BTreeSet<Pair> = self.told.keys().chain(wanted.keys()).cloned().collect();
        for pair in pairs {
            let before = self.told.get(&pair).copied().unwrap_or_default();
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
        self.told = wanted;
    }
}

fn wanted<'a>(mut wanted: BTreeMap<Pair, State>, open: impl Iterator<Item = &'a Trouble>) -> BTreeMap<Pair, State> {
    let distant = wanted.clone();
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
            let state = wanted.entry(pair.clone()).or_default();
            state.passes = state.passes.and(passes);
            if trouble.kind == FaultKind::Delay {
                let usual = distant.get(&pair).copied().unwrap_or_default().delay;
                state.delay = state.delay.max(usual + Duration::from_millis(trouble.by_ms.unsigned_abs()));
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
        let state =
            |open: &[&Trouble]| wanted(BTreeMap::new(), open.iter().copied()).get(&pair()).copied().unwrap_or_default();
        assert_eq!(state(&[&hold]).passes, Passes::Waits);
        assert_eq!(state(&[&hold, &one_way]).passes, Passes::NotFromFirst);
        assert_eq!(state(&[&hold, &one_way, &back]).passes, Passes::Nothing);
        assert_eq!(state(&[&slow, &slower]), State { passes: Passes::All, delay: Duration::from_millis(50) });
        assert_eq!(state(&[]), State::default());
        // A distance stays, and what is slow besides comes on top of it.
        let far = State { delay: Duration::from_millis(100), ..State::default() };
        let at = |open: &[&Trouble]| wanted(BTreeMap::from([(pair(), far)]), open.iter().copied())[&pair()].delay;
        assert_eq!((at(&[]).as_millis(), at(&[&slow, &slower]).as_millis()), (100, 150));
    }
}
