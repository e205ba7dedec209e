//! Subjects, partitions and streams: shapes that the log's layout rests on for ever.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::subject::{PARTITIONS, partition, room_hash, stream_index, stream_partitions};
use proto::{NodeId, Pattern, RoomKey, StreamName, Subject};

fn room(tenant: &str, room: &str) -> RoomKey {
    RoomKey::new(tenant.parse().expect("an id"), room.parse().expect("an id"))
}

fn wire(text: &str) -> Option<Subject> {
    Subject::from_wire(Bytes::copy_from_slice(text.as_bytes())).ok()
}

#[test]
fn a_digest_of_tenant_zero_room_places_a_room() {
    // Computed apart from this crate: printf 'acme\0lobby' | sha256sum
    let key = room("acme", "lobby");
    assert_eq!(partition(&key), DIGEST[0]);
    assert_eq!(room_hash(&key), u64::from_le_bytes(DIGEST));
    assert_eq!(Subject::log(&key).as_str(), format!("log.{}.t.acme.r.lobby", DIGEST[0]));
    assert_ne!(room_hash(&room("ac", "melobby")), room_hash(&room("acm", "elobby")), "the 0 parts them");
}

const DIGEST: [u8; 8] = [0xd6, 0xa9, 0x35, 0x48, 0x61, 0x6e, 0x57, 0x61];

#[test]
fn streams_part_the_partitions_into_equal_ranges() {
    for count in 1..=PARTITIONS {
        let mut seen = BTreeSet::new();
        let mut sizes = BTreeSet::new();
        let mut last = 0;
        for p in 0..=u8::MAX {
            let index = stream_index(p, count);
            assert!(index < count && index >= last, "ascending and in range");
            last = index;
        }
        for index in 0..count {
            let range: Vec<u8> = stream_partitions(index, count).collect();
            assert!(range.windows(2).all(|pair| pair[1] == pair[0] + 1), "a range without holes");
            sizes.insert(range.len());
            seen.extend(range);
        }
        assert_eq!(seen.len(), 256, "each partition in exactly one stream");
        assert!(sizes.last().expect("one") - sizes.first().expect("one") <= 1, "{count}: {sizes:?}");
    }
    assert_eq!(stream_index(255, 8), 7);
    assert_eq!(stream_index(31, 8), 0);
    assert_eq!(stream_index(32, 8), 1);
}

#[test]
fn counts_out_of_range_are_brought_into_it() {
    assert_eq!(stream_index(200, 0), 0);
    assert_eq!(stream_index(255, 100_000), 255);
}

#[test]
fn a_subject_knows_its_stream() {
    let key = room("acme", "lobby");
    let log = StreamName::of(&Subject::log(&key), 8).expect("stored");
    assert_eq!(log, StreamName::log(stream_index(partition(&key), 8)));
    assert_eq!(StreamName::of(&Subject::snapshot(&key), 8), Some(StreamName::snapshots()));
    assert_eq!(StreamName::of(&Subject::generation(3), 8), Some(StreamName::generation(3)));
    assert_eq!(StreamName::of(&Subject::ban(&key.tenant, &"u".parse().expect("an id")), 8), Some(StreamName::bans()));
    assert_eq!(StreamName::of(&Subject::input(&key), 8), None);
    assert_eq!(StreamName::of(&Subject::output(&key), 8), None);
    assert_eq!(StreamName::of(&wire("log.256.t.a.r.b").expect("a subject"), 8), None);
    assert_eq!(StreamName::of(&wire("log.+1.t.a.r.b").expect("a subject"), 8), None);
}

#[test]
fn rooms_are_read_from_four_kinds_of_subject_only() {
    for text in ["in.t.a.r.b", "out.t.a.r.b", "log.7.t.a.r.b", "snap.7.t.a.r.b"] {
        assert_eq!(wire(text).expect("a subject").room(), Some(room("a", "b")), "{text}");
    }
    for text in [
        "in.t.a.r.b.c",
        "in.t.a",
        "in.t..r.b",
        "in.x.a.r.b",
        "in.t.a.x.b",
        "log.t.a.r.b",
        "log.7.8.t.a.r.b",
        "log.256.t.a.r.b",
        "log.x.t.a.r.b",
        "log.07.t.a.r.b",
        "gen.1",
        "open.t.a",
        "sys.t.a.kick",
        "$JS.API.INFO",
        "in",
        "_INBOX.s.n.1",
    ] {
        assert_eq!(wire(text).and_then(|subject| subject.room()), None, "{text}");
    }
}

#[test]
fn answers_go_to_reply_slots_only() {
    let shield: NodeId = "shield-1".parse().expect("an id");
    for text in ["_INBOX.s.shield-1.0", "_INBOX.s.shield-1.4095", "_INBOX.s.x.9", "_INBOX.s.x.Ab3.z9"] {
        assert!(wire(text).expect("a subject").is_shield_inbox(), "{text}");
    }
    for text in [
        "log.7.t.a.r.b",
        "_INBOX.s.shield-1",
        "_INBOX.s..1",
        "_INBOX.s.a.b.c.d",
        "_INBOX.s.a.b.$c",
        "_INBOX.b.n.1",
        "_INBOX.w.n.1",
        "$JS.API.STREAM.PURGE.LOG_0",
        "in.t.a.r.b",
        "_INBOX.sx.a.1",
        "_INBOX.s._a.1",
    ] {
        assert!(!wire(text).is_some_and(|subject| subject.is_shield_inbox()), "{text}");
    }
    assert_eq!(wire("_INBOX.s.shield-1.17").expect("a subject").slot_of(&shield), Some(17));
    for text in ["_INBOX.s.shield-1.+17", "_INBOX.s.shield-1.017", "_INBOX.s.shield-1.65536", "_INBOX.s.shield-10.1"] {
        assert_eq!(wire(text).expect("a subject").slot_of(&shield), None, "{text}");
    }
}

#[test]
fn what_nats_would_not_publish_to_is_no_subject() {
    for text in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nb", "*", ">", "a.*", "a.>", "a\u{7f}"] {
        assert!(wire(text).is_none(), "{text:?}");
    }
    assert!(wire(&"a".repeat(512)).is_some() && wire(&"a".repeat(513)).is_none());
    assert!(Subject::from_wire(Bytes::from_static(&[0xff])).is_err(), "not UTF-8");
    assert!(wire("$JS.API.STREAM.INFO.LOG_0").is_some() && wire("a*b.c>d").is_some(), "NATS takes these");
}

#[test]
fn wildcards_stand_for_whole_tokens_and_the_tail() {
    let pattern = |text: &str| Pattern::from_wire(Bytes::copy_from_slice(text.as_bytes()));
    for text in ["in.t.*.r.*", ">", "*", "sys.n.hb.>", "a.b"] {
        assert!(pattern(text).is_ok(), "{text}");
    }
    for text in ["a.>.b", ">.a", "a..>", "a.", ""] {
        assert!(pattern(text).is_err(), "{text}");
    }
    for pattern in [
        Pattern::all_input(),
        Pattern::all_opens(),
        Pattern::all_tenant_signals(),
        Pattern::all_heartbeats(),
        Pattern::exact(&Subject::presence(3)),
    ] {
        assert_eq!(Pattern::from_wire(pattern.as_bytes().clone()), Ok(pattern.clone()));
    }
}
