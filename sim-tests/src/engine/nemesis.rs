//! Does what the plan says goes wrong: faults at their times, scripted steps when their event has happened. Everything
//! it does stands in the trace, and at the end of the run it undoes all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spine_sim::{Broker, Rule};
use voltron_core::trace::{Line, Record};

use crate::plan::{Plan, WorldPlan};
use crate::scenario::{Act, FaultKind, NthAppend, One, Step, Target, When};
use crate::trace::Trace;

/// Hosts and links that can be troubled: what an engine gives to its nemesis. Hosts go by name; every call takes effect at
/// once, and one that changes nothing is harmless.
pub trait Stage {
    /// Virtual time since the world began.
    fn elapsed(&self) -> Duration;
    /// What is on its way between `a` and `b`, and what they send from now on, waits.
    fn hold(&mut self, a: &str, b: &str);
    /// What waited goes on.
    fn release(&mut self, a: &str, b: &str);
    /// Everything between `a` and `b` is lost.
    fn cut(&mut self, a: &str, b: &str);
    /// Everything from `a` to `b` is lost.
    fn cut_one_way(&mut self, a: &str, b: &str);
    /// Nothing is lost any more. Connections that lost something stay dead until they are [`reset`](Self::reset).
    fn repair(&mut self, a: &str, b: &str);
    /// Both ends of every connection between the two sides see it reset.
    fn reset(&mut self, left: &[String], right: &[String]);
    /// The process on `host` dies; connecting to it is refused.
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
    broker: Broker,
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
}

/// What scripted steps can wait for or aim at.
#[derive(Debug, Default)]
struct Watch {
    owners: BTreeMap<String, String>,
    appends: BTreeMap<String, u64>,
    marks: BTreeMap<String, u64>,
}

impl Nemesis {
    /// Reads the plan. `broker` is the one that runs on the host of that name.
    pub fn new(plan: &Plan, trace: &Trace, broker: Broker) -> Self {
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
            broker,
        };
        for fault in &plan.fault {
            let (left, right) = fault.sides().unwrap_or_else(|| (vec![fault.target.clone()], Vec::new()));
            let trouble = Trouble { kind: fault.kind, left, right, lasts: Some(fault.lasts.0.0) };
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
        let lasts = act.lasts.as_ref().map(|One(span)| span.0);
        let hosts = |target: &Target| match act.room {
            Some(room) => self.watch.owners.get(&self.world.room(room)).cloned().into_iter().collect(),
            None => self.world.hosts(target),
        };
        if let Some(One(target)) = &act.restart {
            for host in hosts(target) {
                self.start(stage, &host);
            }
            return;
        }
        if let Some(One(link)) = &act.heal {
            let (left, right) = self.world.sides(link);
            let same = |trouble: &Trouble| trouble.left == left && trouble.right == right;
            let open: Vec<_> =
                self.open.iter().filter(|(_, trouble)| same(trouble)).map(|(id, _)| id.clone()).collect();
            open.iter().for_each(|id| self.end(stage, id));
            return;
        }
        let (kind, left, right) = if let Some(One(target)) = &act.crash {
            (FaultKind::Crash, hosts(target), Vec::new())
        } else {
            let links =
                [(FaultKind::Hold, &act.hold), (FaultKind::Partition, &act.cut), (FaultKind::Reset, &act.reset)];
            let Some((kind, One(link))) = links.iter().find_map(|(kind, link)| Some((*kind, link.as_ref()?))) else {
                return;
            };
            let (left, right) = self.world.sides(link);
            (kind, left, right)
        };
        self.begin(stage, id, Trouble { kind, left, right, lasts }, now);
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
        let pairs = || trouble.left.iter().flat_map(|a| trouble.right.iter().map(move |b| (a.as_str(), b.as_str())));
        match trouble.kind {
            FaultKind::Hold => pairs().for_each(|(a, b)| stage.hold(a, b)),
            FaultKind::Partition => pairs().for_each(|(a, b)| stage.cut(a, b)),
            FaultKind::OneWay => pairs().for_each(|(a, b)| stage.cut_one_way(a, b)),
            FaultKind::Reset => {
                stage.reset(&trouble.left, &trouble.right);
                return self.record(Record::Heal { id });
            }
            FaultKind::Crash => trouble.left.iter().for_each(|host| self.crash(stage, host)),
            FaultKind::LoseAck => self.broker.faults(|faults| faults.lose_ack = Rule::every(2)),
            FaultKind::LoseRepublish => self.broker.faults(|faults| faults.drop_republish = Rule::every(3)),
            FaultKind::Undecided => self.broker.faults(|faults| faults.undecided = Rule::every(3)),
        }
        if let Some(lasts) = trouble.lasts {
            self.at(now + lasts, Turn::End(id.clone()));
        }
        self.open.insert(id, trouble);
    }

