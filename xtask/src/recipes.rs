//! The recipes: `test`, `test --quick`, `ci`. All use one set of features, so that nothing is compiled twice.

use std::process::Command;
use std::time::Duration;

use crate::elixir;
use crate::run::{Done, Stages, cargo_with, output, program, root, run, works};
use crate::setup::{local, setup};
use crate::sim::{self, FEATURES, binary};
use crate::tidy::tidy;

/// Over this a recipe says so loudly.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How many seeds CI runs beside that of the commit.
const SEEDS: u64 = 31;

/// How many seeds of each scenario CI runs under madsim, beside that of the commit.
const MADSIM_SEEDS: u64 = 3;

/// The bug that only madsim sees, the scenario that shows it, and the oracle that it breaks.
const RACE: (&str, &str, &str) = ("command-in-own-task", "burst", "A11");

/// The variable from which the lockstep test takes the commit's seed (`sim-tests/tests/lockstep.rs`).
const LOCKSTEP_SEED: &str = "ARQON_LOCKSTEP_SEED";

/// Seconds of fuzzing of each target in CI.
const FUZZ_S: u64 = 20;

/// Everything that must hold before a change lands.
pub(crate) fn ci() -> Done {
    let mut stages = Stages::new();
    stages.stage("setup", setup)?;
    stages.stage("fmt", fmt)?;
    stages.stage("tidy", tidy)?;
    tests(&mut stages)?;
    stages.stage("clippy", clippy)?;
    stages.stage("dialyzer", elixir::dialyzer)?;
    stages.stage("fuzz", || fuzz(FUZZ_S))?;
    stages.stage("docs", docs)?;
    stages.finish(LIMIT);
    Ok(())
}

/// Every test and simulation of CI, without the checks of form.
pub(crate) fn test() -> Done {
    let mut stages = Stages::new();
    stages.stage("setup", setup)?;
    stages.stage("tidy", tidy)?;
    tests(&mut stages)?;
    stages.finish(LIMIT);
    Ok(())
}

fn tests(stages: &mut Stages) -> Done {
    stages.stage("build", || run(cargo_with(["build", "--all-targets"]).args(FEATURES)))?;
    stages.stage("Brain", elixir::test)?;
    // First of all simulations: a run that cannot be repeated proves nothing.
    stages.stage("sim meta", || simulate(&["meta"]))?;
    // With what holds the two Brains to each other: lockstep, and the tests on real processes (sim-tests/tests).
    stages
        .stage("tests", || run(cargo_with(["test"]).args(FEATURES).env(LOCKSTEP_SEED, commit_seed()?.to_string())))?;
    stages.stage("seeds", || seeds(SEEDS))?;
    // Lockstep once more, in whole worlds: the Elixir cores decide, and each of their steps is compared.
    stages.stage("seeds, Elixir cores", || {
        simulate(&["run", "smoke", "split", "--seeds", "0..4", "--brain", "elixir"])
    })?;
    stages.stage("madsim smoke", madsim)?;
    // After it, for one of them only madsim finds. That each test and oracle can fail is tested here.
    stages.stage("planted bugs", || simulate(&["mutants", "--quick"]))
}

/// The inner loop: no real processes, a few seeds.
pub(crate) fn quick() -> Done {
    let mut stages = Stages::new();
    stages.stage("tidy", tidy)?;
    stages.stage("tests", || run(cargo_with(["test", "--lib", "--bins"]).args(FEATURES)))?;
    stages.stage("Brain's core", elixir::test_core)?;
    stages.stage("sim meta", || simulate(&["meta"]))?;
    stages.stage("seeds", || seeds(4))?;
    stages.finish(Duration::from_secs(3 * 60));
    Ok(())
}

fn fmt() -> Done {
    run(&mut cargo_with(["fmt", "--all", "--check"]))?;
    elixir::formatted()
}

fn clippy() -> Done {
    run(cargo_with(["clippy", "--all-targets"]).args(FEATURES).args(["--", "-D", "warnings"]))
}

/// The simulator's other engine, which shuffles the tasks of a host: every scenario, each run twice the same, and the bug
/// that is planted for it alone.
fn madsim() -> Done {
    run(&mut sim::madsim()?)?;
    simulate(&["meta", "--engine", "madsim"])?;
    simulate(&["run", "--engine", "madsim", "--seeds", &range(MADSIM_SEEDS)?])?;
    race()
}

