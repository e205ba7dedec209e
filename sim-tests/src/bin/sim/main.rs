//! `cargo sim`: exit status 0 all held, 1 an oracle failed (the replay command is printed), 2 bad use.

mod args;
mod brain;
mod draw;
mod files;
mod interpose;
mod lockstep;
mod mutants;
mod one;
mod shrink;
mod sweep;

use std::process::ExitCode;

use clap::Parser as _;
use sim_tests::{oracles, trace};

use args::{Cli, Command, OneArgs, ReplayArgs};
use brain::Deciding;
use one::Pretence;
use sweep::say;

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn act(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(args) => wait_for_children(sweep::run(&args)),
        Command::Meta(args) => wait_for_children(sweep::meta(&args)),
        Command::Shrink(args) => wait_for_children(shrink::run(&args)),
        Command::Mutants(args) => wait_for_children(mutants::run(&args)),
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
fn wait_for_children(work: impl Future<Output = Result<bool, String>>) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(work)
}

fn child(args: &OneArgs) -> Result<bool, String> {
    one::plant(args.mutant.as_deref())?;
    let pretence = Pretence { salt: args.salt, date_ms: args.date_ms };
    let cores = args.brain.driver(args.cores.as_deref())?;
    let verdict =
        one::simulate(&args.one.scenario, args.one.seed, args.trace.as_deref(), None, cores.as_ref(), pretence)?;
    say(&sweep::json(&verdict));
    Ok(verdict.ok)
}

fn replay(args: &ReplayArgs) -> Result<bool, String> {
    one::plant(args.mutant.as_deref())?;
    let (scenario, seed) = (&args.one.scenario, args.one.seed);
    let deciding = Deciding::start(args.brain)?;
    let cores = args.brain.driver(deciding.socket().as_deref())?;
    let begun = tokio::time::Instant::now();
    let drawn = draw::Trace::kept(args.trace.as_deref(), args.html.is_some())?;
    let (trace, log) = (drawn.path(), args.log.as_deref());
    let mut verdict = one::simulate(scenario, seed, trace, log, cores.as_ref(), Pretence::default())?;
    verdict.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    verdict.replay = sweep::replay(scenario, verdict.seed, args.brain, args.mutant.as_deref());
    if let (Some(html), Some(path)) = (&args.html, drawn.path()) {
        draw::page(html, path, scenario, verdict.seed, &verdict.replay)?;
    }
    say(&if args.json { sweep::json(&verdict) } else { verdict.text(&files::commit()) });
    if !args.json {
        for (oracle, checks) in &verdict.checks {
            say(&format!("       {oracle} looked {checks} times"));
        }
        let marks: Vec<String> = verdict.marks.iter().map(|(mark, times)| format!("{mark} ×{times}")).collect();
        say(&format!("       marks: {}", if marks.is_empty() { "none".to_owned() } else { marks.join(", ") }));
    }
    Ok(verdict.ok)
}

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
