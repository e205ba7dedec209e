//! Random histories of one room: two owners on one log, commands, repeats, lost answers, late appends, void entries,
//! power cuts, reconnects. Whatever happens, the laws in `look` and `settle` hold.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use brain_model::{Effect, Input, Outcome, Rules};
use bytes::Bytes;
use proptest::prelude::*;
use proto::internal::Kind;
use proto::v1::{self, command::Op};

#[derive(Clone, Debug)]
pub enum Step {
    /// A new command to an owner.
    New { owner: usize, user: u8, op: u8 },
    /// The bytes of an earlier command again.
    Repeat { owner: usize, which: usize },
    /// An owner's oldest call is done and answered.
    Call { owner: usize },
    /// An owner's oldest call is done, and the answer lost.
    LoseAnswer { owner: usize },
    /// An owner's oldest call is not done; an append may be done later.
    LoseCall { owner: usize, later: bool },
    /// An append that nobody waits for any more arrives.
    Late,
    /// Something arrives that is no valid entry.
    Void,
    /// Everything in memory and some of the tail is gone. Connections, too.
    PowerCut { lost: usize },
    /// The connection is made again.
    Reconnect { owner: usize },
    /// Time passes.
    Pass { ms: u64 },
    /// Somebody asks this node to serve the room.
    Open { owner: usize },
    /// The process dies; another takes its place.
    Crash { owner: usize },
    /// A SUB, with a cursor that may be far off.
    Sync { owner: usize, back: u64 },
    /// A read that must be current.
    Get { owner: usize },
}

pub fn step() -> impl Strategy<Value = Step> {
    let owner = 0..2_usize;
    prop_oneof![
        20 => (owner.clone(), 0..3_u8, 0..6_u8).prop_map(|(owner, user, op)| Step::New { owner, user, op }),
        8 => (owner.clone(), any::<usize>()).prop_map(|(owner, which)| Step::Repeat { owner, which }),
        60 => owner.clone().prop_map(|owner| Step::Call { owner }),
        5 => owner.clone().prop_map(|owner| Step::LoseAnswer { owner }),
        5 => (owner.clone(), any::<bool>()).prop_map(|(owner, later)| Step::LoseCall { owner, later }),
        4 => Just(Step::Late),
        1 => Just(Step::Void),
        1 => (0..4_usize).prop_map(|lost| Step::PowerCut { lost }),
        2 => owner.clone().prop_map(|owner| Step::Reconnect { owner }),
        10 => (1..700_u64).prop_map(|ms| Step::Pass { ms }),
        3 => owner.clone().prop_map(|owner| Step::Open { owner }),
        1 => owner.clone().prop_map(|owner| Step::Crash { owner }),
        3 => (owner.clone(), 0..6_u64).prop_map(|(owner, back)| Step::Sync { owner, back }),
        2 => owner.prop_map(|owner| Step::Get { owner }),
    ]
}

/// A run in progress, with what the laws need to know.
struct Run {
    world: World,
    /// What was sent: id to (user, bytes).
    sent: Vec<(u64, String, Bytes)>,
    /// Which process each of the two nodes is now.
    process: [usize; 2],
    /// Positive acks: id to (epoch, seq).
    acked: BTreeMap<u64, (u64, u64)>,
    /// How often an id was sent, and how often that was answered with "surely not applied".
    frames: BTreeMap<u64, (u32, u32)>,
    acks_seen: Vec<usize>,
    cuts: bool,
    opens: u16,
}

impl Run {
    fn new() -> Self {
        let mut world = World::default();
        let process = [world.add(Rules::default()), world.add(Rules::default())];
        let mut run = Self {
            world,
            sent: Vec::new(),
            process,
            acked: BTreeMap::new(),
            frames: BTreeMap::new(),
            acks_seen: vec![0, 0],
            cuts: false,
            opens: 0,
        };
        run.world.open(0);
        run
    }