    fn end(&mut self, stage: &mut impl Stage, id: &str) {
        let Some(trouble) = self.open.remove(id) else { return };
        let pairs = || trouble.left.iter().flat_map(|a| trouble.right.iter().map(move |b| (a.as_str(), b.as_str())));
        match trouble.kind {
            FaultKind::Hold => pairs().for_each(|(a, b)| stage.release(a, b)),
            FaultKind::Partition | FaultKind::OneWay => {
                pairs().for_each(|(a, b)| stage.repair(a, b));
                // What was lost is never sent again here: both ends learn that the connection is dead.
                stage.reset(&trouble.left, &trouble.right);
            }
            FaultKind::Reset => {}
            FaultKind::Crash => trouble.left.iter().for_each(|host| self.start(stage, host)),
            FaultKind::LoseAck => self.broker.faults(|faults| faults.lose_ack = Rule::Off),
            FaultKind::LoseRepublish => self.broker.faults(|faults| faults.drop_republish = Rule::Off),
            FaultKind::Undecided => {
                self.broker.faults(|faults| faults.undecided = Rule::Off);
                self.broker.settle_undecided(true);
            }
        }
        self.record(Record::Heal { id: id.to_owned() });
    }

    fn crash(&mut self, stage: &mut impl Stage, host: &str) {
        if self.down.insert(host.to_owned()) {
            self.record(Record::Crash { host: host.to_owned() });
            stage.crash(host);
            if host == "broker" {
                // The process dies, the machine does not: nothing that was written is lost.
                self.broker.crash(false);
            }
        }
    }

    fn start(&mut self, stage: &mut impl Stage, host: &str) {
        if self.down.remove(host) {
            self.record(Record::Start { host: host.to_owned() });
            stage.start(host);
        }
    }

    fn record(&self, record: Record) {
        self.trace.push("harness", record);
    }
}

impl Watch {
    fn note(&mut self, line: &Line) {
        match &line.record {
            Record::Owned { room, .. } => {
                self.owners.insert(room.clone(), line.host.clone());
            }
            Record::Append { subject, .. } => {
                if let Some(room) = log_room(subject) {
                    *self.appends.entry(room).or_default() += 1;
                }
            }
            Record::Mark { name } => *self.marks.entry(name.clone()).or_default() += 1,
            _ => {}
        }
    }

    fn has(&self, when: &When, now: Duration, world: &WorldPlan) -> bool {
        match when {
            When { at: Some(One(at)), .. } => at.0 <= now,
            When { spine_append: Some(NthAppend { room, nth }), .. } => {
                self.appends.get(&world.room(*room)).is_some_and(|appends| appends >= nth)
            }
            When { mark: Some(mark), nth, .. } => {
                self.marks.get(&mark.0).is_some_and(|reached| *reached >= nth.unwrap_or(1))
            }
            _ => false,
        }
    }
}

/// `tenant/room` of a log subject.
fn log_room(subject: &str) -> Option<String> {
    let (tenant, room) = subject.strip_prefix("log.")?.split_once(".t.")?.1.split_once(".r.")?;
    Some(format!("{tenant}/{room}"))
}
