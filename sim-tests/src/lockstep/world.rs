//! The world of one history: nodes with their clocks, rooms with their streams, and the model's cores. Playing a history
//! yields a script: every step that a driven core is given, with the answer that the model gave.

mod codes;
mod damage;
mod entries;
mod heritage;
mod play;
mod requests;

use std::collections::{BTreeMap, VecDeque};

use brain_model::fake::Streams;
use brain_model::{Effect, Identity, Input, Now, Room, Rules};
use bytes::Bytes;
use prost::Message as _;
use proto::internal::SyncReply;
use proto::lockstep as ls;
use proto::v1;
use proto::{Code, NodeId, RoomKey, Subject};

use super::coverage::Coverage;
use super::machines::Machines;
use super::ops::{At, Clock, HeadIs, Heritage, History, Op, Setup, To};
use super::wire::{self, Place};

pub(super) const START_MS: i64 = 1_760_000_000_000;
/// Bytes that are remembered for damage.
const SEEN_MAX: usize = 96;
/// Longer ones are not.
const SEEN_BYTES_MAX: usize = 40_000;

/// What is asked for with the steps.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// A digest every so many steps, and at the end of the history; 0: only then, for a large state costs a hundred steps.
    pub digest_every: usize,
    /// The state after this step.
    pub state_at: Option<usize>,
}

/// Steps and the model's answers.
#[derive(Default)]
pub struct Script {
    /// What is given.
    pub steps: Vec<ls::Step>,
    /// What must come back.
    pub replies: Vec<ls::StepReply>,
    /// Which operation of the history each step belongs to.
    pub ops: Vec<usize>,
}

struct Core {
    room: Room,
    calls: VecDeque<Effect>,
}

struct Node {
    incarnation: u64,
    session: u32,
    /// How far its wall clock is off.
    skew_ms: i64,
    /// When it was started, by the world's clock.
    started_ms: u64,
}

/// A request that was sent.
#[derive(Clone)]
struct Sent {
    row: &'static str,
    user: u8,
    id: u64,
    body: Bytes,
}

pub(super) struct World<'c> {
    setup: Setup,
    watch: Watch,
    clock_ms: u64,
    nodes: Vec<Node>,
    rooms: Vec<Streams>,
    cores: BTreeMap<(usize, usize), Core>,
    machines: Machines,
    beaten: Vec<bool>,
    sent: Vec<Sent>,
    seen: VecDeque<Bytes>,
    /// What was asked with this reply subject.
    asked: BTreeMap<String, &'static str>,
    slots: u64,
    ids: u64,
    draws: u64,
    op: usize,
    script: Script,
    cover: &'c mut Coverage,
}

/// Plays `history` on the model.
pub fn play(history: &History, watch: Watch, cover: &mut Coverage) -> Script {
    let mut world = World::new(history.setup, watch, cover);
    if history.setup.served {
        let at = At { node: 0, room: 0 };
        world.take(&Op::Open { at, create: true, to: To::Slot });
        world.settle();
        // What the past was made for happens at once, so that few such histories are enough.
        match history.setup.heritage {
            Heritage::Window => {
                world.take(&Op::Mixed { at, rights: 0, head: HeadIs::Any, clock: Clock::Off(0), known: false });
            }
            Heritage::Keys => world.two_keys(at),
            _ => {}
        }
    }
    for (n, op) in history.ops.iter().enumerate() {
        world.op = n;
        world.take(op);
    }
    world.probe();
    world.script
}

impl<'c> World<'c> {
    fn new(setup: Setup, watch: Watch, cover: &'c mut Coverage) -> Self {
        let nodes = (0..u64::from(setup.nodes.max(1)))
            .map(|n| Node { incarnation: 0x1000 * (n + 1), session: 0, skew_ms: 0, started_ms: 0 })
            .collect();
        let mut rooms = vec![Streams::default(); usize::from(setup.rooms.max(1))];
        rooms[0] = heritage::streams(setup.heritage);
        Self {
            setup,
            watch,
            clock_ms: 1000,
            nodes,
            beaten: vec![false; usize::from(setup.nodes.max(1))],
            rooms,
            cores: BTreeMap::new(),
            machines: Machines::default(),
            sent: Vec::new(),
            seen: VecDeque::new(),
            asked: BTreeMap::new(),
            slots: 0,
            ids: 0,
            draws: 0,
            op: 0,
            script: Script::default(),
            cover,
        }
    }

