//! How subscribers come in: each SUB gets one result whatever the owner answers, whoever leaves, however many come.

use super::*;
use crate::rooms::core::join::{JOINS_IN_FLIGHT, SHARED_EVENTS, SHARED_MS};

/// What an owner, or what is taken for one, answers.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// As it should.
    Good,
    /// Nobody answered, or it has too much to do.
    Away(Code),
    /// For good.
    No,
    /// From an owner of the term before.
    Outdated,
    /// From an owner that has not seen the last events.
    Behind,
    /// Neither replay nor snapshot.
    Empty,
}

#[derive(Clone, Debug)]
enum Act {
    Join { since: bool, history: bool },
    Leave(usize),
    Answer { nth: usize, reply: Reply },
    Append { events: u64, delivered: bool },
    Lost,
    NewEpoch,
    Later(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let reply = prop_oneof![
        4 => Just(Reply::Good),
        1 => Just(Reply::Away(Code::Unavailable)),
        1 => Just(Reply::Away(Code::Busy)),
        1 => Just(Reply::No),
        1 => Just(Reply::Outdated),
        1 => Just(Reply::Behind),
        1 => Just(Reply::Empty)
    ];
    let act = prop_oneof![
        6 => (proptest::bool::weighted(0.2), proptest::bool::weighted(0.1))
            .prop_map(|(since, history)| Act::Join { since, history }),
        1 => any::<usize>().prop_map(Act::Leave),
        8 => (any::<usize>(), reply).prop_map(|(nth, reply)| Act::Answer { nth, reply }),
        3 => (0u64..40, proptest::bool::weighted(0.7)).prop_map(|(events, delivered)| Act::Append { events, delivered }),
        1 => Just(Act::Lost),
        1 => Just(Act::NewEpoch),
        2 => (0u64..4000).prop_map(Act::Later)
    ];
    proptest::collection::vec(act, 1..120)
}

impl World {
    fn sub(&mut self, id: SubId, ask: v1::Sync, floor: (u64, u64)) {
        self.step(Input::Join { id, ask, floor });
    }

    /// Answers the `nth` open question, as `reply` says if it is a sync.
    fn answer_as(&mut self, nth: usize, reply: Reply) {
        if self.open.is_empty() {
            return;
        }
        let nth = nth % self.open.len();
        let Some(Effect::Sync { of, ask, .. }) = self.open.get(nth) else {
            self.open.swap(0, nth);
            self.answer();
            return;
        };
        let (of, good) = (*of, self.room.sync(ask));
        let reply = match reply {
            Reply::Good => Ok(good),
            Reply::Away(code) => Err((code, String::new())),
            Reply::No => Err((Code::RoomLocked, String::new())),
            Reply::Outdated => Ok(SyncReply { epoch: good.epoch - 1, ..good }),
            Reply::Behind => {
                let heads = &self.room.heads;
                let (seq, pos, chain) = heads.get(heads.len() / 2).copied().unwrap_or((good.seq, good.pos, good.chain));
                let snapshot = good.snapshot.iter().map(|_| envelope(good.epoch, seq)).collect();
                Ok(SyncReply { seq, pos, chain, snapshot, events: Vec::new(), recovered: false, ..good })
            }
            Reply::Empty => Ok(SyncReply { snapshot: Vec::new(), events: Vec::new(), ..good }),
        };
        self.open.remove(nth);
        self.step(Input::Synced { of, reply });
    }

    /// Questions of SUBs that wait for an answer.
    fn asking(&self) -> usize {
        let of_sub = |effect: &&Effect| matches!(effect, Effect::Sync { of: SyncFor::Sub(_), .. });
        self.open.iter().filter(of_sub).count()
    }

