//! Writes an accepted envelope again with another command and no signature. Every other field, unknown ones included,
//! keeps its bytes and its place.

use bytes::{BufMut as _, BytesMut};
use proto::view::CMD;

const SIGNATURE: u32 = 10;

/// `envelope` must be one that `EnvelopeView::client` accepted; then no length below can be wrong, and one that is ends
/// the copy.
pub(super) fn rebuild(envelope: &[u8], command: &[u8], out: &mut BytesMut) {
    let mut rest = envelope;
    while let Some((field, len)) = next(rest) {
        match field {
            SIGNATURE => {}
            CMD => {
                out.put_slice(&[0xa2, 0x01]); // field 20, wire type 2
                prost::encoding::encode_varint(command.len() as u64, out);
                out.put_slice(command);
            }
            _ => out.put_slice(&rest[..len]),
        }
        rest = &rest[len..];
    }
}

/// Number and whole length of the first field.
fn next(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut rest = bytes;
    let tag = varint(&mut rest)?;
    let body = match tag & 7 {
        0 => {
            varint(&mut rest)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(&mut rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let len = (bytes.len() - rest.len()).checked_add(body)?;
    (len <= bytes.len()).then_some((u32::try_from(tag >> 3).ok()?, len))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    if rest.is_empty() { None } else { prost::encoding::decode_varint(rest).ok() }
}
