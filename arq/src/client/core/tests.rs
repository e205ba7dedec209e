//! The core driven as a plain value: frames in, frames and events out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::json::{Presence, SubFamily, SubResult, Unsubbed, sub_family};
use proto::view::EnvelopeView;
use proto::{Code, frame};

use super::*;
use crate::client::{say, set};

#[derive(Clone, Debug)]
struct Fixed;

impl WallClock for Fixed {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }
}

#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicU64>);

impl Ids for Counting {
    fn fill(&self, _purpose: &'static str, out: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        out.fill(0);
        out[..8].copy_from_slice(&n.to_le_bytes());
    }
}

type TestCore = Core<Fixed, Counting>;

fn core(repeat: Repeat) -> TestCore {
    Core::new(CoreOptions { repeat, ..CoreOptions::new("c1") }, Fixed, Counting::default())
}

fn lobby() -> RoomId {
    RoomId::parse("lobby").unwrap()
}

/// A connected core; the greeting's event is taken.
fn greet(core: &mut TestCore, now: Instant) {
    let hello = Hello { tenant: "acme".into(), user: "ann".into(), conn: "k1".into(), ..Hello::default() };
    core.text(&frame::text(frame::HELLO, &hello), now);
    assert!(matches!(core.poll_event(), Some(ClientEvent::Hello(_))));
}

fn binary(core: &mut TestCore) -> Bytes {
    match core.poll_frame() {
        Some(Frame::Binary(bytes)) => bytes,
        other => panic!("a binary frame was expected, not {other:?}"),
    }
}

