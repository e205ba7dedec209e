//! Every planted bug of the core is caught by the laws of the histories, and without a bug they hold. One bug a process:
//! each runs in a child, which is this test again with one ignored test named.

mod support;

use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::history::{Step, history, step};
use voltron_core::mutants::{Mutant, turn_on};

/// Histories without a power cut, drawn alike in every run.
fn play() {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let calm = |steps: Vec<Step>| steps.into_iter().filter(|step| !matches!(step, Step::PowerCut { .. })).collect();
    let outcome = runner.run(&prop::collection::vec(step(), 1..160), |steps| {
        history(calm(steps));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("caught: {error}");
    }
}

fn child(name: &str) -> bool {
    let exe = std::env::current_exe().expect("a test knows its own file");
    let arguments = [&format!("children::{name}"), "--exact", "--ignored"];
    let output = Command::new(exe).args(arguments).env("RUST_BACKTRACE", "0").output().expect("it can be run again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "{text}");
    output.status.success()
}

#[test]
fn every_planted_bug_is_caught() {
    for name in ["ack_before_append", "fence_conflict_is_success", "absence_is_failure", "duplicate_applied"] {
        assert!(!child(name), "{name} was not caught");
    }
}

#[test]
fn without_a_bug_nothing_is_caught() {
    assert!(child("none"));
}

mod children {
    use super::*;

    #[test]
    #[ignore = "run by its parent, with a bug planted"]
    fn ack_before_append() {
        turn_on(Mutant::AckBeforeAppend);
        play();
    }

    #[test]
    #[ignore = "run by its parent, with a bug planted"]
    fn fence_conflict_is_success() {
        turn_on(Mutant::FenceConflictIsSuccess);
        play();
    }

    #[test]
    #[ignore = "run by its parent, with a bug planted"]
    fn absence_is_failure() {
        turn_on(Mutant::AbsenceIsFailure);
        play();
    }

    #[test]
    #[ignore = "run by its parent, with a bug planted"]
    fn duplicate_applied() {
        turn_on(Mutant::DuplicateApplied);
        play();
    }

    #[test]
    #[ignore = "run by its parent: the control"]
    fn none() {
        play();
    }
}
