//! Bytes that no client of ours would send, each with the codes that it must meet. Whatever comes back is recorded, and the
//! oracle B1 holds the one to the other.

use arq::client::Frame;
use bytes::Bytes;
use prost::Message as _;
use proto::frame::{AUTH, HELLO, PUB, SUB};
use proto::{Code, MessageId, RoomId, v1};

use crate::seed::Draw;

/// One bad input.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    /// In the trace.
    pub(super) what: &'static str,
    pub(super) frame: Frame,
    /// Any of these is right.
    pub(super) codes: Vec<Code>,
    /// The answer names this command; `None`: it is an ERR.
    pub(super) m: Option<MessageId>,
}

/// Room names that would be more than a name in a subject, or another tenant's.
const HOSTILE_ROOMS: [&str; 16] = [
    "a.b",
    "*",
    ">",
    "a b",
    "a\tb",
    "a\0b",
    "a\u{7f}",
    "a\r\nPUB x 0",
    "a\r\nSUB > 1",
    "$JS.API.STREAM.DELETE.LOG_0",
    "room-1.t.t2.r.room-1",
    "t1/room-1",
    "../t1/room-1",
    "-room",
    ".",
    "é",
];
/// Ids of SUBs and gets that are sent here: none of the client's own comes so far.
pub(super) const ASKED_FROM: u64 = 1 << 52;

/// What goes into a bad envelope.
pub(super) struct Parts<'a> {
    pub(super) room: &'a RoomId,
    pub(super) now_ms: i64,
    pub(super) id: MessageId,
    /// A number that this client has given to no SUB and no get.
    pub(super) ask: u64,
    /// The most bytes that a message may have.
    pub(super) limit: usize,
}

/// Draws one.
pub(super) fn draw(draw: &mut Draw, parts: &Parts<'_>) -> Bad {
    match draw.below(9) {
        0 => frames(draw),
        1 => json(draw),
        2 | 3 => rooms(draw, parts),
        4 => oversize(parts),
        _ => envelopes(draw, parts),
    }
}

fn err(what: &'static str, frame: Frame, code: Code) -> Bad {
    Bad { what, frame, codes: vec![code], m: None }
}

fn binary(bytes: &[u8]) -> Frame {
    Frame::Binary(Bytes::copy_from_slice(bytes))
}

fn frames(draw: &mut Draw) -> Bad {
    let text = |opcode: u8, rest: &str| Frame::Text(format!("{}{rest}", char::from(opcode)));
    match draw.below(7) {
        0 => err("an empty message", binary(&[]), Code::EmptyMessage),
        1 => err("an unknown opcode", binary(&[0x77, 1, 2]), Code::UnknownOpcode),
        2 => err("an opcode of the server", binary(&[HELLO, b'{', b'}']), Code::UnknownOpcode),
        3 => err("a PUB as text", text(PUB, "x"), Code::WrongFrameKind),
        4 => err("the text dialect as binary", binary(b"{\"op\":\"sub\"}"), Code::WrongFrameKind),
        5 => err("the text dialect, which is off", Frame::Text("{\"op\":\"pub\"}".to_owned()), Code::TextDialectOff),
        _ => err("an empty text", Frame::Text(String::new()), Code::EmptyMessage),
    }
}

