//! The recipes: `test`, `test --quick`, `ci`. All use one set of features, so that nothing is compiled twice.

use std::process::Command;
use std::time::Duration;

use crate::elixir;
use crate::run::{Done, Stages, cargo_with, output, program, root, run, works};
use crate::setup::{local, setup};
use crate::sim::{FEATURES, binary};
use crate::tidy::tidy;

/// Over this a recipe says so loudly.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How many seeds CI runs beside that of the commit.
const SEEDS: u64 = 64;

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
    stages.stage("madsim world", madsim)?;
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
    stages.stage("sim meta", || sim(&["meta"]))?;
    // With what holds the two Brains to each other: lockstep, and the tests on real processes (sim-tests/tests).
    stages.stage("tests", || run(cargo_with(["test"]).args(FEATURES)))?;
    stages.stage("seeds", || seeds(SEEDS))?;
    // Lockstep once more, in whole worlds: the Elixir cores decide, and each of their steps is compared.
    stages.stage("seeds, Elixir cores", || sim(&["run", "smoke", "split", "--seeds", "0..4", "--brain", "elixir"]))
}

/// The inner loop: no real processes, a few seeds.
pub(crate) fn quick() -> Done {
    let mut stages = Stages::new();
    stages.stage("tidy", tidy)?;
    stages.stage("tests", || run(cargo_with(["test", "--lib", "--bins"]).args(FEATURES)))?;
    stages.stage("Brain's core", elixir::test_core)?;
    stages.stage("sim meta", || sim(&["meta"]))?;
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

/// The product crates compile where madsim owns sockets, time and the order of tasks. A target folder of its own:
/// the flag changes every crate.
fn madsim() -> Done {
    run(cargo_with(["check", "--locked", "--lib", "--no-default-features"])
        .args(["-p", "shield", "-p", "brain-shell", "-p", "spine-sim"])
        .env("RUSTFLAGS", "--cfg madsim --cfg tokio_unstable")
        .env("CARGO_TARGET_DIR", root().join("target/madsim")))
}

fn docs() -> Done {
    run(cargo_with(["doc", "--no-deps"]).args(FEATURES).env("RUSTDOCFLAGS", "-D warnings"))
}

fn sim(args: &[&str]) -> Done {
    run(program(binary()?).args(args))
}

/// The seed that the commit names, and the `more` after it: every commit looks where no commit looked before.
fn seeds(more: u64) -> Done {
    let commit = output(program("git").args(["rev-parse", "HEAD"]))?;
    let first = seed_of(&commit)?;
    sim(&["run", "--seeds", &format!("{first}..{}", first + 1 + more)])
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
