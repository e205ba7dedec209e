//! Some owners on one room's streams. Every call can be held back, answered wrongly, or stored late.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod history;

use std::collections::VecDeque;

use brain_model::fake::Streams;
use brain_model::{Effect, Identity, Input, Note, Now, Room, Rules, Why};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::internal::{Opened, SyncReply};
use proto::sender::SenderRef;
use proto::v1::{self, command::Op, envelope::Payload};
use proto::{NodeId, Rights, RoomKey, Subject};

pub const START_MS: i64 = 1_760_000_000_000;
pub const ALL_RIGHTS: Rights = Rights(127);

pub fn key() -> RoomKey {
    RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap())
}

pub fn slot(n: u16) -> Subject {
    Subject::reply_slot(&"shield-1".parse().unwrap(), n)
}

/// One owner, or would-be owner.
pub struct Owner {
    pub room: Room,
    pub calls: VecDeque<Effect>,
    pub acks: Vec<(Subject, v1::Ack)>,
    pub replies: Vec<(Subject, Bytes)>,
    pub notes: Vec<Note>,
    pub live: Vec<Bytes>,
    pub gone: Option<Why>,
}

pub struct World {
    pub streams: Streams,
    pub owners: Vec<Owner>,
    pub now: Now,
    draws: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            streams: Streams::default(),
            owners: Vec::new(),
            now: Now { wall_ms: START_MS, mono_ms: 1000 },
            draws: 0,
        }
    }
}

impl World {
    pub fn add(&mut self, rules: Rules) -> usize {
        let n = self.owners.len() as u64 + 1;
        let node: NodeId = format!("brain-{n}").parse().unwrap();
        let me = Identity { node, incarnation: 0x1000 + n, session: 1 };
        self.owners.push(Owner {
            room: Room::new(key(), me, rules),
            calls: VecDeque::new(),
            acks: Vec::new(),
            replies: Vec::new(),
            notes: Vec::new(),
            live: Vec::new(),
            gone: None,
        });
        self.owners.len() - 1
    }

    pub fn input(&mut self, owner: usize, input: Input) {
        let now = self.now;
        let owner = &mut self.owners[owner];
        for effect in owner.room.step(now, input) {
            match effect {
                Effect::Reply { to, body } => {
                    if let Some(ack) = v1::Ack::decode(body.clone()).ok().filter(|ack| ack.message_id.len() == 16) {
                        owner.acks.push((to.clone(), ack));
                    }
                    owner.replies.push((to, body));
                }
                Effect::Live { body } => owner.live.push(body),
                Effect::Note(note) => owner.notes.push(note),
                Effect::StepDown(why) => owner.gone = Some(why),
                call => owner.calls.push_back(call),
            }
        }
    }

    /// Does an owner's oldest call and tells it the outcome. False if there is none.
    pub fn call(&mut self, owner: usize) -> bool {
        let Some(call) = self.owners[owner].calls.pop_front() else { return false };
        let outcome = self.perform(call);
        if let Some(outcome) = outcome {
            self.input(owner, outcome);
        }
        true
    }

    /// Does a call; the outcome that its owner would hear.
    pub fn perform(&mut self, call: Effect) -> Option<Input> {
        self.draws += 1;
        self.streams.perform(call, 0xd0d0_0000 + self.draws)
    }

    /// Until nobody has a call to make.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let called = (0..self.owners.len()).filter(|owner| self.call(*owner)).count();
            if called == 0 {
                return;
            }
        }
        panic!("the owners call for ever");
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
    }

    /// Lets time pass to each owner's own deadlines, until `ms` are over and everything is quiet.
    pub fn run(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..10_000 {
            self.settle();
            let next = self.owners.iter().filter_map(|owner| owner.room.wake_at()).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.pass(end - self.now.mono_ms);
                return;
            };
            self.pass(next.saturating_sub(self.now.mono_ms));
            for owner in 0..self.owners.len() {
                if self.owners[owner].room.wake_at().is_some_and(|at| at <= self.now.mono_ms) {
                    self.input(owner, Input::Wake);
                }
            }
        }
        panic!("the owners wake for ever");
    }

    pub fn open(&mut self, owner: usize) {
        self.input(owner, Input::Open { reply: slot(9000), create: true });
        self.settle();
    }

    pub fn opened(&self, owner: usize) -> Option<Opened> {
        let (_, body) = self.owners[owner].replies.iter().rev().find(|(to, _)| *to == slot(9000))?;
        Opened::decode(body.clone()).ok()
    }

    pub fn send(&mut self, owner: usize, reply: u16, body: Bytes) {
        self.input(owner, Input::Message { reply: Some(slot(reply)), body });
    }

    /// Sends, settles, and returns the ack.
    pub fn ask(&mut self, owner: usize, body: Bytes) -> v1::Ack {
        self.send(owner, 1, body);
        self.settle();
        self.owners[owner].acks.last().expect("an answer").1.clone()
    }

    pub fn sync(&mut self, owner: usize, user: &str, sync: v1::Sync) -> SyncReply {
        self.send(owner, 2, signal(user, ALL_RIGHTS, v1::system_signal::Ask::Sync(sync)));
        self.settle();
        self.last_sync(owner)
    }

    pub fn last_sync(&self, owner: usize) -> SyncReply {
        let (_, body) = self.owners[owner].replies.iter().rev().find(|(to, _)| *to == slot(2)).expect("an answer");
        SyncReply::decode(body.clone()).unwrap()
    }
}

fn sealed(envelope: &v1::Envelope, user: &str, rights: Rights) -> Bytes {
    let mut bytes = BytesMut::from(envelope.encode_to_vec().as_slice());
    let sender = SenderRef { user, conn: "c1", rights, ..SenderRef::default() };
    proto::sender::append(&mut bytes, &sender);
    bytes.freeze()
}

/// A message id from a small number.
pub fn mid(n: u64) -> [u8; 16] {
    (u128::from(n) | 0xa5 << 120).to_be_bytes()
}

pub fn command_at(user: &str, rights: Rights, id: u64, timestamp: i64, command: v1::Command) -> Bytes {
    let envelope = v1::Envelope {
        room_id: "lobby".into(),
        timestamp,
        message_id: mid(id).to_vec().into(),
        ack_requested: true,
        payload: Some(Payload::Cmd(command)),
        ..v1::Envelope::default()
    };
    sealed(&envelope, user, rights)
}

pub fn command(user: &str, id: u64, op: Op) -> Bytes {
    command_at(user, ALL_RIGHTS, id, START_MS, v1::Command { op: Some(op), ..v1::Command::default() })
}

pub fn say(text: &str) -> Op {
    Op::Say(v1::Say { data: text.as_bytes().to_vec().into(), r#type: "text".into() })
}

pub fn set(key: &str, value: &str) -> Op {
    Op::Set(v1::Set { key: key.into(), value: value.as_bytes().to_vec().into(), ..v1::Set::default() })
}

pub fn signal(user: &str, rights: Rights, ask: v1::system_signal::Ask) -> Bytes {
    let envelope = v1::Envelope {
        room_id: "lobby".into(),
        payload: Some(Payload::Signal(v1::SystemSignal { ask: Some(ask), ..v1::SystemSignal::default() })),
        ..v1::Envelope::default()
    };
    sealed(&envelope, user, rights)
}