fn sub(core: &mut TestCore) -> SubRequest {
    let bytes = binary(core);
    assert_eq!(bytes[0], frame::SUB);
    match sub_family(std::str::from_utf8(&bytes[1..]).unwrap()).unwrap() {
        SubFamily::Sub(request) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(core: &mut TestCore, result: &SubResult, now: Instant) {
    core.text(&frame::text(frame::SUB, result), now);
}

fn ack(id: MessageId, code: u32) -> v1::Ack {
    let message_id = Bytes::copy_from_slice(&id.0);
    v1::Ack { message_id, code, epoch: 7, seq: 1, ..v1::Ack::default() }
}

fn event(seq: u64, body: v1::event::Body) -> Bytes {
    let event = v1::Event { epoch: 7, seq, prev: 100 + seq, body: Some(body), ..v1::Event::default() };
    let payload = Some(v1::envelope::Payload::Event(event));
    let envelope = v1::Envelope { room_id: "lobby".into(), payload, ..v1::Envelope::default() };
    frame::publish(&envelope.encode_to_vec())
}

fn said(seq: u64) -> Bytes {
    event(seq, v1::event::Body::Said(v1::Said { data: "hi".into(), r#type: String::new() }))
}

fn events(core: &mut TestCore) -> Vec<ClientEvent> {
    std::iter::from_fn(|| core.poll_event()).collect()
}

#[test]
fn a_command_waits_for_hello_and_is_canonical() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    let id = core.publish(&lobby(), say("text", "hello"), true, now).unwrap();
    assert_eq!(core.poll_frame(), None, "nothing leaves before HELLO");
    greet(&mut core, now);
    let bytes = binary(&mut core);
    assert_eq!(bytes[0], frame::PUB);
    let view = EnvelopeView::client(&bytes[1..]).expect("the gate takes what we send");
    assert_eq!((view.room_id, view.message_id, view.ack_requested), ("lobby", &id.0[..], true));
    assert_eq!(view.timestamp, 1_700_000_000_000);
}

#[test]
fn commands_are_stamped_by_the_servers_clock_whatever_the_own_one_says() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    let mut stamped = |time: i64, after_ms: u64| {
        core.closed(1006, "gone");
        let _ = events(&mut core);
        let hello = Hello { tenant: "acme".into(), time, ..Hello::default() };
        core.text(&frame::text(frame::HELLO, &hello), now);
        // Earlier commands come first, with the bytes that they had.
        while core.poll_frame().is_some() {}
        core.publish(&lobby(), say("", "x"), false, now + Duration::from_millis(after_ms)).unwrap();
        let bytes = binary(&mut core);
        EnvelopeView::client(&bytes[1..]).unwrap().timestamp
    };
    assert_eq!(stamped(1_800_000_000_000, 0), 1_800_000_000_000);
    assert_eq!(stamped(1_800_000_000_000, 5_250), 1_800_000_005_250, "moved on from HELLO");
    assert_eq!(stamped(1_600_000_000_000, 10), 1_600_000_000_010, "the last HELLO counts");
    assert_eq!(stamped(0, 10), 1_700_000_000_000, "a server that tells no time");
}

#[test]
fn a_signed_command_verifies_with_the_transcript_of_the_tokens_tenant() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let options = CoreOptions { signer: Some(key.clone()), ..CoreOptions::new("c1") };
    let (mut core, now) = (Core::new(options, Fixed, Counting::default()), Instant::now());
    greet(&mut core, now);
    core.publish(&lobby(), set("k", "v"), false, now).unwrap();
    let bytes = binary(&mut core);
    let view = EnvelopeView::client(&bytes[1..]).unwrap();
    let transcript = proto::signature::Transcript::of(&view, "acme");
    transcript.verify(&key.verifying_key(), view.signature, &mut Vec::new()).expect("it verifies");
    let elsewhere = proto::signature::Transcript::of(&view, "other");
    assert!(elsewhere.verify(&key.verifying_key(), view.signature, &mut Vec::new()).is_err());
}

#[test]
fn each_uncertain_answer_repeats_the_same_bytes_and_a_final_one_does_not() {
    for code in [Code::Unavailable, Code::OutcomeUnknown, Code::NotApplied, Code::Busy, Code::RateLimited] {
        let (mut core, now) = (core(Repeat::default()), Instant::now());
        greet(&mut core, now);
        let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
        let first = binary(&mut core);
        core.binary(&frame::ack(&ack(id, code.as_u16().into())), now);
        assert!(matches!(&events(&mut core)[..], [ClientEvent::Ack(ack)] if ack.repeating), "{code}");
        assert_eq!(core.poll_frame(), None, "it pauses first");
        core.tick(core.next_tick().expect("a repeat is planned"));
        assert_eq!(binary(&mut core), first, "byte for byte");
        core.binary(&frame::ack(&ack(id, 0)), now);
        assert!(matches!(&events(&mut core)[..], [ClientEvent::Ack(ack)] if !ack.repeating && ack.code == 0));
        assert_eq!((core.waiting(), core.next_tick()), (0, None));
    }
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
    core.binary(&frame::ack(&ack(id, Code::PermissionDenied.as_u16().into())), now);
    assert!(matches!(&events(&mut core)[..], [ClientEvent::Ack(ack)] if !ack.repeating));
}

#[test]
fn a_pause_is_at_least_what_the_server_asked_for() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
    let busy = v1::Ack { retry_after_ms: 1_500, ..ack(id, Code::Busy.as_u16().into()) };
    core.binary(&frame::ack(&busy), now);
    assert_eq!(core.next_tick(), Some(now + Duration::from_millis(1_500)));
}

#[test]
fn repeats_are_bounded_and_can_be_off() {
    let unknown = u32::from(Code::OutcomeUnknown.as_u16());
    let (mut one, now) = (core(Repeat::OFF), Instant::now());
    greet(&mut one, now);
    let id = one.publish(&lobby(), say("", "x"), true, now).unwrap();
    one.binary(&frame::ack(&ack(id, unknown)), now);
    assert!(matches!(&events(&mut one)[..], [ClientEvent::Ack(ack)] if !ack.repeating && ack.code == unknown));

    let (mut three, mut now) = (core(Repeat { sends: 3, ..Repeat::default() }), Instant::now());
    greet(&mut three, now);
    let id = three.publish(&lobby(), say("", "x"), true, now).unwrap();
    let mut sends = 0;
    while three.poll_frame().is_some() {
        sends += 1;
        three.binary(&frame::ack(&ack(id, unknown)), now);
        if let Some(at) = three.next_tick() {
            now = at;
            three.tick(now);
        }
    }
    assert_eq!(sends, 3);
    assert_eq!(three.waiting(), 0);
}

#[test]
fn silence_is_repeated_and_then_said() {
    let (mut core, mut now) = (core(Repeat { sends: 2, ..Repeat::default() }), Instant::now());
    greet(&mut core, now);
    let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
    let first = binary(&mut core);
    now = core.next_tick().unwrap();
    core.tick(now);
    assert_eq!(binary(&mut core), first);
    core.tick(core.next_tick().unwrap());
    assert_eq!(events(&mut core), [ClientEvent::Unanswered { message_id: id, room: lobby() }]);
}

#[test]
fn after_a_reconnect_the_same_bytes_leave_in_the_same_order() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let ids: Vec<_> = (0..3).map(|n: u8| core.publish(&lobby(), say("", vec![n]), true, now).unwrap()).collect();
    let first: Vec<_> = (0..3).map(|_| binary(&mut core)).collect();
    core.binary(&frame::ack(&ack(ids[1], 0)), now);
    core.closed(1006, "gone");
    assert!(matches!(events(&mut core).last(), Some(ClientEvent::Closed { code: 1006, .. })));
    greet(&mut core, now);
    assert_eq!(binary(&mut core), first[0]);
    assert_eq!(binary(&mut core), first[2]);
    assert_eq!(core.poll_frame(), None, "what was answered is not sent again");
}