    /// One publish: every second one comes to both nodes if both believe that they serve the room.
    fn send(&mut self, owner: usize, id: u64, body: Bytes) {
        // A room that is not served is not subscribed to: a 503 in the Shield.
        let mut to = vec![self.process[owner]];
        if id.is_multiple_of(2) {
            to.push(self.process[1 - owner]);
        }
        to.retain(|process| self.world.owners[*process].room.serving() && self.world.owners[*process].gone.is_none());
        if !to.is_empty() {
            self.frames.entry(id).or_default().0 += 1;
        }
        for process in to {
            self.world.send(process, 1, body.clone());
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::New { owner, user, op } => {
                let id = self.sent.len() as u64 + 1;
                let user = format!("user-{user}");
                let key = format!("k{}", id % 3);
                let command = v1::Command {
                    op: Some(match op {
                        0 => set(&key, "value"),
                        1 => Op::Set(v1::Set { key, value: Bytes::from_static(b"x"), ttl_ms: 300, expect: None }),
                        2 => Op::Delete(v1::Delete { key, expect: None }),
                        _ => say("something"),
                    }),
                    ..v1::Command::default()
                };
                let body = command_at(&user, ALL_RIGHTS, id, self.world.now.wall_ms, command);
                self.sent.push((id, user, body.clone()));
                self.send(owner, id, body);
            }
            Step::Repeat { owner, which } => {
                if !self.sent.is_empty() {
                    let (id, _, body) = self.sent[which % self.sent.len()].clone();
                    self.send(owner, id, body);
                }
            }
            Step::Call { owner } => {
                self.world.call(self.process[owner]);
            }
            Step::LoseAnswer { owner } => {
                let process = self.process[owner];
                if let Some(call) = self.world.owners[process].calls.pop_front()
                    && let Some(outcome) = self.world.perform(call)
                {
                    self.world.input(process, unheard(outcome));
                }
            }
            Step::LoseCall { owner, later } => {
                let process = self.process[owner];
                match self.world.owners[process].calls.pop_front() {
                    Some(Effect::Append { token, expect, body }) => {
                        if later {
                            self.world.streams.late.push((expect, body));
                        }
                        self.world.input(process, Input::Appended { token, outcome: Outcome::Unresolved });
                    }
                    Some(Effect::Read { token, .. }) => {
                        self.world.input(process, Input::Read { token, draw: 1, found: None });
                    }
                    Some(other) => {
                        if let Some(outcome) = self.world.perform(other) {
                            self.world.input(process, outcome);
                        }
                    }
                    None => {}
                }
            }
            Step::Late => {
                if let Some((expect, body)) = self.world.streams.late.pop() {
                    self.world.streams.append(expect, body);
                }
            }
            Step::Void => self.world.streams.append_any(Bytes::from_static(b"\x01 no entry")),
            Step::PowerCut { lost } => {
                self.cuts = true;
                self.world.streams.lose_tail(lost);
                for process in self.process {
                    self.world.input(process, Input::Reconnected);
                }
            }
            Step::Reconnect { owner } => self.world.input(self.process[owner], Input::Reconnected),
            Step::Pass { ms } => {
                self.world.pass(ms);
                for process in self.process {
                    self.world.input(process, Input::Wake);
                }
            }
            Step::Open { owner } => {
                if self.world.owners[self.process[owner]].gone.is_some() {
                    self.replace(owner);
                }
                self.opens += 1;
                let input = Input::Open { reply: slot(9000 + self.opens % 100), create: true };
                self.world.input(self.process[owner], input);
            }
            Step::Crash { owner } => {
                // What it has sent may still arrive.
                let calls = std::mem::take(&mut self.world.owners[self.process[owner]].calls);
                for call in calls {
                    if let Effect::Append { expect, body, .. } = call {
                        self.world.streams.late.push((expect, body));
                    }
                }
                self.replace(owner);
            }
            Step::Sync { owner, back } => {
                let tail = self.world.streams.fold().0.tail;
                let since = v1::Head { epoch: tail.epoch, seq: tail.seq.saturating_sub(back) };
                let sync = v1::Sync { since: Some(since), ..v1::Sync::default() };
                self.ask(owner, v1::system_signal::Ask::Sync(sync));
            }
            Step::Get { owner } => self.ask(owner, v1::system_signal::Ask::Get(v1::Get {})),
        }
        self.look();
    }

    fn ask(&mut self, owner: usize, ask: v1::system_signal::Ask) {
        let process = self.process[owner];
        if self.world.owners[process].room.serving() {
            self.world.send(process, 2, signal("user-0", ALL_RIGHTS, ask));
        }
    }

    fn replace(&mut self, owner: usize) {
        self.process[owner] = self.world.add(Rules::default());
        self.acks_seen.push(0);
    }

