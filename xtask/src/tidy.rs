//! `cargo xtask tidy`: the house rules as code. Every file that git knows is read once; each rule is a function from what
//! was read to what is wrong, and has a test that it bites.

mod arrows;
mod elixir;
mod links;
mod metrics;
mod text;

use std::fs;

use crate::generate;
use crate::run::{Done, cargo_with, output, program, root};

/// A file of the repository.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What a rule found.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// `path:line`, or only a path.
    place: String,
    what: String,
    /// A warning is shown and passes.
    warning: bool,
}

impl Finding {
    pub(crate) fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), warning: false }
    }

    pub(crate) fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), warning: true }
    }
}

/// Checks every rule and prints all findings.
pub(crate) fn tidy() -> Done {
    let files = files()?;
    let metadata = output(&mut cargo_with(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut found: Vec<Finding> = files.iter().flat_map(text::check).collect();
    found.extend(files.iter().flat_map(elixir::check));
    found.extend(arrows::check(&metadata));
    found.extend(links::check(&files));
    found.extend(metrics::check(&files));
    found.extend(generate::stale()?.into_iter().map(|(path, what)| Finding::error(path, what)));
    found.sort();
    for finding in &found {
        let kind = if finding.warning { "warning" } else { "error" };
        println!("{kind}: {}: {}", finding.place, finding.what);
    }
    let errors = found.iter().filter(|finding| !finding.warning).count();
    println!("tidy: {} files, {errors} errors, {} warnings", files.len(), found.len() - errors);
    if errors == 0 { Ok(()) } else { Err(format!("{errors} house rules are broken")) }
}

/// Every file that is, or would be, committed; those that are no text are left out.
fn files() -> Result<Vec<File>, String> {
    let list = output(program("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]))?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    // A file that was deleted but is still in the index cannot be read, and needs no check.
    let read = |path: &str| Some(File { path: path.to_owned(), text: fs::read_to_string(root().join(path)).ok()? });
    Ok(paths.filter_map(read).collect())
}
