//! Snapshots and trimming as plain values: a day of a busy room, appends that fail, a room that never rests.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use brain_model::{Effect, Input, Outcome, Rules, Why};
use bytes::Bytes;
use prost::Message as _;
use proto::internal::RoomSnapshot;
use proto::v1::Command;
use support::{ALL_RIGHTS, World, command, command_at, say, set, slot};

const AGE_MS: i64 = 300_000;
const ENTRIES: u64 = 8;

fn rules() -> Rules {
    Rules { snapshot_entries: ENTRIES, idle_ms: u64::MAX, ..Rules::default() }
}

fn served(rules: Rules) -> (World, usize) {
    let mut world = World::default();
    let a = world.add(rules);
    world.open(a);
    (world, a)
}

fn snapshot(world: &World, index: usize) -> RoomSnapshot {
    RoomSnapshot::decode(world.streams.snaps[index].body.clone()).unwrap()
}

/// A command of the present moment.
fn now(world: &World, id: u64) -> Bytes {
    let command = Command { op: Some(say("x")), ..Command::default() };
    command_at("ann", ALL_RIGHTS, id, world.now.wall_ms, command)
}

/// What is older than 9/8 of the age, with the log's first entry not counted, is at most two snapshots' worth.
fn bounded(world: &World) {
    let head_at = world.streams.entries().last().map_or(0, |entry| entry.at);
    let cut = head_at - AGE_MS * 9 / 8;
    let old = world.streams.entries().iter().filter(|entry| entry.at < cut).count() as u64;
    assert!(old <= 2 * ENTRIES, "{old} entries are older than 9/8 of the age");
}

#[test]
fn the_log_of_a_busy_room_is_trimmed_all_day() {
    let (mut world, mut a) = served(rules());
    // An entry each 5 s: a snapshot each 40 s, so that the older of two is never 300 s old.
    for id in 1..=(86_400 / 5) {
        world.run(5000);
        let body = now(&world, id);
        assert_eq!(world.ask(a, body).code, 0);
        if id % 8 == 0 {
            bounded(&world);
        }
        // Its owner changes more often than a snapshot is old enough, too.
        if id > 8640 && id % 45 == 0 {
            a = world.add(rules());
            world.open(a);
            assert_eq!(world.opened(a).unwrap().code, 0);
        }
    }
    let span = world.now.wall_ms - world.streams.entries()[0].at;
    assert!(span >= AGE_MS, "what is younger stays: {span}");
    assert!(snapshot(&world, 1).trims.len() <= 24);
}

#[test]
fn a_burst_before_a_pause_is_trimmed_after_it() {
    let (mut world, a) = served(rules());
    let mut id = 0;
    let mut say = |world: &mut World, pause_ms: u64| {
        id += 1;
        world.run(pause_ms);
        let body = now(world, id);
        assert_eq!(world.ask(a, body).code, 0);
        bounded(world);
    };
    // The last snapshot of the burst is closer to its first than trim points are.
    (0..200).for_each(|_| say(&mut world, 100));
    (0..40).for_each(|_| say(&mut world, 30_000));
    assert!(world.streams.log.len() < 30, "{} entries", world.streams.log.len());
}

#[test]
fn the_log_is_never_trimmed_above_the_older_snapshot() {
    let (mut world, a) = served(Rules { trim_age_ms: 0, ..rules() });
    for id in 1..=100 {
        world.run(1000);
        let body = now(&world, id);
        world.ask(a, body);
        if world.streams.snaps.len() == 2 {
            assert!(world.streams.log[0].pos <= snapshot(&world, 0).pos);
        }
    }
    assert!(world.streams.log.len() as u64 <= 2 * ENTRIES);
}

/// The snapshot that waits to be written.
fn written(world: &mut World, a: usize) -> Effect {
    let at = world.owners[a].calls.iter().position(|call| matches!(call, Effect::WriteSnapshot { .. }));
    world.owners[a].calls.remove(at.expect("a snapshot is on its way")).unwrap()
}

fn fail(world: &mut World, a: usize, store: bool, outcome: Outcome) {
    let call = written(world, a);
    let Effect::WriteSnapshot { token, .. } = call else { unreachable!() };
    if store {
        world.perform(call);
    }
    world.input(a, Input::SnapshotWritten { token, outcome });
}