#[test]
fn without_repeats_a_lost_connection_leaves_the_outcome_unknown() {
    let (mut core, now) = (core(Repeat::OFF), Instant::now());
    greet(&mut core, now);
    let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
    let _ = binary(&mut core);
    core.closed(1006, "gone");
    assert_eq!(events(&mut core)[0], ClientEvent::Unanswered { message_id: id, room: lobby() });
    greet(&mut core, now);
    assert_eq!(core.poll_frame(), None);
}

#[test]
fn a_second_answer_to_one_command_is_told_with_its_room() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let id = core.publish(&lobby(), say("", "x"), true, now).unwrap();
    let first = frame::ack(&ack(id, 0));
    core.binary(&first, now);
    core.binary(&first, now);
    let stranger = MessageId([9; 16]);
    core.binary(&frame::ack(&ack(stranger, 0)), now);
    let rooms: Vec<_> = events(&mut core)
        .into_iter()
        .map(|event| match event {
            ClientEvent::Ack(ack) => ack.room,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rooms, [Some(lobby()), Some(lobby()), None]);
}

#[test]
fn commands_are_bounded() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    for _ in 0..TestCore::COMMANDS_MAX {
        core.publish(&lobby(), say("", "x"), true, now).unwrap();
    }
    assert_eq!(core.publish(&lobby(), say("", "x"), true, now), Err(Full));
}

#[test]
fn a_subscription_resumes_with_epoch_seq_and_position() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    core.subscribe(&lobby(), SubOptions { history: 5, presence: Presence::Count, ..SubOptions::default() });
    greet(&mut core, now);
    let request = sub(&mut core);
    assert_eq!((request.since, request.history, request.presence), (None, Some(5), Some(Presence::Count)));
    answer(&mut core, &SubResult::ok(request.id, "lobby", (7, 4), false, 2), now);
    for seq in [3, 4, 5] {
        core.binary(&said(seq), now);
    }
    let told = events(&mut core);
    assert!(matches!(told[0], ClientEvent::Subscribed { epoch: 7, seq: 4, replay: 2, .. }));
    assert_eq!(told.len(), 4, "three events and no gap: {told:?}");
    core.closed(4102, "slow");
    assert_eq!(events(&mut core), [ClientEvent::Closed { code: 4102, reason: "slow".into() }]);
    greet(&mut core, now);
    let again = sub(&mut core);
    assert_eq!(again.since, Some(Since { epoch: 7, seq: 5, pos: Some(105) }));
    assert_eq!(again.history, None, "a resumed subscription asks for no history");
}

