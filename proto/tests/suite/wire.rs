//! Protobuf's wire format by hand, so that tests can write what no encoder would.

/// A varint in as few bytes as it takes.
pub(crate) fn varint(n: u64) -> Vec<u8> {
    wide_varint(n, 0)
}

/// A varint with `extra` bytes more than it takes: every decoder reads it, the canonical rule refuses it.
pub(crate) fn wide_varint(mut n: u64, extra: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    for _ in 0..extra {
        *out.last_mut().unwrap() |= 0x80;
        out.push(0);
    }
    out
}

pub(crate) fn tag(number: u32, wire: u32) -> Vec<u8> {
    varint(u64::from(number) << 3 | u64::from(wire))
}

/// Writes fields in whatever order and shape the test asks for.
#[derive(Clone, Default)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

impl Wire {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub(crate) fn number(self, field: u32, n: u64) -> Self {
        self.raw(&tag(field, 0)).raw(&varint(n))
    }
    pub(crate) fn fixed64(self, field: u32, n: u64) -> Self {
        self.raw(&tag(field, 1)).raw(&n.to_le_bytes())
    }
    pub(crate) fn fixed32(self, field: u32, n: u32) -> Self {
        self.raw(&tag(field, 5)).raw(&n.to_le_bytes())
    }
    pub(crate) fn bytes(self, field: u32, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.raw(&tag(field, 2)).raw(&varint(bytes.len() as u64)).raw(bytes)
    }
    pub(crate) fn message(self, field: u32, inner: Wire) -> Self {
        self.bytes(field, inner.0)
    }
}

/// One field as it lies on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) number: u32,
    pub(crate) wire: u32,
    /// Tag, length and value.
    pub(crate) bytes: Vec<u8>,
    /// The value alone: what follows tag and length.
    pub(crate) value: Vec<u8>,
}

/// The fields of a well-formed message, in the order of the wire. Panics on anything else: tests only split what an
/// encoder wrote.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<Raw> {
    fn take_varint(bytes: &mut &[u8]) -> u64 {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        n
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let key = take_varint(&mut bytes) as u32;
        let value = match key & 7 {
            0 => {
                let value = bytes;
                take_varint(&mut bytes);
                &value[..value.len() - bytes.len()]
            }
            1 => bytes.split_off(..8).unwrap(),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                bytes.split_off(..length).unwrap()
            }
            other => panic!("wire type {other}: no encoder of this schema writes it"),
        };
        let bytes = start[..start.len() - bytes.len()].to_vec();
        fields.push(Raw { number: key >> 3, wire: key & 7, bytes, value: value.to_vec() });
    }
    fields
}

/// The fields one after another.
pub(crate) fn join(fields: &[Raw]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.bytes.iter().copied()).collect()
}