fn until_snapshot(world: &mut World, a: usize, id: &mut u64) {
    for _ in 0..2 * ENTRIES {
        *id += 1;
        let body = now(world, *id);
        world.send(a, 1, body);
        while world.owners[a].calls.iter().any(|call| !matches!(call, Effect::WriteSnapshot { .. })) {
            let at = world.owners[a].calls.iter().position(|call| !matches!(call, Effect::WriteSnapshot { .. }));
            let call = world.owners[a].calls.remove(at.unwrap()).unwrap();
            if let Some(outcome) = world.perform(call) {
                world.input(a, outcome);
            }
        }
        if !world.owners[a].calls.is_empty() {
            return;
        }
        world.pass(10);
    }
    panic!("no snapshot after {} entries", 2 * ENTRIES);
}

#[test]
fn after_a_failed_append_snapshots_go_on() {
    for outcome in [Outcome::Unresolved, Outcome::Full, Outcome::WrongLast] {
        let (mut world, a) = served(rules());
        let mut id = 0;
        until_snapshot(&mut world, a, &mut id);
        let failed_ms = world.now.mono_ms;
        fail(&mut world, a, false, outcome);
        assert_eq!(world.owners[a].room.wake_at(), Some(failed_ms + 1000), "SNAP's head is read after a pause");
        world.run(1000);
        assert_eq!(world.streams.snaps.len(), 1, "after {outcome:?}");
        until_snapshot(&mut world, a, &mut id);
        world.settle();
        assert_eq!(world.streams.snaps.len(), 2, "after {outcome:?}");
    }
}

#[test]
fn a_snapshot_that_was_stored_all_the_same_counts() {
    let (mut world, a) = served(rules());
    let mut id = 0;
    until_snapshot(&mut world, a, &mut id);
    fail(&mut world, a, true, Outcome::Unresolved);
    world.run(1000);
    assert_eq!(world.streams.snaps.len(), 1);
    // The next one is due after as many entries again, and finds its place.
    until_snapshot(&mut world, a, &mut id);
    assert!(id > ENTRIES + 4, "it is not written again at once");
    world.settle();
    assert_eq!((world.streams.snaps.len(), snapshot(&world, 0).pos < snapshot(&world, 1).pos), (2, true));
}

#[test]
fn the_pauses_after_failed_appends_grow_to_a_minute() {
    let (mut world, a) = served(rules());
    let mut id = 0;
    until_snapshot(&mut world, a, &mut id);
    world.streams.refuse = Some(Outcome::Full);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        fail(&mut world, a, false, Outcome::Full);
        let at = world.owners[a].room.wake_at().unwrap();
        pauses.push(at - world.now.mono_ms);
        world.pass(at - world.now.mono_ms);
        world.input(a, Input::Wake);
        world.streams.refuse = None;
        until_snapshot(&mut world, a, &mut id);
        world.streams.refuse = Some(Outcome::Full);
    }
    assert_eq!(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
}

#[test]
fn a_deposed_owner_does_not_write_over_the_next_ones_snapshot() {
    let (mut world, a) = served(rules());
    let mut id = 0;
    until_snapshot(&mut world, a, &mut id);
    let call = written(&mut world, a);
    let Effect::WriteSnapshot { token, .. } = call else { unreachable!() };
    let b = world.add(rules());
    world.input(b, Input::Open { reply: slot(9000), create: true });
    while world.call(b) {}
    until_snapshot(&mut world, b, &mut id);
    while world.call(b) {}
    let newest = snapshot(&world, world.streams.snaps.len() - 1);
    assert_eq!(newest.term, 2);
    world.input(a, Input::SnapshotWritten { token, outcome: Outcome::WrongLast });
    world.run(200_000);
    assert_eq!(snapshot(&world, world.streams.snaps.len() - 1).term, 2);
}

