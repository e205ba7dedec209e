//! `--engine`: which simulator, and so which program, runs a seed. madsim lives in a compile world of its own: this very
//! binary, built with `--cfg madsim` into `target/madsim`, runs single seeds for us.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use sim_tests::verdict::Verdict;

use crate::args::ReplayArgs;

/// What runs the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Time jumps from one thing to do to the next: the fast one
    #[default]
    Leap,
    /// turmoil's hosts and TCP, asked every millisecond: a second opinion on the network
    Turmoil,
    /// Tasks of a host run in an order that the seed draws
    Madsim,
}

/// As the command line wants it; nothing for the default.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leap => Ok(()),
            Self::Turmoil => f.write_str(" --engine turmoil"),
            Self::Madsim => f.write_str(" --engine madsim"),
        }
    }
}

impl Engine {
    /// The program whose `one` runs a seed.
    pub(crate) fn program(self) -> Result<PathBuf, String> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        if self != Self::Madsim {
            return Ok(own);
        }
        let target = own.parent().and_then(Path::parent);
        let other = target.map(|target| target.join("madsim/debug/sim")).filter(|path| path.is_file());
        other.ok_or_else(|| {
            format!(
                "there is no madsim/debug/sim in the target folder of {}: `cargo sim run --engine madsim` builds it",
                own.display()
            )
        })
    }

    /// Replays a seed on an engine that is not this process's. Its log lines go where ours go.
    pub(crate) fn replay(self, args: &ReplayArgs, trace: Option<&Path>) -> Result<Verdict, String> {
        let mut command = Command::new(self.program()?);
        command.args(["one", &args.one.scenario, "--seed", &args.one.seed.to_string()]);
        if let Some(mutant) = &args.mutant {
            command.args(["--mutant", mutant]);
        }
        if let Some(filter) = &args.log {
            command.args(["--log", filter]);
        }
        if let Some(trace) = trace {
            command.arg("--trace").arg(trace);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("cannot run the seed: {error}"))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        match stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
            Some(verdict) => Ok(verdict),
            // It has said on our standard error what was wrong with the arguments.
            None if output.status.code() == Some(2) => Err(format!("{} takes no such run", args.one.scenario)),
            None => Ok(Verdict::broken(args.one.seed, &args.one.scenario, output.status.to_string())),
        }
    }
}
