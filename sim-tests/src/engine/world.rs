//! One run: builds the world that a plan describes, lets time pass under the nemesis, waits until everything has
//! settled, reads the log and asks the oracles.
//!
//! The production Shield and Brain run here unchanged, over an [`Engine`]'s network, [`SimIds`] and a `SimClock` each; between
//! them stands the simulated broker, with the users and permissions of production.

mod inhabitants;
mod rest;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{NodeId, RoomId, RoomKey, TenantId};
use spine::{Spine as _, SpineOptions, UserSpec};
use spine_sim::SimSpine;
use tracing_subscriber::filter::Targets;
use voltron_core::config::Config;
use voltron_core::trace::{Record, TARGET};

use super::hosts::Hosts;
use super::nemesis::Nemesis;
use super::{Cables, Deciders, Engine, Failure, SimIds, SimNet};
use crate::client::link::Switches;
use crate::client::{Deed, Script};
use crate::logbook::{self, LogbookError};
use crate::oracles::{self, LOG_HOST, STORED_HOST};
use crate::plan::{FARMS, Plan};
use crate::seed::Draw;
use crate::tokens;
use crate::trace::{Trace, TraceTooLong};
use crate::twin;
use crate::verdict::{Counts, Verdict};

/// Where the broker listens.
const BROKER: &str = "nats://broker:4222";
/// Password of every user of the simulated broker.
const PASSWORD: &str = "simulated";
/// The longest that reading the log may take, virtual.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// By then a client is connected and subscribed.
const CAME_IN: Duration = Duration::from_secs(3);

/// What is the caller's choice.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Where the trace is written as it grows.
    pub trace: Option<&'a Path>,
    /// Which log lines go to standard error, e.g. `info,shield=debug`; none: none.
    pub log: Option<&'a str>,
    /// Whose cores decide in the model's place.
    pub cores: Option<&'a dyn Deciders>,
    /// The twin of the run: without what the plan's `[twin]` names.
    pub twin: bool,
    /// Told the virtual time, in microseconds, after every tick.
    pub on_tick: fn(u64),
}

/// Why a run has no verdict: nothing that the seed could be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The trace cannot be written.
    #[error("cannot write the trace: {0}")]
    Trace(#[from] io::Error),
    /// The scenario's `[config]` is none.
    #[error("[config]: {0}")]
    Config(String),
    /// The filter for log lines is none.
    #[error("--log {0}")]
    Log(String),
}

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("a process of the world ended by itself: {0}")]
    Host(String),
    #[error("{0}")]
    Log(LogbookError),
    #[error("the log could not be read within {} virtual seconds", READ_LIMIT.as_secs())]
    Unreadable,
    #[error(transparent)]
    TooLong(#[from] TraceTooLong),
    #[error("{0}")]
    Differs(String),
    #[error("the Brains' cores: {0}")]
    Cores(String),
}

impl Stopped {
    /// Whose verdict it is.
    const fn oracle(&self) -> &'static str {
        if matches!(self, Self::Differs(_)) { "X3" } else { "run" }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Differs(text) => Self::Differs(text),
            Failure::Broken(text) => Self::Cores(text),
            Failure::Silent(text) => Self::Cores(format!("their process does not answer: {text}")),
        }
    }
}

/// Runs a plan on an engine.
pub fn run<E: Engine>(plan: &Plan, options: &Options<'_>) -> Result<Verdict, RunError> {
    let config = config(plan)?;
    let stopwatch = || E::now().map(micros);
    let trace = Trace::new(Box::new(stopwatch), options.trace)?;
    let lines = options.log.map(|filter| {
        let lines = filter.parse::<Targets>().map_err(|error| RunError::Log(error.to_string()))?;
        Ok::<_, RunError>(lines.with_target(TARGET, tracing::level_filters::LevelFilter::OFF))
    });
    let subscriber = E::subscriber(&trace, lines.transpose()?);
    let mut verdict = Verdict { seed: plan.seed, ..Verdict::default() };
    tracing::subscriber::with_default(subscriber, || {
        let world = World {
            plan,
            config: &config,
            cables: Cables::default(),
            hosts: Hosts::default(),
            switches: Switches::default(),
            twin: options.twin,
            trace: &trace,
            cores: options.cores,
        };
        if let Err(stopped) = world.play::<E>(options.on_tick, &mut verdict) {
            verdict.oracle = Some(stopped.oracle().to_owned());
            verdict.what = Some(stopped.to_string());
            verdict.ok = false;
        }
        if let Some(compared) = options.cores.map(Deciders::compared).filter(|compared| *compared > 0) {
            verdict.checks.insert("X3".to_owned(), compared);
        }
    });
    trace.flush()?;
    Ok(verdict)
}

