use super::*;
use proptest::prelude::*;
use prost::Message as _;
use proto::internal::LogEntry;
use std::collections::{BTreeMap, VecDeque};

mod joins;

const PATIENCE_MS: u64 = 10_000;

/// A room's log and its owner, as far as a Shield can tell.
#[derive(Default)]
struct Room {
    log: Vec<(u64, Bytes)>,
    epoch: u64,
    seq: u64,
    chain: u64,
    pos: u64,
    /// (seq, position, chain) after each entry.
    heads: Vec<(u64, u64, u64)>,
}

fn envelope(epoch: u64, seq: u64) -> Bytes {
    let event = v1::Event { epoch, seq, ..v1::Event::default() };
    let payload = Some(v1::envelope::Payload::Event(event));
    v1::Envelope { payload, ..v1::Envelope::default() }.encode_to_vec().into()
}

fn event(frame: &Bytes) -> v1::Event {
    let envelope = v1::Envelope::decode(frame.slice(1..)).unwrap();
    match envelope.payload {
        Some(v1::envelope::Payload::Event(event)) => event,
        other => panic!("an event: {other:?}"),
    }
}

impl Room {
    fn new() -> Self {
        Self { epoch: 1, ..Self::default() }
    }

    /// Positions are those of a stream that other rooms write to, too.
    fn append(&mut self, events: u64) -> Entry {
        let entry = LogEntry {
            epoch: self.epoch,
            term: 1,
            first_seq: self.seq + 1,
            prev: self.log.last().map_or(0, |(pos, _)| *pos),
            prev_chain: self.chain,
            envelopes: (1..=events).map(|i| envelope(self.epoch, self.seq + i)).collect(),
            ..LogEntry::default()
        };
        self.seq += events;
        let body: Bytes = entry.encode_to_vec().into();
        let pos = self.log.last().map_or(1, |(pos, _)| pos + 1 + self.seq % 3);
        self.log.push((pos, body.clone()));
        let entry = Entry::decode(pos, &body);
        self.chain = entry.chain;
        self.pos = pos;
        self.heads.push((self.seq, pos, self.chain));
        entry
    }

    /// An entry that fits nowhere: stored and republished all the same.
    fn void(&mut self) -> Entry {
        let prev = self.log.last().map_or(0, |(pos, _)| *pos);
        let entry = LogEntry {
            epoch: self.epoch,
            term: 1,
            first_seq: self.seq + 1,
            prev,
            prev_chain: 0xbad,
            envelopes: vec![envelope(self.epoch, self.seq + 1)],
            ..LogEntry::default()
        };
        let body: Bytes = entry.encode_to_vec().into();
        self.log.push((prev + 1, body.clone()));
        Entry::decode(prev + 1, &body)
    }

    fn read(&self, from: u64) -> Vec<Entry> {
        self.log.iter().filter(|(pos, _)| *pos >= from).take(4).map(|(pos, body)| Entry::decode(*pos, body)).collect()
    }

    fn sync(&self, ask: &v1::Sync) -> SyncReply {
        let mut reply = SyncReply {
            epoch: self.epoch,
            term: 1,
            seq: self.seq,
            pos: self.pos,
            chain: self.chain,
            ..SyncReply::default()
        };
        let events = |from: u64| (from + 1..=self.seq).map(|seq| envelope(self.epoch, seq)).collect();
        match ask.since {
            _ if ask.leave_only => {}
            Some(since) if since.epoch == self.epoch && since.seq <= self.seq => {
                reply.recovered = true;
                reply.events = events(since.seq);
            }
            since => {
                reply.snapshot = vec![envelope(self.epoch, self.seq)];
                if since.is_none() {
                    reply.events = events(self.seq.saturating_sub(ask.history.into()));
                }
            }
        }
        reply
    }
}

/// What one subscriber was told.
#[derive(Default, Debug)]
struct Heard {
    admitted: Option<(u64, u64)>,
    /// How many events up to that place its result announced.
    replays: u64,
    refused: Option<Code>,
    events: Vec<u64>,
    announced: u32,
    removed: Option<Code>,
}

