//! Each oracle rejects its hand-written bad traces, at the right record, and accepts the good one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use sim_tests::oracles::{self, Judgement};
use sim_tests::trace;

fn judge(name: &str) -> Judgement {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces").join(name);
    oracles::judge(&trace::read(&path).unwrap(), &[])
}

#[track_caller]
fn rejected(name: &str, oracle: &str, n: u64, says: &str) {
    let judgement = judge(name);
    assert!(!judgement.held(), "{name} was accepted");
    let first = &judgement.violations[0];
    assert_eq!((first.oracle.as_str(), first.n), (oracle, n), "{name}: {first:?}");
    assert!(first.what.contains(says), "{name}: {}", first.what);
    assert_eq!(judgement.violations.len(), 1, "{name}: only {oracle} may object: {:?}", judgement.violations);
}

#[test]
fn the_good_trace_is_accepted_and_every_oracle_looked() {
    let judgement = judge("good.jsonl");
    assert!(judgement.held(), "{judgement:?}");
    assert_eq!(
        judgement.checks.into_iter().collect::<Vec<_>>(),
        [("A1".into(), 2), ("A5".into(), 6), ("A6".into(), 5)]
    );
}

#[test]
fn a1_rejects_an_acked_command_that_the_log_lost() {
    rejected("bad-a1-lost.jsonl", "A1", 9, "the log does not hold it");
}

#[test]
fn a1_rejects_a_command_stored_twice() {
    rejected("bad-a1-twice.jsonl", "A1", 9, "2 times");
}

#[test]
fn a1_rejects_another_place() {
    rejected("bad-a1-place.jsonl", "A1", 6, "holds it at t1/room-1 epoch 7 seq 1");
}

#[test]
fn a1_tells_users_apart() {
    rejected("bad-a1-other-user.jsonl", "A1", 6, "the log does not hold it");
}

#[test]
fn a5_rejects_an_omission() {
    rejected("bad-a5-skipped.jsonl", "A5", 11, "seq 2 was next");
}

#[test]
fn a5_rejects_a_replay_that_begins_elsewhere_than_announced() {
    rejected("bad-a5-repeated.jsonl", "A5", 14, "seq 3 was next");
}

#[test]
fn a5_rejects_an_announced_gap_that_does_not_cover_the_omission() {
    rejected("bad-a5-gap-too-small.jsonl", "A5", 16, "seq 4 was next");
}

#[test]
fn a5_rejects_delivery_without_a_subscription() {
    rejected("bad-a5-no-subscription.jsonl", "A5", 14, "without a subscription");
}

#[test]
fn a6_rejects_two_clients_with_different_bytes() {
    rejected("bad-a6-client.jsonl", "A6", 14, "client-2 has other bytes than client-1");
}

#[test]
fn a6_rejects_bytes_that_are_not_the_logs() {
    rejected("bad-a6-log.jsonl", "A6", 18, "the log has other bytes");
}

#[test]
fn an_oracle_that_never_looked_fails_the_trace() {
    let judgement = oracles::judge(&[], &[]);
    assert!(!judgement.held());
    assert_eq!(judgement.never_looked(), ["A1", "A5", "A6"]);
}

#[test]
fn an_excused_oracle_reports_but_does_not_fail() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/bad-a6-log.jsonl");
    let judgement = oracles::judge(&trace::read(&path).unwrap(), &["A6".into()]);
    assert!(judgement.held());
    assert_eq!(judgement.excused.len(), 1);
}
