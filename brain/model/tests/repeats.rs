//! Stories of what a room remembers of its users' commands, and of the lock that a `get` meets.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use brain_model::Rules;
use proto::Rights;
use proto::v1::{self, command::Op, system_signal::Ask};
use support::*;

fn opened() -> (World, usize) {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.open(a);
    (world, a)
}

#[test]
fn a_get_passes_no_join_lock_that_a_sub_does_not_pass() {
    let (mut world, a) = opened();
    let get = |rights| signal("bob", rights, Ask::Get(v1::Get {}));
    let locked = |mode: v1::LockMode| Op::Lock(v1::Lock { mode: mode.into(), ..v1::Lock::default() });
    let both = [(Rights::SUB, 5003), (Rights::PUB, 2004), (Rights::SUB.with(Rights::MOD), 0)];
    let cases = [
        (v1::LockMode::Join, both),
        (v1::LockMode::Write, both.map(|(rights, code)| (rights, if code == 5003 { 0 } else { code }))),
        (v1::LockMode::All, both),
    ];
    for (n, (mode, cases)) in (0..).zip(cases) {
        assert_eq!(world.ask(a, command("ann", n, locked(mode))).code, 0);
        for (rights, code) in cases {
            world.send(a, 2, get(rights));
            world.settle();
            let got = world.last_sync(a);
            assert_eq!((got.code, got.snapshot.is_empty()), (code, code != 0), "{mode:?} {rights:?}");
        }
    }
    // The lock that counts is the one at the time of the answer: this one is in flight when the question comes.
    world.ask(a, command("ann", 9, Op::Unlock(v1::Unlock { force: true })));
    world.send(a, 1, command("ann", 10, locked(v1::LockMode::Join)));
    world.send(a, 2, get(Rights::SUB));
    world.settle();
    assert_eq!(world.last_sync(a).code, 5003);
}

#[test]
fn the_same_id_with_other_bytes_is_no_repeat_wherever_the_first_one_is() {
    let (mut world, a) = opened();
    let timed = |timestamp, op| {
        command_at("ann", ALL_RIGHTS, 1, timestamp, v1::Command { op: Some(op), ..v1::Command::default() })
    };
    assert_eq!(world.ask(a, command("ann", 1, say("first"))).code, 0);
    let events = world.streams.events().len();
    for body in [command("ann", 1, say("other")), timed(START_MS + 1, say("first"))] {
        let ack = world.ask(a, body);
        assert_eq!((ack.code, ack.duplicate, ack.seq), (5013, false, 0));
    }
    assert!(world.ask(a, timed(START_MS, say("first"))).duplicate);
    assert_eq!(world.ask(a, command("bob", 1, say("other"))).code, 0, "ids are a user's own");
    // In flight, and in the queue behind it.
    world.send(a, 1, command("ann", 2, say("in flight")));
    world.send(a, 1, command("ann", 2, say("other")));
    world.send(a, 1, command("ann", 3, say("waits")));
    world.send(a, 1, command("ann", 3, say("other")));
    world.send(a, 1, command("ann", 3, say("waits")));
    world.settle();
    let codes: Vec<_> = world.owners[a].acks.iter().rev().take(5).map(|(_, ack)| (ack.code, ack.duplicate)).collect();
    assert_eq!(codes, [(0, true), (5013, false), (0, false), (5013, false), (0, false)]);
    assert_eq!(world.streams.events().len(), events + 3);
    // What was refused is not remembered: its id may be used.
    let refused = Op::Set(v1::Set { key: "k".into(), expect: Some(9), ..v1::Set::default() });
    assert_eq!(world.ask(a, command("ann", 4, refused)).code, 5005);
    assert_eq!(world.ask(a, command("ann", 4, set("k", "v"))).code, 0);
    // The next owner knows it, from the log and from a snapshot.
    let b = world.add(Rules { snapshot_entries: 1, ..Rules::default() });
    world.open(b);
    assert_eq!(world.ask(b, command("ann", 2, say("other"))).code, 5013);
    world.settle();
    let c = world.add(Rules::default());
    world.open(c);
    assert_eq!(world.ask(c, command("ann", 2, say("other"))).code, 5013);
    assert!(world.ask(c, command("ann", 2, say("in flight"))).duplicate);
}

#[test]
fn so_many_commands_of_a_user_are_remembered_as_the_rules_say() {
    let mut world = World::default();
    let rules = Rules { dedupe: 3, snapshot_entries: 2, ..Rules::default() };
    let a = world.add(rules);
    world.open(a);
    let at = |n: u64| {
        command_at(
            "ann",
            ALL_RIGHTS,
            n,
            START_MS + n as i64 * 10,
            v1::Command { op: Some(say("counted")), ..v1::Command::default() },
        )
    };
    for n in 1..=5 {
        assert_eq!(world.ask(a, at(n)).code, 0);
    }
    let b = world.add(rules);
    for (owner, open) in [(a, false), (b, true)] {
        if open {
            world.open(owner);
        }
        for n in [1, 2] {
            assert_eq!(world.ask(owner, at(n)).code, 5010, "forgotten");
        }
        for n in [3, 4, 5] {
            assert!(world.ask(owner, at(n)).duplicate);
        }
    }
    // A new command whose clock is behind is taken; only one at the very time of a forgotten one is not.
    let late = |id, timestamp| {
        command_at("ann", ALL_RIGHTS, id, timestamp, v1::Command { op: Some(say("late")), ..v1::Command::default() })
    };
    assert_eq!(world.ask(b, late(50, START_MS - 20_000)).code, 0);
    assert_eq!(world.ask(b, late(51, START_MS + 10)).code, 5010);
    assert_eq!(world.ask(b, late(52, START_MS + 15)).code, 0);
    let c = world.add(Rules::default());
    world.open(c);
    assert_eq!(world.ask(c, at(1)).code, 5010, "who remembers more learns it no more");
}
