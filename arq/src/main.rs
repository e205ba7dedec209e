//! The `arq` command: its words ([`cli`]), the whole system in one process ([`dev`]), and what it says when it fails.

mod cli;
mod dev;
mod failure;

use std::process::ExitCode;

use clap::Parser as _;
use voltron_core::console;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console::note(&format!("error: cannot start: {error}"));
            return failure::Exit::CheckFailed.into();
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            console::note(&failure.to_string());
            failure.exit.into()
        }
    }
}
