//! `mutants`: the simulator's own test. Every planted bug must be found by who is meant to find it and by the right oracle;
//! how many seeds that takes is the figure that says how good the simulator is. The same seeds without a bug must
//! raise no alarm.

mod outside;
mod table;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use futures_util::stream::{self, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use sim_tests::verdict::Verdict;
use voltron_core::mutants::{Finder, Mutant, PLANTED, Planted};

use crate::args::MutantsArgs;
use crate::engine::Engine;
use crate::files;
use crate::one::say;
use crate::sweep::{jobs, ordinary};
use table::Row;

/// Disjoint ranges of seeds.
const RANGES: u64 = 3;
/// Within so many seeds its own scenario finds a bug for which the finder needs too many.
const OWN_SEEDS: u64 = 3;
/// The seed of the calm run.
const CALM_SEED: u64 = 1;
/// `--quick`: so many seeds at most.
const QUICK_SEEDS: u64 = 60;

/// Looks for every planted bug; true if each was found as it must be and nothing else was.
pub(crate) async fn run(args: &MutantsArgs) -> Result<bool, String> {
    let mut chosen: Vec<&Planted> = PLANTED.iter().collect();
    if !args.only.is_empty() {
        chosen.clear();
        for name in &args.only {
            chosen.push(Mutant::named(name).ok_or_else(|| format!("no planted bug is called {name}"))?);
        }
    }
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for plans: {error}"))?;
    let calm = folder.path().join("calm.toml");
    std::fs::write(&calm, without_faults()?).map_err(|error| format!("{}: {error}", calm.display()))?;
    let bar = (!args.json && std::io::stderr().is_terminal()).then(spinner);
    let calm = calm.display().to_string();
    let mut hunt =
        Hunt { seeds: args.seeds, quick: args.quick, jobs: jobs(args.jobs), calm, control: BTreeMap::new(), bar };

    if !args.json {
        say(&table::head());
    }
    let mut rows = Vec::new();
    for (index, planted) in chosen.iter().enumerate() {
        hunt.tell(&format!("{} of {}: {}", index + 1, chosen.len(), planted.name));
        let row = hunt.row(planted).await?;
        let line = if args.json { row.json().to_string() } else { row.text() };
        match &hunt.bar {
            Some(bar) => bar.println(line),
            None => say(&line),
        }
        rows.push(row);
    }
    if let Some(bar) = &hunt.bar {
        bar.finish_and_clear();
    }
    let summary = table::Summary::of(&rows, hunt.control.len() as u64);
    say(&if args.json { summary.json().to_string() } else { summary.text() });
    Ok(summary.good())
}

struct Hunt {
    /// The most seeds of each range.
    seeds: u64,
    quick: bool,
    jobs: usize,
    /// The plan without faults.
    calm: String,
    /// Runs without a bug, by scenario with engine and seed: `None` held, else what objected.
    control: BTreeMap<(String, u64), Option<String>>,
    bar: Option<ProgressBar>,
}

/// What one range of seeds, or the own scenario, showed.
struct Found {
    after: u64,
    verdict: Verdict,
}

impl Hunt {
    async fn row(&mut self, planted: &Planted) -> Result<Row, String> {
        let mut row = Row::new(planted);
        match planted.finder {
            Finder::Swarm => self.by_runs(planted, Engine::Leap, "swarm", &mut row).await?,
            Finder::Scenario(scenario) => self.by_runs(planted, Engine::Leap, scenario, &mut row).await?,
            Finder::Meta => outside::meta(planted, &mut row).await?,
            Finder::Test { target, name } => outside::test(planted, target, name, self.quick, &mut row).await?,
            Finder::Madsim(scenario) => self.by_runs(planted, Engine::Madsim, scenario, &mut row).await?,
        }
        if !self.quick && planted.finder != Finder::Meta && !matches!(planted.finder, Finder::Test { .. }) {
            let verdict = one(Engine::Leap, &self.calm, CALM_SEED, Some(planted.name)).await?;
            row.calm = Some(verdict.ok);
        }
        Ok(row)
    }

