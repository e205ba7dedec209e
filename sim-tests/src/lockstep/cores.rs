//! A simulated Brain's cores in a driven process: each input goes there, and the shell obeys what comes back. Beside them
//! the model takes the same inputs, and every answer and every state must be the same byte for byte (X3): the first that is
//! not ends the run. The model's marks are the run's.
//!
//! A step blocks: virtual time stands still until it is answered, and the answer is a function of the steps before it. So a
//! run has the same trace whoever decides. A host that starts again begins with `reset`, as its rooms do.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brain_model::placement::Living;
use brain_model::{Effect, Identity, Input, Now, Rules};
use brain_shell::cores::{Cores, PeersCore, RoomCore};
use prost::Message as _;
use proto::RoomKey;
use proto::internal::Heartbeat;
use proto::lockstep::{self as ls, effect::Effect as Said, step::Input as Given};

use super::link::Line;
use super::machines::Machines;
use super::report;
use super::wire::{self, Place, back};
use crate::engine::{Deciders, Failure};

/// One connection to a driven process: the cores of one simulated world. Clones share it.
#[derive(Clone)]
pub struct Driver(Arc<Mutex<Inner>>);

struct Inner {
    line: Line,
    model: Machines,
    compared: u64,
    failed: Option<Failure>,
}

impl Driver {
    /// Connects to the process that listens there.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let inner = Inner { line: Line::connect(socket)?, model: Machines::default(), compared: 0, failed: None };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step's answer; nothing after a failure.
    fn step(&self, step: ls::Step) -> ls::StepReply {
        let mut inner = self.lock();
        if inner.failed.is_some() {
            return ls::StepReply::default();
        }
        let answer = inner.step(step);
        answer.unwrap_or_else(|failure| {
            inner.failed = Some(failure);
            ls::StepReply::default()
        })
    }

    fn broken(&self, what: &str) {
        self.lock().failed.get_or_insert_with(|| Failure::Broken(what.to_owned()));
    }
}

impl Deciders for Driver {
    fn node(&self, node: u64) -> Arc<dyn Cores> {
        Arc::new(NodeCores { driver: self.clone(), node })
    }

    fn failed(&self) -> Option<Failure> {
        self.lock().failed.clone()
    }

    fn compared(&self) -> u64 {
        self.lock().compared
    }
}

impl Inner {
    fn step(&mut self, mut step: ls::Step) -> Result<ls::StepReply, Failure> {
        step.digest = step.machine() == ls::Machine::Room;
        let driven = self.ask(&step)?;
        self.compared += 1;
        let expected = self.model.step(step.clone());
        if expected != driven {
            return Err(self.difference(step, expected, driven));
        }
        if driven.error.is_empty() { Ok(driven) } else { Err(Failure::Broken(driven.error)) }
    }

    fn ask(&mut self, step: &ls::Step) -> Result<ls::StepReply, Failure> {
        let silent = |error: io::Error| Failure::Silent(error.to_string());
        self.line.send(&ls::Batch { steps: vec![step.clone()] }.encode_to_vec()).map_err(silent)?;
        let reply = ls::BatchReply::decode(self.line.receive().map_err(silent)?).map(|reply| reply.replies);
        match reply.as_deref() {
            Ok([reply]) => Ok(reply.clone()),
            _ => Err(Failure::Broken("an answer that is none".to_owned())),
        }
    }

    /// Both answers, and both states after them, for people.
    fn difference(&mut self, step: ls::Step, mut expected: ls::StepReply, mut driven: ls::StepReply) -> Failure {
        let look = ls::Step { input: None, reset: None, state: true, ..step.clone() };
        if step.machine() == ls::Machine::Room {
            driven.state = self.ask(&look).unwrap_or_default().state;
            expected.state = self.model.step(look).state;
        }
        let text = report::of_step(&step, &expected, &driven);
        Failure::Differs(format!("step {} of the cores: {text}", self.compared))
    }
}

struct NodeCores {
    driver: Driver,
    node: u64,
}

impl NodeCores {
    fn place(&self, key: &[u8]) -> Place {
        Place { node: self.node, key: key.to_vec() }
    }
}

impl Cores for NodeCores {
    fn room(&self, key: &RoomKey, me: &Identity, rules: &Rules) -> Box<dyn RoomCore> {
        let place = self.place(key.to_string().as_bytes());
        let mut step = wire::step(&place, ls::Machine::Room, Now::default());
        step.reset = Some(wire::reset(key, me, rules));
        let said = self.driver.step(step);
        Box::new(DrivenRoom { driver: self.driver.clone(), place, wake_at: said.wake_at, has_room: said.has_room })
    }

    fn peers(&self, down_after_ms: u64) -> Box<dyn PeersCore> {
        let place = self.place(&[]);
        let mut step = wire::step(&place, ls::Machine::Placement, Now::default());
        step.reset = Some(ls::Reset { down_after_ms, ..ls::Reset::default() });
        self.driver.step(step);
        Box::new(DrivenPeers { driver: self.driver.clone(), place })
    }

    fn ranked(&self, room: &RoomKey, last_writer: Option<u64>, living: Vec<Living>) -> Vec<Living> {
        let rank = ls::Rank {
            tenant: room.tenant.as_str().into(),
            room: room.room.as_str().into(),
            last_writer,
            living: living.iter().map(wire::alive).collect(),
        };
        let peers = DrivenPeers { driver: self.driver.clone(), place: self.place(&[]) };
        peers.ranking(0, Given::Rank(rank))
    }
}

struct DrivenRoom {
    driver: Driver,
    place: Place,
    wake_at: Option<u64>,
    has_room: bool,
}

impl RoomCore for DrivenRoom {
    fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut step = wire::step(&self.place, ls::Machine::Room, now);
        step.input = Some(wire::given(&input));
        let said = self.driver.step(step);
        (self.wake_at, self.has_room) = (said.wake_at, said.has_room);
        let effects: Option<Vec<Effect>> = said.effects.into_iter().map(back::effect).collect();
        effects.unwrap_or_else(|| {
            self.driver.broken("an effect that no room can have");
            Vec::new()
        })
    }

    fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    fn has_room(&self) -> bool {
        self.has_room
    }
}

struct DrivenPeers {
    driver: Driver,
    place: Place,
}

impl DrivenPeers {
    fn ask(&self, mono_ms: u64, input: Given) -> Option<Said> {
        let mut step = wire::step(&self.place, ls::Machine::Placement, Now { wall_ms: 0, mono_ms });
        step.input = Some(input);
        self.driver.step(step).effects.pop()?.effect
    }

    fn ranking(&self, mono_ms: u64, input: Given) -> Vec<Living> {
        let Some(Said::Ranking(order)) = self.ask(mono_ms, input) else { return Vec::new() };
        wire::living(order.living).unwrap_or_else(|| {
            self.driver.broken("a node that cannot be");
            Vec::new()
        })
    }
}

impl PeersCore for DrivenPeers {
    fn heard(&mut self, beat: &Heartbeat, mono_ms: u64) -> bool {
        let heard = Given::Heard(ls::Heard { beat: beat.encode_to_vec().into() });
        matches!(self.ask(mono_ms, heard), Some(Said::Heard(heard)) if heard.brain)
    }

    fn living(&self, mono_ms: u64) -> Vec<Living> {
        self.ranking(mono_ms, Given::Lives(ls::Lives {}))
    }
}
