//! `cargo sim bench`: how fast the simulator is on this machine, and what its time goes into. It judges every run as `run`
//! does, and holds no figure to a limit: the bars are printed beside what was measured.

use std::path::Path;

use serde::Serialize;
use sim_tests::verdict::Verdict;

use crate::args::BenchArgs;
use crate::engine::Engine;
use crate::files;
use crate::one::say;
use crate::sweep::ordinary;

/// The world that the bars speak of: every client acts once a second, half of them hear it. Settling is virtual time like
/// any other.
const WORLD: World =
    World { shields: 2, brains: 3, rooms: 1, clients: 24, every: "500ms..1500ms", run_s: 30, faults: Faults::Off };

/// Smoke's size, traffic and faults, for a third of its time: what an engineer waits for before a commit.
const SMOKE: World =
    World { brains: 2, rooms: 2, clients: 8, every: "150ms..450ms", run_s: 10, faults: Faults::Smoke, ..WORLD };

/// What time costs if nobody does anything but one command a client: heartbeats and pings all the while.
const IDLE: World = World { every: "29s", ..WORLD };

/// What is varied against [`WORLD`], one thing at a time. The pause between two operations keeps the rate of commands where
/// it is not what varies.
const VARIED: &[(&str, World)] = &[
    ("the world of the bars", WORLD),
    ("nothing to do", IDLE),
    ("fewer hosts", World { shields: 1, brains: 1, ..WORLD }),
    ("more hosts", World { shields: 4, brains: 8, ..WORLD }),
    ("4 times the clients, the same commands", World { clients: 96, every: "2s..6s", ..WORLD }),
    ("4 times the commands", World { every: "125ms..375ms", ..WORLD }),
];

/// A world of two tenants that settles for 10 s.
#[derive(Clone, Copy)]
struct World {
    shields: u32,
    brains: u32,
    /// Of each tenant; a tenant's clients hear all of them.
    rooms: u32,
    clients: u32,
    every: &'static str,
    run_s: u32,
    faults: Faults,
}

#[derive(Clone, Copy)]
enum Faults {
    Off,
    /// As `scenarios/smoke.toml` has them.
    Smoke,
    /// Drawn by the seed.
    Swarm,
}

impl World {
    /// The hosts that the engine keeps: the broker and two for the clients stand in every world.
    fn hosts(&self) -> u32 {
        self.shields + self.brains + 1 + sim_tests::plan::FARMS
    }

    fn scenario(&self) -> String {
        let Self { shields, brains, rooms, clients, every, run_s, faults } = self;
        let faults = match faults {
            Faults::Off => "[faults]\n",
            Faults::Smoke => {
                "[faults.hold]\nbetween = [\"brain | broker\", \"shield | broker\"]\nevery = \"5s..9s\"\nlasts = \
                 \"100ms..900ms\"\n[faults.crash]\ntarget = \"shield\"\nevery = \"8s..14s\"\nlasts = \"500ms..2s\"\n"
            }
            Faults::Swarm => "",
        };
        format!(
            "about = \"A world to measure.\"\n[world]\nshields = {shields}\nbrains = {brains}\ntenants = 2\nrooms = {rooms}\n\
             clients = {clients}\nrun = \"{run_s}s\"\nsettle = \"10s\"\n[traffic]\nevery = \"{every}\"\npublish = 60\n\
             set = 20\nrepeat = 5\nresume = 2\n{faults}"
        )
    }
}

/// What some seeds of one world took together.
#[derive(Clone, Debug, Default, Serialize)]
struct Sum {
    what: String,
    hosts: u32,
    clients: u32,
    seeds: u64,
    virtual_s: f64,
    /// From the start of each process to its verdict, planning and judging included; one process at a time.
    wall_s: f64,
    /// What of it those processes had a core.
    core_s: f64,
    records: u64,
    commands: u64,
    failed: u64,
}

impl Sum {
    fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        self.virtual_s += verdict.virtual_s;
        self.wall_s += verdict.wall_ms as f64 / 1e3;
        // Without the kernel's account the wall clock has to do: the process was alone on its core, or it looks slower.
        self.core_s += if verdict.cpu_us > 0 { verdict.cpu_us as f64 / 1e6 } else { verdict.wall_ms as f64 / 1e3 };
        self.records += verdict.records;
        self.commands += verdict.counts.sent;
        self.failed += u64::from(!verdict.ok);
    }

    fn line(&self) -> String {
        format!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            self.what,
            self.hosts,
            self.clients,
            self.commands as f64 / self.virtual_s,
            self.records as f64 / self.virtual_s,
            self.virtual_s / self.wall_s,
            self.virtual_s / self.core_s,
            1e6 * self.core_s / self.virtual_s,
        )
    }
}

/// A figure beside what it should be at least.
#[derive(Clone, Debug, Serialize)]
struct Bar {
    what: &'static str,
    per_wall_s: f64,
    per_core_s: f64,
    bar: f64,
}

#[derive(Serialize)]
struct Report {
    cpu: String,
    cores: usize,
    load: String,
    commit: String,
    profile: String,
    seeds: u64,
    bars: Vec<Bar>,
    table: Vec<Sum>,
    bound: String,
}

