//! Does what the plan says goes wrong: faults at their times, scripted steps when their event has happened. Everything
//! it does stands in the trace, and at the end of the run it undoes all of it.
//!
//! Faults may overlap: what holds for a link, a process or a clock at any time follows from all that are open, so that one
//! which ends, or is left out of the plan, changes nothing of another.

mod links;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spine_sim::{Broker, Rule};
use voltron_core::trace::Record;

use super::cables::Cables;
use super::hosts::Hosts;
use crate::plan::{Plan, WorldPlan};
use crate::scenario::{Act, Aim, Deed, FaultKind, One, Step, Target};
use crate::trace::Trace;
use links::Links;
use watch::Watch;

/// How long after its event a scripted step acts, at most.
const WATCH: Duration = Duration::from_millis(1);

/// Hosts and links that can be troubled: what an engine gives to its nemesis. Hosts go by name; every call takes effect at
/// once, and one that changes nothing is harmless.
pub trait Stage {
    /// Virtual time since the world began.
    fn elapsed(&self) -> Duration;
    /// What is on its way between `a` and `b`, and what they send from now on, waits.
    fn hold(&mut self, a: &str, b: &str);
    /// What waited goes on.
    fn release(&mut self, a: &str, b: &str);
    /// Nothing gets through between `a` and `b`, as if all were lost.
    fn cut(&mut self, a: &str, b: &str);
    /// Nothing gets through from `a` to `b`.
    fn cut_one_way(&mut self, a: &str, b: &str);
    /// Everything gets through again. What was sent meanwhile is sent again, or its connection stays dead until it is reset.
    fn repair(&mut self, a: &str, b: &str);
    /// Every message between `a` and `b` takes so much longer than usual; zero: as usual.
    fn delay(&mut self, a: &str, b: &str, by: Duration);
    /// The process on `host` hangs, as under SIGSTOP: its sockets stay open. False if this engine cannot keep a host from
    /// running.
    fn pause(&mut self, _host: &str) -> bool {
        false
    }
    /// It goes on.
    fn resume(&mut self, _host: &str) {}
    /// The process on `host` dies; connecting to it is refused. Also said of one that has ended by itself.
    fn crash(&mut self, host: &str);
    /// The process on `host` starts again.
    fn start(&mut self, host: &str);
}

/// The nemesis of one run.
pub struct Nemesis {
    world: WorldPlan,
    trace: Trace,
    /// Ascending by (time, order of the plan).
    timeline: BTreeMap<(Duration, usize), Turn>,
    next: usize,
    steps: Vec<Step>,
    watch: Watch,
    seen: usize,
    down: BTreeSet<String>,
    open: BTreeMap<String, Trouble>,
    links: Links,
    broker: Broker,
    hosts: Hosts,
    cables: Cables,
}

#[derive(Debug)]
enum Turn {
    Begin(String, Trouble),
    End(String),
}

/// Something wrong with hosts or links.
#[derive(Clone, Debug)]
struct Trouble {
    kind: FaultKind,
    left: Vec<String>,
    right: Vec<String>,
    lasts: Option<Duration>,
    by_ms: i64,
}

impl Nemesis {
    /// Reads the plan. `broker` is the one that runs on the host of that name.
    pub fn new(plan: &Plan, trace: &Trace, broker: Broker, hosts: Hosts, cables: Cables) -> Self {
        let mut nemesis = Self {
            world: plan.world.clone(),
            trace: trace.clone(),
            timeline: BTreeMap::new(),
            next: 0,
            steps: plan.step.clone(),
            watch: Watch::default(),
            seen: 0,
            down: BTreeSet::new(),
            open: BTreeMap::new(),
            links: Links::new(&plan.world),
            broker,
            hosts,
            cables,
        };
        for fault in &plan.fault {
            let (left, right) = fault.sides().unwrap_or_else(|| (vec![fault.target.clone()], Vec::new()));
            let by_ms = fault.by.as_ref().map_or(0, |One(by)| by.as_ms());
            let trouble = Trouble { kind: fault.kind, left, right, lasts: Some(fault.lasts.0.0), by_ms };
            nemesis.at(fault.at.0.0, Turn::Begin(fault.id.clone(), trouble));
        }
        nemesis
    }

    fn at(&mut self, when: Duration, turn: Turn) {
        self.timeline.insert((when, self.next), turn);
        self.next += 1;
    }

