//! `run` and `meta`: one process per seed, because process-wide counters (task ids) would shift from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::Stdio;

use futures_util::stream::{self, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use sim_tests::oracles;
use sim_tests::scenario::Scenario;
use sim_tests::twin::{self, Lists};
use sim_tests::verdict::Verdict;
use tokio::time::Instant;

use crate::args::{MetaArgs, RunArgs, Seeds};
use crate::brain::{Brain, Deciding};
use crate::engine::Engine;
use crate::files;
use crate::one::{Pretence, json, say};

/// The longest that one seed may take, seconds on the wall clock.
const SEED_LIMIT_S: u64 = 600;

/// From so many seeds on a mark that a scenario must reach and did not fails the sweep, and so does, over all scenarios, an
/// oracle that never looked.
const SWEEP: u64 = 32;

/// What an oracle may leave undecided in a sweep, per cent of all that it looked at.
const UNKNOWN_MAX_PERCENT: u64 = 1;

/// Runs all seeds; true if all held.
pub(crate) async fn run(args: &RunArgs) -> Result<bool, String> {
    let scenarios = files::chosen(&args.scenarios)?;
    let mut loaded = BTreeMap::new();
    for name in &scenarios {
        loaded.insert(name.clone(), files::load(name)?);
    }
    let seeds = args.seed.map_or(args.seeds, |seed| Seeds { first: seed, beyond: seed + 1 });
    // A written plan has its own seed: once is enough.
    let own = |name: &str| loaded.get(name).and_then(|scenario: &Scenario| scenario.seed);
    let of = |name: &str| own(name).map_or(seeds.first..seeds.beyond, |seed| seed..seed + 1);
    let work: Vec<(String, u64)> =
        scenarios.iter().flat_map(|name| of(name).map(move |seed| (name.clone(), seed))).collect();
    let jobs = jobs(args.jobs);

    let deciding = Deciding::start(args.brain)?;
    let way = Way { engine: args.engine, brain: args.brain, mutant: args.mutant.as_deref(), twin: false };
    let commit = files::commit();
    let bar = (!args.json && std::io::stderr().is_terminal()).then(|| progress(work.len() as u64));
    let mut runs = stream::iter(work)
        .map(|(name, seed)| {
            let twin = loaded.get(&name).is_some_and(|scenario| scenario.twin.is_some());
            seed_of(name, seed, way, &deciding, twin)
        })
        .buffer_unordered(jobs);
    let mut failed = 0_u64;
    let mut marks: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut checks: BTreeMap<String, u64> =
        oracles::NAMES.iter().chain(&["T2"]).map(|name| ((*name).to_owned(), 0)).collect();
    let mut unknown: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = 0_u64;
    let mut hashes = BTreeMap::new();
    while let Some(verdict) = runs.next().await {
        let verdict = verdict?;
        count += 1;
        hashes.insert((verdict.scenario.clone(), verdict.seed), (verdict.ok, verdict.hash.clone()));
        failed += u64::from(!verdict.ok);
        for (oracle, looked) in &verdict.checks {
            *checks.entry(oracle.clone()).or_default() += looked;
        }
        for (oracle, times) in &verdict.unknown {
            *unknown.entry(oracle.clone()).or_default() += times;
        }
        for (mark, times) in &verdict.marks {
            *marks.entry(verdict.scenario.clone()).or_default().entry(mark.clone()).or_default() += times;
        }
        let line = if args.json { json(&verdict) } else { verdict.text(&commit) };
        match &bar {
            Some(bar) => {
                bar.inc(1);
                let reached = marks.values().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>().len();
                bar.set_message(format!("{failed} failed, {reached} marks"));
                if !verdict.ok {
                    bar.println(line);
                }
            }
            None => say(&line),
        }
    }
    if let Some(bar) = &bar {
        bar.finish();
    }

    // One seed alone need not reach everything; a sweep must.
    let mut missing = Vec::new();
    for (name, scenario) in &loaded {
        for mark in &scenario.expect.reached {
            let reached = marks.get(name).is_some_and(|marks| marks.contains_key(&mark.0));
            if !reached && args.seed.is_none() {
                missing.push(format!("{name}: {}", mark.0));
            }
        }
    }
    let idle: Vec<&str> = checks.iter().filter(|(_, looked)| **looked == 0).map(|(name, _)| name.as_str()).collect();
    unknown.retain(|oracle, times| *times * 100 > UNKNOWN_MAX_PERCENT * (*times + checks.get(oracle).unwrap_or(&0)));
    let undecided: Vec<String> = unknown.iter().map(|(oracle, times)| format!("{oracle} {times}")).collect();
    let reached: BTreeSet<&str> = marks.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let unreached: Vec<&str> =
        voltron_core::marks::ALL.iter().map(|(name, _)| *name).filter(|name| !reached.contains(name)).collect();
    let few = seeds.beyond - seeds.first < SWEEP;
    let whole = args.scenarios.is_empty() && !few;
    if args.json {
        let summary = serde_json::json!({
            "summary": true, "seeds": count, "failed": failed, "marks_missing": missing,
            "marks_unreached": unreached, "checks": checks, "idle": idle, "undecided": undecided,
            "hash": of_all(&hashes),
        });
        say(&summary.to_string());
    } else {
        let all = voltron_core::marks::ALL.len();
        say(&format!("{count} seeds, {failed} failed, {} of {all} marks reached", reached.len()));
        if !unreached.is_empty() {
            say(&format!("marks not reached: {}", unreached.join(", ")));
        }
        let looked: Vec<String> = checks.iter().map(|(name, looked)| format!("{name} {looked}")).collect();
        say(&format!("oracles looked: {}", looked.join(", ")));
        if whole && !idle.is_empty() {
            say(&format!("oracles that never looked, which is a defect: {}", idle.join(", ")));
        }
        if !undecided.is_empty() {
            let list = undecided.join(", ");
            say(&format!("oracles that left more than {UNKNOWN_MAX_PERCENT} % undecided, which is a defect: {list}"));
        }
        if !missing.is_empty() {
            say(&format!("marks that these seeds should reach and did not: {}", missing.join(", ")));
        }
    }
    Ok(failed == 0 && (missing.is_empty() || few) && undecided.is_empty() && (idle.is_empty() || !whole))
}

/// One hash over every verdict and trace, in whatever order they came in: 16 hex digits.
fn of_all(hashes: &BTreeMap<(String, u64), (bool, String)>) -> String {
    let mut all = Sha256::new();
    for ((scenario, seed), (ok, hash)) in hashes {
        all.update(format!("{scenario} {seed} {ok} {hash}\n"));
    }
    all.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many processes at once; 0: one a core.
pub(crate) fn jobs(wanted: usize) -> usize {
    if wanted > 0 { wanted } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// The same seed twice, with nothing in common but the seed; true if the traces are equal.
pub(crate) async fn meta(args: &MetaArgs) -> Result<bool, String> {
    let mut equal = true;
    let deciding = Deciding::start(Brain::Model)?;
    let way = Way { engine: args.engine, brain: Brain::Model, mutant: args.mutant.as_deref(), twin: false };
    for name in files::chosen(&args.scenarios)? {
        let folder = std::env::temp_dir().join(format!("arqon-meta-{}-{}", std::process::id(), args.seed));
        std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let (first, second) = (folder.join("first.jsonl"), folder.join("second.jsonl"));
        let worlds = [
            (&first, Pretence { salt: 1, date_ms: 1_000_000_000_000 }, [("LANG", "C"), ("TZ", "UTC"), ("HOME", "/")]),
            (
                &second,
                Pretence { salt: 0xFEED, date_ms: 2_000_000_000_123 },
                [("LANG", "de_DE.UTF-8"), ("TZ", "Pacific/Kiritimati"), ("HOME", "/nonexistent/and/much/longer")],
            ),
        ];
        let tellings = worlds.iter().map(|(trace, pretence, env)| {
            child(name.clone(), args.seed, way, &deciding, Some(trace.as_path()), *pretence, env)
        });
        let mut hashes = Vec::new();
        for verdict in futures_util::future::try_join_all(tellings).await? {
            if verdict.hash.is_empty() {
                return Err(verdict.text(&files::commit()));
            }
            hashes.push((verdict.hash, verdict.records));
        }
        let same = hashes[0] == hashes[1];
        if same {
            say(&format!("ok     {name} seed {}  hash {} over {} records, twice", args.seed, hashes[0].0, hashes[0].1));
        } else {
            equal = false;
            say(&format!("FAILED {name} seed {}  {} and {}", args.seed, hashes[0].0, hashes[1].0));
            say(&difference(&first, &second).map_err(|error| format!("cannot compare the traces: {error}"))?);
        }
        // Kept if they differ: somebody will want to look.
        if same {
            let _ = std::fs::remove_dir_all(&folder);
        } else {
            say(&format!("       traces: {} {}", first.display(), second.display()));
        }
    }
    Ok(equal)
}

/// The first line that differs, in both tellings.
fn difference(first: &Path, second: &Path) -> std::io::Result<String> {
    let open = |path: &Path| std::fs::File::open(path).map(|file| BufReader::new(file).lines());
    let (mut a, mut b) = (open(first)?, open(second)?);
    let mut line = 0_u64;
    loop {
        line += 1;
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok("       the traces are equal, the hashes are not".to_owned()),
            (a, b) if a != b => {
                let told = |line: Option<String>| line.unwrap_or_else(|| "(the trace ends)".to_owned());
                return Ok(format!("       line {line} first:  {}\n       line {line} second: {}", told(a), told(b)));
            }
            _ => {}
        }
    }
}

/// What a seed runs on, as the command line says it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way<'a> {
    pub(crate) engine: Engine,
    pub(crate) brain: Brain,
    pub(crate) mutant: Option<&'a str>,
    /// The second run of a scenario with a twin.
    pub(crate) twin: bool,
}

impl Way<'_> {
    /// The command that runs one seed again.
    pub(crate) fn replay(self, scenario: &str, seed: u64) -> String {
        let planted = self.mutant.map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
        let twin = if self.twin { " --twin" } else { "" };
        format!("cargo sim replay {scenario} --seed {seed}{}{}{planted}{twin}", self.engine, self.brain.argument())
    }
}

