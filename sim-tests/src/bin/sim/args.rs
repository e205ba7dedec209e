//! The command line of `cargo sim`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use sim_tests::scenario::{Span, Word as _};

use crate::brain::Brain;

use crate::engine::Engine;

/// The deterministic simulator: the whole system from one seed.
#[derive(Debug, Parser)]
#[command(name = "sim", disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run scenarios over seeds, one process each
    Run(RunArgs),
    /// Run one seed here, with its trace
    Replay(ReplayArgs),
    /// Print the fully drawn plan as TOML, nothing left to chance
    Explain(One),
    /// Find the smallest plan that fails as this seed does, and write it as a scenario file
    Shrink(ShrinkArgs),
    /// Look for every planted bug: how many seeds it takes, which oracle objects, and whether all is silent without
    Mutants(MutantsArgs),
    /// Run one seed in two processes with different environment, entropy and date: the traces must be equal
    Meta(MetaArgs),
    /// Measure how fast the simulator is on this machine, and what its time goes into
    Bench(BenchArgs),
    /// Hold a trace to the oracles, simulated or from production
    Check {
        /// One JSON record a line
        trace: PathBuf,
        /// Draw it: one self-contained page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Print the judgement as JSON
        #[arg(long)]
        json: bool,
    },
    /// Random histories on the Elixir cores and the model at once: every effect must be the same
    Lockstep(LockstepArgs),
    /// The model behind the socket of `lockstep`
    #[command(hide = true)]
    Twin {
        /// Where to listen
        socket: PathBuf,
        /// Plant this bug
        #[arg(long)]
        mutant: Option<String>,
    },
    /// One seed, as `run` and `meta` start it
    #[command(hide = true)]
    One(OneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Names or paths of scenario files; none: all of `scenarios/`
    pub(crate) scenarios: Vec<String>,
    /// Which seeds: first..beyond
    #[arg(long, default_value = "0..10", value_name = "A..B")]
    pub(crate) seeds: Seeds,
    /// Only this seed
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Which simulator
    #[arg(long, value_enum, default_value = "leap", value_name = "ENGINE")]
    pub(crate) engine: Engine,
    /// How many processes at once; 0: one a core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// Whose cores the simulated Brains decide by
    #[arg(long, value_enum, default_value_t, value_name = "WHOSE")]
    pub(crate) brain: Brain,
    /// Plant this bug; the runs are expected to fail
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
    /// One JSON object a seed, a summary last
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Name or path of a scenario file, or of a written plan
    pub(crate) scenario: String,
    /// The seed; a written plan has its own
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) one: One,
    /// Which simulator
    #[arg(long, value_enum, default_value = "leap", value_name = "ENGINE")]
    pub(crate) engine: Engine,
    /// Write the trace here, one JSON record a line
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Draw the run: one self-contained page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Whose cores the simulated Brains decide by
    #[arg(long, value_enum, default_value_t, value_name = "WHOSE")]
    pub(crate) brain: Brain,
    /// Plant this bug
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
    /// The twin of the run: without what the scenario's twin table names
    #[arg(long)]
    pub(crate) twin: bool,
    /// Show log lines of the product, e.g. `info` or `shield=debug`
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Print the verdict as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    pub(crate) one: One,
    /// Plant this bug
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
    /// Where the smallest plan goes; left out: `scenarios/found/`, by a name that says what it shows
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// How long to search, on the wall clock
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub(crate) limit: Span,
    /// How many processes at once; 0: one a core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MutantsArgs {
    /// The most seeds of each of three ranges
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) seeds: u64,
    /// Only these bugs
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// One find a bug, by its own scenario if it has one, and no control arm: what CI runs
    #[arg(long)]
    pub(crate) quick: bool,
    /// How many processes at once; 0: one a core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// One JSON object a bug, a summary last
    #[arg(long)]
    pub(crate) json: bool,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| format!("{text:?} is no {}", Span::EXPECTED))
}

#[derive(Debug, Args)]
pub(crate) struct MetaArgs {
    /// Names or paths of scenario files; none: all of `scenarios/`
    pub(crate) scenarios: Vec<String>,
    /// The seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Which simulator
    #[arg(long, value_enum, default_value = "leap", value_name = "ENGINE")]
    pub(crate) engine: Engine,
    /// Plant this bug
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many seeds of the world without faults; of the others twice or half as many
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub(crate) seeds: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    pub(crate) one: One,
    #[arg(long)]
    pub(crate) trace: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) brain: Brain,
    /// Where the cores listen
    #[arg(long)]
    pub(crate) cores: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "leap")]
    pub(crate) engine: Engine,
    #[arg(long)]
    pub(crate) mutant: Option<String>,
    #[arg(long)]
    pub(crate) log: Option<String>,
    #[arg(long)]
    pub(crate) twin: bool,
    /// What the operating system's entropy is drawn from
    #[arg(long, default_value_t = 0)]
    pub(crate) salt: u64,
    /// What the operating system's date begins at, ms since 1970
    #[arg(long, default_value_t = 1_500_000_000_000)]
    pub(crate) date_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct LockstepArgs {
    /// How many histories
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) histories: u64,
    /// The seed of the first; the others count on from it
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Plant this difference, in the model or the cores; `all`: each in turn, and the run fails unless all are found
    #[arg(long, value_name = "NAME")]
    pub(crate) planted: Option<String>,
    /// Drive a second model in place of the Elixir cores
    #[arg(long, conflicts_with = "planted")]
    pub(crate) twin: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `A..B`, B not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) first: u64,
    pub(crate) beyond: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no range of seeds such as 0..50");
        let (first, beyond) = text.split_once("..").ok_or_else(bad)?;
        let (first, beyond) = (first.parse().map_err(|_| bad())?, beyond.parse().map_err(|_| bad())?);
        if first < beyond { Ok(Self { first, beyond }) } else { Err(bad()) }
    }
}
