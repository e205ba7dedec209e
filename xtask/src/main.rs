//! The manual of this repository as commands: what a person runs and what CI runs are the same recipes.

mod bench;
mod elixir;
mod generate;
mod nightly;
#[cfg(test)]
mod ops;
mod recipes;
mod run;
mod setup;
mod sim;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, tests, CI, benchmarks, house rules", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what the tests need, skips what is there: into .local nats-server, foreign WebSocket clients, cargo-fuzz;
    /// from Debian Elixir. Builds the Brain's release.
    Setup,
    /// Runs every test, doc test and simulation that CI runs, after installing what they need.
    Test {
        /// The inner loop: unit tests and a few seeds, no real processes.
        #[arg(long)]
        quick: bool,
    },
    /// Everything that must hold before a change lands.
    Ci,
    /// Measures: prints the tables of docs/benchmarks.md.
    Bench {
        /// Only the measurements whose name contains this.
        filter: Option<String>,
    },
    /// Writes what the Elixir Brain shares with the Rust crates: messages from proto/src/*.proto, codes from proto/errors.toml.
    Generate {
        /// Writes nothing; fails if a committed file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Checks the house rules.
    Tidy,
    /// What takes too long for CI: many seeds, long fuzzing, the dependencies' licences.
    Nightly {
        /// Seeds of each scenario.
        #[arg(long, default_value = "0..2000", value_name = "A..B")]
        seeds: nightly::Seeds,
        /// Seconds of each fuzz target; 0: none.
        #[arg(long, default_value_t = 600)]
        fuzz_s: u64,
        /// The file that each batch of seeds appends a line to; left out: .local/nightly.jsonl.
        #[arg(long, value_name = "FILE")]
        results: Option<std::path::PathBuf>,
    },
    /// `cargo sim …`: the simulator, built once for people and CI alike.
    #[command(disable_help_flag = true)]
    Sim {
        /// The simulator's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Setup => setup::setup(),
        Command::Test { quick: false } => recipes::test(),
        Command::Test { quick: true } => recipes::quick(),
        Command::Ci => recipes::ci(),
        Command::Bench { filter } => bench::bench(filter.as_deref()),
        Command::Generate { check: false } => generate::generate(),
        Command::Generate { check: true } => generate::check(),
        Command::Tidy => tidy::tidy(),
        Command::Nightly { seeds, fuzz_s, results } => nightly::nightly(seeds, fuzz_s, results.as_deref()),
        Command::Sim { args } => return sim::sim(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}", run::loud(&format!("xtask: {why}")));
            ExitCode::FAILURE
        }
    }
}
