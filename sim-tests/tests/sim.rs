//! `sim` as a person or CI uses it: exit statuses, what it prints, a planted bug found and shrunk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use sim_tests::verdict::Verdict;

fn sim(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).current_dir(root).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn verdicts(output: &Output) -> Vec<Verdict> {
    stdout(output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_replay_is_the_run_and_its_trace_is_judged_alike() {
    let run = sim(&["run", "smoke", "--seed", "3", "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}{}", stdout(&run), stderr(&run));
    let ran = verdicts(&run).remove(0);
    assert!(ran.ok && ran.records >= 2_000, "{ran:?}");
    assert_eq!(ran.replay, "cargo sim replay smoke --seed 3");

    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replay.jsonl");
    let path = file.to_str().unwrap();
    let replay = sim(&["replay", "smoke", "--seed", "3", "--trace", path, "--json"]);
    let replayed = verdicts(&replay).remove(0);
    assert_eq!((replayed.hash, replayed.records), (ran.hash, ran.records));
    let check = sim(&["check", path]);
    assert_eq!(check.status.code(), Some(0), "{}", stdout(&check));
}

#[test]
fn a_written_plan_is_the_same_run() {
    let explained = sim(&["explain", "smoke", "--seed", "5"]);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plan.toml");
    std::fs::write(&file, explained.stdout).unwrap();
    let hash = |args: &[&str]| verdicts(&sim(args)).remove(0).hash;
    let of_plan = hash(&["replay", file.to_str().unwrap(), "--json"]);
    assert_eq!(of_plan, hash(&["replay", "smoke", "--seed", "5", "--json"]));
}

#[test]
fn bad_use_is_2_and_says_what_to_do() {
    for (args, says) in [
        (&["run", "nosuch"][..], "nosuch.toml"),
        (&["run", "smoke", "--seeds", "5..5"], "no range of seeds"),
        (&["replay", "smoke", "--mutant", "nosuch"], "no planted bug is called nosuch: there are ack-before-append"),
        (&["check", "nosuch.jsonl"], "nosuch.jsonl"),
    ] {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_bad_trace_is_1() {
    let output = sim(&["check", "sim-tests/tests/traces/timeline.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("FAILED A5 at record 14: client-2 got t1/room-1"), "{}", stdout(&output));
}

const PLANTED: &str = "planted bugs are compiled in by `cargo xtask test` (`--features voltron-core/mutants`)";

/// A find of `cargo sim mutants`, as CI runs it over all of them.
#[test]
fn a_planted_bug_is_found_by_its_oracle_and_told_as_json() {
    let output = sim(&["mutants", "--quick", "--only", "duplicate-applied", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}: {PLANTED}", stdout(&output), stderr(&output));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["mutant"], &lines[0]["found"]), (&"duplicate-applied".into(), &true.into()));
    assert!(lines[0]["oracle"] == "A1" || lines[0]["oracle"] == "A3", "{}", lines[0]);
    assert!(lines[0]["median"].as_u64().is_some() && lines[0]["false_alarms"] == 0, "{}", lines[0]);
    assert_eq!((&lines[1]["summary"], &lines[1]["ok"]), (&true.into(), &true.into()));
}

/// The file fails by itself, in a fresh process, for the same oracle; and only with the bug.
#[test]
fn a_failure_is_shrunk_to_a_file_that_fails_alike() {
    let bug = ["--mutant", "duplicate-applied"];
    let ran = sim(&[&["run", "smoke", "--seeds", "0..8", "--json"], &bug[..]].concat());
    let whole = verdicts(&ran).into_iter().find(|verdict| !verdict.ok).unwrap_or_else(|| panic!("{PLANTED}"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrunk.toml");
    let (file, seed) = (file.to_str().unwrap(), whole.seed.to_string());
    let shrunk =
        sim(&[&["shrink", "smoke", "--seed", &seed, "--limit", "30s", "--out", file, "--json"], &bug[..]].concat());
    assert_eq!(shrunk.status.code(), Some(0), "{}{}", stdout(&shrunk), stderr(&shrunk));
    let told: Value = serde_json::from_str(stdout(&shrunk).lines().last().unwrap()).unwrap();
    let size = |of: &str| told[of]["operations"].as_u64().unwrap();
    assert!(size("to") < size("from") && told["to"]["faults"].as_u64() <= told["from"]["faults"].as_u64(), "{told}");
    assert_eq!(told["without_bug_ok"], true);

    let again = sim(&[&["replay", file, "--json"], &bug[..]].concat());
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(verdicts(&again).remove(0).oracle, whole.oracle);
    assert_eq!(sim(&["replay", file]).status.code(), Some(0), "without the bug it holds");
    let nothing = sim(&["shrink", file]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("there is nothing to shrink"), "{}", stderr(&nothing));
}

/// The strongest form of "the Elixir Brain does what the model does": whole worlds in which its cores decide everything
/// have the same trace, byte for byte.
#[test]
fn a_world_with_the_elixir_cores_has_the_trace_of_the_model() {
    let run = |more: &[&str]| {
        let output = sim(&[&["run", "smoke", "split", "--seeds", "0..3", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        let mut all = verdicts(&output);
        all.sort_by_key(|verdict| (verdict.scenario.clone(), verdict.seed));
        all
    };
    let (model, elixir) = (run(&[]), run(&["--brain", "elixir"]));
    assert_eq!((model.len(), elixir.len()), (6, 6));
    for (model, elixir) in model.iter().zip(&elixir) {
        assert_eq!((&model.hash, model.records), (&elixir.hash, elixir.records), "{}", elixir.replay);
        assert!(elixir.replay.ends_with(" --brain elixir") && !model.checks.contains_key("X3"), "{}", elixir.replay);
        assert!(elixir.checks.get("X3").is_some_and(|compared| *compared > 1000), "{:?}", elixir.checks);
    }
}

/// The planted bug is in the model alone, and the world obeys the Elixir cores: only the comparison can see it.
#[test]
fn a_model_that_differs_from_the_elixir_cores_fails_the_run() {
    let args = ["replay", "smoke", "--seed", "1", "--brain", "elixir", "--mutant", "duplicate-applied"];
    let output = sim(&args);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    for part in ["oracle X3", "- model, + driven", &format!("cargo sim {}", args.join(" "))] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}
