//! `replay --html`: one run as a self-contained page. Lanes per host and client, arrows from cause to effect, shaded
//! faults, what got lost, the room at the cursor, and the violated oracle ringed. It opens from disk in any browser and
//! asks nobody for anything.
//!
//! What causes what is found here ([`causes`]), so that it can be tested without a browser; the page only draws.

pub mod causes;

use serde::Serialize;
use voltron_core::trace::{Line, Record};

use crate::oracles::{LOG_HOST, Violation};
use crate::plan::FARMS;
use causes::{Cause, Loss};

const PAGE: &str = include_str!("timeline/page.html");
const STYLE: &str = include_str!("timeline/page.css");
const SCRIPT: &str = include_str!("timeline/page.js");

/// One run, for people.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// Its seed.
    pub seed: u64,
    /// The commit it ran on.
    pub commit: &'a str,
    /// The command that runs it again.
    pub replay: &'a str,
    /// The whole trace; `n` is the index.
    pub lines: &'a [Line],
    /// What the oracles object to.
    pub violations: &'a [Violation],
}

/// What the page reads.
#[derive(Serialize)]
struct Data<'a> {
    scenario: &'a str,
    seed: u64,
    commit: &'a str,
    replay: &'a str,
    lanes: Vec<Lane>,
    lines: Vec<&'a Line>,
    /// For each line: its lane.
    lane: Vec<usize>,
    /// For each line: the lines that it follows from.
    causes: Vec<Vec<Cause>>,
    lost: Vec<Loss>,
    faults: Vec<Fault>,
    violations: &'a [Violation],
}

/// A row of the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// A client, or a host.
    pub name: String,
    /// `client`, `shield`, `broker`, `brain` or `harness`: rows of one group stand together.
    pub group: &'static str,
}

/// An interval in which something was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its name.
    pub id: String,
    /// What.
    pub kind: String,
    /// The rows that it shades.
    pub lanes: Vec<usize>,
    /// Microseconds.
    pub from: u64,
    /// Microseconds; the end of the run if it never healed.
    pub to: u64,
}

/// The page.
pub fn html(run: &Run<'_>) -> String {
    // What was read from the log when all was over has no place in time: the oracles need it, the picture does not.
    let shown = run.lines.iter().take_while(|line| line.host != LOG_HOST).count();
    let lines = &run.lines[..shown];
    let lanes = lanes(lines);
    let lane = lines.iter().map(|line| place(&lanes, line)).collect();
    let found = causes::find(lines);
    let data = Data {
        scenario: run.scenario,
        seed: run.seed,
        commit: run.commit,
        replay: run.replay,
        lane,
        causes: found.causes,
        lost: found.lost,
        faults: faults(lines, &lanes),
        lanes,
        lines: lines.iter().collect(),
        violations: run.violations,
    };
    let json = serde_json::to_string(&data).expect("every key is a string");
    // `</script>` in a value would end the element that holds it.
    let json = json.replace('<', "\\u003c");
    PAGE.replace("{{title}}", &escape(&format!("{} seed {}", run.scenario, run.seed)))
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &json)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The row that a line belongs to: the client that speaks, else the host.
fn actor(line: &Line) -> (&str, &'static str) {
    match &line.record {
        Record::Grant { c, .. }
        | Record::Bad { c, .. }
        | Record::Told { c, .. }
        | Record::Open { c, .. }
        | Record::Shut { c, .. }
        | Record::Send { c, .. }
        | Record::Ack { c, .. }
        | Record::Recv { c, .. }
        | Record::Sub { c, .. }
        | Record::Snap { c, .. }
        | Record::Unsub { c, .. }
        | Record::Get { c, .. }
        | Record::Got { c, .. }
        | Record::Gap { c, .. }
        | Record::Want { c, .. }
        | Record::Leave { c, .. }
        | Record::Denied { c, .. }
        | Record::Seen { c, .. } => (c, "client"),
        Record::Crash { host } | Record::Start { host } => (host, group(host)),
        _ => (&line.host, group(&line.host)),
    }
}

fn group(host: &str) -> &'static str {
    match host.split('-').next().unwrap_or_default() {
        "client" | "clients" => "client",
        "shield" => "shield",
        "brain" => "brain",
        "broker" => "broker",
        _ => "harness",
    }
}

/// All rows: clients above, then along a message's way.
fn lanes(lines: &[Line]) -> Vec<Lane> {
    const ORDER: [&str; 5] = ["client", "shield", "broker", "brain", "harness"];
    let mut found: Vec<(usize, u64, &str, &'static str)> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for (name, group) in lines.iter().map(actor) {
        if known.insert(name) {
            let order = ORDER.iter().position(|one| *one == group).unwrap_or(ORDER.len());
            let number = name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            found.push((order, number, name, group));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, _, name, group)| Lane { name: name.to_owned(), group }).collect()
}

fn place(lanes: &[Lane], line: &Line) -> usize {
    let (name, _) = actor(line);
    lanes.iter().position(|lane| lane.name == name).unwrap_or(0)
}

/// Every interval between a fault and its end. A crash is its process' until that starts again.
fn faults(lines: &[Line], lanes: &[Lane]) -> Vec<Fault> {
    let last = lines.last().map_or(0, |line| line.t);
    let mut all: Vec<Fault> = Vec::new();
    for line in lines {
        match &line.record {
            Record::Fault { id, kind, target } => {
                let lanes = struck(target, lanes);
                all.push(Fault { id: id.clone(), kind: kind.clone(), lanes, from: line.t, to: last });
            }
            Record::Heal { id } => {
                if let Some(fault) = all.iter_mut().rev().find(|fault| fault.id == *id) {
                    fault.to = line.t;
                }
            }
            _ => {}
        }
    }
    all
}

/// The rows of `brain-1, brain-2 | broker`. A host of farmed clients stands for all of them.
fn struck(target: &str, lanes: &[Lane]) -> Vec<usize> {
    let names: Vec<&str> = target.split(['|', ',']).map(str::trim).collect();
    let number = |name: &str, group: &str| name.strip_prefix(group).and_then(|n| n.parse::<u32>().ok());
    let farms: Vec<u32> = names.iter().filter_map(|name| number(name, "clients-")).collect();
    let farmed = |lane: &Lane| {
        let client = number(&lane.name, "client-");
        client.is_some_and(|client| farms.iter().any(|farm| farm % FARMS == client % FARMS))
    };
    let rows = lanes.iter().enumerate().filter(|(_, lane)| names.contains(&lane.name.as_str()) || farmed(lane));
    rows.map(|(row, _)| row).collect()
}

#[cfg(test)]
mod tests;
