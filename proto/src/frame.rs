//! Frames: one WebSocket message each, its first byte the opcode.
//!
//! | opcode | name | travels as | body |
//! | --- | --- | --- | --- |
//! | 0x01 | PUB | binary, both ways | an encoded Envelope |
//! | 0x02 | SUB | text or binary, both ways | JSON, [`crate::json`] |
//! | 0x03 | UNSUB | text or binary, both ways | JSON |
//! | 0x04 | HELLO | text, from the server, first | JSON |
//! | 0x05 | AUTH | text or binary, both ways | JSON |
//! | 0x08 | HB | binary, both ways | empty |
//! | 0x09 | ACK | binary, from the server | an encoded Ack |
//! | 0x99 | ERR | binary, from the server | `u16` BE code, UTF-8 text of at most 512 bytes |
//!
//! A text message that begins with `{` is the text dialect: one JSON object with an `op`.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use serde::Serialize;

use crate::{Code, v1};

/// An Envelope, either way.
pub const PUB: u8 = 0x01;
/// Asks for a room's events, or answers; also `get` and `presence`.
pub const SUB: u8 = 0x02;
/// Leaves a room; from the server: left, or removed.
pub const UNSUB: u8 = 0x03;
/// The server's first word.
pub const HELLO: u8 = 0x04;
/// A new token, or its result.
pub const AUTH: u8 = 0x05;
/// A heartbeat for clients that cannot see WebSocket pings.
pub const HB: u8 = 0x08;
/// A command's outcome.
pub const ACK: u8 = 0x09;
/// A fault that belongs to no command.
pub const ERR: u8 = 0x99;

