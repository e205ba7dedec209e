//! Appends the verified sender to an accepted envelope: the Shield's one addition to a client's bytes.
//!
//! Field 1000 lies above every field that a client may send, so the order stays ascending and the result is canonical
//! again: `decode(B ‖ sender) = decode(B)` and exactly this sender.

use bytes::{BufMut as _, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::Rights;
use crate::view::SENDER;

/// A [`Sender`](crate::v1::Sender) by reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderRef<'a> {
    /// The verified user.
    pub user: &'a str,
    /// The connection.
    pub conn: &'a str,
    /// 16 bytes, or empty.
    pub client: &'a [u8],
    /// What the token grants in this room.
    pub rights: Rights,
    /// First 8 bytes of the policy's sha256, or empty.
    pub policy: &'a [u8],
    /// 32 bytes, or empty: unsigned.
    pub public_key: &'a [u8],
    /// The policy that changed the payload, or empty.
    pub redacted_by: &'a [u8],
    /// The Shield's wall clock, ms since 1970.
    pub received_at: i64,
    /// The token's public profile, or empty.
    pub meta: &'a [u8],
}

impl SenderRef<'_> {
    fn texts(&self) -> [(u8, &[u8]); 3] {
        [(1, self.user.as_bytes()), (2, self.conn.as_bytes()), (3, self.client)]
    }

    fn keys(&self) -> [(u8, &[u8]); 3] {
        [(5, self.policy), (6, self.public_key), (7, self.redacted_by)]
    }

    /// Length of the encoded message, in bytes, without its tag and length.
    fn body_len(&self) -> usize {
        let bytes = |slice: &[u8]| match slice.len() {
            0 => 0,
            n => 1 + encoded_len_varint(n as u64) + n,
        };
        let number = |n: u64| if n == 0 { 0 } else { 1 + encoded_len_varint(n) };
        self.texts().iter().map(|(_, slice)| bytes(slice)).sum::<usize>()
            + number(u64::from(self.rights.0))
            + self.keys().iter().map(|(_, slice)| bytes(slice)).sum::<usize>()
            + number(self.received_at.cast_unsigned())
            + bytes(self.meta)
    }

    /// How many bytes [`append`] adds.
    pub fn encoded_len(&self) -> usize {
        let body = self.body_len();
        TAG.len() + encoded_len_varint(body as u64) + body
    }
}

/// Tag of field 1000, wire type 2.
const TAG: [u8; 2] = [((SENDER << 3 | 2) & 0x7f | 0x80) as u8, ((SENDER << 3 | 2) >> 7) as u8];

/// Writes `sender` as field 1000 to the end of `envelope`, which must be one that
/// [`EnvelopeView::client`](crate::view::EnvelopeView::client) accepted (or a signal of our own). Allocates only if
/// the buffer lacks [`SenderRef::encoded_len`] spare bytes.
pub fn append(envelope: &mut BytesMut, sender: &SenderRef<'_>) {
    let body = sender.body_len();
    envelope.reserve(TAG.len() + encoded_len_varint(body as u64) + body);
    envelope.put_slice(&TAG);
    encode_varint(body as u64, envelope);
    for (field, slice) in sender.texts() {
        put_bytes(envelope, field, slice);
    }
    put_number(envelope, 4, u64::from(sender.rights.0));
    for (field, slice) in sender.keys() {
        put_bytes(envelope, field, slice);
    }
    put_number(envelope, 8, sender.received_at.cast_unsigned());
    put_bytes(envelope, 9, sender.meta);
}

fn put_bytes(out: &mut BytesMut, field: u8, slice: &[u8]) {
    if !slice.is_empty() {
        out.put_u8(field << 3 | 2);
        encode_varint(slice.len() as u64, out);
        out.put_slice(slice);
    }
}

fn put_number(out: &mut BytesMut, field: u8, n: u64) {
    if n != 0 {
        out.put_u8(field << 3);
        encode_varint(n, out);
    }
}