#[test]
fn a_gap_is_told_before_the_event() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    core.subscribe(&lobby(), SubOptions::default());
    let request = sub(&mut core);
    answer(&mut core, &SubResult::ok(request.id, "lobby", (7, 4), false, 0), now);
    core.binary(&said(7), now);
    let told = events(&mut core);
    assert_eq!(told[1], ClientEvent::Gap { room: lobby(), epoch: 7, from: 5, to: 6 });
    assert!(matches!(&told[2], ClientEvent::Event(event) if event.seq == 7));
}

#[test]
fn a_snapshot_moves_the_cursor_with_its_last_part() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    core.subscribe(&lobby(), SubOptions::default());
    let request = sub(&mut core);
    answer(&mut core, &SubResult::ok(request.id, "lobby", (7, 4), false, 0), now);
    let part = |part, last| v1::event::Body::Snapshot(v1::Snapshot { part, last, ..v1::Snapshot::default() });
    core.binary(&event(9, part(0, false)), now);
    assert_eq!(core.cursor(&lobby()).unwrap().seq, 4);
    core.binary(&event(9, part(1, true)), now);
    assert_eq!(core.cursor(&lobby()).unwrap().seq, 9);
    core.binary(&said(10), now);
    assert!(!events(&mut core).iter().any(|event| matches!(event, ClientEvent::Gap { .. })));
}

#[test]
fn an_absent_room_is_asked_for_again_only_if_wanted() {
    for persist in [true, false] {
        let (mut core, now) = (core(Repeat::default()), Instant::now());
        greet(&mut core, now);
        core.subscribe(&lobby(), SubOptions { persist, ..SubOptions::default() });
        let request = sub(&mut core);
        answer(&mut core, &SubResult::refused(request.id, Some("lobby"), Code::RoomAbsent, None), now);
        assert!(
            matches!(&events(&mut core)[..], [ClientEvent::SubRefused { code: 5001, repeating, .. }] if *repeating == persist)
        );
        if persist {
            core.tick(core.next_tick().unwrap());
            let again = sub(&mut core);
            assert_ne!(again.id, request.id);
            assert_eq!(again.history, Some(256), "what is said first in a room that was waited for is not missed");
        } else {
            assert_eq!(core.next_tick(), None);
        }
    }
}

#[test]
fn a_late_answer_to_an_older_sub_changes_nothing() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    core.subscribe(&lobby(), SubOptions::default());
    let old = sub(&mut core);
    core.unsubscribe(&lobby());
    assert_eq!(binary(&mut core)[0], frame::UNSUB);
    core.subscribe(&lobby(), SubOptions::default());
    let new = sub(&mut core);
    answer(&mut core, &SubResult::ok(old.id, "lobby", (7, 1), false, 0), now);
    core.text(&frame::text(frame::UNSUB, &Unsubbed { room: "lobby".into(), ..Unsubbed::default() }), now);
    // The server had ended the subscription by itself before the UNSUB came: there was nothing to end.
    let code = Some(Code::NotSubscribed.as_u16());
    core.text(&frame::text(frame::UNSUB, &Unsubbed { room: "lobby".into(), code, ..Unsubbed::default() }), now);
    assert_eq!(events(&mut core), []);
    answer(&mut core, &SubResult::ok(new.id, "lobby", (7, 2), false, 0), now);
    assert!(matches!(&events(&mut core)[..], [ClientEvent::Subscribed { seq: 2, .. }]));
}

