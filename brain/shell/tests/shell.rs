//! The shell on the simulated broker over real TCP, with the users and permissions of production.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use futures_util::StreamExt as _;
use proto::internal::Kind;
use proto::{Code, Pattern, RoomKey, Subject, v1};
use spine::{Delivery, Spine as _};
use spine_sim::Faults;
use support::*;

#[tokio::test]
async fn a_command_goes_in_and_an_event_comes_out() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let out = Pattern::exact(&Subject::output(&room));
    let mut out = shield.spine.subscribe(&out, None, 64).await.unwrap();
    let opened = shield.open(&room).await;
    assert_eq!((opened.term, opened.seq, opened.node.as_str()), (1, 0, "brain-1"));

    let hello = shield.command(&room, "ann", say("hello"));
    let ack = shield.ask(&room, &hello).await;
    assert_eq!((ack.code, ack.epoch, ack.seq), (0, opened.epoch, 1));

    let entry = within("the event", async {
        loop {
            let Delivery::Msg(message) = out.next().await.unwrap() else { panic!("lost") };
            assert!(message.stream_seq.is_some(), "a stored entry carries its position");
            let entry = proto::internal::LogEntry::decode_from(&message.body);
            if entry.kind == Kind::Events as i32 {
                return entry;
            }
        }
    })
    .await;
    let event = events(&[entry]).remove(0);
    assert_eq!((event.user.as_str(), event.seq, event.epoch), ("ann", 1, opened.epoch));
    assert_eq!(brain.metric("brain_room_count"), 1);
    assert_eq!(brain.metric("brain_events_total"), 1);
    brain.stop().await;
}

trait DecodeFrom {
    fn decode_from(bytes: &bytes::Bytes) -> Self;
}
impl DecodeFrom for proto::internal::LogEntry {
    fn decode_from(bytes: &bytes::Bytes) -> Self {
        prost::Message::decode(bytes.clone()).unwrap()
    }
}

#[tokio::test]
async fn a_node_remembers_as_many_commands_of_a_user_as_its_configuration_says() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain_with("brain-1", |config| config.brain.dedupe = 2);
    let mut shield = ground.shield().await;
    let room = room("lobby");
    shield.open(&room).await;
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(shield.command(&room, "ann", say(&format!("{n}"))));
        assert_eq!(shield.ask(&room, &sent[n]).await.code, 0);
    }
    for (n, command) in sent.iter().enumerate() {
        let ack = shield.ask(&room, command).await;
        assert_eq!((ack.code, ack.duplicate), if n < 2 { (5010, false) } else { (0, true) }, "{n}");
    }
    brain.stop().await;
}

#[tokio::test]
async fn a_tenant_takes_so_many_rooms_and_leaves_the_others_to_other_tenants() {
    let ground = Ground::new(&["brain-1"]).await;
    let limits = |config: &mut voltron_core::config::Config| {
        (config.brain.rooms, config.brain.tenant_rooms) = (3, 2);
        config.brain.room_idle_s = 1;
    };
    let brain = ground.brain_with("brain-1", limits);
    let mut shield = ground.shield().await;
    let of = |tenant: &str, name: &str| RoomKey::new(tenant.parse().unwrap(), name.parse().unwrap());
    for name in ["one", "two"] {
        assert_eq!(shield.open(&of("acme", name)).await.code, 0);
    }
    assert_eq!(u32::from(Code::Unavailable.as_u16()), shield.asks_to_open(&of("acme", "three")).await.code);
    assert_eq!(shield.open(&of("other", "one")).await.code, 0);
    // Now the node is full.
    assert_eq!(u32::from(Code::Unavailable.as_u16()), shield.asks_to_open(&of("more", "one")).await.code);
    assert_eq!(brain.metric("brain_rooms_refused_total"), 2);
    // A place is free again when a room has gone.
    assert_eq!(shield.open(&of("acme", "three")).await.code, 0);
    brain.stop().await;
}

#[tokio::test]
async fn a_restarted_node_takes_over_with_the_next_term_and_knows_repeats() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let first = shield.open(&room).await;
    let hello = shield.command(&room, "ann", say("hello"));
    let ack = shield.ask(&room, &hello).await;
    brain.stop().await;

    let brain = ground.brain("brain-1");
    let again = shield.ask(&room, &hello).await;
    assert_eq!((again.code, again.epoch, again.seq, again.duplicate), (0, ack.epoch, ack.seq, true));
    let second = shield.open(&room).await;
    assert_eq!((second.epoch, second.term), (first.epoch, first.term + 1));
    assert_eq!(events(&shield.log(&room).await).len(), 1);
    brain.kill().await;

    let brain = ground.brain("brain-1");
    let third = shield.open(&room).await;
    assert_eq!((third.epoch, third.term), (first.epoch, first.term + 2));
    brain.stop().await;
}