/// Measures; true if every run held.
pub(crate) async fn run(args: &BenchArgs) -> Result<bool, String> {
    let profile = profile();
    if !optimised(&profile) && !args.json {
        say(&format!(
            "THIS IS A BUILD OF THE PROFILE `{profile}`: its figures say nothing. Measure with `cargo xtask bench sim`.\n"
        ));
    }
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let (cpu, cores) = machine();
    let load = load();
    let calm = measure(folder.path(), "without faults", WORLD, args.seeds).await?;
    // Swarmed faults are off in some seeds and heavy in others: more of them, so that both count.
    let swarm = World { faults: Faults::Swarm, ..WORLD };
    let swarm = measure(folder.path(), "under the swarm's faults", swarm, 2 * args.seeds).await?;
    let smoke = measure(folder.path(), "smoke-sized", SMOKE, 2 * args.seeds).await?;
    let mut table = Vec::new();
    for (what, world) in VARIED {
        table.push(measure(folder.path(), what, *world, args.seeds.div_ceil(2)).await?);
    }
    let pace = |what, of: &Sum, bar| Bar {
        what,
        per_wall_s: of.virtual_s / of.wall_s,
        per_core_s: of.virtual_s / of.core_s,
        bar,
    };
    let seeds = smoke.seeds as f64;
    let bars = vec![
        pace("virtual seconds, without faults", &calm, 200.0),
        pace("virtual seconds, under the swarm's faults", &swarm, 100.0),
        Bar {
            what: "smoke-sized seeds (10 s and 10 s to settle, 8 clients)",
            per_wall_s: seeds / smoke.wall_s,
            per_core_s: seeds / smoke.core_s,
            bar: 10.0,
        },
    ];
    let failed = [&calm, &swarm, &smoke].into_iter().chain(&table).map(|sum| sum.failed).sum::<u64>();
    let bound = bound(&table[0], &table[1]);
    let report = Report { cpu, cores, load, commit: files::commit(), profile, seeds: args.seeds, bars, table, bound };
    if args.json {
        say(&serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        tell(&report);
        if failed > 0 {
            say(&format!("\nFAILED {failed} of these runs broke a promise: `cargo sim run` first"));
        }
    }
    Ok(failed == 0)
}

/// Some seeds of one world, one process after the other.
async fn measure(folder: &Path, what: &str, world: World, seeds: u64) -> Result<Sum, String> {
    let path = folder.join("world.toml");
    std::fs::write(&path, world.scenario()).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = path.to_str().ok_or("the temporary folder's name is no text")?;
    let mut sum = Sum { what: what.to_owned(), hosts: world.hosts(), clients: world.clients, ..Sum::default() };
    for seed in 0..seeds.max(1) {
        let verdict = ordinary(Engine::Leap, name, seed, None, None).await?;
        if !verdict.ok {
            voltron_core::console::note(&verdict.text(&files::commit()));
        }
        sum.add(&verdict);
    }
    Ok(sum)
}

fn tell(report: &Report) {
    let Report { cpu, cores, load, commit, profile, .. } = report;
    say(&format!("{cpu}, {cores} cores, load {load} before; commit {commit}, profile `{profile}`\n"));
    say("One process at a time. Per core second: what the processes had of a core, whoever else was running.\n");
    say("| what | per wall second | per core second | bar |\n| --- | --- | --- | --- |");
    for Bar { what, per_wall_s, per_core_s, bar } in &report.bars {
        let place = if per_core_s >= bar { "reached" } else { "MISSED" };
        say(&format!("| {what} | {per_wall_s:.1} | {per_core_s:.1} | {bar:.0}: {place} |"));
    }
    say(
        "\n| world | hosts | clients | commands/s | records/s | virtual s per wall s | per core s | core us per virtual s |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- | --- |");
    report.table.iter().for_each(|sum| say(&sum.line()));
    say(&format!("\n{}", report.bound));
}

/// What the time of the first world goes into, told by the second, in which nothing is asked of the same hosts.
fn bound(busy: &Sum, idle: &Sum) -> String {
    let (of_busy, of_idle) = (busy.core_s / busy.virtual_s, idle.core_s / idle.virtual_s);
    let commands = busy.commands as f64 / busy.virtual_s - idle.commands as f64 / idle.virtual_s;
    let share = 100.0 * of_idle / of_busy;
    format!(
        "A virtual second costs {:.2} ms of a core: {:.2} ms ({share:.0} %) with nothing to do (heartbeats, pings, \
         starting up), the rest for {commands:.0} commands of {:.0} us each, from one client to {} readers and through \
         the oracles.",
        1e3 * of_busy,
        1e3 * of_idle,
        1e6 * (of_busy - of_idle) / commands.max(1.0),
        busy.clients / 2,
    )
}

/// The profile that this was built with: cargo's name of the folder.
fn profile() -> String {
    let folder = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.file_name()?.to_str()?.to_owned()));
    folder.unwrap_or_else(|| "unknown".to_owned())
}

fn optimised(profile: &str) -> bool {
    matches!(profile, "sim" | "release")
}

/// The processor's name and how many of its cores this process may use.
fn machine() -> (String, usize) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned());
    (model, std::thread::available_parallelism().map_or(1, usize::from))
}

/// The machine's load over the last minute.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}