/// The longest text of an ERR, in bytes.
pub const ERR_TEXT_MAX: usize = 512;

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// An Envelope, not yet looked at: [`EnvelopeView::client`](crate::view::EnvelopeView::client).
    Pub(&'a [u8]),
    /// JSON: [`crate::json::sub_family`].
    Sub(&'a str),
    /// JSON: [`UnsubRequest`](crate::json::UnsubRequest).
    Unsub(&'a str),
    /// JSON: [`AuthRequest`](crate::json::AuthRequest).
    Auth(&'a str),
    /// Still there.
    Heartbeat,
    /// The text dialect: [`TextOp`](crate::json::TextOp).
    Text(&'a str),
}

/// What a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame<'a> {
    /// An Envelope with an event or a signal.
    Pub(&'a [u8]),
    /// JSON: [`SubResult`](crate::json::SubResult), [`GetResult`](crate::json::GetResult) …
    Sub(&'a str),
    /// JSON: [`Unsubbed`](crate::json::Unsubbed).
    Unsub(&'a str),
    /// JSON: [`Hello`](crate::json::Hello).
    Hello(&'a str),
    /// JSON: [`AuthResult`](crate::json::AuthResult).
    Auth(&'a str),
    /// Still there.
    Heartbeat,
    /// A command's outcome.
    Ack(v1::Ack),
    /// A fault that belongs to no command. The code may be newer than this build.
    Err(u16, &'a str),
    /// The text dialect: one JSON object with an `op`.
    Text(&'a str),
}

/// Why a message is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct FrameError {
    /// What to answer.
    pub code: Code,
    /// What is wrong, for people.
    pub detail: &'static str,
}

const fn refuse<T>(code: Code, detail: &'static str) -> Result<T, FrameError> {
    Err(FrameError { code, detail })
}

impl<'a> ClientFrame<'a> {
    /// A binary WebSocket message from a client.
    pub fn binary(message: &'a [u8]) -> Result<Self, FrameError> {
        let Some((opcode, body)) = message.split_first() else {
            return refuse(Code::EmptyMessage, "a binary message begins with an opcode");
        };
        match *opcode {
            PUB => Ok(Self::Pub(body)),
            SUB => json(body).map(Self::Sub),
            UNSUB => json(body).map(Self::Unsub),
            AUTH => json(body).map(Self::Auth),
            HB if body.is_empty() => Ok(Self::Heartbeat),
            HB => refuse(Code::WrongFrameKind, "a heartbeat is one byte"),
            HELLO | ACK | ERR => refuse(Code::UnknownOpcode, "only the server sends this"),
            b'{' => refuse(Code::WrongFrameKind, "the text dialect travels as text"),
            _ => refuse(Code::UnknownOpcode, "no such opcode"),
        }
    }

    /// A text WebSocket message from a client: an opcode below 0x80 and JSON, or the text dialect.
    pub fn text(message: &'a str) -> Result<Self, FrameError> {
        let Some(first) = message.bytes().next() else {
            return refuse(Code::EmptyMessage, "a text message begins with an opcode or {");
        };
        match first {
            b'{' => Ok(Self::Text(message)),
            SUB => Ok(Self::Sub(&message[1..])),
            UNSUB => Ok(Self::Unsub(&message[1..])),
            AUTH => Ok(Self::Auth(&message[1..])),
            PUB | HB => refuse(Code::WrongFrameKind, "this opcode travels as binary"),
            HELLO | ACK => refuse(Code::UnknownOpcode, "only the server sends this"),
            _ => refuse(Code::UnknownOpcode, "neither an opcode nor {"),
        }
    }
}

impl<'a> ServerFrame<'a> {
    /// A binary WebSocket message from a server.
    pub fn binary(message: &'a [u8]) -> Result<Self, FrameError> {
        let Some((opcode, body)) = message.split_first() else {
            return refuse(Code::EmptyMessage, "a binary message begins with an opcode");
        };
        match *opcode {
            PUB => Ok(Self::Pub(body)),
            SUB => json(body).map(Self::Sub),
            UNSUB => json(body).map(Self::Unsub),
            AUTH => json(body).map(Self::Auth),
            HB if body.is_empty() => Ok(Self::Heartbeat),
            HB => refuse(Code::WrongFrameKind, "a heartbeat is one byte"),
            ACK => match v1::Ack::decode(body) {
                Ok(ack) => Ok(Self::Ack(ack)),
                Err(_) => refuse(Code::MalformedEnvelope, "the body is no Ack"),
            },
            ERR => err_body(body),
            HELLO => refuse(Code::WrongFrameKind, "HELLO travels as text"),
            _ => refuse(Code::UnknownOpcode, "no such opcode"),
        }
    }

    /// A text WebSocket message from a server.
    pub fn text(message: &'a str) -> Result<Self, FrameError> {
        let Some(first) = message.bytes().next() else {
            return refuse(Code::EmptyMessage, "a text message begins with an opcode or {");
        };
        match first {
            b'{' => Ok(Self::Text(message)),
            SUB => Ok(Self::Sub(&message[1..])),
            UNSUB => Ok(Self::Unsub(&message[1..])),
            HELLO => Ok(Self::Hello(&message[1..])),
            AUTH => Ok(Self::Auth(&message[1..])),
            PUB | HB | ACK => refuse(Code::WrongFrameKind, "this opcode travels as binary"),
            _ => refuse(Code::UnknownOpcode, "neither an opcode nor {"),
        }
    }
}

fn json(body: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(body).or(refuse(Code::MalformedJson, "the body is not UTF-8"))
}

fn err_body(body: &[u8]) -> Result<ServerFrame<'_>, FrameError> {
    let Some((code, text)) = body.split_first_chunk::<2>() else {
        return refuse(Code::MalformedEnvelope, "an ERR without its code");
    };
    if text.len() > ERR_TEXT_MAX {
        return refuse(Code::MalformedEnvelope, "an ERR with more than 512 bytes of text");
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(ServerFrame::Err(u16::from_be_bytes(*code), text)),
        Err(_) => refuse(Code::MalformedEnvelope, "an ERR whose text is not UTF-8"),
    }
}

/// Writes PUB: the opcode and the slice, never re-encoded.
pub fn put_pub(out: &mut BytesMut, envelope: &[u8]) {
    out.reserve(1 + envelope.len());
    out.put_u8(PUB);
    out.put_slice(envelope);
}

/// PUB in a buffer of its own.
pub fn publish(envelope: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + envelope.len());
    put_pub(&mut out, envelope);
    out.freeze()
}

/// Writes ACK.
pub fn put_ack(out: &mut BytesMut, ack: &v1::Ack) {
    out.reserve(1 + ack.encoded_len());
    out.put_u8(ACK);
    ack.encode_raw(out);
}

/// ACK in a buffer of its own.
pub fn ack(ack: &v1::Ack) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + ack.encoded_len());
    put_ack(&mut out, ack);
    out.freeze()
}

/// Writes ERR; a text beyond [`ERR_TEXT_MAX`] is cut at a character's edge.
pub fn put_err(out: &mut BytesMut, code: Code, text: &str) {
    let text = &text[..text.floor_char_boundary(ERR_TEXT_MAX)];
    out.reserve(3 + text.len());
    out.put_u8(ERR);
    out.put_u16(code.as_u16());
    out.put_slice(text.as_bytes());
}

/// ERR in a buffer of its own.
pub fn err(code: Code, text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(3 + text.len().min(ERR_TEXT_MAX));
    put_err(&mut out, code, text);
    out.freeze()
}

/// A frame with a JSON body, for a text message: SUB, UNSUB, HELLO or AUTH (opcodes below 0x80).
pub fn text<T: Serialize>(opcode: u8, body: &T) -> String {
    debug_assert!(opcode < 0x80, "a text message is UTF-8");
    let mut out = String::from(char::from(opcode));
    out.push_str(&crate::json::to_string(body));
    out
}

/// The same frame for a binary message.
pub fn binary<T: Serialize>(opcode: u8, body: &T) -> Bytes {
    let mut out = vec![opcode];
    out.extend_from_slice(crate::json::to_string(body).as_bytes());
    out.into()
}
