//! Scenario + seed → plan: the world, every operation and every fault with its time; nothing left to chance but what
//! the engine draws from the seed while it runs (latencies, ids). The runner reads only the plan, and a plan written
//! as TOML is a scenario file that outlives the code that drew it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::scenario::{
    BrokerFault, Drawn, Expect, Fault, FaultKind, HostFault, LinkFault, LinkWords, One, Op, OracleName, Scenario,
    ScenarioError, Shape, Span, Step, Target, Verb, Word,
};
use crate::seed::Draw;

/// How many hosts the clients are farmed into: every host costs time at every tick, a client none.
pub const FARMS: u32 = 2;

/// A drawn scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// From the scenario.
    pub about: String,
    /// What the engine's own draws come from.
    pub seed: u64,
    /// Pinned.
    pub world: WorldPlan,
    /// Empty: `fault` says it all.
    faults: NoFaults,
    /// A piece of `arqon.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<toml::Table>,
    /// From the scenario.
    pub expect: Expect,
    /// From the scenario.
    pub excuse: BTreeMap<OracleName, String>,
    /// Scripted steps.
    pub step: Vec<Step>,
    /// Faults, ascending by time.
    pub fault: Vec<Fault>,
    /// Operations, ascending by time.
    pub op: Vec<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct NoFaults {}

/// The world's size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorldPlan {
    /// Shields.
    pub shields: u32,
    /// Brains.
    pub brains: u32,
    /// Tenants.
    pub tenants: u32,
    /// Rooms of each tenant.
    pub rooms: u32,
    /// Clients.
    pub clients: u32,
    /// The phase with faults.
    pub run: One<Span>,
    /// The phase in which everything converges.
    pub settle: One<Span>,
}

impl WorldPlan {
    /// The hosts that a target names, in order. `owner` names none: only the run knows.
    pub fn hosts(&self, target: &Target) -> Vec<String> {
        let numbered = |group: &str, count: u32| (1..=count).map(|n| format!("{group}-{n}")).collect();
        match target.0.as_str() {
            "shield" => numbered("shield", self.shields),
            "brain" => numbered("brain", self.brains),
            "client" => numbered("clients", FARMS),
            "owner" => Vec::new(),
            host => vec![host.to_owned()],
        }
    }

    /// Both sides of a link, as hosts.
    pub fn sides(&self, link: &LinkWords) -> (Vec<String>, Vec<String>) {
        let side = |targets: &[Target]| targets.iter().flat_map(|target| self.hosts(target)).collect();
        (side(&link.left), side(&link.right))
    }

    /// The tenant of a client (from 1 on), `t1`, `t2`, …
    pub fn tenant_of(&self, client: u32) -> String {
        format!("t{}", (client - 1) % self.tenants + 1)
    }

    /// `tenant/room` of a room by its number over all tenants, from 1 on.
    pub fn room(&self, number: u32) -> String {
        format!("t{}/room-{}", (number - 1) / self.rooms + 1, (number - 1) % self.rooms + 1)
    }

    fn check_host(&self, host: &str) -> Result<(), ScenarioError> {
        let known = ["shield", "brain", "client", "broker"].map(|group| self.hosts(&Target(group.into()))).concat();
        if known.iter().any(|known| known == host) {
            return Ok(());
        }
        Err(ScenarioError::Meaning(format!("this world has no host `{host}`: it has {}", known.join(", "))))
    }
}

impl Plan {
    /// The plan as a scenario file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every part of a plan is a table, a list or a plain value")
    }
}

impl Scenario {
    /// Draws everything that is open. A file that has a seed of its own (a written plan) keeps it.
    pub fn plan(&self, name: &str, seed: u64) -> Result<Plan, ScenarioError> {
        let seed = self.seed.unwrap_or(seed);
        let world = self.draw_world(seed)?;
        let op = match &self.op {
            Some(pinned) => pinned.clone(),
            None => self.draw_ops(&world, seed),
        };
        let fault = match &self.fault {
            Some(pinned) => pinned.clone(),
            None => self.draw_faults(&world, seed),
        };
        let about = if self.about.trim().is_empty() { name.to_owned() } else { self.about.clone() };
        let plan = Plan {
            about,
            seed,
            world,
            faults: NoFaults {},
            config: self.config.clone(),
            expect: self.expect.clone(),
            excuse: self.excuse.clone(),
            step: self.step.clone(),
            fault,
            op,
        };
        plan.check()?;
        Ok(plan)
    }