struct World {
    room: Room,
    core: Core,
    now_ms: u64,
    heard: BTreeMap<SubId, Heard>,
    /// Effects that are answered later.
    open: VecDeque<Effect>,
}

impl World {
    fn new() -> Self {
        Self {
            room: Room::new(),
            core: Core::new(PATIENCE_MS),
            now_ms: 0,
            heard: BTreeMap::new(),
            open: VecDeque::new(),
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.core.step(self.now_ms, input) {
            match effect {
                Effect::Admit { id, epoch, seq, replays, replay, .. } => {
                    let heard = self.heard.entry(id).or_default();
                    assert!(heard.admitted.replace((epoch, seq)).is_none(), "one result a SUB");
                    assert_eq!(heard.refused, None, "one result a SUB");
                    heard.replays = replays;
                    heard.events.extend(replay.iter().map(|frame| event(frame).seq));
                }
                Effect::Event { id, frame, class } => {
                    let heard = self.heard.get_mut(&id).expect("admitted first");
                    if class != Class::Ephemeral {
                        heard.events.push(event(&frame).seq);
                    }
                }
                Effect::Announce { id, .. } => self.heard.get_mut(&id).expect("admitted").announced += 1,
                Effect::Remove { id, code } => self.heard.entry(id).or_default().removed = Some(code),
                Effect::Refuse { id, code, .. } => {
                    let heard = self.heard.entry(id).or_default();
                    assert!(heard.admitted.is_none(), "one result a SUB");
                    assert!(heard.refused.replace(code).is_none(), "one result a SUB");
                }
                Effect::Note(_) => {}
                other => self.open.push_back(other),
            }
        }
    }

    /// Answers the oldest open question.
    fn answer(&mut self) -> bool {
        match self.open.pop_front() {
            Some(Effect::Sync { of, ask, .. }) => {
                let reply = self.room.sync(&ask);
                self.step(Input::Synced { of, reply: Ok(reply) });
            }
            Some(Effect::Read { from, .. }) => {
                let entries = Some(self.room.read(from));
                self.step(Input::Read { entries });
            }
            Some(Effect::ReadFor { id, from, .. }) => {
                let entries = Some(self.room.read(from));
                self.step(Input::ReadFor { id, entries });
            }
            _ => return false,
        }
        true
    }

    fn join(&mut self, id: SubId) {
        self.step(Input::Join { id, ask: v1::Sync::default(), floor: (0, 0) });
    }

    /// Answers everything, then lets a heartbeat say where the head is.
    fn settle(&mut self) {
        for _ in 0..3 {
            while self.answer() {}
            self.step(Input::Tail { epoch: self.room.epoch, term: 1, pos: self.room.pos, node: "b".into() });
        }
        while self.answer() {}
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// An entry with so many events; what happens to its delivery.
    Append(u64, Fate),
    Void(Fate),
    Answer,
    Join,
    /// A delivery kept back arrives.
    Release,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Twice,
    Lost,
    Kept,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let fate = prop_oneof![
        4 => Just(Fate::Delivered),
        1 => Just(Fate::Twice),
        2 => Just(Fate::Lost),
        2 => Just(Fate::Kept)
    ];
    let act = prop_oneof![
        6 => (0u64..4, fate.clone()).prop_map(|(n, fate)| Act::Append(n, fate)),
        1 => fate.prop_map(Act::Void),
        4 => Just(Act::Answer),
        1 => Just(Act::Join),
        2 => Just(Act::Release)
    ];
    proptest::collection::vec(act, 1..80)
}

proptest! {
    /// Whatever is lost, doubled or late on the way, with the log readable: each event once, in order, to everybody.
    #[test]
    fn every_event_once_in_order(acts in acts()) {
        let mut world = World::new();
        let mut kept = Vec::new();
        let mut next_id = 1;
        world.room.append(1);
        world.join(0);
        for act in acts {
            let (entry, fate) = match act {
                Act::Append(n, fate) => (world.room.append(n), fate),
                Act::Void(fate) => (world.room.void(), fate),
                Act::Answer => { world.answer(); continue }
                Act::Join => { world.join(next_id); next_id += 1; continue }
                Act::Release => {
                    if !kept.is_empty() {
                        let entry = kept.remove(kept.len() / 2);
                        world.step(Input::Entry(entry));
                    }
                    continue
                }
            };
            match fate {
                Fate::Delivered => world.step(Input::Entry(entry)),
                Fate::Twice => { world.step(Input::Entry(entry.clone())); world.step(Input::Entry(entry)) }
                Fate::Lost => {}
                Fate::Kept => kept.push(entry),
            }
        }
        world.settle();
        prop_assert_eq!(world.heard.len() as u64, next_id);
        for (id, heard) in &world.heard {
            prop_assert_eq!(heard.removed, None, "subscriber {}", id);
            let (epoch, from) = heard.admitted.expect("everybody came in");
            prop_assert_eq!(epoch, 1);
            prop_assert_eq!(heard.refused, None, "subscriber {}", id);
            let expected: Vec<u64> = (from - heard.replays + 1..=world.room.seq).collect();
            prop_assert_eq!(&heard.events, &expected, "subscriber {} from {}", id, from);
        }
    }
}

#[test]
fn a_new_epoch_is_announced_with_a_snapshot() {
    let mut world = World::new();
    world.room.append(2);
    world.join(0);
    world.settle();
    // The tail was lost in a power cut: positions are handed out again, from an older place.
    world.room = Room { epoch: 2, ..Room::default() };
    let owned = world.room.append(0);
    world.step(Input::Entry(owned));
    world.settle();
    let next = world.room.append(1);
    world.step(Input::Entry(next));
    let heard = &world.heard[&0];
    assert_eq!((heard.announced, &heard.events[..], heard.removed), (1, &[1][..], None));
}

#[test]
fn a_trimmed_gap_sends_subscribers_away_to_come_anew() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    world.room.append(1);
    let last = world.room.append(1);
    world.room.log.remove(1);
    world.step(Input::Entry(last));
    world.settle();
    assert_eq!(world.heard[&0].removed, Some(Code::GapUnrecoverable));
    assert!(world.heard[&0].events.is_empty(), "nothing past the gap");
}

#[test]
fn an_unreadable_log_ends_in_asking_not_in_guessing() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    world.room.append(1);
    let last = world.room.append(1);
    world.step(Input::Entry(last));
    for _ in 0..=READS_MAX {
        assert!(matches!(world.open.pop_front(), Some(Effect::Read { .. })));
        world.step(Input::Read { entries: None });
    }
    assert!(matches!(world.open.front(), Some(Effect::Sync { of: SyncFor::Resolve, .. })));
    world.settle();
    assert_eq!(world.heard[&0].events, [2, 3]);
}