#[test]
fn the_answer_to_an_earlier_unsub_ends_no_later_sub() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    core.subscribe(&lobby(), SubOptions::default());
    let first = sub(&mut core);
    answer(&mut core, &SubResult::ok(first.id, "lobby", (7, 1), false, 0), now);
    core.unsubscribe(&lobby());
    assert_eq!(binary(&mut core)[0], frame::UNSUB);
    core.subscribe(&lobby(), SubOptions::default());
    let second = sub(&mut core);
    core.unsubscribe(&lobby());
    assert_eq!(binary(&mut core)[0], frame::UNSUB);
    let _ = events(&mut core);
    let unsubbed = frame::text(frame::UNSUB, &Unsubbed { room: "lobby".into(), ..Unsubbed::default() });
    core.text(&unsubbed, now);
    assert_eq!(events(&mut core), [], "the second SUB has no answer yet");
    answer(&mut core, &SubResult::ok(second.id, "lobby", (7, 2), false, 0), now);
    let _ = events(&mut core);
    core.text(&unsubbed, now);
    assert!(matches!(&events(&mut core)[..], [ClientEvent::Unsubscribed { code: 0, .. }]));
}

#[test]
fn a_server_that_removes_us_says_why_and_may_be_asked_again() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    core.subscribe(&lobby(), SubOptions { persist: true, ..SubOptions::default() });
    let request = sub(&mut core);
    answer(&mut core, &SubResult::ok(request.id, "lobby", (7, 2), false, 0), now);
    let _ = events(&mut core);
    core.binary(&said(3), now);
    let _ = events(&mut core);
    let lost = Unsubbed { room: "lobby".into(), code: Some(5007), resub: Some(true), ..Unsubbed::default() };
    core.text(&frame::text(frame::UNSUB, &lost), now);
    assert!(matches!(&events(&mut core)[..], [ClientEvent::Unsubscribed { code: 5007, repeating: true, .. }]));
    core.tick(core.next_tick().unwrap());
    assert_eq!(sub(&mut core).since, Some(Since { epoch: 7, seq: 3, pos: Some(103) }));
}

#[test]
fn an_answer_to_a_request_that_was_sent_raw_is_told_by_its_number() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let refused = SubResult::refused(99, Some("a.b"), Code::BadRoomId, None);
    core.text(&frame::text(frame::SUB, &refused), now);
    core.text("\u{2}{\"op\":\"get\",\"id\":7,\"ok\":false,\"room\":\"*\",\"code\":2006}", now);
    core.text(&frame::text(frame::SUB, &SubResult::ok(98, "lobby", (7, 3), false, 0)), now);
    let stray = |id, code| ClientEvent::Stray { id, code };
    assert_eq!(events(&mut core), [stray(99, 2006), stray(7, 2006), stray(98, 0)]);
}

#[test]
fn what_is_not_understood_is_told_and_harms_nothing() {
    let (mut core, now) = (core(Repeat::default()), Instant::now());
    greet(&mut core, now);
    let strange: [&[u8]; 9] = [
        b"",
        b"\x7fabc",
        b"\x01\xff\xff\xff",
        b"\x01",
        b"\x02{}",
        b"\x02not json",
        b"\x03{\"room\":\"a.b\"}",
        b"\x09\x0a\x02ab",
        b"\x99\x00",
    ];
    for bytes in strange {
        core.binary(&Bytes::from_static(bytes), now);
    }
    core.text("", now);
    core.text("\u{4}{}", now);
    core.text("{\"op\":\"event\"}", now);
    let told = events(&mut core);
    assert_eq!(told.len(), strange.len() + 3);
    assert!(told.iter().all(|event| matches!(event, ClientEvent::Unknown { .. })), "{told:?}");
    core.binary(&frame::err(Code::Stale, "wait"), now);
    assert_eq!(events(&mut core), [ClientEvent::Err { code: 6004, text: "wait".into() }]);
}
