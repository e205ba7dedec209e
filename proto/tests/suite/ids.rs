//! Identifiers: parsing is the only way in, and nothing that gets in can break a subject.

use bytes::Bytes;
use proptest::prelude::*;
use proto::{MessageId, NodeId, Pattern, RoomId, RoomKey, Subject, TenantId, UserId};

use crate::strategies;

const HOSTILE: &[&str] = &[
    "",
    ".",
    "a.b",
    "*",
    ">",
    "a*",
    "a>",
    " ",
    "a b",
    "a\r\nPUB x 0",
    "a\0",
    "a\u{7f}",
    "$JS",
    "$JS.API",
    "_INBOX",
    "-a",
    "_a",
    "é",
    "ａ",
    "a\u{200b}",
    "a/b",
    "a:b",
    "a\t",
    "..",
    "a..b",
    "\u{202e}a",
    "%2e",
];

#[test]
fn hostile_texts_are_no_ids() {
    for text in HOSTILE {
        assert!(TenantId::parse(text).is_err(), "{text:?}");
        assert!(RoomId::parse(text).is_err(), "{text:?}");
        assert!(UserId::parse(text).is_err(), "{text:?}");
        assert!(NodeId::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn lengths_end_where_they_say() {
    let text = "a".repeat(129);
    assert!(TenantId::parse(&text[..64]).is_ok() && TenantId::parse(&text[..65]).is_err());
    assert!(NodeId::parse(&text[..64]).is_ok() && NodeId::parse(&text[..65]).is_err());
    assert!(RoomId::parse(&text[..128]).is_ok() && RoomId::parse(&text).is_err());
    assert!(UserId::parse(&text[..128]).is_ok() && UserId::parse(&text).is_err());
    assert_eq!(
        RoomId::parse("a.b").expect_err("refused").to_string(),
        "a room id must be [A-Za-z0-9][A-Za-z0-9_-]{0,127}"
    );
}

#[test]
fn a_message_id_is_16_bytes() {
    assert!(MessageId::from_slice(&[0; 15]).is_none() && MessageId::from_slice(&[0; 17]).is_none());
    assert_eq!(MessageId::from_slice(&[0xab; 16]).expect("16").to_string(), "ab".repeat(16));
}

proptest! {
    #[test]
    fn an_id_is_what_the_expression_says(text in ".{0,130}") {
        let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        prop_assert_eq!(RoomId::parse(&text).is_ok(), head && rest && text.len() <= 128);
    }

    #[test]
    fn no_accepted_id_breaks_a_subject(
        tenant in strategies::tenant_id(), room in strategies::room_id(), node in strategies::node_id(),
        (slot, n, p) in any::<(u16, u64, u8)>()
    ) {
        let key = RoomKey::new(tenant.parse().expect("made so"), room.parse().expect("made so"));
        let node: NodeId = node.parse().expect("made so");
        let user: UserId = room.parse().expect("made so");
        for subject in [Subject::input(&key), Subject::output(&key), Subject::log(&key), Subject::snapshot(&key)] {
            prop_assert_eq!(Subject::from_wire(subject.as_bytes().clone()), Ok(subject.clone()));
            prop_assert_eq!(subject.room(), Some(key.clone()));
            prop_assert!(!subject.is_shield_inbox());
        }
        for subject in [
            Subject::open(&key.tenant), Subject::open_at(&node), Subject::heartbeat_shield(&node),
            Subject::heartbeat_brain(&node), Subject::presence(p), Subject::ban(&key.tenant, &user),
            Subject::inbox_brain(&node, n), Subject::inbox_writer(&node, n), Subject::generation(u32::from(p)),
        ] {
            prop_assert_eq!(Subject::from_wire(subject.as_bytes().clone()), Ok(subject.clone()));
            prop_assert_eq!(subject.room(), None);
            prop_assert!(!subject.is_shield_inbox());
        }
        let reply = Subject::reply_slot(&node, slot);
        prop_assert_eq!(Subject::from_wire(reply.as_bytes().clone()), Ok(reply.clone()));
        prop_assert_eq!(reply.slot_of(&node), Some(slot));
        prop_assert!(reply.is_shield_inbox());
        for pattern in [
            Pattern::to_brain(&node), Pattern::reply_slots(&node), Pattern::inboxes_brain(&node),
            Pattern::bans(&key.tenant),
        ] {
            prop_assert!(Subject::from_wire(pattern.as_bytes().clone()).is_err(), "a wildcard is no subject");
            prop_assert_eq!(Pattern::from_wire(pattern.as_bytes().clone()), Ok(pattern.clone()));
        }
    }

    #[test]
    fn any_bytes_as_a_subject(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let bytes = Bytes::from(bytes);
        if let Ok(subject) = Subject::from_wire(bytes.clone()) {
            prop_assert!(Pattern::from_wire(bytes).is_ok());
            let _ = (subject.room(), subject.is_shield_inbox(), subject.slot_of(&"n".parse().expect("an id")));
        }
    }
}
