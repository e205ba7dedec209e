//! Random histories of one room, and the laws that hold in each. A failure prints its shortest history.

mod support;

use proptest::prelude::*;
use support::history::{Step, history, step};

/// Without the one event that may lose what was acknowledged.
fn calm(mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|step| !matches!(step, Step::PowerCut { .. }));
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_power_cuts_nothing_acked_is_ever_lost_or_doubled(steps in prop::collection::vec(step(), 1..160)) {
        history(calm(steps));
    }

    #[test]
    fn power_cuts_lose_a_tail_and_never_the_order(steps in prop::collection::vec(step(), 1..160)) {
        history(steps);
    }
}
