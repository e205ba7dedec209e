//! The Elixir cores held to the model: they agree in a thousand histories that reach the whole table, and each planted
//! difference is found. The driver itself is tried on a second model first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The environment variable by which CI names the commit's own seed.
const SEED: &str = "ARQON_LOCKSTEP_SEED";

fn sim(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_sim")).arg("lockstep").args(args).current_dir(root).output().unwrap()
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {text}", output.status))
}

#[test]
fn the_model_agrees_with_itself_and_a_seed_is_a_history() {
    let runs = [(); 2].map(|()| sim(&["--twin", "--histories", "60", "--seed", "7", "--json"]));
    let [first, second] = runs.each_ref().map(told);
    assert_eq!(runs[0].status.code(), Some(0), "{first}");
    assert_eq!(first["steps"], second["steps"]);
    assert!(first["steps"].as_u64().unwrap() > 1000, "{first}");
}

/// On a difference it prints the smallest history, both states and the command that replays it.
#[test]
fn a_thousand_histories_agree_and_reach_the_whole_table() {
    let output = sim(&["--histories", "1000"]);
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}{words}");
    assert!(text.contains("1000 histories agree"), "{text}");
}

/// Histories that no earlier commit has seen. Too few to be held to the whole table, which a seed may miss by chance.
#[test]
fn the_histories_of_this_commit_agree() {
    let seed = std::env::var(SEED).unwrap_or_else(|_| "1".to_owned());
    let output = sim(&["--histories", "500", "--seed", &seed]);
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}{words}");
    assert!(text.contains("500 histories agree"), "{text}");
}

#[test]
fn every_planted_difference_is_found() {
    let output = sim(&["--planted", "all", "--histories", "3000"]);
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let why = "planted bugs are compiled in by `cargo xtask test` (`--features voltron-core/mutants`)";
    assert_eq!(output.status.code(), Some(0), "{text}{words}\n{why}");
    assert_eq!(text.lines().count(), 11, "{text}");
}

#[test]
fn a_difference_is_told_with_both_sides_and_how_to_see_it_again() {
    let output = sim(&["--planted", "rendezvous-turned-round", "--histories", "500"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["smallest history:", "effects: - model, + driven", "state: the same", "replay: cargo sim lockstep --seed"]
    {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn bad_use_is_2() {
    let output = sim(&["--planted", "nosuch"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there are ack-before-append"));
}