    fn draw_world(&self, seed: u64) -> Result<WorldPlan, ScenarioError> {
        let number = |field: &str, value: &Option<Drawn<u32>>, swarm: (u32, u32), max: u32| {
            let mut draw = Draw::new(seed, &format!("world/{field}"));
            let drawn = value.clone().unwrap_or(Drawn::Range(swarm.0, swarm.1)).draw(&mut draw);
            if (1..=max).contains(&drawn) {
                Ok(drawn)
            } else {
                Err(ScenarioError::Meaning(format!("[world] {field} = {drawn}, but it must be within 1..={max}")))
            }
        };
        let span = |field: &str, value: &Option<Drawn<Span>>, swarm: (u64, u64), max: Span| {
            let mut draw = Draw::new(seed, &format!("world/{field}"));
            let drawn = value.clone().unwrap_or(Drawn::Range(Span::ms(swarm.0), Span::ms(swarm.1))).draw(&mut draw);
            if drawn > Span::ms(0) && drawn <= max {
                Ok(One(drawn))
            } else {
                Err(ScenarioError::Meaning(format!(
                    "[world] {field} = {drawn}, but it must be above 0s, at most {max}"
                )))
            }
        };
        let world = &self.world;
        Ok(WorldPlan {
            shields: number("shields", &world.shields, (1, 3), 8)?,
            brains: number("brains", &world.brains, (1, 3), 8)?,
            tenants: number("tenants", &world.tenants, (1, 2), 8)?,
            rooms: number("rooms", &world.rooms, (1, 4), 64)?,
            clients: number("clients", &world.clients, (2, 16), 512)?,
            run: span("run", &world.run, (10_000, 40_000), Span::ms(600_000))?,
            settle: span("settle", &world.settle, (20_000, 30_000), Span::ms(300_000))?,
        })
    }

