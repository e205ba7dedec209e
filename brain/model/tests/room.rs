//! Scripted stories of one room, told with plain values: each rule of the log protocol and the scenario behind it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use brain_model::{Effect, Input, Outcome, Rules, Why};
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Kind, RoomSnapshot};
use proto::v1::{self, command::Op, event::Body, system_signal::Ask};
use proto::{Rights, Subject};
use support::*;

fn opened() -> (World, usize) {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.open(a);
    assert_eq!(world.opened(a).expect("answered").code, 0);
    (world, a)
}

fn kinds(world: &World) -> Vec<Kind> {
    world.streams.entries().iter().map(|entry| Kind::try_from(entry.kind).unwrap()).collect()
}

fn with(rights: Rights, id: u64, op: Op) -> Bytes {
    command_at("bob", rights, id, START_MS, v1::Command { op: Some(op), ..v1::Command::default() })
}

#[test]
fn a_room_opens_and_an_acked_command_is_in_the_log() {
    let (mut world, a) = opened();
    let opened = world.opened(a).unwrap();
    assert_eq!((opened.term, opened.seq, opened.epoch), (1, 0, START_MS as u64));
    let ack = world.ask(a, command("ann", 1, say("hi")));
    assert_eq!((ack.code, ack.epoch, ack.seq, ack.duplicate), (0, opened.epoch, 1, false));
    let events = world.streams.events();
    assert_eq!((events.len(), events[0].1.user.as_str()), (1, "ann"));
    let sent = command("ann", 1, say("hi"));
    let sent = proto::view::EnvelopeView::forwarded(&sent).unwrap();
    assert_eq!(events[0].1.cmd, sent.payload.bytes, "the event carries what was sent, for who verifies it");
    let again = world.ask(a, command("ann", 1, say("hi")));
    assert_eq!((again.code, again.epoch, again.seq, again.duplicate), (0, opened.epoch, 1, true));
    assert_eq!(kinds(&world), [Kind::Owned, Kind::Events, Kind::Tick], "an answer rides on a commit");
}

#[test]
fn nothing_is_answered_before_its_commit_and_waiting_commands_share_one() {
    let (mut world, a) = opened();
    world.send(a, 1, command("ann", 1, say("1")));
    for n in 2..=50 {
        world.send(a, 1, command("ann", n, say("more")));
    }
    world.send(a, 1, command("ann", 1, say("1")));
    assert!(world.owners[a].acks.is_empty());
    assert!(world.call(a));
    assert_eq!(world.owners[a].acks.len(), 1, "the first one's entry is stored");
    world.settle();
    assert_eq!(kinds(&world), [Kind::Owned, Kind::Events, Kind::Events]);
    let last = &world.owners[a].acks.last().unwrap().1;
    assert_eq!((world.owners[a].acks.len(), last.seq, last.duplicate), (51, 1, true), "known from what was in flight");
}

#[test]
fn an_answer_goes_to_shields_only() {
    let (mut world, a) = opened();
    let log = Subject::log(&key());
    for reply in [Some(log), Some(Subject::output(&key())), None] {
        world.input(a, Input::Message { reply, body: command("ann", 1, say("trap")) });
    }
    world.settle();
    assert_eq!(kinds(&world), [Kind::Owned], "refused before it is applied");
    assert_eq!(world.owners[a].replies.len(), 1, "the open's alone");
}

#[test]
fn absence_decides_nothing() {
    let (mut world, a) = opened();
    world.send(a, 1, command("ann", 1, say("late")));
    let Some(Effect::Append { token, expect, body }) = world.owners[a].calls.pop_front() else { panic!("an append") };
    world.input(a, Input::Appended { token, outcome: Outcome::Unresolved });
    world.call(a); // the read finds nothing
    assert!(world.owners[a].acks.is_empty() && world.owners[a].calls.is_empty());
    world.pass(10);
    world.input(a, Input::Wake);
    let again = world.owners[a].calls.pop_front();
    assert!(matches!(&again, Some(Effect::Append { expect: e, body: b, .. }) if *e == expect && *b == body));
    let Some(Effect::Append { token, .. }) = again else { unreachable!() };
    // The first attempt is stored after all; the second one finds its place taken.
    assert!(matches!(world.streams.append(expect, body), Outcome::Stored(2)));
    world.input(a, Input::Appended { token, outcome: Outcome::WrongLast });
    world.settle();
    assert_eq!(world.owners[a].acks.last().unwrap().1.seq, 1);
    assert_eq!(world.streams.events().len(), 1);
}

