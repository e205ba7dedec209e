//! Who lives in the world, each on a host of its own: the broker, the Brains, the Shields, farms of clients, and whoever has
//! captured a Shield.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use brain_shell::cores::{Cores, Model};
use spine::UserSpec;
use spine_sim::{Broker, BrokerOptions, SimSpine};
use voltron_core::trace::{self, Record};
use voltron_core::{AllowAll, Net as _};

use super::{CAME_IN, PASSWORD, World, node, options};
use crate::client::link::Switch;
use crate::client::{self, Script};
use crate::engine::{Engine, SimIds, SimNet, captured, history};
use crate::plan::FARMS;
use crate::scenario::FaultKind;
use crate::seed::Draw;
use crate::tokens;

impl World<'_> {
    pub(super) fn broker<E: Engine>(&self, engine: &mut E) -> Broker {
        let users = [self.users("brain"), self.users("shield"), vec![UserSpec::operator(PASSWORD)]].concat();
        let seed = Draw::new(self.plan.seed, "broker").u64();
        let options = BrokerOptions {
            users: users.iter().map(spine_sim::User::from).collect(),
            sync_interval: self.plan.world.sync.0.0,
            witness: Some(history::witness(self.trace)),
            late_acks: true,
            ..BrokerOptions::new(self.hosts.clock("broker"), seed)
        };
        let broker = Broker::new(options);
        let (net, serving) = (self.net(engine, "broker"), broker.clone());
        engine.host("broker", move || {
            let (net, broker) = (net.clone(), serving.clone());
            async move {
                let listener = net.bind("0.0.0.0:4222").await?;
                broker.serve(listener, std::future::pending()).await?;
                Ok(())
            }
        });
        broker
    }

    pub(super) fn users(&self, group: &str) -> Vec<UserSpec> {
        let count = if group == "brain" { self.plan.world.brains } else { self.plan.world.shields };
        let nodes = (1..=count).map(|n| node(&format!("{group}-{n}")));
        if group == "brain" {
            nodes.flat_map(|node| [UserSpec::writer(&node, PASSWORD), UserSpec::speaker(&node, PASSWORD)]).collect()
        } else {
            nodes.map(|node| UserSpec::shield(&node, PASSWORD)).collect()
        }
    }

    pub(super) fn brain<E: Engine>(&self, engine: &mut E, n: u32) {
        let name = format!("brain-{n}");
        let node = node(&name);
        let (net, ids, config) = (self.net(engine, &name), self.ids(&name), self.config.clone());
        let cores: Arc<dyn Cores> = match self.cores {
            Some(deciders) => deciders.node(n.into()),
            None => Arc::new(Model),
        };
        let hosts = self.hosts.clone();
        engine.host(&name.clone(), move || {
            let (node, net, ids, config) = (node.clone(), net.clone(), ids.clone(), config.clone());
            let (name, hosts, cores) = (name.clone(), hosts.clone(), Arc::clone(&cores));
            async move {
                let told = hosts.started(&name);
                let connect = |user: UserSpec, inbox: String| {
                    SimSpine::connect(net.clone(), options(&config, &user, inbox), ids.clone())
                };
                let parts = brain_shell::BrainParts {
                    writer: connect(UserSpec::writer(&node, PASSWORD), format!("_INBOX.w.{node}")),
                    speaker: connect(UserSpec::speaker(&node, PASSWORD), format!("_INBOX.b.{node}")),
                    node,
                    clock: hosts.clock(&name),
                    ids,
                    config: config.clone(),
                    metrics: hosts.metrics(&name),
                };
                brain_shell::run_on(cores, parts, told).await?;
                hosts.ended(&name);
                Ok(())
            }
        });
    }

    pub(super) fn shield<E: Engine>(&self, engine: &mut E, n: u32) {
        let name = format!("shield-{n}");
        let node = node(&name);
        let (net, ids, config) = (self.net(engine, &name), self.ids(&name), self.config.clone());
        let (hosts, secret) = (self.hosts.clone(), tokens::secret(self.plan.seed));
        engine.host(&name.clone(), move || {
            let (node, net, ids, config) = (node.clone(), net.clone(), ids.clone(), config.clone());
            let (name, hosts) = (name.clone(), hosts.clone());
            async move {
                let told = hosts.started(&name);
                let user = UserSpec::shield(&node, PASSWORD);
                let options = options(&config, &user, format!("_INBOX.s.{node}"));
                let spine = SimSpine::connect(net.clone(), options, ids.clone());
                let parts = shield::ShieldParts::<SimNet<E::Net>, _, _, _> {
                    node,
                    ws: net.bind("0.0.0.0:4000").await?,
                    http: Some(net.bind("0.0.0.0:4001").await?),
                    spine,
                    clock: hosts.clock(&name),
                    ids,
                    overseer: Arc::new(AllowAll),
                    keys: Arc::new(ArcSwap::from_pointee(shield::Keys::new(&config.auth, None, Some(&secret))?)),
                    config,
                    metrics: hosts.metrics(&name),
                };
                shield::serve(parts, told).await;
                hosts.ended(&name);
                Ok(())
            }
        });
    }

    /// Every client with `n` as its remainder.
    pub(super) fn farm<E: Engine>(&self, engine: &mut E, n: u32) {
        let name = format!("clients-{n}");
        let net = self.net(engine, &name);
        let scripts: Vec<Script> = (1..=self.plan.world.clients)
            .filter(|client| client % FARMS == n % FARMS && !self.stays_at_home(*client))
            .map(|c| self.script(c))
            .collect();
        // In the twin run only, after it has come in.
        let stalled = self.plan.twin.as_ref().filter(|_| self.twin).and_then(|twin| twin.stall.clone());
        let reads_nothing = self.plan.world.run.0.0.saturating_sub(CAME_IN);
        let (seed, switches, clock) = (self.plan.seed, self.switches.clone(), self.hosts.clock(&name));
        engine.host(&name, move || {
            let (net, scripts, switches, clock) = (net.clone(), scripts.clone(), switches.clone(), clock.clone());
            let stalled = stalled.clone();
            async move {
                let players = scripts.into_iter().map(|script| {
                    let ids = SimIds::new(seed, &script.name);
                    let switch = switches.of(&script.name);
                    if stalled.as_ref() == Some(&script.name) {
                        voltron_core::tasks::spawn(stall(script.name.clone(), switch.clone(), reads_nothing));
                    }
                    voltron_core::tasks::spawn(client::play(net.of(&script.name), clock.clone(), ids, script, switch))
                });
                client::all(players.collect(), Duration::from_secs(24 * 3600)).await;
                Ok(())
            }
        });
    }

    /// Who has a captured Shield's password, on a host of its own; nobody, unless the plan says so.
    pub(super) fn captured<E: Engine>(&self, engine: &mut E) {
        let visits: Vec<(Duration, String, Draw)> = self
            .plan
            .fault
            .iter()
            .filter(|fault| fault.kind == FaultKind::Captured)
            .map(|fault| {
                let draw = Draw::new(self.plan.seed, &format!("captured/{}", fault.id));
                (fault.at.0.0, fault.target.clone(), draw)
            })
            .collect();
        if visits.is_empty() {
            return;
        }
        let (name, rooms, config) = ("captured", self.rooms(), self.config.clone());
        let (net, ids, clock) = (self.net(engine, name), self.ids(name), self.hosts.clock(name));
        engine.host(name, move || {
            let (visits, rooms, config) = (visits.clone(), rooms.clone(), config.clone());
            let (net, ids, clock) = (net.clone(), ids.clone(), clock.clone());
            async move {
                // Inside: madsim makes its processes where no virtual time is yet.
                let start = tokio::time::Instant::now();
                let visits = visits.into_iter().map(|(at, shield, draw)| {
                    let user = UserSpec::shield(&node(&shield), PASSWORD);
                    let options = options(&config, &user, format!("_INBOX.s.{shield}"));
                    let (net, ids, clock, rooms) = (net.clone(), ids.clone(), clock.clone(), &rooms);
                    async move {
                        tokio::time::sleep_until(start + at).await;
                        captured::visit(SimSpine::connect(net, options, ids), clock, rooms, shield, draw).await;
                    }
                });
                futures_util::future::join_all(visits).await;
                Ok(())
            }
        });
    }
}

/// A client that reads nothing for so long, once it has come in.
async fn stall(client: String, switch: Switch, lasts: Duration) {
    tokio::time::sleep(CAME_IN).await;
    switch.stall(lasts);
    let id = format!("twin-stall-{client}");
    trace::emit(|| Record::Fault { id: id.clone(), kind: "stall".into(), target: client });
    tokio::time::sleep(lasts).await;
    trace::emit(|| Record::Heal { id });
}
