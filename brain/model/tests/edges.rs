//! The rarer stories of a room: lost predecessors, refuted snapshots, a full queue, numbers at their end.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use brain_model::decide::TTL_MAX_MS;
use brain_model::{Effect, Input, Outcome, Rules, Why};
use prost::Message as _;
use proto::internal::{Kind, LogEntry};
use proto::v1::{self, command::Op, event::Body, system_signal::Ask};
use support::*;

fn opened() -> (World, usize) {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.open(a);
    (world, a)
}

#[test]
fn what_waited_before_the_last_own_commit_is_lost_for_sure() {
    let (mut world, a) = opened();
    // More than one entry takes: the rest was here before the first entry was sent, so no other owner can have it.
    world.send(a, 1, command("ann", 1, say("sent at once")));
    for n in 2..=300 {
        world.send(a, 1, command("ann", n, say("waits")));
    }
    world.call(a);
    assert_eq!(world.owners[a].acks.len(), 1);
    world.call(a);
    assert_eq!(world.owners[a].acks.len(), 257, "the second entry is stored");
    let on_its_way = std::mem::take(&mut world.owners[a].calls);
    let b = world.add(Rules::default());
    world.open(b);
    world.owners[a].calls = on_its_way;
    world.settle();
    assert_eq!(world.owners[a].gone, Some(Why::Fenced));
    let codes: Vec<_> = world.owners[a].acks[257..].iter().map(|(_, ack)| ack.code).collect();
    assert_eq!(codes, [6002; 43]);
}

#[test]
fn an_entry_in_flight_whose_predecessor_is_lost_does_not_hold_the_room_for_ever() {
    let (mut world, a) = opened();
    let epoch = world.ask(a, command("ann", 1, say("lost with the tail"))).epoch;
    world.send(a, 1, command("ann", 2, say("in flight")));
    let Some(Effect::Append { token, .. }) = world.owners[a].calls.pop_front() else { panic!("an append") };
    world.streams.lose_tail(1);
    world.input(a, Input::Appended { token, outcome: Outcome::Unresolved });
    world.input(a, Input::Reconnected);
    world.run(3000);
    let ack = &world.owners[a].acks.last().unwrap().1;
    assert!(world.owners[a].acks.len() == 2 && ack.code == 0 && ack.seq == 1 && ack.epoch > epoch, "{ack:?}");
}

#[test]
fn a_snapshot_that_the_log_no_longer_holds_proves_a_loss() {
    let rules = Rules { idle_ms: 500, ..Rules::default() };
    let mut world = World::default();
    let mut epoch = 0;
    for n in 1..=2 {
        let a = world.add(rules);
        world.open(a);
        epoch = world.ask(a, command("ann", n, say("said"))).epoch;
        world.run(1000);
        assert_eq!(world.owners[a].gone, Some(Why::Idle));
    }
    let kept = world.streams.gen_id;
    world.streams.lose_tail(1);
    world.streams.gen_id = kept;
    let b = world.add(rules);
    world.open(b);
    assert!(world.opened(b).unwrap().epoch > epoch, "though the generation is the same");
}

#[test]
fn a_cursor_beyond_every_epoch_drives_no_room_there() {
    let (mut world, a) = opened();
    let epoch = world.opened(a).unwrap().epoch;
    for far in [u64::MAX, u64::MAX - 1] {
        let shield = v1::Cursor { epoch: far, term: u64::MAX, pos: u64::MAX, chain: 1 };
        let reply = world.sync(a, "ann", v1::Sync { shield: Some(shield), ..v1::Sync::default() });
        assert_eq!((reply.code, reply.epoch), (0, epoch));
    }
}

