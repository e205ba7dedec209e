//! `cargo sim`: builds the simulator with the features of the whole workspace, as CI's one build does, and becomes it. So
//! `cargo sim` after `cargo xtask test` compiles nothing twice.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use crate::run::{cargo_with, loud, program, target_dir};

/// The features of every build of the workspace: planted bugs are compiled in (the dev profile has debug assertions) and
/// off.
pub(crate) const FEATURES: &[&str] = &["--workspace", "--locked", "--features", "voltron-core/mutants"];

/// Where the build leaves the simulator.
pub(crate) fn binary() -> Result<PathBuf, String> {
    Ok(target_dir()?.join("debug/sim"))
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