    /// Every new ack, judged the moment it leaves.
    fn look(&mut self) {
        for (process, owner) in self.world.owners.iter().enumerate() {
            for (_, ack) in &owner.acks[self.acks_seen[process]..] {
                let id = u64::from_be_bytes(ack.message_id[8..].try_into().unwrap());
                if ack.code != 0 {
                    if ack.code == 6002 {
                        self.frames.entry(id).or_default().1 += 1;
                    }
                    continue;
                }
                let place = (ack.epoch, ack.seq);
                let stored = self.world.streams.events().iter().any(|(envelope, event)| {
                    (event.epoch, event.seq) == place && envelope.message_id == ack.message_id
                });
                assert!(stored || self.cuts, "{id} was acked at {place:?} and is not there");
                if let Some(before) = self.acked.insert(id, place) {
                    assert!(before == place || self.cuts, "{id} was acked at {before:?} and at {place:?}");
                }
            }
            self.acks_seen[process] = owner.acks.len();
        }
    }

    /// Everything late arrives, everyone settles, and the room is opened once more.
    fn settle(&mut self) {
        while let Some((expect, body)) = self.world.streams.late.pop() {
            self.world.streams.append(expect, body);
        }
        self.world.run(5_000);
        self.look();
        let process = self.world.add(Rules::default());
        self.acks_seen.push(0);
        self.world.open(process);
        self.world.run(100);
        self.look();
        let owner = &self.world.owners[process];
        assert!(owner.room.serving(), "a room that nothing keeps from it is served");
        let (folded, valid) = self.world.streams.fold();
        let mine = owner.room.committed();
        // What arrived behind its back since, void as it is, the owner finds at its next write.
        let known = brain_model::chain::Tail { fence: mine.tail.fence, ..folded.tail };
        assert_eq!(known, mine.tail, "the log's fold is the owner's state");
        assert_eq!(folded.state, mine.state, "the log's fold is the owner's state");

        let mut at = i64::MIN;
        let mut prevs = BTreeSet::new();
        let (mut epoch, mut term, mut seq) = (0, 0, 0);
        for (_, entry) in &valid {
            assert!(prevs.insert(entry.prev), "two valid entries follow position {}", entry.prev);
            assert!(entry.at >= at, "the room's clock fell");
            at = entry.at;
            assert!((entry.epoch, entry.term) >= (epoch, term), "(epoch, term) fell");
            if entry.kind == Kind::Owned as i32 {
                assert!(entry.term == term + 1, "a take-over is term + 1");
            } else {
                assert_eq!((entry.epoch, entry.term), (epoch, term), "only a take-over changes the term");
            }
            if entry.epoch > epoch {
                seq = 0;
            }
            (epoch, term) = (entry.epoch, entry.term);
            assert_eq!(entry.first_seq, seq + 1);
            seq += entry.envelopes.len() as u64;
            assert!(entry.envelopes.len() <= 256);
        }
        let mut once = BTreeMap::new();
        let mut last = (0, 0);
        for (envelope, event) in self.world.streams.events() {
            if event.epoch == last.0 {
                assert_eq!(event.seq, last.1 + 1);
            } else {
                assert!(event.epoch > last.0 && event.seq == 1);
            }
            last = (event.epoch, event.seq);
            if event.user.is_empty() {
                continue;
            }
            let id = u64::from_be_bytes(envelope.message_id[8..].try_into().unwrap());
            let before = once.insert(id, last);
            assert!(before.is_none(), "{id} is in the log twice: {before:?} and {last:?}");
            let (sent, refused) = self.frames[&id];
            assert!(refused < sent || self.cuts, "{id} was surely not applied each time, and is in the log");
            assert_eq!(self.sent[id as usize - 1].1, event.user);
        }
        if !self.cuts {
            for (id, place) in &self.acked {
                assert_eq!(once.get(id), Some(place), "{id} was acked there");
            }
            assert!(valid.iter().all(|(_, entry)| entry.epoch == valid[0].1.epoch), "a new epoch without a loss");
        }
    }
}

/// The same outcome as its owner hears it when the answer is lost.
fn unheard(outcome: Input) -> Input {
    match outcome {
        Input::Read { token, draw, .. } => Input::Read { token, draw, found: None },
        Input::Appended { token, .. } => Input::Appended { token, outcome: Outcome::Unresolved },
        Input::SnapshotWritten { token, .. } => Input::SnapshotWritten { token, outcome: Outcome::Unresolved },
        other => other,
    }
}

/// Plays a history and checks the laws: panics if one is broken.
pub fn history(steps: Vec<Step>) {
    let mut run = Run::new();
    for step in steps {
        run.take(step);
    }
    run.settle();
}
