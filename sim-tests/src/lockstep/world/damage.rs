//! Bytes that no honest sender writes.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::sender::SenderRef;
use proto::v1;

use super::requests::message_id;
use crate::lockstep::ops::Damage;

/// A length-delimited field at the end.
pub(super) fn put_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// These bytes, damaged.
pub(super) fn damage(body: &Bytes, how: Damage) -> Bytes {
    let mut bytes = body.to_vec();
    let place = |at: u16| if body.is_empty() { 0 } else { usize::from(at) % body.len() };
    match how {
        Damage::None => {}
        Damage::Cut(at) => bytes.truncate(place(at)),
        Damage::Flip { at, mask } => {
            if let Some(byte) = bytes.get_mut(place(at)) {
                *byte ^= mask;
            }
        }
        Damage::Insert { at, byte } => bytes.insert(place(at), byte),
        Damage::Double => bytes.extend_from_slice(body),
        Damage::Field(number) => put_field(&mut bytes, number.into(), b"extra"),
        Damage::Many(count) => {
            for n in 0..u32::from(count) {
                put_field(&mut bytes, 400 + n, b"");
            }
        }
        Damage::Fault(n) => return fault(n),
    }
    bytes.into()
}

/// A whole envelope with one thing wrong in it.
fn fault(n: u8) -> Bytes {
    let mut envelope = v1::Envelope {
        room_id: "lobby".into(),
        timestamp: super::START_MS,
        message_id: message_id(7).to_vec().into(),
        payload: Some(v1::envelope::Payload::Cmd(v1::Command::default())),
        ..v1::Envelope::default()
    };
    let (mut user, mut signed) = ("ann", true);
    match n {
        0 => signed = false,
        1 => user = "",
        2 => user = "not a user",
        3 => envelope.payload = Some(v1::envelope::Payload::Event(v1::Event::default())),
        4 => envelope.payload = None,
        5 => envelope.room_id = String::new(),
        6 => envelope.timestamp = 0,
        7 => envelope.message_id = vec![1; 15].into(),
        8 => envelope.signature = vec![1; 63].into(),
        _ => envelope.trace_id = "00-short".into(),
    }
    let mut bytes = BytesMut::from(envelope.encode_to_vec().as_slice());
    if signed {
        proto::sender::append(&mut bytes, &SenderRef { user, conn: "c1", ..SenderRef::default() });
    }
    bytes.freeze()
}