    fn results(&self) -> usize {
        self.heard.values().filter(|heard| heard.admitted.is_some() || heard.refused.is_some()).count()
    }
}

proptest! {
    /// Whatever is answered in whatever order: each SUB has one result in the end, and an admitted one is at the head; its
    /// result named a place not below what was acknowledged to it, and counted what it then got up to there.
    #[test]
    fn every_sub_has_one_result(acts in acts()) {
        let mut world = World::new();
        world.room.append(3);
        let mut joined: Vec<(SubId, (u64, u64))> = Vec::new();
        let mut left = Vec::new();
        let mut epochs = 1;
        for act in acts {
            match act {
                Act::Join { since, history } => {
                    let id = joined.len() as u64;
                    let floor = (world.room.epoch, world.room.seq);
                    joined.push((id, floor));
                    let since = since.then_some(v1::Head { epoch: world.room.epoch, seq: world.room.seq / 2 });
                    let history = if history { 8 } else { 0 };
                    world.sub(id, v1::Sync { since, history, ..v1::Sync::default() }, floor);
                }
                Act::Leave(nth) => {
                    if let Some((id, _)) = joined.get(nth % joined.len().max(1)) {
                        left.push(*id);
                        world.step(Input::Leave { id: *id });
                    }
                }
                Act::Answer { nth, reply } => world.answer_as(nth, reply),
                Act::Append { events, delivered } => {
                    let entry = world.room.append(events);
                    if delivered {
                        world.step(Input::Entry(entry));
                    }
                }
                Act::Lost => world.step(Input::Lost),
                Act::NewEpoch => {
                    epochs += 1;
                    world.room = Room { epoch: epochs, ..Room::default() };
                    world.room.append(2);
                }
                Act::Later(ms) => world.now_ms += ms,
            }
            prop_assert!(world.asking() <= JOINS_IN_FLIGHT + 1, "{} at a time", world.asking());
        }
        world.settle();
        prop_assert!(world.open.is_empty());
        for (id, floor) in joined {
            if left.contains(&id) {
                continue;
            }
            let heard = world.heard.get(&id);
            let heard = heard.unwrap_or_else(|| panic!("{id} has no result"));
            let Some((epoch, seq)) = heard.admitted else {
                prop_assert!(heard.refused.is_some(), "{} has no result", id);
                continue;
            };
            prop_assert!((epoch, seq) >= floor, "{} was put to {:?} below {:?}", id, (epoch, seq), floor);
            if heard.removed.is_none() && epochs == 1 {
                let got = heard.events.iter().filter(|got| **got <= seq).count() as u64;
                prop_assert_eq!(got, heard.replays, "{} of {:?}", id, &heard.events);
                prop_assert_eq!(heard.events.last().copied().unwrap_or(seq).max(seq), world.room.seq);
            }
        }
    }
}

#[test]
fn whom_a_refused_asker_leaves_behind_asks_for_itself() {
    // The one that asks for the snapshot is refused in each way that there is; the other waits for that snapshot.
    for reply in [Reply::No, Reply::Empty] {
        let mut world = World::new();
        world.room.append(1);
        world.join(0);
        world.join(1);
        world.answer_as(1, Reply::Good);
        assert_eq!(world.results(), 0, "1 has leave and waits");
        world.answer_as(0, reply);
        assert!(world.heard[&0].refused.is_some());
        world.settle();
        assert_eq!(world.heard.get(&1).and_then(|heard| heard.admitted), Some((1, 1)), "{reply:?}");
    }
}

#[test]
fn an_outdated_owner_is_asked_for_an_announcement_at_a_pace() {
    let mut world = World::new();
    world.room.append(2);
    world.join(0);
    world.settle();
    let old = Room { seq: 2, pos: 1, epoch: 1, ..Room::default() };
    world.room = Room { epoch: 2, ..Room::default() };
    let owned = world.room.append(0);
    world.step(Input::Entry(owned));
    // The first answer tells of the new epoch without a snapshot; then only the old owner answers.
    world.answer_as(0, Reply::Empty);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let Some(Effect::Sync { of, ask, after_ms }) = world.open.pop_front() else { panic!("it asks again") };
        assert!(world.open.is_empty(), "one question at a time");
        pauses.push(after_ms);
        world.step(Input::Synced { of, reply: Ok(old.sync(&ask)) });
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    world.settle();
    assert_eq!((world.heard[&0].announced, world.heard[&0].removed), (1, None));
}

#[test]
fn a_shared_snapshot_is_fresh_and_the_result_is_at_the_head() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    let full = |world: &World| {
        let asks = |effect: &Effect| matches!(effect, Effect::Sync { of: SyncFor::Sub(_), ask, .. } if !ask.leave_only);
        world.open.iter().any(asks)
    };
    let entry = world.room.append(SHARED_EVENTS);
    world.step(Input::Entry(entry));
    world.now_ms += SHARED_MS;
    // An event that the owner has stored and this Shield has not seen yet: the snapshot is too old for that head.
    let late = world.room.append(1);
    world.join(1);
    assert!(!full(&world), "fresh as far as is known");
    world.answer();
    assert!(full(&world), "with the owner's head it is not");
    world.step(Input::Entry(late));
    world.settle();
    let head = (1, world.room.seq);
    assert_eq!(world.heard[&1].admitted, Some(head));
    assert_eq!((world.heard[&1].replays, &world.heard[&1].events[..]), (0, &[][..]));
    // Shared from here on, with what came after it counted.
    let entry = world.room.append(2);
    world.join(2);
    assert!(!full(&world));
    world.answer();
    world.step(Input::Entry(entry));
    world.settle();
    let head = (1, world.room.seq);
    assert_eq!((world.heard[&2].admitted, world.heard[&2].replays), (Some(head), 2));
    assert_eq!(world.heard[&2].events, [head.1 - 1, head.1]);
    world.now_ms += SHARED_MS + 1;
    world.join(3);
    assert!(full(&world), "too old by time");
}