#[test]
fn live_events_of_a_deposed_owner_are_dropped() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    let live = |term, n| Input::Live(LiveBatch { epoch: 1, term, n, events: vec![Bytes::from_static(b"\x01")] });
    let count = |effects: Vec<Effect>| effects.len();
    let now_ms = world.now_ms;
    assert_eq!(count(world.core.step(now_ms, live(2, 1))), 1);
    assert_eq!(count(world.core.step(now_ms, live(2, 1))), 0, "twice");
    assert_eq!(count(world.core.step(now_ms, live(1, 9))), 0, "a lower term");
    assert_eq!(count(world.core.step(now_ms, live(2, 2))), 1);
}

#[test]
fn joiners_share_one_snapshot() {
    let mut world = World::new();
    world.room.append(1);
    for id in 0..10 {
        world.join(id);
    }
    let full = world.open.iter().filter(|effect| matches!(effect, Effect::Sync { ask, .. } if !ask.leave_only)).count();
    assert_eq!((full, world.open.len()), (1, 10), "each asks its own leave, one asks for the state");
    world.settle();
    assert!(world.heard.values().all(|heard| heard.admitted == Some((1, 1))));
}

#[test]
fn who_asked_for_the_snapshot_may_leave_without_harm_to_others() {
    let mut room = Room::new();
    room.append(1);
    let mut core = Core::default();
    let asked = |effects: &[Effect], of: u64, leave: bool| {
        effects.iter().any(|effect| {
            matches!(effect, Effect::Sync { of: SyncFor::Sub(id), ask, .. } if *id == of && ask.leave_only == leave)
        })
    };
    assert!(asked(&core.step(0, Input::Join { id: 1, ask: v1::Sync::default(), floor: (0, 0) }), 1, false));
    assert!(
        asked(&core.step(0, Input::Join { id: 2, ask: v1::Sync::default(), floor: (0, 0) }), 2, true),
        "shares what 1 asked for"
    );
    let leave = v1::Sync { leave_only: true, ..v1::Sync::default() };
    assert_eq!(core.step(0, Input::Synced { of: SyncFor::Sub(2), reply: Ok(room.sync(&leave)) }), []);
    assert!(asked(&core.step(0, Input::Leave { id: 1 }), 2, false), "2 asks for itself");
    let reply = Ok(room.sync(&v1::Sync::default()));
    assert_eq!(core.step(0, Input::Synced { of: SyncFor::Sub(1), reply }), [], "nobody's any more");
    let reply = Ok(room.sync(&v1::Sync::default()));
    let effects = core.step(0, Input::Synced { of: SyncFor::Sub(2), reply });
    assert!(matches!(effects[..], [Effect::Admit { id: 2, seq: 1, .. }]), "{effects:?}");
}

