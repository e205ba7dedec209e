//! `cargo xtask bench`: every measurement in one table, each a program of the part that it measures. Figures for
//! docs/benchmarks.md come from here alone.

use crate::run::{Done, cargo_with, run};
use crate::setup::setup;

/// One measurement.
struct Bench {
    name: &'static str,
    /// Arguments of `cargo`; release builds only.
    cargo: &'static [&'static str],
}

/// To add one: a line here, and what it prints is what the page shows.
const BENCHES: &[Bench] = &[Bench {
    name: "spine: requests, publishes and appends beside bare async-nats",
    cargo: &["bench", "--locked", "-p", "spine", "--features", "nats,server", "--bench", "nats"],
}];

/// Runs those whose name contains `filter`.
pub(crate) fn bench(filter: Option<&str>) -> Done {
    setup()?;
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|bench| filter.is_none_or(|part| bench.name.contains(part))).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        return Err(format!("no measurement has that in its name; there are: {}", known.join(", ")));
    }
    for bench in chosen {
        println!("\n## {}\n", bench.name);
        run(&mut cargo_with(bench.cargo))?;
    }
    Ok(())
}