fn json(draw: &mut Draw) -> Bad {
    let frame = |opcode: u8, body: &[u8]| binary(&[&[opcode], body].concat());
    match draw.below(4) {
        0 => err("cut JSON", frame(SUB, br#"{"id":1,"room":"roo"#), Code::MalformedJson),
        1 => err("an unknown key", frame(SUB, br#"{"id":1,"room":"room-1","colour":3}"#), Code::UnknownKey),
        2 => err("bytes that are no text", frame(SUB, &[0xff, 0xfe]), Code::MalformedJson),
        _ => err("an AUTH without a token", frame(AUTH, b"[]"), Code::MalformedJson),
    }
}

fn envelope(parts: &Parts<'_>) -> v1::Envelope {
    v1::Envelope {
        room_id: parts.room.as_str().to_owned(),
        timestamp: parts.now_ms,
        message_id: Bytes::copy_from_slice(&parts.id.0),
        ack_requested: true,
        payload: Some(v1::envelope::Payload::Cmd(arq::client::say("text", "never to be seen"))),
        ..v1::Envelope::default()
    }
}

fn publish(bytes: &[u8]) -> Frame {
    Frame::Binary(proto::frame::publish(bytes))
}

/// Refused by an ACK, for the message id could be read; or for speed, if it came after too many.
fn ack(what: &'static str, bytes: &[u8], code: Code, parts: &Parts<'_>) -> Bad {
    Bad { what, frame: publish(bytes), codes: vec![code, Code::RateLimited], m: Some(parts.id) }
}

/// One that no room has: in a command, in a SUB, or in a read.
fn rooms(draw: &mut Draw, parts: &Parts<'_>) -> Bad {
    let room = match draw.below(HOSTILE_ROOMS.len() as u64 + 1) {
        0 => "x".repeat(RoomId::MAX + 1),
        n => HOSTILE_ROOMS[usize::try_from(n - 1).unwrap_or(0)].to_owned(),
    };
    let id = ASKED_FROM + parts.ask;
    let text = |body: String| Frame::Text(format!("{}{body}", char::from(SUB)));
    match draw.below(3) {
        0 => {
            let bad = v1::Envelope { room_id: room, ..envelope(parts) };
            ack("a hostile room name", &bad.encode_to_vec(), Code::BadRoomId, parts)
        }
        1 => {
            let body = serde_json::json!({ "id": id, "room": room, "history": 5 }).to_string();
            err("a SUB of a hostile room name", text(body), Code::BadRoomId)
        }
        _ => {
            let body = serde_json::json!({ "op": "get", "id": id, "room": room }).to_string();
            err("a get of a hostile room name", text(body), Code::BadRoomId)
        }
    }
}

/// The server may hang up before its last word arrives.
fn oversize(parts: &Parts<'_>) -> Bad {
    let data = vec![b'x'; parts.limit + 1];
    let payload = Some(v1::envelope::Payload::Cmd(arq::client::say("text", data)));
    let bad = v1::Envelope { payload, ..envelope(parts) };
    err("more bytes than a message may have", publish(&bad.encode_to_vec()), Code::MessageTooBig)
}

fn envelopes(draw: &mut Draw, parts: &Parts<'_>) -> Bad {
    let good = envelope(parts);
    let bytes = good.encode_to_vec();
    let with = |bad: v1::Envelope| bad.encode_to_vec();
    match draw.below(10) {
        0 => {
            // Cut within the payload, which comes last: its length then goes beyond the end.
            let cut = bytes.len() - 1 - usize::try_from(draw.below(8)).unwrap_or(0);
            Bad { codes: vec![Code::MalformedEnvelope], ..ack("a cut envelope", &bytes[..cut], Code::Busy, parts) }
        }
        1 => err("bytes that are no envelope", publish(&[0xff; 7]), Code::MalformedEnvelope),
        2 => {
            // ack_requested a second time, after the payload: descending.
            let twice = [&bytes[..], &[0x30, 0x01]].concat();
            ack("a field twice", &twice, Code::NonCanonicalEnvelope, parts)
        }
        3 => {
            let bad = v1::Envelope { message_id: Bytes::new(), ..good };
            err("no message id", publish(&with(bad)), Code::MissingField)
        }
        4 => {
            let payload = Some(v1::envelope::Payload::Event(v1::Event::default()));
            ack("an event", &with(v1::Envelope { payload, ..good }), Code::NotACommand, parts)
        }
        5 => {
            let payload = Some(v1::envelope::Payload::Signal(v1::SystemSignal::default()));
            ack("a signal", &with(v1::Envelope { payload, ..good }), Code::NotACommand, parts)
        }
        6 => {
            let sender = Some(v1::Sender { user: "root".to_owned(), rights: u32::MAX, ..v1::Sender::default() });
            ack("a sender of its own making", &with(v1::Envelope { sender, ..good }), Code::ReservedField, parts)
        }
        7 => {
            let bad = v1::Envelope { tenant_id: "t-of-another".to_owned(), ..good };
            ack("another tenant", &with(bad), Code::WrongTenant, parts)
        }
        8 => {
            let ago_ms = if draw.chance(50) { -600_000 } else { 600_000 };
            let bad = v1::Envelope { timestamp: parts.now_ms + ago_ms, ..good };
            ack("a time of another day", &with(bad), Code::TimestampOutOfWindow, parts)
        }
        _ => {
            let bad = v1::Envelope { signature: Bytes::from_static(&[7; 64]), ..good };
            ack("a signature without a key", &with(bad), Code::SignatureInvalid, parts)
        }
    }
}