    async fn by_runs(
        &mut self,
        planted: &Planted,
        engine: Engine,
        scenario: &str,
        row: &mut Row,
    ) -> Result<(), String> {
        if self.quick {
            let scenario = planted.own.unwrap_or(scenario);
            let found = self.search(planted, engine, scenario, 0..QUICK_SEEDS, row).await?;
            row.note(planted, found.as_ref());
            row.after.push(found.map(|found| found.after));
            return Ok(());
        }
        for range in 0..RANGES {
            let first = range * self.seeds;
            let found = self.search(planted, engine, scenario, first..first + self.seeds, row).await?;
            row.note(planted, found.as_ref());
            row.after.push(found.map(|found| found.after));
        }
        if row.after.contains(&None)
            && let Some(own) = planted.own.filter(|own| *own != scenario)
        {
            let found = self.search(planted, engine, own, 0..OWN_SEEDS, row).await?;
            row.note(planted, found.as_ref());
            row.own = Some((own, found.map(|found| found.after)));
        }
        Ok(())
    }

    /// The first seed that fails. The seeds that were looked at are run without the bug, too.
    async fn search(
        &mut self,
        planted: &Planted,
        engine: Engine,
        scenario: &str,
        seeds: std::ops::Range<u64>,
        row: &mut Row,
    ) -> Result<Option<Found>, String> {
        let first = seeds.start;
        let mut looked = first;
        let mut found = None;
        let mut runs =
            stream::iter(seeds).map(|seed| one(engine, scenario, seed, Some(planted.name))).buffered(self.jobs);
        while let Some(verdict) = runs.next().await {
            let verdict = verdict?;
            looked += 1;
            row.runs += 1;
            if let Some(mark) = planted.mark {
                row.reached |= verdict.marks.contains_key(mark);
            }
            if !verdict.ok {
                found = Some(Found { after: looked - first, verdict });
                break;
            }
            if row.runs.is_multiple_of(10) {
                self.tell(&format!("{}: {scenario}, {} seeds", planted.name, looked - first));
            }
        }
        drop(runs);
        if !self.quick {
            row.false_alarms += self.control(engine, scenario, first..looked, row).await?;
        }
        Ok(found)
    }

    /// The control arm: how many of these seeds raise an alarm without a bug.
    async fn control(
        &mut self,
        engine: Engine,
        scenario: &str,
        seeds: std::ops::Range<u64>,
        row: &mut Row,
    ) -> Result<u64, String> {
        let arm = format!("{scenario}{engine}");
        let known = |seed: &u64| self.control.contains_key(&(arm.clone(), *seed));
        let open: Vec<u64> = seeds.clone().filter(|seed| !known(seed)).collect();
        let mut runs = stream::iter(open).map(|seed| one(engine, scenario, seed, None)).buffered(self.jobs);
        let mut done = Vec::new();
        while let Some(verdict) = runs.next().await {
            let verdict = verdict?;
            let objection = (!verdict.ok).then(|| {
                let oracle = verdict.oracle.as_deref().unwrap_or("-");
                format!("{oracle}: {}", verdict.replay)
            });
            done.push(((arm.clone(), verdict.seed), objection));
        }
        drop(runs);
        self.control.extend(done);
        let alarms = seeds.filter_map(|seed| self.control.get(&(arm.clone(), seed))?.clone());
        let alarms: Vec<String> = alarms.collect();
        row.alarms.extend(alarms.iter().cloned());
        Ok(alarms.len() as u64)
    }

    fn tell(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }
}

async fn one(engine: Engine, scenario: &str, seed: u64, mutant: Option<&str>) -> Result<Verdict, String> {
    ordinary(engine, scenario, seed, mutant, None).await
}

/// The smoke scenario with nothing going wrong: a bug that shows there is no test of a simulator.
fn without_faults() -> Result<String, String> {
    let mut plan = files::load("smoke")?.plan("smoke", CALM_SEED).map_err(|error| error.to_string())?;
    plan.fault.clear();
    plan.step.clear();
    plan.expect = Default::default();
    Ok(plan.to_toml())
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed}  {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
