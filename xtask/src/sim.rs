//! `cargo sim`: builds the simulator with the features of the whole workspace, as CI's one build does, and becomes it. So
//! `cargo sim` after `cargo xtask test` compiles nothing twice.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::run::{cargo_with, loud, program, target_dir};

/// The features of every build of the workspace: planted bugs are compiled in (the dev profile has debug assertions) and
/// off.
pub(crate) const FEATURES: &[&str] = &["--workspace", "--locked", "--features", "voltron-core/mutants"];

/// Where the build leaves the simulator.
pub(crate) fn binary() -> Result<PathBuf, String> {
    Ok(target_dir()?.join("debug/sim"))
}

/// Builds the simulator's other engine, where madsim owns sockets, time and the order of tasks: the flag changes every
/// crate, so it has a target folder of its own, inside the usual one, where the simulator looks for it. Neither wasmtime
/// nor async-nats is part of that world.
pub(crate) fn madsim() -> Result<Command, String> {
    let mut build = cargo_with(["build", "--quiet", "--package", "sim-tests", "--bin", "sim", "--locked"]);
    build.args(["--features", "voltron-core/mutants"]);
    build.env("RUSTFLAGS", "--cfg madsim --cfg tokio_unstable").env("CARGO_TARGET_DIR", target_dir()?.join("madsim"));
    Ok(build)
}

/// True if these arguments need it: `mutants` calls it for the bugs that only it can see.
fn wants_madsim(args: &[String]) -> bool {
    let word = |at: usize| args.get(at).map(String::as_str);
    (0..args.len()).any(|at| match word(at) {
        Some("--engine") => word(at + 1) == Some("madsim"),
        Some("--engine=madsim") => true,
        Some("mutants") => at == 0,
        _ => false,
    })
}

/// Runs the simulator; its exit code is ours.
pub(crate) fn sim(args: &[String]) -> ExitCode {
    // The example makes cargo resolve features as it does for tests; without it tokio and what stands on it would be
    // built a second time with fewer features.
    let mut build = cargo_with(["build", "--quiet", "--bin", "sim", "--example", "configuration"]);
    let built = build.args(FEATURES).stdin(Stdio::null()).status();
    let path = match (built, binary()) {
        (Ok(status), Ok(path)) if status.success() => path,
        (_, Err(why)) => return refuse(&why),
        _ => return refuse("the simulator does not build"),
    };
    if wants_madsim(args) {
        match madsim().map(|mut build| build.stdin(Stdio::null()).status()) {
            Ok(Ok(status)) if status.success() => {}
            Err(why) => return refuse(&why),
            _ => return refuse("the simulator does not build for madsim"),
        }
    }
    match program(path).args(args).status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2)),
        Err(error) => refuse(&format!("the simulator cannot be run: {error}")),
    }
}

/// 2 is the simulator's own "bad use": 1 would claim that an oracle failed.
fn refuse(why: &str) -> ExitCode {
    eprintln!("{}", loud(&format!("xtask: {why}")));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_world_is_built_only_for_who_asks() {
        let wants = |line: &str| wants_madsim(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(wants("run smoke --engine madsim") && wants("meta --engine=madsim") && wants("mutants"));
        assert!(
            !wants("run madsim") && !wants("run --engine turmoil") && !wants("run mutants") && !wants("meta --engine")
        );
    }
}
