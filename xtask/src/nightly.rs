//! `nightly`: what takes too long for CI. The seeds run in batches, and each leaves one line in a file of results, so
//! that a night that is cut short still counts, and two nights on one commit can be compared.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::recipes::fuzz;
use crate::run::{Clock, Done, Stages, cargo_with, output, program, root, run, target_dir};
use crate::setup::{local, setup};

/// The simulator of desk sweeps, as `cargo xtask bench sim` builds it, too: optimised, its checks on.
const BUILD: [&str; 9] =
    ["build", "--profile", "sim", "--locked", "-p", "sim-tests", "--bin", "sim", "--features=voltron-core/mutants"];

/// Seeds of each scenario in one batch: one line of results.
const BATCH: u64 = 50;

/// Seeds of each scenario: `first..beyond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    first: u64,
    beyond: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match range {
            Some((first, beyond)) if first < beyond => Ok(Self { first, beyond }),
            _ => Err(format!("{text:?} is no range of seeds such as 0..2000")),
        }
    }
}

impl Seeds {
    fn batches(self) -> impl Iterator<Item = Self> {
        let starts = (self.first..self.beyond).step_by(usize::try_from(BATCH).unwrap_or(1));
        starts.map(move |first| Self { first, beyond: self.beyond.min(first + BATCH) })
    }
}

/// Runs everything. `fuzz_s`: seconds of each fuzz target; 0: none.
pub(crate) fn nightly(seeds: Seeds, fuzz_s: u64, results: Option<&Path>) -> Done {
    let mut stages = Stages::new();
    stages.stage("setup", setup)?;
    stages.stage("licences", || {
        // Advisories are not among the checks: their database is not reachable everywhere this runs.
        run(program(local().join("bin/cargo-deny")).args(["--locked", "check", "licenses", "bans", "sources"]))
    })?;
    stages.stage("build", || run(&mut cargo_with(BUILD)))?;
    let results = results.map_or_else(|| local().join("nightly.jsonl"), Path::to_owned);
    stages.stage("seeds", || control(seeds, &results))?;
    if fuzz_s > 0 {
        stages.stage("fuzz", || fuzz(fuzz_s))?;
    }
    stages.finish(Duration::from_secs(10 * 3600));
    Ok(())
}

/// The control arm: no planted bug, so whatever objects is ours. All batches run, whatever one of them shows.
fn control(seeds: Seeds, results: &PathBuf) -> Done {
    let commit = output(program("git").args(["rev-parse", "HEAD"]))?;
    let changed = !output(program("git").args(["status", "--porcelain"]))?.is_empty();
    let commit = if changed { format!("{commit}+") } else { commit };
    let opened = OpenOptions::new().create(true).append(true).open(results);
    let mut file: File = opened.map_err(|error| format!("{}: {error}", results.display()))?;
    let shown = results.strip_prefix(root()).unwrap_or(results).display();
    println!("results go to {shown}");
    let mut failed = 0;
    for batch in seeds.batches() {
        let began = Clock::start();
        let range = format!("{}..{}", batch.first, batch.beyond);
        let mut sim = program(target_dir()?.join("sim/sim"));
        let said = sim.args(["run", "--seeds", &range, "--json"]).output().map_err(|error| format!("sim: {error}"))?;
        let mut line = line(&String::from_utf8_lossy(&said.stdout)).ok_or_else(|| {
            format!("`sim run --seeds {range}` came to no end: {}", String::from_utf8_lossy(&said.stderr))
        })?;
        line["commit"] = json!(commit);
        line["seeds"] = json!(range);
        line["seconds"] = json!(began.elapsed().as_secs());
        writeln!(file, "{line}").map_err(|error| format!("{}: {error}", results.display()))?;
        let failures = line["failures"].as_array().map_or(0, Vec::len);
        failed += failures;
        println!("{range}: {} runs, {failures} failed, hash {}", line["runs"], line["hash"].as_str().unwrap_or("-"));
        for failure in line["failures"].as_array().into_iter().flatten() {
            println!(
                "       {}: {}",
                failure["oracle"].as_str().unwrap_or("-"),
                failure["replay"].as_str().unwrap_or("-")
            );
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} runs failed; they stand in {shown}")) }
}

/// One line of results from what `sim run --json` printed.
fn line(said: &str) -> Option<Value> {
    let all: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (summary, verdicts) = all.split_last()?;
    if summary["summary"] != true {
        return None;
    }
    let mut scenarios: Vec<&str> = verdicts.iter().filter_map(|verdict| verdict["scenario"].as_str()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let bad = verdicts.iter().filter(|verdict| verdict["ok"] != true);
    let failures = bad.map(|verdict| {
        json!({ "scenario": verdict["scenario"], "seed": verdict["seed"], "oracle": verdict["oracle"], "replay": verdict["replay"] })
    });
    Some(json!({
        "scenarios": scenarios, "runs": verdicts.len(), "failures": failures.collect::<Vec<_>>(), "hash": summary["hash"],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_falls_into_batches() {
        let ranges =
            |text: &str| text.parse::<Seeds>().map(|seeds| seeds.batches().map(|b| (b.first, b.beyond)).collect());
        assert_eq!(ranges("10..11"), Ok(vec![(10, 11)]));
        assert_eq!(ranges("0..101"), Ok(vec![(0, 50), (50, 100), (100, 101)]));
        for bad in ["2000", "5..5", "7..3", "a..b"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_batch_is_one_line() {
        let said = concat!(
            "{\"seed\":1,\"scenario\":\"swarm\",\"ok\":true,\"hash\":\"a\"}\n",
            "{\"seed\":1,\"scenario\":\"smoke\",\"ok\":false,\"oracle\":\"A1\",\"replay\":\"cargo sim replay smoke --seed 1\"}\n",
            "{\"summary\":true,\"seeds\":2,\"failed\":1,\"hash\":\"0123\"}\n"
        );
        let line = line(said).unwrap();
        assert_eq!((&line["scenarios"], &line["runs"]), (&json!(["smoke", "swarm"]), &json!(2)));
        assert_eq!(line["failures"][0]["replay"], "cargo sim replay smoke --seed 1");
        assert_eq!(line["hash"], "0123");
        assert!(super::line("{\"seed\":1}\n").is_none(), "it was cut short");
    }
}