    fn place(&self, at: At) -> (usize, usize) {
        (usize::from(at.node) % self.nodes.len(), usize::from(at.room) % self.rooms.len())
    }

    fn wall_ms(&self) -> i64 {
        START_MS + i64::try_from(self.clock_ms).unwrap_or(0)
    }

    fn now(&self, node: usize) -> Now {
        let node = &self.nodes[node];
        Now { wall_ms: self.wall_ms() + node.skew_ms, mono_ms: self.clock_ms - node.started_ms }
    }

    fn rules(&self) -> Rules {
        let small =
            Rules { idle_ms: 700, snapshot_entries: 6, snapshot_bytes: 4096, trim_age_ms: 400, ..Rules::default() };
        match self.setup.rules {
            0 => Rules::default(),
            1 => small,
            2 => Rules { idle_ms: 60_000, dedupe: 7, ..small },
            _ => Rules { snapshot_entries: 2, snapshot_bytes: 1, trim_age_ms: 0, dedupe: 2, ..small },
        }
    }

    /// A new core in the place of the one before.
    fn fresh(&mut self, node: usize, room: usize) {
        let now = self.now(node);
        let me = &mut self.nodes[node];
        me.session += 1;
        let name = NodeId::parse(&format!("brain-{}", node + 1)).expect("a node id");
        let me = Identity { node: name, incarnation: me.incarnation, session: me.session };
        let (key, rules) = (room_key(room), self.rules());
        let mut step = wire::step(&self.at(node, room), ls::Machine::Room, now);
        step.reset = Some(wire::reset(&key, &me, &rules));
        let core = Core { room: Room::new(key, me, rules), calls: VecDeque::new() };
        let reply = wire::reply(Vec::new(), &core.room, &step);
        self.cores.insert((node, room), core);
        self.push(step, reply);
    }

    fn at(&self, node: usize, room: usize) -> Place {
        Place { node: node as u64, key: vec![u8::try_from(room).unwrap_or(0)] }
    }

    fn push(&mut self, step: ls::Step, reply: ls::StepReply) {
        self.script.steps.push(step);
        self.script.replies.push(reply);
        self.script.ops.push(self.op);
    }

    /// Gives a core an input and takes what comes of it.
    fn give(&mut self, node: usize, room: usize, input: Input) {
        let n = self.script.steps.len();
        let (now, place) = (self.now(node), self.at(node, room));
        let Some(core) = self.cores.get_mut(&(node, room)) else { return };
        let mut step = wire::step(&place, ls::Machine::Room, now);
        step.input = Some(wire::given(&input));
        step.state = self.watch.state_at == Some(n);
        step.digest = step.state || n.is_multiple_of(self.watch.digest_every);
        self.cover.input(&input);
        let effects = core.room.step(now, input);
        for effect in &effects {
            self.cover.effect(effect);
            if let Effect::Reply { to, body } = effect {
                let row = self.asked.get(to.as_str()).copied().unwrap_or("?");
                outcome(self.cover, row, body);
            }
            if let Some(body) = body_of(effect) {
                remember(&mut self.seen, body);
            }
            if is_call(effect) {
                core.calls.push_back(effect.clone());
            }
        }
        let reply = wire::reply(effects, &core.room, &step);
        self.push(step, reply);
    }

    /// The digest of every core at the end.
    fn probe(&mut self) {
        for (node, room) in self.cores.keys().copied().collect::<Vec<_>>() {
            let n = self.script.steps.len();
            let mut step = wire::step(&self.at(node, room), ls::Machine::Room, self.now(node));
            step.digest = true;
            step.state = self.watch.state_at == Some(n);
            let reply = wire::reply(Vec::new(), &self.cores[&(node, room)].room, &step);
            self.push(step, reply);
        }
    }

