//! Builds what a client publishes: a canonical `Envelope`, signed if there is a key.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use proto::signature::{SigningKey, Transcript};
use proto::{MessageId, RoomId, v1};

/// The field of `Envelope` that holds a command.
const CMD: u32 = 20;

/// What goes around a command.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) room: &'a RoomId,
    pub(crate) message_id: MessageId,
    pub(crate) timestamp: i64,
    pub(crate) ack: bool,
    pub(crate) trace_id: &'a str,
    pub(crate) command: &'a v1::Command,
}

/// The whole PUB frame: opcode and envelope. prost writes each field once, ascending and minimal, so it is canonical.
/// The tenant is left out (the token names it) unless the envelope is signed; then both sides name the same one.
pub(crate) fn frame(parts: &Parts<'_>, signer: Option<(&SigningKey, &str)>) -> Bytes {
    let payload = parts.command.encode_to_vec();
    let signature = signer.map_or_else(Bytes::new, |(key, tenant)| {
        let transcript = Transcript {
            tenant,
            room: parts.room.as_str(),
            message_id: &parts.message_id.0,
            timestamp: parts.timestamp,
            field: CMD,
            payload: &payload,
        };
        Bytes::copy_from_slice(&transcript.sign(key).expect("ids are at most 128 bytes and the field is 20"))
    });
    let envelope = v1::Envelope {
        trace_id: parts.trace_id.to_owned(),
        tenant_id: String::new(),
        room_id: parts.room.as_str().to_owned(),
        timestamp: parts.timestamp,
        message_id: Bytes::copy_from_slice(&parts.message_id.0),
        ack_requested: parts.ack,
        signature,
        payload: Some(v1::envelope::Payload::Cmd(parts.command.clone())),
        sender: None,
    };
    let mut out = BytesMut::with_capacity(1 + envelope.encoded_len());
    out.put_u8(proto::frame::PUB);
    envelope.encode(&mut out).expect("a BytesMut grows");
    out.freeze()
}
