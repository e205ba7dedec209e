//! Determinism's own test: `sim meta` says yes to a run, and no to each way in which the outside world can leak into one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Exit status and what was said.
fn meta(args: &[&str]) -> (Option<i32>, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).arg("meta").args(args).current_dir(root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn two_processes_tell_the_same_story_and_it_is_a_long_one() {
    let (status, said) = meta(&["smoke"]);
    assert_eq!(status, Some(0), "{said}");
    let records = said.split("over ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(records.is_some_and(|records| records >= 2_000), "of a short story little can be said: {said}");
}

/// The first record that differs is one that the leak must have changed.
#[track_caller]
fn leaks(mutant: &str, first: &[&str]) {
    let (status, said) = meta(&["smoke", "--mutant", mutant]);
    let why = "planted bugs are compiled in by `cargo xtask test` (`--features voltron-core/mutants`)";
    assert_eq!(status, Some(1), "{said}\n{why}");
    assert!(said.starts_with("FAILED smoke seed 1 "), "{said}");
    let kinds = || said.lines().filter_map(|line| line.split("\"k\":\"").nth(1)?.split('"').next()).take(2);
    assert!(kinds().any(|kind| first.contains(&kind)), "{:?}: {said}", kinds().collect::<Vec<_>>());
}

#[test]
fn a_wall_clock_read_is_noticed() {
    leaks("wall-clock-read", &["pub"]);
}

#[test]
fn a_bare_entropy_draw_is_noticed() {
    leaks("bare-entropy", &["open"]);
}

/// Another order of the same sends changes when each of them arrives.
#[test]
fn a_hash_map_in_the_fan_out_is_noticed() {
    leaks("hash-map-order", &["recv", "ack"]);
}