#[test]
fn a_client_that_saw_the_entry_in_flight_is_not_rewound() {
    let (mut world, a) = opened();
    let epoch = world.ask(a, command("ann", 1, say("stored"))).epoch;
    // Stored and republished, perhaps; its owner has not heard of it yet.
    world.send(a, 1, command("ann", 2, say("in flight")));
    let since = |seq| v1::Sync { since: Some(v1::Head { epoch, seq }), ..v1::Sync::default() };
    world.send(a, 2, signal("bob", ALL_RIGHTS, Ask::Sync(since(2))));
    assert!(!world.owners[a].replies.iter().any(|(to, _)| *to == slot(2)), "it would be put back to 1");
    world.settle();
    let reply = world.last_sync(a);
    assert_eq!((reply.code, reply.seq, reply.recovered), (0, 2, true));
    // A client that claims more than there is: looked into, and then it gets the state; no epoch begins on its word.
    let reply = world.sync(a, "bob", since(9));
    assert_eq!((reply.code, reply.epoch, reply.seq, reply.recovered), (0, epoch, 2, false));
    assert!(!reply.snapshot.is_empty());
}

#[test]
fn a_stored_entry_with_numbers_at_their_end_stops_nobody() {
    let (mut world, a) = opened();
    let tail = world.streams.fold().0.tail;
    let event = v1::Event {
        epoch: tail.epoch,
        seq: u64::MAX,
        body: Some(Body::KeySet(v1::KeySet { key: "k".into(), expires_at: i64::MAX, ..v1::KeySet::default() })),
        ..v1::Event::default()
    };
    let payload = Some(v1::envelope::Payload::Event(event));
    let envelope = v1::Envelope { timestamp: i64::MIN, payload, ..v1::Envelope::default() };
    let entry = LogEntry {
        epoch: tail.epoch,
        term: u64::MAX,
        first_seq: u64::MAX,
        prev: tail.fence,
        prev_chain: tail.chain,
        r#gen: tail.gen_id,
        at: i64::MIN,
        kind: Kind::Events.into(),
        envelopes: vec![envelope.encode_to_vec().into()],
        ..LogEntry::default()
    };
    world.streams.append_any(entry.encode_to_vec().into());
    world.run(3000);
    assert_eq!(world.owners[a].acks.len(), 0);
    let b = world.add(Rules::default());
    world.open(b);
    assert_eq!(world.opened(b).unwrap().code, 0);
    let op = |ttl_ms| Op::Set(v1::Set { key: "k".into(), ttl_ms, ..v1::Set::default() });
    assert_eq!(world.ask(b, command("ann", 1, op(u64::MAX))).code, 5014);
    assert_eq!(world.ask(b, command("ann", 2, op(TTL_MAX_MS))).code, 0);
    assert_eq!(
        world
            .sync(
                b,
                "ann",
                v1::Sync { since: Some(v1::Head { epoch: u64::MAX, seq: u64::MAX }), ..v1::Sync::default() }
            )
            .code,
        0
    );
    world.run(1000);
}

/// A length beyond every clock ends at the last moment that a clock can say, for each owner anew.
#[test]
fn a_ttl_beyond_every_clock_ends_at_the_clocks_end() {
    for at in [i64::MIN, -5, 0] {
        let (mut world, _) = opened();
        let tail = world.streams.fold().0.tail;
        let key = v1::KeySet { key: "k".into(), ver: 1, expires_at: i64::MAX, ..v1::KeySet::default() };
        let lock = v1::Locked { mode: v1::LockMode::Write.into(), until: i64::MAX, ..v1::Locked::default() };
        let envelopes = [Body::KeySet(key), Body::Locked(lock)].into_iter().zip(1..).map(|(body, seq)| {
            let event = v1::Event { epoch: tail.epoch, seq, at, body: Some(body), ..v1::Event::default() };
            let payload = Some(v1::envelope::Payload::Event(event));
            v1::Envelope { payload, ..v1::Envelope::default() }.encode_to_vec().into()
        });
        let entry = LogEntry {
            epoch: tail.epoch,
            term: tail.term,
            prev: tail.fence,
            prev_chain: tail.chain,
            r#gen: tail.gen_id,
            at: tail.at,
            kind: Kind::Events.into(),
            envelopes: envelopes.collect(),
            ..LogEntry::default()
        };
        world.streams.append_any(entry.encode_to_vec().into());
        for _ in 0..2 {
            let b = world.add(Rules { idle_ms: u64::MAX, ..Rules::default() });
            world.open(b);
            assert_eq!(world.opened(b).unwrap().code, 0);
            let room = &world.owners[b].room;
            let (slot, lock) = (room.committed().state.get("k").unwrap(), room.committed().state.lock().unwrap());
            assert_eq!((slot.expires_at, lock.until), (i64::MAX, i64::MAX));
            let left = u64::try_from(i64::MAX - world.now.wall_ms).unwrap();
            assert_eq!(room.wake_at(), Some(world.now.mono_ms + left));
        }
    }
}

