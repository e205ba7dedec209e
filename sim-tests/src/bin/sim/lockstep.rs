//! `cargo sim lockstep`: the Elixir cores held to the model.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sim_tests::lockstep::link::Driven;
use sim_tests::lockstep::machines;
use sim_tests::lockstep::planted::{self, Side};
use sim_tests::lockstep::run::{self, Options, Ran, size};
use tokio::time::Instant;

use crate::args::LockstepArgs;
use crate::one::{self, say};

/// From so many histories on, a cell of the table that was not reached is a failure.
const TABLE_FROM: u64 = 1000;

/// Runs the histories; true if none differs and, where there are enough of them, the whole table is reached.
pub(crate) fn run(args: &LockstepArgs) -> Result<bool, String> {
    if args.planted.as_deref() == Some("all") {
        return all_planted(args);
    }
    // Holds a planted module until the driven process has ended.
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let mut patches = Vec::new();
    if let Some(name) = &args.planted {
        let known = || planted::ALL.iter().map(|planted| planted.name).collect::<Vec<_>>().join(", ");
        let planted = planted::find(name)
            .ok_or_else(|| format!("no planted difference is called {name}: there are {}", known()))?;
        match planted.side {
            Side::Model(mutant) => one::plant(Some(mutant))?,
            Side::Elixir { file, text, by } => patches.push(
                planted::patch(&root(), folder.path(), file, text, by).map_err(|error| format!("{name}: {error}"))?,
            ),
        }
    }
    let driven =
        if args.twin { Driven::Twin { sim: own()?, mutant: None } } else { Driven::Elixir { root: root(), patches } };
    let bar = (!args.json && std::io::stderr().is_terminal()).then(|| progress(args.histories));
    let begun = Instant::now();
    let options = Options { driven, histories: args.histories, seed: args.seed };
    let ran = run::run(&options, |done| {
        if let Some(bar) = &bar {
            bar.set_position(done);
        }
    });
    let ran = ran.map_err(|error| error.to_string())?;
    if let Some(bar) = &bar {
        bar.finish();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let faults =
        if args.histories >= TABLE_FROM && ran.difference.is_none() { ran.coverage.faults() } else { Vec::new() };
    if args.json {
        say(&json(&ran, &faults, seconds));
    } else {
        tell(&ran, &faults, seconds);
    }
    Ok(ran.difference.is_none() && faults.is_empty())
}

fn tell(ran: &Ran, faults: &[String], seconds: f64) {
    if let Some(difference) = &ran.difference {
        say(&difference.text);
        let (ops, steps, tries) = (size(&difference.history), difference.steps, difference.tries);
        say(&format!(
            "FAILED after {} histories; {ops} operations, {steps} steps, found in {tries} tries",
            ran.histories
        ));
        return;
    }
    say(&ran.coverage.table());
    for fault in faults {
        say(&format!("FAILED {fault}"));
    }
    let (reached, cells) = ran.coverage.reached();
    let (steps, mib) = (ran.steps, ran.bytes as f64 / f64::from(1 << 20));
    say(&format!(
        "{} histories agree: {steps} steps, {mib:.0} MiB, {seconds:.1} s, {:.0} steps/s, {} us of processor a step there; \
         {reached} of {cells} cells",
        ran.histories,
        steps as f64 / seconds,
        driven_us(ran).map_or_else(|| "?".to_owned(), |us| format!("{us:.1}"))
    ));
}

/// Processor time of the driven process, microseconds a step.
fn driven_us(ran: &Ran) -> Option<f64> {
    ran.driven.map(|time| time.as_secs_f64() * 1e6 / ran.steps.max(1) as f64)
}

fn json(ran: &Ran, faults: &[String], seconds: f64) -> String {
    let (reached, cells) = ran.coverage.reached();
    let difference = ran.difference.as_ref().map(|difference| {
        serde_json::json!({
            "seed": difference.seed,
            "ops": size(&difference.history),
            "steps": difference.steps,
            "tries": difference.tries,
            "text": difference.text,
            "replay": format!("cargo sim lockstep --seed {} --histories 1", difference.seed),
        })
    });
    let ok = ran.difference.is_none() && faults.is_empty();
    serde_json::json!({
        "ok": ok, "histories": ran.histories, "steps": ran.steps, "wall_ms": (seconds * 1000.0) as u64,
        "driven_us": driven_us(ran),
        "cells": cells, "reached": reached, "faults": faults, "difference": difference,
    })
    .to_string()
}

/// Each planted difference in a process of its own, for a bug of the model is the process's; true if all are found.
fn all_planted(args: &LockstepArgs) -> Result<bool, String> {
    let mut all = true;
    say(&format!("{:<34} {:>9} {:>10} {:>5} {:>5}", "planted", "histories", "operations", "steps", "tries"));
    for planted in planted::ALL {
        let mut command = std::process::Command::new(own()?);
        command.args(["lockstep", "--json", "--planted", planted.name]);
        command.args(["--histories", &args.histories.to_string(), "--seed", &args.seed.to_string()]);
        let output = command.output().map_err(|error| format!("cannot run one: {error}"))?;
        let Ok(told) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
            return Err(format!("{}: {}", planted.name, String::from_utf8_lossy(&output.stderr).trim()));
        };
        let difference = &told["difference"];
        all &= !difference.is_null();
        if difference.is_null() {
            say(&format!("{:<34} {:>9} NOT FOUND", planted.name, told["histories"]));
        } else {
            let (ops, steps, tries) = (&difference["ops"], &difference["steps"], &difference["tries"]);
            say(&format!("{:<34} {:>9} {ops:>10} {steps:>5} {tries:>5}", planted.name, told["histories"]));
        }
    }
    Ok(all)
}

fn own() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))
}

/// The model behind the socket.
pub(crate) fn twin(socket: &Path, mutant: Option<&str>) -> Result<bool, String> {
    one::plant(mutant)?;
    machines::serve(socket).map(|()| true).map_err(|error| format!("{}: {error}", socket.display()))
}

/// The repository: where this runs, else what it was built from.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(".");
    let root =
        if here.join("brain/mix.exs").is_file() { here } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("..") };
    root.canonicalize().unwrap_or(root)
}

fn progress(histories: u64) -> ProgressBar {
    let bar = ProgressBar::new(histories);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} histories  {per_sec}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