/// The command that runs one seed again, on the default engine and with the model.
pub(crate) fn replay(scenario: &str, seed: u64, mutant: Option<&str>) -> String {
    Way { mutant, ..Way::default() }.replay(scenario, seed)
}

/// Runs one seed in a process of its own, with the model.
pub(crate) async fn ordinary(
    engine: Engine,
    scenario: &str,
    seed: u64,
    mutant: Option<&str>,
    trace: Option<&Path>,
) -> Result<Verdict, String> {
    let way = Way { engine, mutant, ..Way::default() };
    child(scenario.to_owned(), seed, way, &Deciding::start(Brain::Model)?, trace, Pretence::default(), &[]).await
}

/// Runs one seed, and its twin if it has one: T2 compares what the others saw.
async fn seed_of(name: String, seed: u64, way: Way<'_>, deciding: &Deciding, twin: bool) -> Result<Verdict, String> {
    let mut run = child(name.clone(), seed, way, deciding, None, Pretence::default(), &[]).await?;
    if !twin || !run.ok {
        run.lists.clear();
        return Ok(run);
    }
    let way = Way { twin: true, ..way };
    let without = child(name, seed, way, deciding, None, Pretence::default(), &[]).await?;
    if !without.ok {
        return Ok(Verdict { lists: Lists::new(), ..without });
    }
    let compared = run.lists.values().map(|list| list.len() as u64).sum();
    run.checks.insert("T2".to_owned(), compared);
    for (mark, times) in without.marks {
        *run.marks.entry(mark).or_default() += times;
    }
    if let Some(what) = twin::difference(&run.lists, &without.lists) {
        run.ok = false;
        run.oracle = Some("T2".to_owned());
        run.what = Some(what);
        // Two runs: `run` does both, `replay --twin` shows the second.
        run.replay = run.replay.replacen("replay", "run", 1);
    }
    run.lists.clear();
    Ok(run)
}