#[test]
fn an_answer_of_another_kind_is_none_whatever_its_token() {
    let mut world = World::default();
    let a = world.add(Rules::default());
    world.input(a, Input::Open { reply: slot(9000), create: true });
    for _ in 0..100 {
        let question = match world.owners[a].calls.front() {
            Some(Effect::Read { token, .. } | Effect::Append { token, .. }) => Some(*token),
            Some(Effect::WriteGen { token, .. } | Effect::Subscribe { token }) => Some(*token),
            _ => None,
        };
        let Some(token) = question else { break };
        let asked = world.owners[a].calls[0].clone();
        let before = world.owners[a].calls.clone();
        let answers = [
            Input::Read { token, draw: 9, found: None },
            Input::GenWritten { token },
            Input::Appended { token, outcome: Outcome::Stored(9) },
            Input::Subscribed { token, ok: true },
        ];
        for answer in answers {
            let fits = matches!(
                (&asked, &answer),
                (Effect::Read { .. }, Input::Read { .. })
                    | (Effect::WriteGen { .. }, Input::GenWritten { .. })
                    | (Effect::Append { .. }, Input::Appended { .. })
                    | (Effect::Subscribe { .. }, Input::Subscribed { .. })
            );
            if !fits {
                world.input(a, answer);
            }
        }
        assert_eq!(world.owners[a].calls, before, "nothing else is asked");
        world.call(a);
        if world.owners[a].room.serving() && world.owners[a].acks.is_empty() {
            world.send(a, 1, command("ann", 1, say("said")));
        }
    }
    assert_eq!(world.owners[a].acks.iter().map(|(_, ack)| ack.code).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_full_queue_turns_away_but_never_what_is_stored() {
    let (mut world, a) = opened();
    assert_eq!(world.ask(a, command("ann", 1, say("stored"))).code, 0);
    let before = world.owners[a].acks.len();
    for n in 2..=1026 {
        world.send(a, 1, command("bob", n, say("waits")));
    }
    assert!(!world.owners[a].room.has_room());
    world.send(a, 1, command("ann", 1, say("stored")));
    world.send(a, 1, command("bob", 1000, say("waits")));
    assert_eq!(world.owners[a].acks.len(), before, "not called unapplied");
    world.send(a, 1, command("cid", 2000, say("one too many")));
    assert_eq!(world.owners[a].acks.last().unwrap().1.code, 4501);
    // The id of what is stored, in flight or waiting, and other bytes: no repeat of it.
    for (user, id) in [("ann", 1), ("bob", 2), ("bob", 1000)] {
        let before = world.owners[a].acks.len();
        world.send(a, 1, command(user, id, say("something else")));
        assert_eq!((world.owners[a].acks.len(), world.owners[a].acks[before].1.code), (before + 1, 5013));
    }
    let before = world.owners[a].acks.len() - 1;
    world.pass(3000);
    world.send(a, 1, command("cid", 2001, say("without proof")));
    assert_eq!(world.owners[a].acks.len(), before + 1);
}