#[test]
fn a_deposed_owner_calls_nothing_lost_that_the_next_one_may_store() {
    let (mut world, a) = opened();
    let first = world.ask(a, command("ann", 1, say("kept")));
    let b = world.add(Rules::default());
    world.open(b);
    let taken = world.opened(b).unwrap();
    assert_eq!((taken.epoch, taken.term), (first.epoch, 2));
    // Published now, both get it: the new owner stores it, so the old one must not call it lost.
    for n in [2, 1] {
        world.send(a, 1, command("ann", n, say("both")));
    }
    world.settle();
    assert_eq!(world.owners[a].gone, Some(Why::Fenced));
    assert_eq!(world.owners[a].acks.len(), 1, "silent about what the next owner may have got as well");
    let again = world.ask(b, command("ann", 2, say("both")));
    assert_eq!((again.code, again.seq, again.duplicate), (0, 2, false));
}

#[test]
fn an_idle_owner_confirms_before_it_speaks() {
    let (mut world, a) = opened();
    world.pass(3000);
    world.send(a, 1, command("ann", 1, say("hi")));
    assert!(matches!(world.owners[a].calls.front(), Some(Effect::Read { gen_id: true, .. })));
    world.settle();
    assert_eq!(world.owners[a].acks.len(), 1);
}

#[test]
fn a_served_room_outlives_its_generation_and_a_loaded_one_does_not() {
    let (mut world, a) = opened();
    let epoch = world.ask(a, command("ann", 1, say("1"))).epoch;
    world.streams.lose_tail(0);
    world.input(a, Input::Reconnected);
    assert_eq!(world.ask(a, command("ann", 2, say("2"))).epoch, epoch, "its last entry is where it was");
    world.streams.lose_tail(0);
    let b = world.add(Rules::default());
    world.open(b);
    assert!(world.opened(b).unwrap().epoch > epoch, "nobody can tell what was lost");
}

#[test]
fn a_generation_that_changes_during_the_take_over_is_noticed() {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.input(a, Input::Open { reply: slot(9000), create: true });
    while !matches!(world.owners[a].calls.front(), Some(Effect::Append { .. })) {
        world.call(a);
    }
    world.call(a);
    let epoch = world.streams.entries()[0].epoch;
    world.streams.gen_id = None;
    world.settle();
    assert!(world.opened(a).unwrap().epoch > epoch);
    assert_eq!(kinds(&world), [Kind::Owned, Kind::Owned]);
}

#[test]
fn a_lost_tail_is_not_continued_in_silence_even_with_the_generation_intact() {
    let (mut world, a) = opened();
    let ack = world.ask(a, command("ann", 1, say("1")));
    let kept = world.streams.gen_id;
    world.streams.lose_tail(1);
    world.streams.gen_id = kept;
    world.input(a, Input::Reconnected);
    let next = world.ask(a, command("ann", 2, say("2")));
    assert!(next.epoch > ack.epoch && next.seq == 1);
}

#[test]
fn a_shield_that_knows_more_makes_a_new_epoch_and_a_client_does_not() {
    let (mut world, a) = opened();
    let ack = world.ask(a, command("ann", 1, say("1")));
    let since = Some(v1::Head { epoch: ack.epoch, seq: 77 });
    let reply = world.sync(a, "ann", v1::Sync { since, ..v1::Sync::default() });
    assert_eq!((reply.epoch, reply.recovered, reply.snapshot.len()), (ack.epoch, false, 1));
    let fits = v1::Cursor { epoch: ack.epoch, term: 1, pos: reply.pos, chain: reply.chain };
    let sync = v1::Sync { shield: Some(fits), ..v1::Sync::default() };
    assert_eq!(world.sync(a, "ann", sync).epoch, ack.epoch);
    let ahead = v1::Cursor { pos: reply.pos + 1, ..fits };
    let sync = v1::Sync { shield: Some(ahead), ..v1::Sync::default() };
    let renewed = world.sync(a, "ann", sync);
    assert!(renewed.epoch > ack.epoch && renewed.term == 2);
    assert_eq!(world.ask(a, command("ann", 2, say("2"))).seq, 1);
}

#[test]
fn a_sync_replays_or_gives_the_state_and_asks_leave() {
    let (mut world, a) = opened();
    for n in 1..=5 {
        world.ask(a, command("ann", n, set(&format!("k{n}"), "v")));
    }
    let epoch = world.streams.fold().0.tail.epoch;
    let reply = world.sync(a, "bob", v1::Sync { since: Some(v1::Head { epoch, seq: 3 }), ..v1::Sync::default() });
    assert_eq!((reply.code, reply.recovered, reply.events.len(), reply.snapshot.len()), (0, true, 2, 0));
    let reply = world.sync(a, "bob", v1::Sync::default());
    let part = v1::Envelope::decode(reply.snapshot[0].clone()).unwrap();
    let Some(v1::envelope::Payload::Event(v1::Event { seq: 5, body: Some(Body::Snapshot(part)), .. })) = part.payload
    else {
        panic!("no snapshot")
    };
    assert_eq!((part.entries.len(), part.last), (5, true));
    let mode = v1::LockMode::Join.into();
    world.ask(a, command("ann", 9, Op::Lock(v1::Lock { mode, ..v1::Lock::default() })));
    for (rights, code) in [(Rights::SUB, 5003), (Rights::PUB, 2004), (Rights::SUB.with(Rights::MOD), 0)] {
        world.send(a, 2, signal("bob", rights, Ask::Sync(v1::Sync { leave_only: true, ..v1::Sync::default() })));
        world.settle();
        assert_eq!(world.last_sync(a).code, code);
    }
}

