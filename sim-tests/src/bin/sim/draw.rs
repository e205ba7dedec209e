//! `--html`: the page of a run, drawn from its trace file.

use std::path::{Path, PathBuf};

use sim_tests::timeline::{self, Run};
use sim_tests::{oracles, trace};

use crate::files;

/// Where a run's trace goes: where the user wants it, or aside for as long as the page needs it.
pub(crate) enum Trace {
    Nowhere,
    Kept(PathBuf),
    Aside(tempfile::NamedTempFile),
}

impl Trace {
    pub(crate) fn kept(wanted: Option<&Path>, drawn: bool) -> Result<Self, String> {
        match wanted {
            Some(path) => Ok(Self::Kept(path.to_owned())),
            None if drawn => tempfile::NamedTempFile::new()
                .map(Self::Aside)
                .map_err(|error| format!("no file for the trace: {error}")),
            None => Ok(Self::Nowhere),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Nowhere => None,
            Self::Kept(path) => Some(path),
            Self::Aside(file) => Some(file.path()),
        }
    }
}

/// Writes the page of the trace at `trace` to `html`.
pub(crate) fn page(html: &Path, trace: &Path, scenario: &str, seed: u64, replay: &str) -> Result<(), String> {
    let lines = trace::read(trace).map_err(|error| format!("{}: {error}", trace.display()))?;
    let judgement = oracles::judge(&lines, &[]);
    let commit = files::commit();
    let run = Run { scenario, seed, commit: &commit, replay, lines: &lines, violations: &judgement.violations };
    std::fs::write(html, timeline::html(&run)).map_err(|error| format!("{}: {error}", html.display()))
}