/// A race between two tasks of one host: madsim shows it, by the oracle that it belongs to; the other engines, which run
/// tasks in the order in which they became ready, never do.
fn race() -> Done {
    let (bug, scenario, oracle) = RACE;
    for engine in ["leap", "turmoil"] {
        simulate(&["run", scenario, "--mutant", bug, "--engine", engine, "--seeds", "0..200"])?;
    }
    let mut sweep = program(binary()?);
    sweep.args(["run", scenario, "--mutant", bug, "--engine", "madsim", "--seeds", "0..20", "--json"]);
    let swept = sweep.output().map_err(|error| format!("the simulator cannot be run: {error}"))?;
    let mut found = 0;
    for line in String::from_utf8_lossy(&swept.stdout).lines() {
        let verdict: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        if verdict["ok"] == false {
            if verdict["oracle"] != oracle {
                return Err(format!("{bug} was found by another oracle than {oracle}: {line}"));
            }
            found += 1;
        }
    }
    println!("{bug}: leap and turmoil show it in 0 of 200 seeds, madsim in {found} of 20, by {oracle}");
    if found == 0 { Err(format!("madsim did not find {bug} in 20 seeds of {scenario}")) } else { Ok(()) }
}

fn docs() -> Done {
    run(cargo_with(["doc", "--no-deps"]).args(FEATURES).env("RUSTDOCFLAGS", "-D warnings"))
}

fn simulate(args: &[&str]) -> Done {
    run(program(binary()?).args(args))
}

fn seeds(more: u64) -> Done {
    simulate(&["run", "--seeds", &range(more)?])
}

/// The seed that the commit names, and the `more` after it: every commit looks where no commit looked before.
fn range(more: u64) -> Result<String, String> {
    let first = commit_seed()?;
    Ok(format!("{first}..{}", first + 1 + more))
}

/// The seed that the commit names.
fn commit_seed() -> Result<u64, String> {
    seed_of(&output(program("git").args(["rev-parse", "HEAD"]))?)
}

/// The first 12 hex digits: as much as JSON's numbers hold everywhere.
fn seed_of(commit: &str) -> Result<u64, String> {
    let digits = commit.get(..12).ok_or_else(|| format!("{commit:?} is no commit"))?;
    u64::from_str_radix(digits, 16).map_err(|_| format!("{commit:?} is no commit"))
}

/// Every fuzz target for some seconds, from its committed corpus. cargo-fuzz needs a nightly compiler.
pub(crate) fn fuzz(seconds: u64) -> Done {
    if !root().join("fuzz/Cargo.toml").is_file() {
        println!("no fuzz targets yet");
        return Ok(());
    }
    if !works("rustup", &["run", "nightly", "rustc", "--version"]) {
        return Err("fuzzing needs a nightly compiler: `rustup toolchain install nightly`".into());
    }
    for target in output(&mut cargo_fuzz("list"))?.lines() {
        // What it finds on the way goes below target/, so that the committed seeds change only on purpose.
        let found = root().join("fuzz/target/corpus").join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        run(cargo_fuzz("run").arg(target).arg(&found).arg(root().join("fuzz/seeds").join(target)).args([
            "--",
            "-verbosity=0",
            "-print_final_stats=1",
            &format!("-max_total_time={seconds}"),
        ]))?;
    }
    Ok(())
}

fn cargo_fuzz(command: &str) -> Command {
    let mut fuzz = program(local().join("bin/cargo-fuzz"));
    fuzz.args([command, "--fuzz-dir", "fuzz"]).env("RUSTUP_TOOLCHAIN", "nightly");
    // Sanitised code is a compile world of its own, in a folder of its own.
    fuzz.env_remove("CARGO_TARGET_DIR");
    fuzz
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_comes_from_the_commit() {
        assert_eq!(seed_of("00000000000fffffffffffffffffffffffffffff"), Ok(0xf));
        assert_eq!(seed_of("ffffffffffff0000000000000000000000000000"), Ok((1 << 48) - 1));
        assert!(seed_of("short").is_err() && seed_of("zzzzzzzzzzzzzz").is_err());
    }
}
