//! Frames round-trip; what is no frame gets the code that says why.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use proto::frame::{self, ClientFrame, ERR_TEXT_MAX, ServerFrame};
use proto::{Code, error::REGISTRY, v1};

#[test]
fn each_opcode_a_client_may_send() {
    assert_eq!(ClientFrame::binary(&[frame::PUB, 1, 2]), Ok(ClientFrame::Pub(&[1, 2])));
    assert_eq!(ClientFrame::binary(b"\x02{}"), Ok(ClientFrame::Sub("{}")));
    assert_eq!(ClientFrame::binary(b"\x03{}"), Ok(ClientFrame::Unsub("{}")));
    assert_eq!(ClientFrame::binary(b"\x05{}"), Ok(ClientFrame::Auth("{}")));
    assert_eq!(ClientFrame::binary(&[frame::HB]), Ok(ClientFrame::Heartbeat));
    assert_eq!(ClientFrame::text("\x02{}"), Ok(ClientFrame::Sub("{}")));
    assert_eq!(ClientFrame::text("\x03{}"), Ok(ClientFrame::Unsub("{}")));
    assert_eq!(ClientFrame::text("\x05{}"), Ok(ClientFrame::Auth("{}")));
    assert_eq!(ClientFrame::text("{\"op\":1}"), Ok(ClientFrame::Text("{\"op\":1}")));
}

#[test]
fn every_other_byte_is_refused_with_its_reason() {
    let code = |bytes: &[u8]| ClientFrame::binary(bytes).map(drop).map_err(|error| error.code);
    assert_eq!(code(&[]), Err(Code::EmptyMessage));
    assert_eq!(ClientFrame::text("").map_err(|error| error.code), Err(Code::EmptyMessage));
    for opcode in 0..=u8::MAX {
        let expected = match opcode {
            frame::PUB | frame::SUB | frame::UNSUB | frame::AUTH | frame::HB => continue,
            b'{' => Code::WrongFrameKind,
            _ => Code::UnknownOpcode,
        };
        assert_eq!(code(&[opcode]), Err(expected), "{opcode:#04x}");
        if opcode < 0x80 && opcode != b'{' {
            let text = String::from(char::from(opcode));
            assert_eq!(ClientFrame::text(&text).map_err(|error| error.code), Err(Code::UnknownOpcode), "{opcode:#04x}");
        }
    }
    assert_eq!(code(&[frame::HB, 0]), Err(Code::WrongFrameKind));
    assert_eq!(code(&[frame::SUB, 0xff]), Err(Code::MalformedJson));
    assert_eq!(ClientFrame::text("\x01").map_err(|error| error.code), Err(Code::WrongFrameKind));
    assert_eq!(ClientFrame::text("\x08").map_err(|error| error.code), Err(Code::WrongFrameKind));
    assert_eq!(ClientFrame::text("é").map_err(|error| error.code), Err(Code::UnknownOpcode));
}

#[test]
fn an_err_is_cut_at_a_characters_edge() {
    for text in ["é".repeat(300), "x".repeat(ERR_TEXT_MAX + 1), "😀".repeat(200), String::new()] {
        let bytes = frame::err(Code::Stale, &text);
        let Ok(ServerFrame::Err(code, cut)) = ServerFrame::binary(&bytes) else { panic!("an ERR") };
        assert_eq!(code, Code::Stale.as_u16());
        assert!(cut.len() <= ERR_TEXT_MAX && text.starts_with(cut));
        assert!(cut.len() > ERR_TEXT_MAX - 4 || cut.len() == text.len(), "no more than needed is cut");
    }
    assert_eq!(&frame::err(Code::EmptyMessage, "é")[..], b"\x99\x03\xe9\xc3\xa9", "u16 big-endian, then UTF-8");
}

#[test]
fn a_server_frame_that_is_none() {
    let code = |bytes: &[u8]| ServerFrame::binary(bytes).map(drop).map_err(|error| error.code);
    assert_eq!(code(&[]), Err(Code::EmptyMessage));
    assert_eq!(code(&[frame::ERR, 3]), Err(Code::MalformedEnvelope));
    assert_eq!(code(&[frame::ERR, 3, 0xe9, 0xff]), Err(Code::MalformedEnvelope));
    assert_eq!(code(&[&[frame::ERR, 3, 0xe9][..], &[b'x'; 513]].concat()), Err(Code::MalformedEnvelope));
    assert_eq!(code(&[frame::ACK, 0xff]), Err(Code::MalformedEnvelope));
    assert_eq!(code(&[frame::HELLO, b'{', b'}']), Err(Code::WrongFrameKind));
    assert_eq!(code(&[frame::HB, 1]), Err(Code::WrongFrameKind));
    assert_eq!(code(&[0x42]), Err(Code::UnknownOpcode));
    for text in ["\x01", "\x08", "\x09"] {
        assert_eq!(ServerFrame::text(text).map_err(|error| error.code), Err(Code::WrongFrameKind));
    }
}

#[test]
fn json_frames_come_back_from_both_kinds_of_message() {
    let body = serde_json::json!({ "id": 7 });
    let text = frame::text(frame::SUB, &body);
    assert_eq!(ServerFrame::text(&text), Ok(ServerFrame::Sub("{\"id\":7}")));
    assert_eq!(ServerFrame::binary(&frame::binary(frame::SUB, &body)), Ok(ServerFrame::Sub("{\"id\":7}")));
    assert_eq!(ServerFrame::text(&frame::text(frame::UNSUB, &body)), Ok(ServerFrame::Unsub("{\"id\":7}")));
    assert_eq!(ServerFrame::text(&frame::text(frame::HELLO, &body)), Ok(ServerFrame::Hello("{\"id\":7}")));
    assert_eq!(ServerFrame::text(&frame::text(frame::AUTH, &body)), Ok(ServerFrame::Auth("{\"id\":7}")));
}

proptest! {
    #[test]
    fn frames_round_trip(
        envelope in crate::strategies::encoded(), text in ".{0,100}", row in 0..REGISTRY.len(),
        id in any::<[u8; 16]>(), (code, epoch, seq, retry, duplicate, ver) in any::<(u32, u64, u64, u32, bool, u64)>(),
    ) {
        let publish = frame::publish(&envelope);
        prop_assert_eq!(ClientFrame::binary(&publish), Ok(ClientFrame::Pub(&envelope)));
        prop_assert_eq!(ServerFrame::binary(&publish), Ok(ServerFrame::Pub(&envelope)));
        let err = frame::err(REGISTRY[row].code, &text);
        prop_assert_eq!(ServerFrame::binary(&err), Ok(ServerFrame::Err(REGISTRY[row].code.as_u16(), &text)));
        let ack = v1::Ack {
            message_id: Bytes::copy_from_slice(&id), code, epoch, seq, message: text, retry_after_ms: retry, duplicate, ver
        };
        let bytes = frame::ack(&ack);
        prop_assert_eq!(&bytes[1..], &ack.encode_to_vec()[..], "the body is the Ack as any encoder writes it");
        prop_assert_eq!(ServerFrame::binary(&bytes), Ok(ServerFrame::Ack(ack)));
    }
}
