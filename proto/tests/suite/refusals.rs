//! What a refusal tells: the code, the field, the place, and whom to answer.

use proto::view::{EnvelopeView, SENDER, ViewError};
use proto::{Code, MessageId};

use crate::wire::Wire;

fn head() -> Wire {
    Wire::new().bytes(3, "lobby").number(4, 1).bytes(5, [5; 16])
}

fn refusal(wire: &Wire) -> ViewError {
    EnvelopeView::client(&wire.0).expect_err("refused")
}

#[test]
fn a_refusal_carries_the_message_id_once_it_was_read() {
    let id = MessageId::from_slice(&[5; 16]);
    assert_eq!(refusal(&head()).message_id, id, "no payload");
    assert_eq!(refusal(&head().message(20, Wire::new().number(1, 2))).message_id, id);
    assert_eq!(refusal(&head().bytes(20, "").bytes(SENDER, "")).message_id, id);
    assert_eq!(refusal(&Wire::new().number(4, 1).bytes(3, "lobby").bytes(5, [5; 16])).message_id, None, "not reached");
    assert_eq!(refusal(&Wire::new().bytes(3, "lobby").number(4, 1).bytes(5, [5; 15])).message_id, None, "no id");
}

#[test]
fn a_refusal_points_at_the_byte() {
    let start = head().0.len();
    let error = refusal(&head().number(6, 2));
    assert_eq!((error.field, error.at), (6, start + 1), "the value behind its tag");
    let error = refusal(&head().number(7, 1));
    assert_eq!((error.field, error.at), (7, start), "the tag");
    let inner = Wire::new().message(10, Wire::new().bytes(1, "ab").bytes(1, "c"));
    let error = refusal(&head().message(20, inner));
    assert_eq!((error.code, error.field, error.detail), (Code::NonCanonicalEnvelope, 1, "a field twice"));
    // Two bytes each for the tag and length of cmd (20 needs two for its tag) and say, then the first field.
    assert_eq!(error.at, start + 3 + 2 + 4);
    let error = refusal(&head().message(20, Wire::new().raw(&[0x52, 9, 1])));
    assert_eq!((error.code, error.at), (Code::MalformedEnvelope, start + 3 + 2));
    assert_eq!(error.to_string(), format!("1004 malformed_envelope: cut short, field 10, byte {}", start + 5));
}

#[test]
fn the_details_name_what_is_missing() {
    let bare = Wire::new();
    assert_eq!(refusal(&bare).detail, "no payload");
    assert_eq!(refusal(&bare.bytes(20, "")).detail, "room_id is missing");
    assert_eq!(refusal(&Wire::new().bytes(3, "r").bytes(20, "")).detail, "timestamp is missing");
    assert_eq!(refusal(&Wire::new().bytes(3, "r").number(4, 1).bytes(20, "")).detail, "message_id is not 16 bytes");
    let error = EnvelopeView::forwarded(&head().0).expect_err("refused");
    assert_eq!((error.code, error.field), (Code::MissingField, 20));
}