/// Runs one seed in a process of its own. `deciding` holds the cores that [`Way::brain`] names.
async fn child(
    scenario: String,
    seed: u64,
    way: Way<'_>,
    deciding: &Deciding,
    trace: Option<&Path>,
    pretence: Pretence,
    env: &[(&str, &str)],
) -> Result<Verdict, String> {
    let mut command = tokio::process::Command::new(way.engine.program()?);
    command.args(["one", &scenario, "--seed", &seed.to_string()]);
    command.args(["--salt", &pretence.salt.to_string(), "--date-ms", &pretence.date_ms.to_string()]);
    command.args(deciding.arguments());
    if let Some(mutant) = way.mutant {
        command.args(["--mutant", mutant]);
    }
    if way.engine == Engine::Turmoil {
        command.args(["--engine", "turmoil"]);
    }
    if way.twin {
        command.arg("--twin");
    }
    if let Some(trace) = trace {
        command.arg("--trace").arg(trace);
    }
    for (key, value) in env {
        command.env(key, value);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let begun = Instant::now();
    let limit = std::time::Duration::from_secs(SEED_LIMIT_S);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(output) => output.map_err(|error| format!("cannot run one seed: {error}"))?,
        Err(_) => {
            let what = format!("no end after {SEED_LIMIT_S} s on the wall clock");
            return Ok(finish(Verdict::broken(seed, &scenario, what), begun, way));
        }
    };
    // 2: bad use, the same for every seed.
    if output.status.code() == Some(2) {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let verdict = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
        Verdict::broken(seed, &scenario, format!("{}: {}", output.status, tail.join("\n       ")))
    });
    Ok(finish(verdict, begun, way))
}

fn finish(mut verdict: Verdict, begun: Instant, way: Way<'_>) -> Verdict {
    verdict.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    verdict.replay = way.replay(&verdict.scenario, verdict.seed);
    verdict
}

fn progress(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seeds);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {per_sec}  {msg}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
