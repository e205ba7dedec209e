//! Measures lockstep: how many steps a second the Elixir cores and the model take together, beside a second model behind
//! the same socket (what the driver and the wire cost) and empty batches (what a round trip costs).
//!
//! Prints a table in Markdown. Run it by `cargo xtask bench lockstep`, which builds everything in release.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message as _;
use proto::lockstep::Batch;
use sim_tests::lockstep::link::{Driven, Link, processor_time};
use sim_tests::lockstep::run::{Options, run};
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HISTORIES: u64 = 4000;
const ROUND_TRIPS: u32 = 20_000;

fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let elixir = Driven::Elixir { root, patches: Vec::new() };
    let twin = Driven::Twin { sim: sim()?, mutant: None };
    println!(
        "| driven | histories | steps | MiB both ways | steps/s | us of processor a step: here, there | empty batches/s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, driven) in [("Elixir", &elixir), ("a second model", &twin)] {
        let trips = empty(driven)?;
        let mut first = None;
        let began = processor_time("self").unwrap_or_default();
        let options = Options { driven: driven.clone(), histories: HISTORIES, seed: 1 };
        // From the first batch's answer on: a start is no step.
        let ran = run(&options, |done| {
            first.get_or_insert((Instant::now(), done));
        })?;
        if let Some(difference) = ran.difference {
            return Err(difference.text.into());
        }
        let seconds = first.map_or(0.0, |(at, _)| at.elapsed().as_secs_f64());
        let (steps, mib) = (ran.steps, ran.bytes >> 20);
        let here = processor_time("self").unwrap_or_default().saturating_sub(began);
        let us = |time: Duration| time.as_secs_f64() * 1e6 / steps as f64;
        let (here, there) = (us(here), us(ran.driven.unwrap_or_default()));
        let rate = steps as f64 / seconds;
        println!("| {name} | {} | {steps} | {mib} | {rate:.0} | {here:.1}, {there:.1} | {trips:.0} |", ran.histories);
    }
    Ok(())
}

/// Round trips a second of batches without steps.
fn empty(driven: &Driven) -> Result<f64, Failure> {
    let mut link = Link::start(driven)?;
    let batch = Batch::default().encode_to_vec();
    let begun = Instant::now();
    for _ in 0..ROUND_TRIPS {
        link.send(&batch)?;
        link.receive()?;
    }
    Ok(f64::from(ROUND_TRIPS) / begun.elapsed().as_secs_f64())
}

/// The simulator's binary, built beside this one.
fn sim() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("no folder above examples/")?;
    Ok(folder.join("sim"))
}