#[tokio::test]
async fn of_two_nodes_one_owns_a_room_and_the_other_follows_its_death() {
    let ground = Ground::new(&["brain-1", "brain-2"]).await;
    let mut brains = [("brain-1", ground.brain("brain-1")), ("brain-2", ground.brain("brain-2"))].to_vec_pairs();
    let mut shield = ground.shield().await;
    let rooms: Vec<_> = (0..8).map(|n| room(&format!("room-{n}"))).collect();
    let mut owners = Vec::new();
    for room in &rooms {
        let opened = shield.open(room).await;
        assert_eq!(opened.term, 1);
        let again = shield.open(room).await;
        assert_eq!((again.node.as_str(), again.term), (opened.node.as_str(), 1), "ownership is sticky");
        let hello = shield.command(room, "ann", say("hello"));
        assert_eq!(shield.ask(room, &hello).await.code, 0);
        owners.push(opened.node);
    }
    let dead = owners[0].clone();
    let at = brains.iter().position(|(name, _)| *name == dead).unwrap();
    brains.remove(at).1.kill().await;
    let left = brains[0].0;
    for (room, owner) in rooms.iter().zip(&owners) {
        let hello = shield.command(room, "bob", say("again"));
        let ack = shield.ask(room, &hello).await;
        assert_eq!((ack.code, ack.seq), (0, 2), "the room goes on where it was");
        let opened = shield.open(room).await;
        assert_eq!(opened.node, left);
        assert_eq!(opened.term, if *owner == dead { 2 } else { 1 });
    }
    for (_, brain) in brains {
        brain.stop().await;
    }
}

trait Pairs<T> {
    fn to_vec_pairs(self) -> Vec<T>;
}
impl<T, const N: usize> Pairs<T> for [T; N] {
    fn to_vec_pairs(self) -> Vec<T> {
        self.into_iter().collect()
    }
}

#[tokio::test]
async fn commands_that_wait_for_an_unresolved_commit_go_out_together() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    shield.open(&room).await;
    let before = shield.log(&room).await.len();
    // Stored, and its PubAck lost: what comes after it must wait until that is found out.
    ground.broker.faults(|faults| *faults = Faults { lose_ack: spine_sim::Rule::Next(1), ..Faults::default() });
    let mut slots = Vec::new();
    for n in 0..200 {
        let command = shield.command(&room, "ann", say(&format!("{n}")));
        slots.push(shield.send(&room, &command).await);
    }
    let acks = shield.acks(&slots).await;
    let mut places: Vec<_> = acks.iter().map(|ack| (ack.code, ack.seq)).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=200).map(|seq| (0, seq)).collect::<Vec<_>>());
    let log = shield.log(&room).await;
    let said = events(&log);
    assert!(said.iter().enumerate().all(|(i, event)| event.seq == i as u64 + 1));
    assert!(log.len() - before <= 10, "{} entries for 200 commands", log.len() - before);
    assert_eq!(brain.metric("brain_unresolved_total"), 1);
    brain.stop().await;
}

