//! What is left once every client has gone home: each process's tables, tasks, subscriptions and sockets, as records that
//! the oracle R1 reads.

use std::collections::BTreeMap;
use std::time::Duration;

use spine_sim::Broker;
use voltron_core::trace::Record;

use super::{Stopped, World};
use crate::engine::Engine;
use crate::plan::FARMS;

/// How much longer than a room lingers everything may take to come to rest: an answer's time, and a slot's after it.
const SLACK: Duration = Duration::from_secs(8);
/// By then every process has started, and no message has arrived anywhere: a link takes 1 ms at least.
const STARTED: Duration = Duration::from_micros(500);

/// The most tasks that a process starts for good once it is connected. A task left over for each room, client or question
/// is more than that.
const LATER: u64 = 4;

/// Gauges of a Shield that are 0 at rest, and what they count.
const SHIELD_GAUGES: [(&str, &str); 8] = [
    ("shield_active_connections", "connections"),
    ("shield_commands_in_flight", "commands in flight"),
    ("shield_reply_slots_held", "reply slots"),
    ("shield_questions_open", "questions"),
    ("shield_opens_open", "opens"),
    ("shield_rooms", "followed rooms"),
    ("shield_subscriptions", "subscriptions"),
    ("shield_queue_bytes", "queued bytes"),
];

/// How many tasks each process has before anybody talks to it; nothing, where the engine cannot tell.
pub(super) type Idle = BTreeMap<String, usize>;

impl World<'_> {
    /// Lets the processes start, and counts their tasks.
    pub(super) fn idle<E: Engine>(&self, engine: &mut E, on_tick: fn(u64)) -> Result<Idle, Stopped> {
        while engine.elapsed() < STARTED {
            self.pass(engine, STARTED, on_tick)?;
        }
        let shields = (1..=self.plan.world.shields).map(|n| format!("shield-{n}"));
        let brains = (1..=self.plan.world.brains).map(|n| format!("brain-{n}"));
        Ok(shields.chain(brains).filter_map(|name| Some((name.clone(), engine.tasks(&name)?))).collect())
    }

    /// Waits until everything that lingers is over, then tells the trace what is held.
    pub(super) fn rest<E: Engine>(
        &self,
        engine: &mut E,
        broker: &Broker,
        idle: &Idle,
        on_tick: fn(u64),
    ) -> Result<(), Stopped> {
        let linger = Duration::from_millis(self.config.shield.linger_ms);
        let until = engine.elapsed() + linger + SLACK;
        while engine.elapsed() < until {
            self.pass(engine, until, on_tick)?;
        }
        (1..=self.plan.world.shields).for_each(|n| self.rest_of_shield(broker, &format!("shield-{n}")));
        (1..=self.plan.world.brains).for_each(|n| self.rest_of_brain(broker, &format!("brain-{n}")));
        for (name, tasks) in idle {
            // A room is a task of its Brain's.
            let rooms = if name.starts_with("brain") { self.rooms_of(name) } else { 0 };
            let rest = u64::try_from(*tasks).unwrap_or(u64::MAX) + LATER + rooms;
            self.held(name, "tasks", engine.tasks(name).unwrap_or(0), rest);
        }
        for n in 1..=FARMS {
            let farm = format!("clients-{n}");
            self.held(&farm, "sockets", self.cables.sockets(&farm), 0);
        }
        Ok(())
    }

    fn rest_of_shield(&self, broker: &Broker, name: &str) {
        for (gauge, what) in SHIELD_GAUGES {
            if let Some(len) = self.hosts.gauge(name, gauge) {
                self.held(name, what, usize::try_from(len).unwrap_or(usize::MAX), 0);
            }
        }
        self.held(name, "subscriptions of rooms", broker.subscribed(&format!("shield-{name}"), "out."), 0);
        self.held(name, "sockets", self.cables.sockets(name), 1);
    }

    /// A Brain goes on to own its rooms.
    fn rest_of_brain(&self, broker: &Broker, name: &str) {
        let subscribed = |role: &&str| broker.subscribed(&format!("{role}-{name}"), "in.");
        let of_rooms: usize = ["speaker", "writer"].iter().map(subscribed).sum();
        self.held(name, "subscriptions of rooms", of_rooms, self.rooms_of(name));
        self.held(name, "sockets", self.cables.sockets(name), 2);
    }

    /// How many rooms a Brain says that it serves.
    fn rooms_of(&self, brain: &str) -> u64 {
        self.hosts.gauge(brain, "brain_room_count").unwrap_or(0)
    }

    fn held(&self, host: &str, name: &str, len: usize, rest: u64) {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.trace.push(host, Record::Held { name: name.to_owned(), len, rest });
    }
}
