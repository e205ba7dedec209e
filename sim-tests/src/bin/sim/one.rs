//! One seed in this process: `replay`, and what `run` and `meta` start as children.

use std::io::Write as _;
use std::path::Path;

#[cfg(not(madsim))]
use sim_tests::engine::leap::Leap;
#[cfg(madsim)]
use sim_tests::engine::madsim::Madsim;
#[cfg(not(madsim))]
use sim_tests::engine::turmoil::Turmoil;
use sim_tests::engine::world::{self, Options};
use sim_tests::engine::{Deciders, Engine as _};
use sim_tests::verdict::Verdict;
use voltron_core::mutants::{Mutant, PLANTED};

use crate::engine::Engine;
use crate::{files, interpose};

/// What the process pretends to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pretence {
    pub(crate) salt: u64,
    pub(crate) date_ms: u64,
}

impl Default for Pretence {
    /// Far from the world's own epoch, so that a clock read past the seams stands out.
    fn default() -> Self {
        Self { salt: 0, date_ms: 1_500_000_000_000 }
    }
}

/// Which run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) seed: u64,
    pub(crate) engine: Engine,
    /// The second one of a scenario with a twin.
    pub(crate) twin: bool,
}

/// Runs one seed. `log` shows the product's log lines on standard error; `cores` decide in the model's place.
pub(crate) fn simulate(
    Which { scenario, seed, engine, twin }: Which<'_>,
    trace: Option<&Path>,
    log: Option<&str>,
    cores: Option<&dyn Deciders>,
    pretence: Pretence,
) -> Result<Verdict, String> {
    let plan = files::load(scenario)?.plan(scenario, seed).map_err(|error| format!("{scenario}: {error}"))?;
    if twin && plan.twin.is_none() {
        return Err(format!("{scenario} has no [twin]"));
    }
    let options = Options { trace, log, cores, twin, on_tick: interpose::advance };
    interpose::begin(pretence.salt, pretence.date_ms);
    #[cfg(madsim)]
    let outcome = {
        let _ = engine;
        Madsim::enclosed(seed, || world::run::<Madsim>(&plan, &options))
    };
    #[cfg(not(madsim))]
    let outcome = match engine {
        Engine::Turmoil => Turmoil::enclosed(seed, || world::run::<Turmoil>(&plan, &options)),
        _ => Leap::enclosed(seed, || world::run::<Leap>(&plan, &options)),
    };
    interpose::end();
    let mut verdict = outcome.map_err(|error| format!("{scenario} seed {seed}: {error}"))?;
    verdict.scenario = scenario.to_owned();
    Ok(verdict)
}

/// How long this process had a core so far, by the kernel's account of its one thread; 0 if there is none.
pub(crate) fn cpu_us() -> u64 {
    let account = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    account.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// Turns a planted bug on for the rest of this process.
pub(crate) fn plant(name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let Some(planted) = Mutant::named(name) else {
        let known: Vec<_> = PLANTED.iter().map(|planted| planted.name).collect();
        return Err(format!("no planted bug is called {name}: there are {}", known.join(", ")));
    };
    if voltron_core::mutants::turn_on(planted.mutant) {
        Ok(())
    } else {
        Err(format!("this build holds no planted bugs, {name} neither: `cargo sim` builds with them"))
    }
}

/// A verdict as one line.
pub(crate) fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).expect("a verdict has string keys and finite numbers")
}

/// A line on standard output; a closed pipe ends the talking, not the run.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
