//! The checker on random histories: what was made by a sequential run under random overlapping is accepted, and one planted
//! lie is not.

use proptest::prelude::*;

use super::*;

/// One operation of a random sequential run.
#[derive(Clone, Debug)]
struct Step {
    user: usize,
    op: Op,
    early: u64,
    late: u64,
    get: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::sample::select(vec!["k1", "k2", "k3"]).prop_map(str::to_owned);
    let expect = || prop::option::of(0_u64..12);
    let op = prop_oneof![
        2 => Just(Op::Say),
        4 => (key(), "[a-d]", any::<bool>(), expect()).prop_map(|(key, h, ttl, expect)| Op::Set { key, h, ttl, expect }),
        2 => (key(), expect()).prop_map(|(key, expect)| Op::Delete { key, expect }),
        1 => prop::sample::select(vec![Mode::Join, Mode::Write, Mode::All])
            .prop_map(|mode| Op::Lock { mode: Some(mode), ttl: false }),
        1 => any::<bool>().prop_map(|force| Op::Unlock { force }),
    ];
    (0_usize..4, op, 0_u64..40, 0_u64..40, prop::bool::weighted(0.25)).prop_map(|(user, op, early, late, get)| Step {
        user,
        op,
        early,
        late,
        get,
    })
}

/// Runs the steps one after the other, each at its moment, between an asking and an answer that may overlap others'.
fn run(steps: &[Step]) -> Tale {
    let mut state = Room::default();
    let mut tale = tale();
    for (index, step) in steps.iter().enumerate() {
        let moment = 100 + 10 * index as u64;
        let (from, to) = (2 * (moment - step.early), 2 * (moment + step.late) + 1);
        let user = ["m1", "m2", "a", "b"][step.user];
        let (op, outcome) = if step.get {
            (Op::Other, Outcome::Read { at: (E, state.seq), shown: Some(state.reading()) })
        } else {
            (step.op.clone(), state.take(user, &step.op))
        };
        tale = tale.by(user, from, to, op, outcome);
    }
    tale
}

/// The same steps without times to live. A key that ends by itself after all that the history names explains answers that
/// nothing else does: the search must allow for it, while the order knows from the log that there is no such place.
fn lasting(mut steps: Vec<Step>) -> Vec<Step> {
    for step in &mut steps {
        if let Op::Set { ttl, .. } = &mut step.op {
            *ttl = false;
        }
    }
    steps
}

/// A room, told once more for the tests, as plainly as it goes.
#[derive(Default)]
struct Room {
    seq: u64,
    keys: std::collections::BTreeMap<String, (u64, String)>,
    lock: Option<(Mode, String)>,
}

impl Room {
    fn reading(&self) -> Reading {
        Reading { keys: self.keys.clone(), lock: self.lock.clone() }
    }

    fn take(&mut self, user: &str, op: &Op) -> Outcome {
        let moderates = user.starts_with('m');
        let barred = !moderates && self.lock.as_ref().is_some_and(|(mode, _)| *mode != Mode::Join);
        let ver = |room: &Self, key: &String| room.keys.get(key).map_or(0, |(ver, _)| *ver);
        let next = self.seq + 1;
        match op {
            Op::Lock { .. } | Op::Unlock { .. } if !moderates => return refused(DENIED, 0),
            _ if barred => return refused(LOCKED, 0),
            Op::Set { key, expect: Some(expect), .. } | Op::Delete { key, expect: Some(expect) }
                if *expect != ver(self, key) =>
            {
                return refused(CONFLICT, ver(self, key));
            }
            Op::Set { key, h, .. } => drop(self.keys.insert(key.clone(), (next, h.clone()))),
            Op::Delete { key, .. } if self.keys.remove(key).is_none() => return refused(NOT_FOUND, 0),
            Op::Lock { mode: Some(mode), .. } => self.lock = Some((*mode, user.to_owned())),
            Op::Unlock { force } => match &self.lock {
                None => return refused(NOT_FOUND, 0),
                Some((_, by)) if by != user && !force => return refused(DENIED, 0),
                Some(_) => self.lock = None,
            },
            _ => {}
        }
        self.seq = next;
        stored(next)
    }
}

