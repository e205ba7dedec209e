//! Where scenarios lie and what commit this is.

use std::path::{Path, PathBuf};
use std::process::Command;

use sim_tests::scenario::{Scenario, ScenarioError};

/// The folder of scenario files: below the current directory, else in the repository that this was built from.
fn folder() -> PathBuf {
    let here = PathBuf::from("scenarios");
    if here.is_dir() { here } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios") }
}

/// A scenario by its name or path.
pub(crate) fn find(name: &str) -> PathBuf {
    let direct = PathBuf::from(name);
    if direct.extension().is_some() || direct.is_file() { direct } else { folder().join(format!("{name}.toml")) }
}

/// Loads a scenario by its name or path.
pub(crate) fn load(name: &str) -> Result<Scenario, String> {
    let path = find(name);
    Scenario::load(&path).map_err(|error| match error {
        ScenarioError::Io { .. } => format!("{error}; scenarios are {}", all().unwrap_or_default().join(", ")),
        other => format!("{}: {other}", path.display()),
    })
}

/// Below the scenarios: the smallest plans of failures of our own, kept so that none comes back.
const FOUND: &str = "found";

/// What a shrunk failure of a planted bug is called: it shows nothing that is wrong with our code, so it stays out of
/// `sim run` and of the repository.
const PLANTED: &str = "planted-";

/// Where a shrunk plan goes.
pub(crate) fn found(name: &str, planted: bool) -> PathBuf {
    folder().join(FOUND).join(format!("{}{name}.toml", if planted { PLANTED } else { "" }))
}

/// The names of all scenarios, sorted; what was found, last.
pub(crate) fn all() -> Result<Vec<String>, String> {
    let mut names = stems(&folder())?;
    let found = folder().join(FOUND);
    if found.is_dir() {
        let kept = stems(&found)?.into_iter().filter(|name| !name.starts_with(PLANTED));
        names.extend(kept.map(|name| format!("{FOUND}/{name}")));
    }
    Ok(names)
}

fn stems(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The given names, or all.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<String>, String> {
    if names.is_empty() { all() } else { Ok(names.to_vec()) }
}

/// The commit that a failure belongs to, with `+` if files were changed since.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(head) if git(&["status", "--porcelain"]).is_some_and(|changed| !changed.is_empty()) => format!("{head}+"),
        Some(head) => head,
        None => "unknown".to_owned(),
    }
}