#[test]
fn a_busy_room_admits_all_who_wait_with_each_snapshot() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    world.settle();
    world.now_ms += SHARED_MS + 1;
    for id in 1..=8 {
        world.join(id);
    }
    // The snapshot is on its way for longer than it takes to store what is too much for one that is shared later.
    let mut replies = Vec::new();
    while let Some(Effect::Sync { of, ask, .. }) = world.open.pop_front() {
        replies.push(Input::Synced { of, reply: Ok(world.room.sync(&ask)) });
    }
    for _ in 0..=SHARED_EVENTS {
        let entry = world.room.append(1);
        world.step(Input::Entry(entry));
    }
    replies.into_iter().rev().for_each(|reply| world.step(reply));
    assert!(world.open.is_empty(), "one question each: {:?}", world.open);
    let late = world.heard.iter().filter(|(_, heard)| heard.admitted == Some((1, 1)));
    assert_eq!(late.count(), 9);
    assert!(world.heard.values().all(|heard| heard.events.last() == Some(&world.room.seq)));
}

#[test]
fn an_answer_below_what_was_acknowledged_is_no_owners() {
    let mut world = World::new();
    for _ in 0..5 {
        world.room.append(1);
    }
    world.sub(0, v1::Sync::default(), (1, 5));
    world.answer_as(0, Reply::Behind);
    assert_eq!(world.results(), 0);
    world.settle();
    assert_eq!(world.heard[&0].admitted, Some((1, 5)));
}

/// Seven Shields, one room, one owner that takes what waits in the order of arrival. `away` rounds long it is dead.
fn crowd(each: u64, away: u64) -> (usize, usize) {
    const SHIELDS: usize = 7;
    let mut worlds: Vec<World> = (0..SHIELDS).map(|_| World::new()).collect();
    for world in &mut worlds {
        world.room.append(9);
        for id in 0..each {
            world.join(id);
        }
    }
    let (mut rounds, mut most) = (0, 0);
    while worlds.iter().any(|world| !world.open.is_empty()) {
        rounds += 1;
        most = most.max(worlds.iter().map(World::asking).sum());
        for world in &mut worlds {
            world.now_ms += 250;
            for _ in 0..world.open.len() {
                world.answer_as(0, if rounds <= away { Reply::Away(Code::Unavailable) } else { Reply::Good });
            }
        }
    }
    let admitted = worlds.iter().flat_map(|world| world.heard.values()).filter(|heard| heard.admitted == Some((1, 9)));
    (admitted.count(), most)
}

#[test]
fn a_hundred_thousand_enter_a_room_over_seven_shields() {
    let (admitted, most) = crowd(100_000_u64.div_ceil(7), 0);
    assert!(admitted >= 100_000, "{admitted}");
    assert!(most < 1024, "{most} at once at the owner");
}

#[test]
fn a_crowd_outwaits_the_death_of_the_owner() {
    // 20 rounds are 5 s: another Brain has taken over.
    let (admitted, most) = crowd(3000, 20);
    assert_eq!(admitted, 21_000);
    assert!(most < 1024, "{most} at once at the owner");
}

#[test]
fn a_room_without_an_owner_refuses_everybody_at_once_in_the_end() {
    let mut world = World::new();
    for id in 0..200 {
        world.join(id);
    }
    let mut asked = 0;
    while !world.open.is_empty() {
        asked += 1;
        world.now_ms += 100;
        world.answer_as(0, Reply::Away(Code::Unavailable));
    }
    assert!(world.heard.values().all(|heard| heard.refused == Some(Code::Unavailable)));
    assert_eq!(world.results(), 200);
    assert!(asked <= 2 * PATIENCE_MS / 100 + 64, "{asked} questions");
}

#[test]
fn a_loss_while_somebody_comes_in_is_looked_into() {
    let mut world = World::new();
    world.room.append(1);
    world.join(0);
    let Some(Effect::Sync { of, ask, .. }) = world.open.pop_front() else { panic!("asks") };
    let reply = Ok(world.room.sync(&ask));
    // Stored and lost after the owner answered, before that answer came.
    world.room.append(1);
    world.step(Input::Lost);
    world.step(Input::Synced { of, reply });
    while world.answer() {}
    assert_eq!(world.heard[&0].events, [2], "without waiting for a heartbeat");
}