    /// A subject to be answered at, remembered with what was asked.
    fn reply_to(&mut self, to: To, row: &'static str) -> Option<Subject> {
        self.slots += 1;
        let n = self.slots;
        let text = match to {
            To::Slot => format!("_INBOX.s.shield-1.{n}"),
            To::Single => format!("_INBOX.s.shield-1.abc{n}.{n}"),
            To::Brain => format!("_INBOX.b.brain-1.{n}"),
            To::Log => Subject::log(&room_key(0)).as_str().to_owned(),
            To::Nowhere => return None,
            To::Odd(0) => "_INBOX.s.shield-1".to_owned(),
            To::Odd(1) => "_INBOX.s.shield-1.a.b.c".to_owned(),
            To::Odd(2) => "_INBOX.s.shield_1.1-2".to_owned(),
            To::Odd(3) => "_INBOX.s.-shield.1".to_owned(),
            To::Odd(4) => "_INBOX.s.shield-1.ü".to_owned(),
            To::Odd(5) => format!("_INBOX.s.{}.{n}", "s".repeat(65)),
            To::Odd(6) => "_INBOX.sx.shield-1.1".to_owned(),
            To::Odd(_) => format!("_INBOX.s.{}.{n}", "s".repeat(64)),
        };
        self.asked.insert(text.clone(), row);
        Some(Subject::from_wire(text.into()).expect("a subject that NATS would deliver"))
    }
}

pub(super) fn room_key(room: usize) -> RoomKey {
    let name = ["lobby", "a-second_Room", "R"][room % 3];
    RoomKey::new("acme".parse().expect("a tenant"), name.parse().expect("a room"))
}

fn is_call(effect: &Effect) -> bool {
    !matches!(effect, Effect::Reply { .. } | Effect::Live { .. } | Effect::StepDown(_) | Effect::Note(_))
}

fn body_of(effect: &Effect) -> Option<&Bytes> {
    match effect {
        Effect::Append { body, .. }
        | Effect::WriteSnapshot { body, .. }
        | Effect::Reply { body, .. }
        | Effect::Live { body } => Some(body),
        _ => None,
    }
}

fn remember(seen: &mut VecDeque<Bytes>, body: &Bytes) {
    if body.len() <= SEEN_BYTES_MAX {
        if seen.len() >= SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(body.clone());
    }
}

/// What a request came to, for the table.
fn outcome(cover: &mut Coverage, row: &'static str, body: &Bytes) {
    match row {
        "open" => {
            let code = proto::internal::Opened::decode(body.clone()).map_or(u32::MAX, |opened| opened.code);
            cover.outcome(row, code, if code == 0 { "opened" } else { "" });
        }
        "sync" | "get" => {
            let Ok(reply) = SyncReply::decode(body.clone()) else { return cover.outcome(row, u32::MAX, "") };
            let kind = match (reply.recovered, reply.snapshot.is_empty(), reply.events.is_empty()) {
                (true, ..) => "recovered",
                (false, true, _) => "leave",
                (false, false, true) => "snapshot",
                (false, false, false) => "history",
            };
            cover.outcome(row, reply.code, if reply.code == 0 { kind } else { "" });
        }
        "unreadable" => {
            // Damage need not make a request unreadable; and then it says nothing new.
            let code = v1::Ack::decode(body.clone()).map_or(0, |ack| ack.code);
            let codes = [Code::MalformedEnvelope, Code::NonCanonicalEnvelope, Code::MissingField, Code::NotACommand];
            if codes.into_iter().any(|known| u32::from(known.as_u16()) == code) {
                cover.outcome(row, code, "");
            }
        }
        _ => {
            let Ok(ack) = v1::Ack::decode(body.clone()) else { return cover.outcome(row, u32::MAX, "") };
            let kind = match (ack.duplicate, ack.seq) {
                (true, _) => "duplicate",
                (false, 0) => "sent",
                _ => "stored",
            };
            cover.outcome(row, ack.code, if ack.code == 0 { kind } else { "" });
        }
    }
}