    fn draw_ops(&self, world: &WorldPlan, seed: u64) -> Vec<Op> {
        let mut weights = Draw::new(seed, "traffic/weights");
        let mut weight = |value: &Option<Drawn<u32>>, swarm: (u32, u32)| match value {
            Some(value) => value.draw(&mut weights),
            // Swarmed: off in one run of three.
            None if weights.chance(33) => 0,
            None => Drawn::Range(swarm.0, swarm.1).draw(&mut weights),
        };
        let mut verbs = [
            (Verb::Publish, weight(&self.traffic.publish, (20, 80))),
            (Verb::Set, weight(&self.traffic.set, (5, 40))),
            (Verb::Repeat, weight(&self.traffic.repeat, (1, 10))),
            (Verb::Resume, weight(&self.traffic.resume, (1, 5))),
        ];
        if verbs[0].1 + verbs[1].1 == 0 {
            // Without a command there is nothing to repeat and nothing to judge.
            verbs[0].1 = 1;
        }
        let total: u64 = verbs.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let every = self.traffic.every.clone().unwrap_or(Drawn::Range(Span::ms(50), Span::ms(800)));
        let mut ops = Vec::new();
        for client in 1..=world.clients {
            let mut draw = Draw::new(seed, &format!("traffic/client-{client}"));
            // The first second is for connecting; the last one too short for an answer.
            let mut at = Span::ms(1_000 + draw.below(500));
            while at < world.run.0 {
                let mut left = draw.below(total);
                let verb = verbs.iter().find(|(_, weight)| {
                    let hit = left < u64::from(*weight);
                    left = left.saturating_sub(u64::from(*weight));
                    hit
                });
                let verb = verb.map_or(Verb::Publish, |(verb, _)| *verb);
                let room = u32::try_from(draw.between(1, u64::from(world.rooms))).unwrap_or(1);
                ops.push(Op { at: One(at), client, r#do: verb, room });
                at = Span::ms(at.as_ms() + every.draw(&mut draw).as_ms().max(1));
            }
        }
        ops.sort_by_key(|op| (op.at.0, op.client));
        ops
    }

    fn draw_faults(&self, world: &WorldPlan, seed: u64) -> Vec<Fault> {
        let mut on = Draw::new(seed, "faults/swarm");
        let swarmed = self.faults.is_none();
        let faults = self.faults.clone().unwrap_or_default();
        let mut choose_link =
            |given: Option<LinkFault>| given.or_else(|| (swarmed && on.chance(50)).then(LinkFault::default));
        let (hold, partition, reset) =
            (choose_link(faults.hold), choose_link(faults.partition), choose_link(faults.reset));
        let crash = faults.crash.or_else(|| (swarmed && on.chance(50)).then(HostFault::default));

        let mut choose_broker =
            |given: Option<BrokerFault>| given.or_else(|| (swarmed && on.chance(30)).then(BrokerFault::default));
        let broker = [
            (FaultKind::LoseAck, choose_broker(faults.lose_ack)),
            (FaultKind::LoseRepublish, choose_broker(faults.lose_republish)),
            (FaultKind::Undecided, choose_broker(faults.undecided)),
        ];

        let mut all = Vec::new();
        for (kind, fault) in broker {
            let Some(fault) = fault else { continue };
            let mut draw = Draw::new(seed, &format!("faults/{}", kind.name()));
            let (every, lasts) = (spans(&fault.every, (3_000, 10_000)), spans(&fault.lasts, (200, 2_000)));
            for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
                let id = format!("{}-{}", kind.name(), index + 1);
                all.push(Fault { id, kind, target: "broker".into(), at: One(at), lasts: One(lasts) });
            }
        }
        if let Some(hold) = hold {
            draw_links(&mut all, FaultKind::Hold, &hold, world, seed, ((3_000, 10_000), (50, 1_500)));
        }
        if let Some(partition) = partition {
            draw_links(&mut all, FaultKind::Partition, &partition, world, seed, ((8_000, 20_000), (1_000, 6_000)));
        }
        if let Some(reset) = reset {
            draw_links(&mut all, FaultKind::Reset, &reset, world, seed, ((3_000, 10_000), (1, 1)));
        }
        if let Some(crash) = crash {
            draw_crashes(&mut all, &crash, world, seed);
        }
        all.sort_by(|a, b| (a.at.0, &a.id).cmp(&(b.at.0, &b.id)));
        all
    }
}

type Millis = (u64, u64);

fn spans(value: &Option<Drawn<Span>>, swarm: Millis) -> Drawn<Span> {
    value.clone().unwrap_or(Drawn::Range(Span::ms(swarm.0), Span::ms(swarm.1)))
}

/// The times of one kind of fault: never two at once, and all over before the run is.
fn times(world: &WorldPlan, draw: &mut Draw, every: &Drawn<Span>, lasts: &Drawn<Span>) -> Vec<(Span, Span)> {
    let end = world.run.0.as_ms();
    let mut at = every.draw(draw).as_ms().max(1);
    let mut found = Vec::new();
    loop {
        let length = lasts.draw(draw).as_ms().max(1);
        if at + length >= end {
            return found;
        }
        found.push((Span::ms(at), Span::ms(length)));
        at += length + every.draw(draw).as_ms().max(1);
    }
}

fn draw_links(
    all: &mut Vec<Fault>,
    kind: FaultKind,
    fault: &LinkFault,
    world: &WorldPlan,
    seed: u64,
    swarm: (Millis, Millis),
) {
    let mut draw = Draw::new(seed, &format!("faults/{}", kind.name()));
    let anywhere = ["brain | broker", "shield | broker", "client | shield"];
    let between = fault
        .between
        .clone()
        .unwrap_or_else(|| Drawn::OneOf(anywhere.iter().filter_map(|words| LinkWords::parse(words)).collect()));
    let shapes =
        fault.shape.clone().unwrap_or_else(|| Drawn::OneOf(Shape::ALL.iter().map(|(_, shape)| *shape).collect()));
    let (every, lasts) = (spans(&fault.every, swarm.0), spans(&fault.lasts, swarm.1));
    for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
        let (mut left, right) = world.sides(&between.draw(&mut draw));
        let shape = shapes.draw(&mut draw);
        let keep = match shape {
            Shape::All => left.len(),
            Shape::IsolateOne | Shape::OneWay => 1,
            Shape::Halves => left.len().div_ceil(2),
        };
        while left.len() > keep.max(1) {
            let out = usize::try_from(draw.below(left.len() as u64)).unwrap_or(0);
            left.remove(out);
        }
        let kind = if kind == FaultKind::Partition && shape == Shape::OneWay { FaultKind::OneWay } else { kind };
        let target = format!("{} | {}", left.join(", "), right.join(", "));
        all.push(Fault { id: format!("{}-{}", kind.name(), index + 1), kind, target, at: One(at), lasts: One(lasts) });
    }
}