/// Makes one answer a lie that no order explains. False if there is none of that kind.
fn lie(tale: &mut Tale, kind: usize) -> bool {
    for index in (0..tale.0.len()).rev() {
        let next = tale.0.get(index + 1..).unwrap_or_default().iter().position(|later| {
            matches!(later.outcome, Outcome::Stored(_)) && Some(later.invoked) > tale.0[index].responded
        });
        match (&mut tale.0[index].outcome, kind) {
            (Outcome::Read { shown: Some(shown), .. }, 0) => {
                shown.keys.insert("k1".into(), (1_000, "never".into()));
            }
            (Outcome::Refused { code: CONFLICT, ver }, 1) => *ver = 1_000,
            (Outcome::Stored(at), 2) => {
                let (Some(next), at) = (next, *at) else { continue };
                let other = std::mem::replace(&mut tale.0[index + 1 + next].outcome, Outcome::Stored(at));
                tale.0[index].outcome = other;
            }
            (Outcome::Stored(_), 3) => match &mut tale.0[index].call.op {
                Op::Set { expect, .. } | Op::Delete { expect, .. } => *expect = Some(1_000),
                _ => continue,
            },
            _ => continue,
        }
        return true;
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sequential_run_is_accepted_however_it_overlaps(steps in prop::collection::vec(step(), 1..24)) {
        prop_assert!(run(&steps).holds());
    }

    #[test]
    fn one_lie_is_found(steps in prop::collection::vec(step(), 1..24), kind in 0_usize..4) {
        let mut tale = run(&lasting(steps));
        if lie(&mut tale, kind) {
            prop_assert!(!tale.holds());
        }
    }

    /// Answers that never came leave an order to be found, and none that was not there.
    #[test]
    fn lost_answers_change_no_verdict_to_bad(
        steps in prop::collection::vec(step(), 1..16),
        lost in prop::collection::vec(any::<bool>(), 16),
    ) {
        let mut tale = run(&steps);
        for (operation, lost) in tale.0.iter_mut().zip(lost) {
            if lost && matches!(operation.outcome, Outcome::Stored(_)) {
                operation.outcome = Outcome::Open;
                operation.responded = None;
            }
        }
        prop_assert!(searched(&tale).violations.is_empty());
    }

    /// Whatever is changed, both ways of checking say the same.
    #[test]
    fn order_and_search_agree(
        steps in prop::collection::vec(step(), 1..16),
        at in any::<prop::sample::Index>(),
        ver in 0_u64..16,
        code in prop::sample::select(vec![CONFLICT, NOT_FOUND, LOCKED, DENIED]),
        swap in any::<prop::sample::Index>(),
        kind in 0_usize..3,
    ) {
        let mut tale = run(&lasting(steps));
        let index = at.index(tale.0.len());
        match (&mut tale.0[index].outcome, kind) {
            (Outcome::Refused { code: was, ver: told }, _) => (*was, *told) = (code, ver),
            (Outcome::Read { at, .. }, 0) => at.1 = ver.min(at.1 + 2),
            (Outcome::Stored(_), 1) => {
                let other = swap.index(tale.0.len());
                if matches!(tale.0[other].outcome, Outcome::Stored(_)) {
                    let outcome = tale.0[other].outcome.clone();
                    tale.0[other].outcome = std::mem::replace(&mut tale.0[index].outcome, outcome);
                }
            }
            _ => tale.0[index].call.user = "b".into(),
        }
        let tail = tale.0.iter().filter_map(|one| match one.outcome { Outcome::Read { at, .. } => Some(at.1), _ => None }).max();
        let stored = tale.0.iter().filter(|one| matches!(one.outcome, Outcome::Stored(_))).count() as u64;
        prop_assume!(tail.unwrap_or(0) <= stored);
        tale.holds();
    }
}
