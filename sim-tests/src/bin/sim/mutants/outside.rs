//! Bugs that no run's oracle finds: those that break determinism, and those that a test is meant to find.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use voltron_core::mutants::{Planted, VARIABLE};

use super::table::Row;

/// Two processes of one seed must differ with the bug, and agree without.
pub(super) async fn meta(planted: &Planted, row: &mut Row) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let differs = |mutant: Option<&'static str>| {
        let mut command = Command::new(&own);
        command.args(["meta", "smoke"]).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(mutant) = mutant {
            command.args(["--mutant", mutant]);
        }
        async move {
            let output = command.output().await.map_err(|error| format!("cannot run meta: {error}"))?;
            match output.status.code() {
                Some(0) => Ok(false),
                Some(1) => Ok(true),
                _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            }
        }
    };
    let found = differs(Some(planted.name)).await?;
    row.after.push(found.then_some(1));
    row.found_by = found.then(|| "X1".to_owned());
    row.false_alarms += u64::from(differs(None).await?);
    row.runs += 1;
    Ok(())
}

/// The test must fail with the bug, and pass without.
pub(super) async fn test(
    planted: &Planted,
    target: &str,
    name: &str,
    quick: bool,
    row: &mut Row,
) -> Result<(), String> {
    let found = !passes(target, name, Some(planted.name)).await?;
    row.after.push(found.then_some(1));
    row.found_by = found.then(|| "test".to_owned());
    row.runs += 1;
    if !quick {
        row.false_alarms += u64::from(!passes(target, name, None).await?);
    }
    Ok(())
}

async fn passes(target: &str, name: &str, mutant: Option<&str>) -> Result<bool, String> {
    let mut command = Command::new("cargo");
    command.args([
        "test",
        "--quiet",
        "--workspace",
        "--locked",
        "--features",
        "voltron-core/mutants",
        "--no-fail-fast",
    ]);
    match target {
        "lib" => command.arg("--lib"),
        file => command.args(["--test", file]),
    };
    command.args(["--", "--exact", name]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.stdin(Stdio::null()).kill_on_drop(true).env_remove(VARIABLE);
    if let Some(mutant) = mutant {
        command.env(VARIABLE, mutant);
    }
    let output = command.output().await.map_err(|error| format!("cannot run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ran: u64 = text.lines().filter_map(ran).sum();
    if ran != 1 {
        let why = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = why.lines().rev().take(5).collect();
        return Err(format!("{ran} tests are called {name} in {target}, not 1: {}", tail.join(" / ")));
    }
    Ok(output.status.success())
}

/// Of `running 1 test`.
fn ran(line: &str) -> Option<u64> {
    line.strip_prefix("running ")?.split_once(" test")?.0.parse().ok()
}