#[test]
fn a_get_waits_for_a_commit_of_its_own() {
    let (mut world, a) = opened();
    world.send(a, 1, command("ann", 1, set("k", "v")));
    world.send(a, 2, signal("bob", ALL_RIGHTS, Ask::Get(v1::Get {})));
    world.call(a);
    assert!(!world.owners[a].replies.iter().any(|(to, _)| *to == slot(2)), "what was in flight proves nothing");
    world.settle();
    let got = world.last_sync(a);
    assert_eq!((got.code, got.seq, got.snapshot.len()), (0, 1, 1));
    assert_eq!(kinds(&world).last(), Some(&Kind::Tick));
}

#[test]
fn rights_locks_versions_and_quotas_are_refused_with_their_codes() {
    let (mut world, a) = opened();
    let expect =
        |expect| Op::Set(v1::Set { key: "k".into(), value: Bytes::from_static(b"v"), ttl_ms: 0, expect: Some(expect) });
    let write = v1::LockMode::Write.into();
    let lock = || Op::Lock(v1::Lock { mode: write, ..v1::Lock::default() });
    let delete = |key: &str| Op::Delete(v1::Delete { key: key.into(), expect: None });
    let user = Rights::PUB.with(Rights::STATE);
    let cases = [
        (Rights::STATE, say("no"), 2004),
        (Rights::PUB, set("k", "v"), 2004),
        (user, lock(), 2004),
        (user, expect(5), 5005),
        (user, expect(0), 0),
        (user, expect(0), 5005),
        (user, expect(1), 0),
        (user, delete("absent"), 5009),
        (user, set("", "v"), 5008),
        (user, set("big", &"x".repeat(16 * 1024 + 1)), 5008),
        (user, Op::Kick(v1::Kick::default()), 1014),
        (ALL_RIGHTS, lock(), 0),
        (user, say("barred"), 5003),
        (user, set("k", "barred"), 5003),
        (ALL_RIGHTS, say("a moderator"), 0),
        (ALL_RIGHTS, Op::Unlock(v1::Unlock::default()), 0),
        (ALL_RIGHTS, Op::Unlock(v1::Unlock::default()), 5009),
        (user, delete("k"), 0),
    ];
    for (n, (rights, op, code)) in cases.into_iter().enumerate() {
        let ack = world.ask(a, with(rights, n as u64 + 1, op.clone()));
        assert_eq!(ack.code, code, "case {n}: {op:?}");
    }
    for n in 0..31 {
        let value = "x".repeat(16 * 1024);
        assert_eq!(world.ask(a, with(user, 100 + n, set(&format!("k{n}"), &value))).code, 0);
    }
    assert_eq!(world.ask(a, with(user, 200, set("one-more", &"x".repeat(16 * 1024)))).code, 5006);
    let head =
        v1::Command { op: Some(say("if")), if_head: Some(v1::Head { epoch: 1, seq: 1 }), ..v1::Command::default() };
    assert_eq!(world.ask(a, command_at("bob", user, 201, START_MS, head)).code, 5005);
    let old = v1::Command { op: Some(say("old")), ..v1::Command::default() };
    assert_eq!(world.ask(a, command_at("eve", user, 202, START_MS - 120_001, old)).code, 5010);
}

#[test]
fn a_ttl_ends_as_an_event_before_any_command_that_could_see_it() {
    let (mut world, a) = opened();
    let op = Op::Set(v1::Set { key: "k".into(), ttl_ms: 500, ..v1::Set::default() });
    world.ask(a, command("ann", 1, op));
    world.run(499);
    assert_eq!(world.streams.events().len(), 1);
    world.run(2);
    let (envelope, event) = world.streams.events().pop().unwrap();
    assert!(matches!(event.body, Some(Body::KeyDeleted(v1::KeyDeleted { expired: true, .. }))));
    assert!(event.user.is_empty() && envelope.message_id.is_empty(), "the room's own");
}

