//! `cargo sim`: exit status 0 all held, 1 an oracle failed (the replay command is printed), 2 bad use.
//!
//! Built with `--cfg madsim` there is but the hidden `one`: that world has no processes and sockets to wait for, so the
//! ordinary build starts this one, a process a seed (see [`engine`]).
#![cfg_attr(madsim, allow(dead_code, reason = "the arguments of the other commands"))]

mod args;
#[cfg(not(madsim))]
mod bench;
mod brain;
#[cfg(not(madsim))]
mod draw;
mod engine;
mod files;
mod interpose;
#[cfg(not(madsim))]
mod lockstep;
#[cfg(not(madsim))]
mod mutants;
mod one;
#[cfg(not(madsim))]
mod shrink;
#[cfg(not(madsim))]
mod sweep;

use std::process::ExitCode;

use clap::Parser as _;
#[cfg(not(madsim))]
use sim_tests::{oracles, trace};

#[cfg(not(madsim))]
use args::ReplayArgs;
use args::{Cli, Command, OneArgs};
#[cfg(not(madsim))]
use brain::Deciding;
#[cfg(not(madsim))]
use engine::Engine;
use one::{Pretence, Which, json, say};
use sim_tests::engine::Deciders;
#[cfg(not(madsim))]
use sweep::Way;

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            voltron_core::console::note(&error);
            ExitCode::from(2)
        }
    }
}

#[cfg(madsim)]
fn act(command: Command) -> Result<bool, String> {
    match command {
        Command::One(args) => child(&args),
        _ => Err("this build runs single seeds for `cargo sim … --engine madsim`; call that".to_owned()),
    }
}

#[cfg(not(madsim))]
fn act(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(args) => wait_for_children(sweep::run(&args)),
        Command::Meta(args) => wait_for_children(sweep::meta(&args)),
        Command::Shrink(args) => wait_for_children(shrink::run(&args)),
        Command::Mutants(args) => wait_for_children(mutants::run(&args)),
        Command::Bench(args) => wait_for_children(bench::run(&args)),
        Command::Replay(args) => replay(&args),
        Command::One(args) => child(&args),
        Command::Explain(args) => {
            let plan =
                files::load(&args.scenario)?.plan(&args.scenario, args.seed).map_err(|error| error.to_string())?;
            say(&plan.to_toml());
            Ok(true)
        }
        Command::Check { trace, html, json } => check(&trace, html.as_deref(), json),
        Command::Lockstep(args) => lockstep::run(&args),
        Command::Twin { socket, mutant } => lockstep::twin(&socket, mutant.as_deref()),
    }
}

/// Real timers and real processes: nothing is simulated in this one.
#[cfg(not(madsim))]
fn wait_for_children(work: impl Future<Output = Result<bool, String>>) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(work)
}

fn child(args: &OneArgs) -> Result<bool, String> {
    one::plant(args.mutant.as_deref())?;
    let pretence = Pretence { salt: args.salt, date_ms: args.date_ms };
    #[cfg(not(madsim))]
    let cores = args.brain.driver(args.cores.as_deref())?;
    #[cfg(not(madsim))]
    let cores = cores.as_ref().map(|cores| cores as &dyn Deciders);
    #[cfg(madsim)]
    let cores: Option<&dyn Deciders> = None;
    let (trace, log) = (args.trace.as_deref(), args.log.as_deref());
    let which = Which { scenario: &args.one.scenario, seed: args.one.seed, engine: args.engine, twin: args.twin };
    let mut verdict = one::simulate(which, trace, log, cores, pretence)?;
    verdict.cpu_us = one::cpu_us();
    say(&json(&verdict));
    Ok(verdict.ok)
}

#[cfg(not(madsim))]
fn replay(args: &ReplayArgs) -> Result<bool, String> {
    one::plant(args.mutant.as_deref())?;
    let (scenario, seed) = (&args.one.scenario, args.one.seed);
    let deciding = Deciding::start(args.brain)?;
    let cores = args.brain.driver(deciding.socket().as_deref())?;
    let begun = tokio::time::Instant::now();
    let drawn = draw::Trace::kept(args.trace.as_deref(), args.html.is_some())?;
    let (trace, log) = (drawn.path(), args.log.as_deref());
    let cores = cores.as_ref().map(|cores| cores as &dyn Deciders);
    let mut verdict = match args.engine {
        Engine::Madsim => args.engine.replay(args, trace)?,
        engine => {
            let which = Which { scenario, seed, engine, twin: args.twin };
            one::simulate(which, trace, log, cores, Pretence::default())?
        }
    };
    verdict.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let way = Way { engine: args.engine, brain: args.brain, mutant: args.mutant.as_deref(), twin: args.twin };
    verdict.replay = way.replay(scenario, verdict.seed);
    verdict.lists.clear();
    if let (Some(html), Some(path)) = (&args.html, drawn.path()) {
        draw::page(html, path, scenario, verdict.seed, &verdict.replay)?;
    }
    say(&if args.json { json(&verdict) } else { verdict.text(&files::commit()) });
    if !args.json {
        for (oracle, checks) in &verdict.checks {
            say(&format!("       {oracle} looked {checks} times"));
        }
        let marks: Vec<String> = verdict.marks.iter().map(|(mark, times)| format!("{mark} ×{times}")).collect();
        say(&format!("       marks: {}", if marks.is_empty() { "none".to_owned() } else { marks.join(", ") }));
    }
    Ok(verdict.ok)
}

#[cfg(not(madsim))]
fn check(path: &std::path::Path, html: Option<&std::path::Path>, json: bool) -> Result<bool, String> {
    let lines = trace::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let judgement = oracles::judge(&lines, &[]);
    if let Some(html) = html {
        draw::page(html, path, &path.display().to_string(), 0, &format!("cargo sim check {}", path.display()))?;
    }
    if json {
        say(&serde_json::to_string(&judgement).map_err(|error| error.to_string())?);
        return Ok(judgement.held());
    }
    for (oracle, checks) in &judgement.checks {
        say(&format!("{oracle} looked {checks} times"));
    }
    for violation in &judgement.violations {
        say(&format!("FAILED {} at record {}: {}", violation.oracle, violation.n, violation.what));
    }
    for idle in judgement.idle() {
        say(&format!("FAILED {idle} never looked: the trace shows nothing that it could check"));
    }
    Ok(judgement.held())
}
