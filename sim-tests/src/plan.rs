//! Scenario + seed → plan: the world, every operation and every fault with its time; nothing left to chance but what
//! the engine draws from the seed while it runs (latencies, ids). The runner reads only the plan, and a plan written
//! as TOML is a scenario file that outlives the code that drew it.

mod check;
mod faults;
mod ops;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::scenario::{
    ANY_CLIENT, Aim, Drawn, Expect, Fault, LinkWords, One, Op, OracleName, Scenario, ScenarioError, Span, Step, Target,
    Twin,
};
use crate::seed::Draw;

/// How many hosts the clients are farmed into: what goes wrong with a link goes wrong for all clients of a host.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<Twin>,
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
    /// How often the broker syncs what it stored.
    pub sync: One<Span>,
    /// How much longer than usual a message between a Brain and the broker takes, one way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<One<Span>>,
    /// A text or a value is longer by up to so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<u32>,
}

impl WorldPlan {
    /// What a target names, in order: hosts, or clients by name for a fault that strikes those. A role (`owner`) names
    /// nobody: only the run knows.
    pub fn named(&self, target: &Target, aim: Aim) -> Vec<String> {
        let numbered = |group: &str, count: u32| (1..=count).map(|n| format!("{group}-{n}")).collect();
        match target.0.as_str() {
            "shield" => numbered("shield", self.shields),
            "brain" => numbered("brain", self.brains),
            "client" if matches!(aim, Aim::Client | Aim::Connections) => self.clients().collect(),
            "client" => numbered("clients", FARMS),
            _ if target.is_role() => Vec::new(),
            host => vec![host.to_owned()],
        }
    }

    /// Both sides of a link.
    pub fn sides(&self, link: &LinkWords, aim: Aim) -> (Vec<String>, Vec<String>) {
        let side = |targets: &[Target]| targets.iter().flat_map(|target| self.named(target, aim)).collect();
        (side(&link.left), side(&link.right))
    }

    /// Every client by name.
    pub fn clients(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.clients).map(|n| format!("client-{n}"))
    }

    /// The tenant of a client (from 1 on), `t1`, `t2`, …
    pub fn tenant_of(&self, client: u32) -> String {
        format!("t{}", (client - 1) % self.tenants + 1)
    }

    /// `tenant/room` of a room by its number over all tenants, from 1 on.
    pub fn room(&self, number: u32) -> String {
        format!("t{}/room-{}", (number - 1) / self.rooms + 1, (number - 1) % self.rooms + 1)
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
        let step = self.draw_steps(&world, seed);
        let about = if self.about.trim().is_empty() { name.to_owned() } else { self.about.clone() };
        let plan = Plan {
            about,
            seed,
            world,
            faults: NoFaults {},
            config: self.config.clone(),
            twin: self.twin.clone(),
            expect: self.expect.clone(),
            excuse: self.excuse.clone(),
            step,
            fault,
            op,
        };
        plan.check()?;
        Ok(plan)
    }

    /// The steps as written, with [`ANY_CLIENT`] drawn: one for each step.
    fn draw_steps(&self, world: &WorldPlan, seed: u64) -> Vec<Step> {
        let mut steps = self.step.clone();
        for (index, step) in steps.iter_mut().enumerate() {
            let client = Draw::new(seed, &format!("steps/{index}")).between(1, u64::from(world.clients));
            let name = |target: &mut Target| {
                if target.0 == ANY_CLIENT {
                    target.0 = format!("client-{client}");
                }
            };
            step.r#do.targets_mut().for_each(name);
            step.r#do.links_mut().flat_map(|link| link.left.iter_mut().chain(&mut link.right)).for_each(name);
        }
        steps
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
            sync: span("sync", &world.sync, (200, 10_000), Span::ms(120_000))?,
            padding: match world.padding {
                Some(_) => Some(number("padding", &world.padding, (1, 1), 12_000)?),
                None => None,
            },
            distance: match world.distance {
                Some(_) => Some(span("distance", &world.distance, (0, 0), Span::ms(500))?),
                None => None,
            },
        })
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