#[test]
fn a_saturated_room_writes_snapshots() {
    let (mut world, a) = served(rules());
    let mut id = 0;
    let mut send = |world: &mut World| {
        id += 1;
        let body = command("ann", id, set("k", "v"));
        world.send(a, 1, body);
    };
    send(&mut world);
    // While one entry is in flight the next command waits already: the room never rests.
    for _ in 0..10 * ENTRIES {
        send(&mut world);
        let at = world.owners[a].calls.iter().position(|call| matches!(call, Effect::Append { .. }));
        let append = world.owners[a].calls.remove(at.expect("an entry is in flight")).unwrap();
        let stored = world.perform(append).unwrap();
        world.input(a, stored);
        let snapshots: Vec<_> =
            world.owners[a].calls.iter().filter(|call| matches!(call, Effect::WriteSnapshot { .. })).cloned().collect();
        for call in snapshots {
            let Effect::WriteSnapshot { body, .. } = &call else { unreachable!() };
            let stands = RoomSnapshot::decode(body.clone()).unwrap();
            assert_eq!(stands, RoomSnapshot { trims: stands.trims.clone(), ..world.streams.fold().0.snapshot() });
            world.owners[a].calls.retain(|other| *other != call);
            let stored = world.perform(call).unwrap();
            world.input(a, stored);
        }
        let newest = world.streams.snaps.last().map_or(0, |_| snapshot(&world, world.streams.snaps.len() - 1).pos);
        let since = world.streams.log.iter().filter(|message| message.pos > newest).count() as u64;
        assert!(since <= ENTRIES + 1, "{since} entries since the newest snapshot");
    }
    assert_eq!(world.owners[a].gone, None);
}

#[test]
fn the_state_that_a_new_epoch_begins_with_is_written_until_it_is_stored() {
    let rules = Rules { idle_ms: 500, ..Rules::default() };
    let (mut world, a) = served(rules);
    world.ask(a, command("ann", 1, set("k", "v")));
    world.run(1000);
    assert_eq!(world.owners[a].gone, Some(Why::Idle));
    world.streams.lose_tail(100);
    let b = world.add(rules);
    world.input(b, Input::Open { reply: slot(9000), create: true });
    while !world.owners[b].calls.iter().any(|call| matches!(call, Effect::WriteSnapshot { .. })) {
        assert!(world.call(b));
    }
    let entries = world.streams.log.len();
    for store in [false, true] {
        fail(&mut world, b, store, Outcome::Unresolved);
        let at = world.owners[b].room.wake_at().unwrap();
        assert!(at - world.now.mono_ms <= 500, "nobody is served meanwhile");
        world.pass(at - world.now.mono_ms);
        world.input(b, Input::Wake);
        assert!(world.call(b), "SNAP's head is read");
    }
    world.settle();
    assert_eq!(world.opened(b).unwrap().code, 0);
    assert_eq!(world.streams.log.len(), entries, "no further entry was written for it");
}

#[test]
fn a_snapshot_of_an_old_state_does_not_bury_what_another_owner_committed() {
    let rules = Rules { idle_ms: 500, ..Rules::default() };
    let (mut world, a) = served(rules);
    world.ask(a, command("ann", 1, set("k", "v")));
    world.run(1000);
    assert_eq!(world.owners[a].gone, Some(Why::Idle));
    world.streams.lose_tail(100);
    // The slow one reads the snapshots before the quick one has stored its own, and the log after the quick one's commit.
    let slow = world.add(rules);
    world.input(slow, Input::Open { reply: slot(9000), create: true });
    while !matches!(world.owners[slow].calls.front(), Some(Effect::Read { log_from: Some(1), .. })) {
        assert!(world.call(slow));
    }
    let waits = std::mem::take(&mut world.owners[slow].calls);
    let quick = world.add(rules);
    world.open(quick);
    let acked = world.ask(quick, command("ann", 2, set("k", "w")));
    assert_eq!(acked.code, 0);
    world.owners[slow].calls = waits;
    world.run(400);
    let opened = world.opened(slow).expect("an answer");
    assert_eq!((opened.code, opened.term), (0, world.streams.fold().0.tail.term), "the slow one was the last to write");
    let again = world.ask(slow, command("ann", 2, set("k", "w")));
    assert_eq!((again.code, again.duplicate), (0, true), "what was acknowledged is known");
    let commands = world.streams.events().iter().filter(|(_, event)| event.user == "ann").count();
    assert_eq!(commands, 1, "and it is in the log once");
}
