//! Stories of a log that refuses, answers slowly, or begins with a tombstone.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use brain_model::{Effect, Input, Outcome, Rules, Why};
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Deleted, Kind, LogEntry};
use proto::v1;
use support::*;

fn opened() -> (World, usize) {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.open(a);
    assert_eq!(world.opened(a).expect("answered").code, 0);
    (world, a)
}

fn acks(world: &World, owner: usize, reply: u16) -> Vec<v1::Ack> {
    world.owners[owner].acks.iter().filter(|(to, _)| *to == slot(reply)).map(|(_, ack)| ack.clone()).collect()
}

#[test]
fn a_log_that_is_not_to_be_had_now_is_tried_again() {
    let (mut world, a) = opened();
    world.streams.refuse = Some(Outcome::Unavailable);
    assert_eq!(world.ask(a, command("ann", 1, set("k", "v"))).code, 6000, "clients are told to repeat");
    world.streams.refuse = None;
    world.run(1000);
    let ack = world.ask(a, command("ann", 1, set("k", "v")));
    assert_eq!((ack.code, ack.seq, ack.duplicate), (0, 1, false));
    // A take-over waits for the leader: nobody is told anything, and the room opens in the end.
    world.streams.refuse = Some(Outcome::Unavailable);
    let b = world.add(Rules::default());
    world.open(b);
    world.run(3000);
    assert!(world.opened(b).is_none() && world.owners[b].gone.is_none());
    // No attempt is open meanwhile: a log that is full then is told as such.
    world.streams.refuse = Some(Outcome::Full);
    world.run(1000);
    assert_eq!((world.opened(b).unwrap().code, world.owners[b].gone), (6003, Some(Why::Refused)));
    world.streams.refuse = Some(Outcome::Unavailable);
    let c = world.add(Rules::default());
    world.open(c);
    world.run(3000);
    world.streams.refuse = None;
    world.run(1000);
    assert_eq!((world.opened(c).unwrap().code, world.owners[c].gone), (0, None));
}

#[test]
fn one_message_a_read_is_enough_to_open_and_to_resolve() {
    let (mut world, a) = opened();
    for n in 1..=40 {
        assert_eq!(world.ask(a, command("ann", n, say("hi"))).code, 0);
    }
    world.streams.page = Some(1);
    let b = world.add(Rules::default());
    world.open(b);
    assert_eq!(world.opened(b).map(|opened| (opened.code, opened.seq)), Some((0, 40)));
    // Found behind its predecessor, which alone is in the first read, and behind a void message.
    world.send(b, 1, command("ann", 41, say("late")));
    let Some(Effect::Append { token, .. }) = world.owners[b].calls.pop_front() else { panic!("no append") };
    world.streams.append_any(Bytes::from_static(b"\x01"));
    world.input(b, Input::Appended { token, outcome: Outcome::Unresolved });
    world.settle();
    world.run(1000);
    assert_eq!(
        acks(&world, b, 1).last().map(|ack| (ack.code, ack.seq)),
        Some((0, 41)),
        "judged again on the new fence"
    );
    world.send(b, 2, command("ann", 42, say("mine")));
    let append = world.owners[b].calls.pop_front().unwrap();
    let Some(Input::Appended { token, outcome: Outcome::Stored(_) }) = world.perform(append) else { panic!("stored") };
    world.input(b, Input::Appended { token, outcome: Outcome::Unresolved });
    world.settle();
    assert_eq!(acks(&world, b, 2).last().map(|ack| (ack.code, ack.seq)), Some((0, 42)), "without another append");
}

#[test]
fn a_tombstone_wins_over_snapshots_that_came_back() {
    let mut world = World::default();
    let a = world.add(Rules { snapshot_entries: 2, ..Rules::default() });
    world.open(a);
    for n in 1..=6 {
        assert_eq!(world.ask(a, command("ann", n, set("k", "v"))).code, 0);
    }
    assert_eq!(world.streams.snaps.len(), 2);
    let tail = world.streams.fold().0.tail;
    let tombstone = LogEntry {
        epoch: tail.epoch,
        term: tail.term + 1,
        first_seq: tail.seq + 1,
        prev: tail.fence,
        prev_chain: tail.chain,
        r#gen: tail.gen_id,
        at: tail.at,
        kind: Kind::Deleted.into(),
        deleted: Some(Deleted::default()),
        ..LogEntry::default()
    };
    world.streams.append_any(tombstone.encode_to_vec().into());
    let keep = world.streams.next;
    world.streams.log.retain(|message| message.pos >= keep);
    let b = world.add(Rules::default());
    world.input(b, Input::Open { reply: slot(9000), create: false });
    world.settle();
    assert_eq!((world.opened(b).unwrap().code, world.owners[b].gone), (5001, Some(Why::Absent)));
    let old = std::mem::take(&mut world.streams.snaps);
    let c = world.add(Rules::default());
    world.open(c);
    let made = world.opened(c).unwrap();
    assert_eq!((made.code, made.seq), (0, 0));
    assert!(made.epoch > tail.epoch && world.owners[c].room.committed().state.get("k").is_none());
    assert_eq!(world.ask(c, command("ann", 7, set("new", "v"))).code, 0);
    // Back only now. Nothing was lost since the tombstone: the next owner goes on in the same epoch.
    world.streams.snaps = old;
    let d = world.add(Rules::default());
    world.open(d);
    let opened = world.opened(d).unwrap();
    assert_eq!((opened.code, opened.epoch, opened.seq), (0, made.epoch, 1));
    let state = &world.owners[d].room.committed().state;
    assert!(state.get("new").is_some() && state.get("k").is_none());
}

#[test]
fn who_waits_for_a_log_that_is_not_to_be_had_can_be_stopped() {
    let (mut world, _) = opened();
    world.streams.refuse = Some(Outcome::Unavailable);
    let b = world.add(Rules::default());
    world.open(b);
    world.run(1000);
    world.input(b, Input::Stop);
    assert_eq!((world.opened(b).unwrap().code, world.owners[b].gone), (6000, Some(Why::Stopped)));
}

#[test]
fn an_entry_that_is_larger_than_is_taken() {
    let (mut world, a) = opened();
    world.streams.refuse = Some(Outcome::TooBig);
    assert_eq!(world.ask(a, command("ann", 1, set("k", "v"))).code, 4504);
    world.streams.refuse = None;
    world.run(1000);
    let ack = world.ask(a, command("ann", 2, set("k", "v")));
    assert_eq!((ack.code, ack.seq), (0, 1));
}