#[tokio::test]
async fn a_spine_that_comes_late_and_restarts_is_waited_for() {
    let mut ground = Ground::silent(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    ground.serve().await;
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let hello = shield.command(&room, "ann", say("hello"));
    let ack = shield.ask(&room, &hello).await;
    ground.crash(false).await;
    ground.serve().await;
    let again = shield.ask(&room, &hello).await;
    assert_eq!((again.code, again.epoch, again.seq, again.duplicate), (0, ack.epoch, ack.seq, true));
    let more = shield.command(&room, "ann", say("more"));
    let more = shield.ask(&room, &more).await;
    assert_eq!((more.code, more.epoch, more.seq), (0, ack.epoch, 2), "this owner served through: nothing was lost");
    brain.stop().await;
}

#[tokio::test]
async fn a_lost_tail_begins_a_new_epoch() {
    let mut ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let hello = shield.command(&room, "ann", say("hello"));
    let ack = shield.ask(&room, &hello).await;
    ground.broker.sync();
    let lost = shield.command(&room, "ann", say("lost"));
    assert_eq!(shield.ask(&room, &lost).await.seq, 2);
    ground.crash(true).await;
    ground.serve().await;
    let more = shield.command(&room, "ann", say("more"));
    let more = shield.ask(&room, &more).await;
    assert_eq!((more.code, more.seq), (0, 1));
    assert!(more.epoch > ack.epoch, "continuity was lost, and that is said");
    let sync = v1::Sync { since: Some(v1::Head { epoch: ack.epoch, seq: 2 }), ..v1::Sync::default() };
    let reply = shield.sync(&room, sync).await;
    assert!(!reply.recovered && !reply.snapshot.is_empty(), "an old epoch's cursor gets the state");
    brain.stop().await;
}

#[tokio::test]
async fn a_broker_without_its_store_gets_its_streams_again_and_a_new_epoch_begins() {
    let mut ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let mut last = v1::Ack::default();
    for n in 0..5 {
        let command = shield.command(&room, "ann", say(&format!("{n}")));
        last = shield.ask(&room, &command).await;
    }
    brain.until(None).await;
    ground.lose_store(&["brain-1"]).await;
    brain.until(Some("the Spine is away")).await;
    ground.serve().await;

    let after = shield.command(&room, "ann", say("after"));
    let after = shield.ask(&room, &after).await;
    assert_eq!((after.code, after.seq), (0, 1));
    assert!(after.epoch > last.epoch, "continuity was lost, and that is said");
    let sync = v1::Sync { since: Some(v1::Head { epoch: last.epoch, seq: 3 }), ..v1::Sync::default() };
    let reply = shield.sync(&room, sync).await;
    assert!(!reply.recovered && !reply.snapshot.is_empty(), "an old epoch's cursor gets the state");
    brain.until(None).await;
    assert!(brain.metric("brain_streams_ensured_total") >= 2);
    // A room that nobody had opened before can be made, too.
    assert_eq!(shield.open(&support::room("study")).await.code, 0);
    brain.stop().await;
}

#[tokio::test]
async fn readiness_follows_the_link_and_ends_with_the_stop() {
    let mut ground = Ground::silent(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    brain.until(Some("the Spine is away")).await;
    ground.serve().await;
    brain.until(None).await;
    ground.crash(false).await;
    brain.until(Some("the Spine is away")).await;
    ground.serve().await;
    brain.until(None).await;
    let readiness = brain.readiness.clone();
    brain.stop().await;
    assert!(readiness.unready().is_some_and(|why| why.contains("draining")));
}

#[tokio::test]
async fn the_longest_deadline_there_is_ends_no_room_nor_those_after_a_take_over() {
    let ground = Ground::new(&["brain-1", "brain-2"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    for ttl_ms in [u64::from(u32::MAX), 1 << 32, i64::MAX.unsigned_abs(), u64::MAX] {
        let set = v1::Set { key: format!("k{ttl_ms}"), value: "v".into(), ttl_ms, ..v1::Set::default() };
        let set = shield.command(&room, "ann", v1::command::Op::Set(set));
        // Beyond the bound that the gate sets it is refused; either way the room goes on.
        shield.ask(&room, &set).await;
        let say = shield.command(&room, "ann", say("after"));
        assert_eq!(shield.ask(&room, &say).await.code, 0, "{ttl_ms}");
    }
    assert_eq!(brain.metric("brain_rooms_crashed_total"), 0);
    brain.kill().await;
    let other = ground.brain("brain-2");
    let say = shield.command(&room, "ann", say("taken over"));
    assert_eq!(shield.ask(&room, &say).await.code, 0);
    assert_eq!(other.metric("brain_rooms_crashed_total"), 0);
    other.stop().await;
}

#[tokio::test]
async fn a_subscriber_gets_leave_with_what_it_missed() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    let room = room("lobby");
    let mut last = v1::Ack::default();
    for n in 0..5 {
        let command = shield.command(&room, "ann", say(&format!("{n}")));
        last = shield.ask(&room, &command).await;
    }
    let sync = v1::Sync { since: Some(v1::Head { epoch: last.epoch, seq: 2 }), ..v1::Sync::default() };
    let reply = shield.sync(&room, sync).await;
    assert_eq!((reply.code, reply.recovered, reply.seq, reply.events.len()), (0, true, 5, 3));
    let reply = shield.sync(&room, v1::Sync { history: 2, ..v1::Sync::default() }).await;
    assert_eq!((reply.recovered, reply.events.len(), reply.snapshot.len()), (false, 2, 1));
    brain.stop().await;
}

#[tokio::test]
async fn a_generation_that_is_no_number_keeps_no_room_shut() {
    let ground = Ground::new(&["brain-1"]).await;
    let brain = ground.brain("brain-1");
    let mut shield = ground.shield().await;
    shield.open(&room("lobby")).await;
    let user = proto::NodeId::parse("brain-1").unwrap();
    let writer = spine(ground.addr, &spine::users::UserSpec::writer(&user, "w"), "_INBOX.w.brain-1".into());
    let generation = Subject::generation(0);
    let last = within("the generation", async {
        loop {
            if let Ok(Some(stored)) = writer.last(&generation, spine::Via::Leader).await {
                return stored.seq;
            }
        }
    })
    .await;
    writer.append(&generation, last, bytes::Bytes::from_static(b"no number")).await.unwrap();
    let opened = shield.open(&room("study")).await;
    assert_eq!((opened.code, opened.term), (0, 1));
    brain.stop().await;
}
