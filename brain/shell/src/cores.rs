//! What decides behind the shell: pure cores, each a value that takes inputs and says what to do. In production they are
//! the reference model, [`Model`]; a simulator may put the cores of the other telling of the Brain in its place.

use brain_model::placement::{self, Living, Peers};
use brain_model::{Effect, Identity, Input, Now, Room, Rules};
use proto::RoomKey;
use proto::internal::Heartbeat;

/// Makes a node's cores. A core that cannot decide any more says nothing: no effect, no deadline, nobody to choose.
pub trait Cores: Send + Sync + 'static {
    /// The core of one room at this owner.
    fn room(&self, key: &RoomKey, me: &Identity, rules: &Rules) -> Box<dyn RoomCore>;
    /// The Brains that were heard: nobody yet. Who is silent for longer than `down_after_ms` is taken for dead.
    fn peers(&self, down_after_ms: u64) -> Box<dyn PeersCore>;
    /// Who of `living` should serve `room`, best first. `last_writer` is the incarnation that wrote its last entry.
    fn ranked(&self, room: &RoomKey, last_writer: Option<u64>, living: Vec<Living>) -> Vec<Living>;
}

/// One room's core: see [`brain_model::Room`], which is one.
pub trait RoomCore: Send {
    /// The effects of `input` at `now`, in their order.
    fn step(&mut self, now: Now, input: Input) -> Vec<Effect>;
    /// When it wants [`Input::Wake`], by the advancing clock, ms.
    fn wake_at(&self) -> Option<u64>;
    /// False: what is delivered now would be refused as `busy`.
    fn has_room(&self) -> bool;
}

/// Who was heard lately: see [`brain_model::placement::Peers`], which is one.
pub trait PeersCore: Send {
    /// A heartbeat arrived; false if it is no Brain's.
    fn heard(&mut self, beat: &Heartbeat, mono_ms: u64) -> bool;
    /// Who lives and takes rooms, ascending by name.
    fn living(&self, mono_ms: u64) -> Vec<Living>;
}

/// The reference model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Model;

impl Cores for Model {
    fn room(&self, key: &RoomKey, me: &Identity, rules: &Rules) -> Box<dyn RoomCore> {
        Box::new(Room::new(key.clone(), me.clone(), *rules))
    }

    fn peers(&self, down_after_ms: u64) -> Box<dyn PeersCore> {
        Box::new(Peers::new(down_after_ms))
    }

    fn ranked(&self, room: &RoomKey, last_writer: Option<u64>, living: Vec<Living>) -> Vec<Living> {
        placement::ranked(room, last_writer, living)
    }
}

impl RoomCore for Room {
    fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        Room::step(self, now, input)
    }

    fn wake_at(&self) -> Option<u64> {
        Room::wake_at(self)
    }

    fn has_room(&self) -> bool {
        Room::has_room(self)
    }
}

impl PeersCore for Peers {
    fn heard(&mut self, beat: &Heartbeat, mono_ms: u64) -> bool {
        Peers::heard(self, beat, mono_ms)
    }

    fn living(&self, mono_ms: u64) -> Vec<Living> {
        Peers::living(self, mono_ms)
    }
}
