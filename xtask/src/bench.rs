//! `cargo xtask bench`: every measurement in one table, each a program of the part that it measures. Figures for
//! docs/benchmarks.md come from here, or name their own command.

use crate::elixir;
use crate::run::{Done, cargo_with, run};
use crate::setup::setup;

/// One measurement.
struct Bench {
    name: &'static str,
    /// Arguments of `cargo`, one command after the other; release builds only.
    cargo: &'static [&'static [&'static str]],
    /// Then scripts of `brain/`, each with its arguments.
    elixir: &'static [&'static [&'static str]],
}

/// To add one: a line here, and what it prints is what the page shows.
const BENCHES: &[Bench] = &[
    Bench {
        name: "allocations: of a routed message in the whole Shield, on no Spine and on NATS",
        // One after the other: the lines of the table must not mix.
        cargo: &[&[
            "test",
            "--release",
            "--locked",
            "--quiet",
            "-p",
            "shield",
            "--test",
            "allocations",
            "--",
            "--nocapture",
            "--test-threads=1",
        ]],
        elixir: &[],
    },
    Bench {
        name: "spine: requests, publishes and appends beside bare async-nats",
        cargo: &[&["bench", "--locked", "-p", "spine", "--features", "nats,server", "--bench", "nats"]],
        elixir: &[],
    },
    Bench {
        name: "echo: PUB to event through Shield, nats-server and either Brain, beside bare NATS",
        cargo: &[
            // One selection of packages, so that both commands share what they compile.
            &[
                "build",
                "--release",
                "--locked",
                "-p",
                "shield",
                "-p",
                "brain-shell",
                "-p",
                "sim-tests",
                "--bins",
                "--example",
                "echo",
            ],
            &["run", "--release", "--locked", "--quiet", "-p", "sim-tests", "--example", "echo"],
            &["run", "--release", "--locked", "--quiet", "-p", "sim-tests", "--example", "echo", "--", "elixir"],
        ],
        elixir: &[],
    },
    Bench {
        name: "commands: durable commands of one Elixir node, over 100 rooms and in one, beside the bare client's echo",
        cargo: &[],
        elixir: &[&["bench/commands.exs"]],
    },
    Bench {
        name: "sim: virtual seconds a second, seeds, and what bounds them",
        elixir: &[],
        // Planted bugs are compiled in and off, as in the builds that people and CI run.
        cargo: &[&[
            "run",
            "--profile",
            "sim",
            "--locked",
            "--quiet",
            "-p",
            "sim-tests",
            "--bin",
            "sim",
            "--features",
            "voltron-core/mutants",
            "--",
            "bench",
        ]],
    },
    Bench {
        name: "lockstep: histories on the model and the Elixir cores at once, beside a second model and the bare socket",
        cargo: &[
            &["build", "--release", "--locked", "-p", "sim-tests", "--bin", "sim", "--example", "lockstep"],
            &["run", "--release", "--locked", "--quiet", "-p", "sim-tests", "--example", "lockstep"],
        ],
        elixir: &[],
    },
];

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
        for arguments in bench.cargo {
            run(&mut cargo_with(arguments.iter().copied()))?;
        }
        for arguments in bench.elixir {
            elixir::script(arguments)?;
        }
    }
    Ok(())
}
