//! The commands. Each file holds one: its arguments, whose help texts are the manual, and what it does.

mod config;
mod dev;
mod error;
mod frame;
mod input;
mod publish;
mod service;
mod subscribe;
mod token;

use clap::{Parser, Subcommand};

use crate::failure::{Exit, Failure};

/// Runs Arqon on this machine, talks to it, and takes its bytes apart.
#[derive(Debug, Parser)]
#[command(name = "arq", version, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 good, 1 a check failed, 2 bad use, 3 cannot reach a service, 4 refused (token, right or policy).

A first conversation:
  arq dev                           in one terminal: prints a URL and a token
  arq sub lobby --token TOKEN       in a second
  arq pub lobby hello --token TOKEN in a third")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    Sub(subscribe::Args),
    Pub(publish::Args),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Frame(frame::Command),
    Error(error::Args),
    #[command(subcommand)]
    Config(config::Command),
}

/// Runs a parsed command line to its end.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Dev(args) => dev::run(args).await,
        Command::Sub(args) => subscribe::run(args).await,
        Command::Pub(args) => publish::run(args).await,
        Command::Token(command) => token::run(command),
        Command::Frame(command) => frame::run(command),
        Command::Error(args) => error::run(&args),
        Command::Config(command) => config::run(command),
    }
}