    /// Everything that is due now. Called between two ticks.
    pub fn turn(&mut self, stage: &mut impl Stage) {
        let now = stage.elapsed();
        let lines = self.trace.since(self.seen);
        self.seen += lines.len();
        lines.iter().for_each(|line| self.watch.note(line));
        self.bury(stage);
        if self.links.are_new() {
            self.links.settle(stage, self.open.values());
        }
        let due: Vec<usize> =
            (0..self.steps.len()).filter(|at| self.watch.has(&self.steps[*at].when, now, &self.world)).collect();
        for (gone, index) in due.into_iter().enumerate() {
            let step = self.steps.remove(index - gone);
            self.act(stage, &step.r#do, now);
        }
        while let Some(entry) = self.timeline.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Turn::Begin(id, trouble) => self.begin(stage, id, trouble, now),
                Turn::End(id) => self.end(stage, &id),
            }
        }
    }

    /// When the next turn is needed, if nothing happens before: what the plan says, or, as long as a step waits for an
    /// event, in a moment.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let planned = self.timeline.first_key_value().map(|(key, _)| key.0);
        let steps = self.steps.iter().map(|step| step.when.at.as_ref().map_or(now + WATCH, |One(at)| at.0));
        // Who takes leave is looked after until it has gone.
        let leaving = self.open.values().any(|trouble| trouble.kind == FaultKind::Drain).then_some(now + WATCH);
        planned.into_iter().chain(steps).chain(leaving).min()
    }

    /// The run is over: everything heals and every process runs.
    pub fn heal_all(&mut self, stage: &mut impl Stage) {
        self.timeline.clear();
        self.steps.clear();
        let open: Vec<String> = self.open.keys().cloned().collect();
        open.iter().for_each(|id| self.end(stage, id));
        let down: Vec<String> = self.down.iter().cloned().collect();
        down.iter().for_each(|host| self.start(stage, host));
    }

    fn act(&mut self, stage: &mut impl Stage, act: &Act, now: Duration) {
        self.next += 1;
        let id = format!("step-{}", self.next);
        let Some(deed) = act.deed() else { return };
        let (kind, left, right) = match deed {
            Deed::Hosts(kind, target) => (kind, self.named(act, target, kind.aim()), Vec::new()),
            Deed::Links(kind, link) => {
                let side = |targets: &[Target]| {
                    targets.iter().flat_map(|target| self.named(act, target, kind.aim())).collect::<Vec<_>>()
                };
                let (left, right) = (side(&link.left), side(&link.right));
                if right.is_empty() {
                    return;
                }
                (kind, left, right)
            }
            Deed::Restart(target) => {
                let hosts = self.named(act, target, Aim::Process);
                let off = [FaultKind::Crash, FaultKind::PowerCut, FaultKind::LoseStore, FaultKind::Drain];
                self.end_those(stage, |trouble| off.contains(&trouble.kind) && trouble.left == hosts);
                return hosts.iter().for_each(|host| self.start(stage, host));
            }
            Deed::Resume(target) => {
                let aim = if target.0.starts_with("client") { Aim::Client } else { Aim::Process };
                let hosts = self.named(act, target, aim);
                let still = [FaultKind::Pause, FaultKind::Stall];
                return self.end_those(stage, |trouble| still.contains(&trouble.kind) && trouble.left == hosts);
            }
            Deed::Heal(link) => {
                let wide = self.world.sides(link, Aim::Links);
                let narrow = self.world.sides(link, Aim::Connections);
                let same = |trouble: &Trouble, sides: &(Vec<String>, Vec<String>)| {
                    (&trouble.left, &trouble.right) == (&sides.0, &sides.1)
                };
                return self.end_those(stage, |trouble| same(trouble, &wide) || same(trouble, &narrow));
            }
        };
        let lasts = act.lasts.as_ref().map(|One(span)| span.0);
        let by_ms = act.by.as_ref().map_or(0, |One(by)| by.as_ms());
        self.begin(stage, id, Trouble { kind, left, right, lasts, by_ms }, now);
    }

    /// What a step's target names, roles included.
    fn named(&self, act: &Act, target: &Target, aim: Aim) -> Vec<String> {
        let Some(room) = act.room.filter(|_| target.is_role()) else { return self.world.named(target, aim) };
        let owner = self.watch.owner(&self.world.room(room));
        if target.0 == "owner" {
            return owner.map(str::to_owned).into_iter().collect();
        }
        let brains = self.world.named(&Target("brain".into()), aim);
        brains
            .into_iter()
            .find(|brain| Some(brain.as_str()) != owner && !self.down.contains(brain))
            .into_iter()
            .collect()
    }

    fn begin(&mut self, stage: &mut impl Stage, id: String, trouble: Trouble, now: Duration) {
        if trouble.left.is_empty() {
            // "owner" of a room that nobody owns yet: there is nothing to do it to.
            return;
        }
        let mut target = trouble.left.join(", ");
        if !trouble.right.is_empty() {
            target = format!("{target} | {}", trouble.right.join(", "));
        }
        self.record(Record::Fault { id: id.clone(), kind: trouble.kind.name().to_owned(), target });
        match trouble.kind {
            FaultKind::Hold | FaultKind::Partition | FaultKind::OneWay | FaultKind::Delay => {}
            // Done by a host of its own, which has read the plan: `captured`.
            FaultKind::Captured => {}
            FaultKind::Reset => self.cables.reset(&trouble.left, &trouble.right),
            FaultKind::Silence => self.cables.silence(&trouble.left, &trouble.right),
            FaultKind::Crash => trouble.left.iter().for_each(|host| self.crash(stage, host, false)),
            FaultKind::PowerCut => trouble.left.iter().for_each(|host| self.crash(stage, host, true)),
            FaultKind::LoseStore => trouble.left.iter().for_each(|host| {
                self.crash(stage, host, false);
                self.broker.lose_store();
            }),
            FaultKind::Pause => trouble.left.iter().for_each(|host| self.pause(stage, host)),
            FaultKind::Drain => trouble.left.iter().for_each(|host| self.hosts.stop(host)),
            FaultKind::Stall => trouble.left.iter().for_each(|client| self.cables.set_deaf(client, true)),
            FaultKind::Trickle => trouble.left.iter().for_each(|client| self.cables.set_narrow(client, true)),
            FaultKind::SlowConsumer => trouble.left.iter().for_each(|host| self.cut_off(host)),
            FaultKind::Skew => trouble.left.iter().for_each(|host| self.hosts.clock(host).set(trouble.by_ms)),
            FaultKind::Drift => trouble.left.iter().for_each(|host| self.drift(host, &trouble, now)),
            FaultKind::LoseAck => self.broker.faults(|faults| faults.lose_ack = Rule::every(2)),
            FaultKind::LoseRepublish => self.broker.faults(|faults| faults.drop_republish = Rule::every(3)),
            FaultKind::Undecided => self.broker.faults(|faults| faults.undecided = Rule::every(3)),
            FaultKind::NoResponders => self.broker.faults(|faults| faults.false_no_responders = Rule::every(3)),
        }
        if matches!(trouble.kind, FaultKind::Reset | FaultKind::SlowConsumer) {
            return self.record(Record::Heal { id });
        }
        if let Some(lasts) = trouble.lasts {
            self.at(now + lasts, Turn::End(id.clone()));
        }
        self.open.insert(id, trouble);
        self.links.settle(stage, self.open.values());
    }

    fn end(&mut self, stage: &mut impl Stage, id: &str) {
        let Some(trouble) = self.open.remove(id) else { return };
        let still: Vec<String> =
            trouble.left.iter().filter(|host| !self.is_open(trouble.kind, host)).cloned().collect();
        let last = !self.open.values().any(|other| other.kind == trouble.kind);
        self.links.settle(stage, self.open.values());
        match trouble.kind {
            FaultKind::Hold | FaultKind::Delay | FaultKind::Reset | FaultKind::SlowConsumer | FaultKind::Captured => {}
            // What was lost is never sent again here: both ends learn that the connection is dead.
            FaultKind::Partition | FaultKind::OneWay => self.cables.reset(&trouble.left, &trouble.right),
            FaultKind::Silence => self.cables.reset(&trouble.left, &trouble.right),
            FaultKind::Crash | FaultKind::PowerCut | FaultKind::LoseStore => {
                still.iter().for_each(|host| self.start(stage, host))
            }
            FaultKind::Drain => still.iter().for_each(|host| {
                // Whoever has not gone by now is killed.
                self.crash(stage, host, false);
                self.start(stage, host);
            }),
            FaultKind::Pause => still.iter().for_each(|host| {
                stage.resume(host);
                self.cables.set_paused(host, false);
            }),
            FaultKind::Stall => still.iter().for_each(|client| self.cables.set_deaf(client, false)),
            FaultKind::Trickle => still.iter().for_each(|client| self.cables.set_narrow(client, false)),
            FaultKind::Skew | FaultKind::Drift => still.iter().for_each(|host| self.hosts.clock(host).set(0)),
            FaultKind::LoseAck if last => self.broker.faults(|faults| faults.lose_ack = Rule::Off),
            FaultKind::LoseRepublish if last => self.broker.faults(|faults| faults.drop_republish = Rule::Off),
            FaultKind::NoResponders if last => self.broker.faults(|faults| faults.false_no_responders = Rule::Off),
            FaultKind::Undecided if last => {
                self.broker.faults(|faults| faults.undecided = Rule::Off);
                self.broker.settle_undecided(true);
            }
            FaultKind::LoseAck | FaultKind::LoseRepublish | FaultKind::NoResponders | FaultKind::Undecided => {}
        }
        self.record(Record::Heal { id: id.to_owned() });
    }

    fn end_those(&mut self, stage: &mut impl Stage, of: impl Fn(&Trouble) -> bool) {
        let ids: Vec<String> = self.open.iter().filter(|(_, trouble)| of(trouble)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.end(stage, id));
    }

    /// True if another open fault keeps this host in the same state: down, paused, off.
    fn is_open(&self, kind: FaultKind, host: &String) -> bool {
        let state = |kind: FaultKind| match kind {
            FaultKind::Crash | FaultKind::PowerCut | FaultKind::LoseStore => FaultKind::Crash,
            FaultKind::Skew | FaultKind::Drift => FaultKind::Skew,
            other => other,
        };
        self.open.values().any(|other| state(other.kind) == state(kind) && other.left.contains(host))
    }

    fn crash(&mut self, stage: &mut impl Stage, host: &str, power: bool) {
        if self.down.insert(host.to_owned()) {
            self.record(Record::Crash { host: host.to_owned() });
            self.cables.set_down(host, true);
            stage.crash(host);
            if host == "broker" {
                // If only the process dies, and the machine does not, nothing that was written is lost.
                self.broker.crash(power);
            }
        }
    }

    fn start(&mut self, stage: &mut impl Stage, host: &str) {
        if self.down.remove(host) {
            self.record(Record::Start { host: host.to_owned() });
            self.cables.set_down(host, false);
            stage.start(host);
        }
    }

    /// A process that was told to stop and has ended is gone: nobody can connect to it until it starts again.
    fn bury(&mut self, stage: &mut impl Stage) {
        let gone: Vec<String> = self
            .open
            .values()
            .filter(|trouble| trouble.kind == FaultKind::Drain)
            .flat_map(|trouble| &trouble.left)
            .filter(|host| self.hosts.has_ended(host) && !self.down.contains(*host))
            .cloned()
            .collect();
        for host in gone {
            self.cables.set_down(&host, true);
            stage.crash(&host);
            self.down.insert(host);
        }
    }

    /// Where the engine cannot keep a host from running, its sockets are taken away: it neither reads, writes nor accepts.
    /// What that leaves out: its timers go on, so it acts on timeouts while a stopped process would not; and a new
    /// connection waits until the process goes on, where a kernel would have accepted it.
    fn pause(&self, stage: &mut impl Stage, host: &str) {
        if !stage.pause(host) {
            self.cables.set_paused(host, true);
        }
    }

    /// The broker disconnects every connection of a node, as nats-server does with a client that reads too slowly.
    fn cut_off(&self, host: &str) {
        for role in ["shield", "writer", "speaker"] {
            self.broker.cut(&format!("{role}-{host}"));
        }
    }

    fn drift(&self, host: &str, trouble: &Trouble, now: Duration) {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let ends = now + trouble.lasts.unwrap_or(self.world.run.0.0.saturating_sub(now));
        self.hosts.clock(host).drift(ms(now), ms(ends), trouble.by_ms);
    }

    fn record(&self, record: Record) {
        self.trace.push("harness", record);
    }
}