#[test]
fn an_ephemeral_say_is_heard_and_not_stored() {
    let (mut world, a) = opened();
    let command = v1::Command { ephemeral: true, op: Some(say("typing")), ..v1::Command::default() };
    let ack = world.ask(a, command_at("ann", ALL_RIGHTS, 1, START_MS, command.clone()));
    assert_eq!((ack.code, ack.seq, world.owners[a].live.len()), (0, 0, 1));
    assert_eq!(kinds(&world), [Kind::Owned]);
    world.pass(6000);
    world.send(a, 1, command_at("ann", ALL_RIGHTS, 2, START_MS, command));
    assert_eq!(world.owners[a].live.len(), 1, "not without proof");
    world.settle();
    assert_eq!(world.owners[a].live.len(), 2);
}

#[test]
fn a_full_log_refuses_and_forgets_nothing() {
    let (mut world, a) = opened();
    world.streams.refuse = Some(Outcome::Full);
    assert_eq!(world.ask(a, command("ann", 1, set("k", "v"))).code, 6003);
    assert!(world.owners[a].room.committed().state.get("k").is_none());
    world.streams.refuse = None;
    world.run(1000);
    let ack = world.ask(a, command("ann", 1, set("k", "v")));
    assert_eq!((ack.code, ack.seq, ack.duplicate), (0, 1, false));
}

#[test]
fn void_entries_are_stepped_over() {
    let (mut world, a) = opened();
    world.streams.append_any(Bytes::from_static(b"\x01"));
    assert_eq!(world.ask(a, command("ann", 1, say("1"))).code, 0);
    world.streams.append_any(Bytes::from_static(b"\x02"));
    let b = world.add(Rules::default());
    world.open(b);
    let opened = world.opened(b).unwrap();
    assert_eq!((opened.term, opened.seq), (2, 1));
}

#[test]
fn an_absent_room_is_not_made_for_a_reader_and_a_slow_clock_takes_no_room() {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.input(a, Input::Open { reply: slot(9000), create: false });
    world.settle();
    assert_eq!((world.opened(a).unwrap().code, world.owners[a].gone), (5001, Some(Why::Absent)));
    assert!(world.streams.log.is_empty());
    let b = world.add(Rules::default());
    world.open(b);
    world.now.wall_ms -= 10_001;
    let c = world.add(Rules::default());
    world.open(c);
    assert_eq!((world.opened(c).unwrap().code, world.owners[c].gone), (6000, Some(Why::ClockBehind)));
}

#[test]
fn a_dormant_room_comes_back_from_its_snapshot_and_the_log_is_trimmed_below_the_older_one() {
    let rules = Rules { idle_ms: 500, trim_age_ms: 1000, ..Rules::default() };
    let mut world = World::default();
    let mut state = None;
    for round in 0..4 {
        let a = world.add(rules);
        world.open(a);
        let opened = world.opened(a).unwrap();
        assert_eq!((opened.term, opened.epoch), (round + 1, START_MS as u64));
        assert!(state.is_none_or(|state| state == world.owners[a].room.committed().state));
        assert_eq!(world.ask(a, command("ann", round + 1, set(&format!("k{round}"), "v"))).seq, round + 1);
        state = Some(world.owners[a].room.committed().state.clone());
        world.run(2000);
        assert_eq!(world.owners[a].gone, Some(Why::Idle));
    }
    let older = RoomSnapshot::decode(world.streams.snaps[0].body.clone()).unwrap();
    assert_eq!(world.streams.log[0].pos, older.pos, "the older snapshot's entry is the oldest that stays");
    let a = world.add(rules);
    world.open(a);
    let ack = world.ask(a, command("ann", 1, set("k0", "v")));
    assert_eq!((ack.seq, ack.duplicate), (1, true), "the window survives in the snapshot");
}

#[test]
fn a_log_lost_below_its_snapshots_begins_a_new_epoch_from_the_newest_state() {
    let rules = Rules { idle_ms: 500, ..Rules::default() };
    let mut world = World::default();
    let a = world.add(rules);
    world.open(a);
    let epoch = world.ask(a, command("ann", 1, set("k", "v"))).epoch;
    world.run(1000);
    world.streams.lose_tail(100);
    let b = world.add(rules);
    world.open(b);
    let opened = world.opened(b).unwrap();
    assert!(opened.epoch > epoch && opened.term == 2, "{opened:?}");
    assert!(world.owners[b].room.committed().state.get("k").is_some());
    // The snapshot that the new epoch begins with was stored before anybody was served.
    let c = world.add(rules);
    world.open(c);
    assert_eq!((world.opened(c).unwrap().epoch, world.opened(c).unwrap().term), (opened.epoch, 3));
    assert!(world.owners[c].room.committed().state.get("k").is_some());
}

#[test]
fn a_stop_finishes_what_waits() {
    let (mut world, a) = opened();
    world.send(a, 1, command("ann", 1, say("1")));
    world.send(a, 1, command("ann", 2, say("2")));
    world.input(a, Input::Stop);
    world.settle();
    assert_eq!(world.owners[a].acks.iter().map(|(_, ack)| ack.code).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(world.owners[a].gone, Some(Why::Stopped));
}