fn draw_crashes(all: &mut Vec<Fault>, fault: &HostFault, world: &WorldPlan, seed: u64) {
    let mut draw = Draw::new(seed, "faults/crash");
    let anyone = ["shield", "brain", "broker"].map(|group| Target(group.into()));
    let targets = fault.target.clone().unwrap_or_else(|| Drawn::OneOf(anyone.to_vec()));
    let (every, lasts) = (spans(&fault.every, (6_000, 15_000)), spans(&fault.lasts, (500, 4_000)));
    for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
        let hosts = world.hosts(&targets.draw(&mut draw));
        if hosts.is_empty() {
            continue;
        }
        let target = draw.pick(&hosts).clone();
        let id = format!("crash-{}", index + 1);
        all.push(Fault { id, kind: FaultKind::Crash, target, at: One(at), lasts: One(lasts) });
    }
}

impl Fault {
    /// The two sides of a link; `None` if the target is a host.
    pub fn sides(&self) -> Option<(Vec<String>, Vec<String>)> {
        let (left, right) = self.target.split_once('|')?;
        let side = |side: &str| side.split(',').map(|host| host.trim().to_owned()).collect();
        Some((side(left), side(right)))
    }
}

impl Plan {
    /// Checks what depends on the drawn world.
    fn check(&self) -> Result<(), ScenarioError> {
        for (index, op) in self.op.iter().enumerate() {
            let fits = (1..=self.world.clients).contains(&op.client) && (1..=self.world.rooms).contains(&op.room);
            if !fits {
                return Err(ScenarioError::Meaning(format!(
                    "[[op]] number {}: client {} room {} is outside of a world with {} clients and {} rooms a tenant",
                    index + 1,
                    op.client,
                    op.room,
                    self.world.clients,
                    self.world.rooms
                )));
            }
        }
        for fault in &self.fault {
            let hosts = match fault.sides() {
                Some((left, right)) if fault.kind.of_links() => [left, right].concat(),
                None if !fault.kind.of_links() => vec![fault.target.clone()],
                _ => {
                    let of = if fault.kind.of_links() { "a link such as \"brain-1 | broker\"" } else { "a host" };
                    let what = format!("fault {}: the target of {} is {of}", fault.id, fault.kind.name());
                    return Err(ScenarioError::Meaning(what));
                }
            };
            hosts.iter().try_for_each(|host| self.world.check_host(host))?;
        }
        for step in &self.step {
            let act = &step.r#do;
            let rooms = self.world.rooms * self.world.tenants;
            let named = [act.room, step.when.spine_append.as_ref().map(|append| append.room)];
            if let Some(room) = named.into_iter().flatten().find(|room| !(1..=rooms).contains(room)) {
                return Err(ScenarioError::Meaning(format!("a step names room {room}: this world has {rooms}")));
            }
            for One(target) in [&act.crash, &act.restart].into_iter().flatten() {
                if matches!(target.0.as_str(), "client" | "clients-1" | "clients-2") {
                    return Err(ScenarioError::Meaning("the hosts of clients cannot crash: reset their links".into()));
                }
                self.world.hosts(target).iter().try_for_each(|host| self.world.check_host(host))?;
            }
            for One(link) in [&act.hold, &act.cut, &act.heal, &act.reset].into_iter().flatten() {
                let (left, right) = self.world.sides(link);
                [left, right].concat().iter().try_for_each(|host| self.world.check_host(host))?;
            }
        }
        Ok(())
    }
}