#[test]
fn a_replay_after_the_last_number_there_is_is_none() {
    let mut room = Room::new();
    room.append(1);
    let mut core = Core::default();
    let since = Some(v1::Head { epoch: 1, seq: u64::MAX });
    core.step(0, Input::Join { id: 1, ask: v1::Sync { since, ..v1::Sync::default() }, floor: (0, 0) });
    let reply = SyncReply { recovered: true, ..room.sync(&v1::Sync::default()) };
    let effects = core.step(0, Input::Synced { of: SyncFor::Sub(1), reply: Ok(reply) });
    assert!(matches!(&effects[..], [Effect::Sync { ask, .. }] if ask.since.is_none()), "a snapshot: {effects:?}");
}

#[test]
fn a_heartbeat_names_the_owner_and_an_outdated_one_does_not() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    assert_eq!(world.core.owner, Some(("b".to_owned(), 1)));
    let pos = world.room.pos;
    world.step(Input::Tail { epoch: 1, term: 3, pos, node: "c".into() });
    assert_eq!(world.core.owner, Some(("c".to_owned(), 3)));
    world.step(Input::Tail { epoch: 0, term: 9, pos, node: "old".into() });
    assert_eq!(world.core.owner, Some(("c".to_owned(), 3)));
}

#[test]
fn what_arrives_while_a_room_is_first_asked_for_is_no_gap() {
    let (mut room, mut core) = (Room::new(), Core::default());
    room.append(1);
    core.step(0, Input::Join { id: 0, ask: v1::Sync::default(), floor: (0, 0) });
    let reply = room.sync(&v1::Sync::default());
    let meanwhile = room.append(1);
    core.step(0, Input::Entry(meanwhile));
    let mut effects = core.step(0, Input::Synced { of: SyncFor::Sub(0), reply: Ok(reply) });
    effects.extend(core.step(0, Input::Read { entries: Some(room.read(1)) }));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Admit { id: 0, .. })), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Note(_))), "{effects:?}");
    room.append(1);
    let beyond = room.append(1);
    let effects = core.step(0, Input::Entry(beyond));
    assert!(effects.contains(&Effect::Note(Note::Gap)), "what does not follow is one: {effects:?}");
}