/// Defaults, with what the scenario changes.
fn config(plan: &Plan) -> Result<Config, RunError> {
    let mut table = plan.config.clone().unwrap_or_default();
    let policy = table.entry("policy").or_insert_with(|| toml::Table::new().into());
    if let toml::Value::Table(policy) = policy {
        policy.entry("default").or_insert_with(|| "none".into());
    }
    Config::parse(&table.to_string()).map_err(|error| RunError::Config(error.to_string()))
}

/// Every room's log, as records.
type WholeLog = Result<Vec<Record>, LogbookError>;

struct World<'a> {
    twin: bool,
    plan: &'a Plan,
    config: &'a Config,
    cables: Cables,
    hosts: Hosts,
    /// What is wrong with each client's link.
    switches: Switches,
    trace: &'a Trace,
    cores: Option<&'a dyn Deciders>,
}

impl World<'_> {
    fn play<E: Engine>(&self, on_tick: fn(u64), verdict: &mut Verdict) -> Result<(), Stopped> {
        let mut engine = E::new(Draw::new(self.plan.seed, "engine").u64(), self.plan.world.clients);
        let brain = &self.config.brain;
        self.trace.push(
            STORED_HOST,
            Record::Rules {
                entries: brain.snapshot_events.into(),
                bytes: brain_model::Rules::default().snapshot_bytes,
                age_ms: i64::try_from(brain.snapshot_s.saturating_mul(1000)).unwrap_or(i64::MAX),
            },
        );
        let broker = self.broker(&mut engine);
        (1..=self.plan.world.brains).for_each(|n| self.brain(&mut engine, n));
        (1..=self.plan.world.shields).for_each(|n| self.shield(&mut engine, n));
        (1..=FARMS).for_each(|n| self.farm(&mut engine, n));
        self.captured(&mut engine);

        let watched = broker.clone();
        let idle = self.idle(&mut engine, on_tick)?;
        let mut nemesis = Nemesis::new(self.plan, self.trace, broker, self.hosts.clone(), self.cables.clone());
        let world = &self.plan.world;
        let (run, settle) = (world.run.0.0, world.settle.0.0);
        while engine.elapsed() < run {
            engine.within(|engine| nemesis.turn(engine));
            let until = nemesis.due(engine.elapsed()).map_or(run, |due| due.min(run));
            self.pass(&mut engine, until, on_tick)?;
        }
        engine.within(|engine| nemesis.heal_all(engine));
        while engine.elapsed() < run + settle {
            self.pass(&mut engine, run + settle, on_tick)?;
        }
        self.rest(&mut engine, &watched, &idle, on_tick)?;
        self.read_log(&mut engine, on_tick)?;

        let lines = self.trace.since(0);
        let excused: Vec<String> = self.plan.excuse.keys().map(|oracle| oracle.0.clone()).collect();
        verdict.judged(&oracles::judge(&lines, &excused));
        verdict.counts = Counts::of(&lines);
        if let Some(twin) = &self.plan.twin {
            verdict.lists = twin::lists(&lines, twin);
        }
        verdict.hash = self.trace.hash()?;
        verdict.records = lines.len() as u64;
        verdict.virtual_s = engine.elapsed().as_secs_f64();
        for line in &lines {
            if let Record::Mark { name } = &line.record {
                *verdict.marks.entry(name.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn pass<E: Engine>(&self, engine: &mut E, until: Duration, on_tick: fn(u64)) -> Result<(), Stopped> {
        if let Some(failure) = self.cores.and_then(Deciders::failed) {
            return Err(failure.into());
        }
        let told = &mut |now| {
            on_tick(micros(now));
            self.trace.advance(micros(now));
        };
        engine.pass(until, told).map_err(Stopped::Host)
    }

    fn rooms(&self) -> Vec<RoomKey> {
        let world = &self.plan.world;
        (1..=world.tenants).flat_map(|t| (1..=world.rooms).map(move |r| RoomKey::new(tenant(t), room(r)))).collect()
    }

    /// True for a client of the tenant that the twin run does without.
    fn stays_at_home(&self, client: u32) -> bool {
        let silent = self.plan.twin.as_ref().filter(|_| self.twin).and_then(|twin| twin.silence.as_ref());
        silent.is_some_and(|tenant| *tenant == self.plan.world.tenant_of(client))
    }

    fn script(&self, client: u32) -> Script {
        let world = &self.plan.world;
        let tenant = world.tenant_of(client);
        let now_s = super::clock::EPOCH_MS / 1000;
        let secret = tokens::secret(self.plan.seed);
        let first = client % world.shields;
        let (audience, user) = (&self.config.auth.audience, format!("u{client}"));
        // One in four moderates.
        let grants = tokens::grants(client % 4 == 1);
        let deeds: VecDeque<Deed> = self
            .plan
            .op
            .iter()
            .filter(|op| op.client == client)
            .map(|op| Deed { at: op.at.0.0, verb: op.r#do, room: op.room as usize - 1 })
            .collect();
        Script {
            name: format!("client-{client}"),
            seed: self.plan.seed,
            plain: self.plan.twin.is_some(),
            token: tokens::with_grants(&secret, audience, &tenant, &user, now_s, grants.clone()),
            renewals: tokens::renewals(&secret, audience, &tenant, &user, now_s, &grants),
            grants,
            padding: world.padding.unwrap_or_default(),
            strange: tokens::strange(&secret, audience, &tenant, &user, now_s),
            shields: (0..world.shields).map(|n| format!("shield-{}:4000", (first + n) % world.shields + 1)).collect(),
            rooms: (1..=world.rooms).map(room).collect(),
            deeds,
            ends: world.run.0.0 + world.settle.0.0 - Duration::from_millis(500).min(world.settle.0.0),
            quiet: None,
        }
    }

    /// Reads every room's log into the trace, under the name [`LOG_HOST`].
    fn read_log<E: Engine>(&self, engine: &mut E, on_tick: fn(u64)) -> Result<(), Stopped> {
        let rooms = self.rooms();
        let (net, ids) = (self.net(engine, "log-reader"), self.ids("log-reader"));
        // Not the scenario's limits: the reader is no part of the world, and a log is long.
        let options = SpineOptions {
            publish_timeout: READ_LIMIT / 4,
            ..options(self.config, &UserSpec::operator(PASSWORD), "_INBOX.log".to_owned())
        };
        let found: Arc<Mutex<Option<WholeLog>>> = Arc::default();
        let put = found.clone();
        engine.client("log-reader", async move {
            let spine = SimSpine::connect(net, options, ids);
            let mut link = spine.link();
            link.wait_for(spine::Link::is_up).await?;
            let read = async {
                let mut records = Vec::new();
                for room in &rooms {
                    records.extend(logbook::read(&spine, room).await?.records);
                }
                Ok(records)
            };
            *put.lock().expect("no panic happens while it is held") = Some(read.await);
            Ok(())
        });
        let deadline = engine.elapsed() + READ_LIMIT;
        loop {
            self.pass(engine, deadline, on_tick)?;
            if let Some(records) = found.lock().expect("no panic happens while it is held").take() {
                let records = records.map_err(Stopped::Log)?;
                records.into_iter().for_each(|record| self.trace.push(LOG_HOST, record));
                return Ok(());
            }
            if engine.elapsed() > deadline {
                return Err(Stopped::Unreadable);
            }
        }
    }

    fn net<E: Engine>(&self, engine: &E, host: &str) -> SimNet<E::Net> {
        SimNet::new(engine.net(host), host, &self.cables)
    }

    fn ids(&self, host: &str) -> SimIds {
        SimIds::new(self.plan.seed, host)
    }
}

fn options(config: &Config, user: &UserSpec, inbox: String) -> SpineOptions {
    SpineOptions {
        publish_timeout: Duration::from_millis(config.nats.publish_timeout_ms),
        ping_interval: Duration::from_millis(config.nats.ping_interval_ms),
        logs: config.nats.logs,
        ..SpineOptions::of_user(BROKER, user, inbox)
    }
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("a group, a hyphen and a number")
}

fn tenant(n: u32) -> TenantId {
    TenantId::parse(&format!("t{n}")).expect("a letter and a number")
}

fn room(n: u32) -> RoomId {
    RoomId::parse(&format!("room-{n}")).expect("letters, a hyphen and a number")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
