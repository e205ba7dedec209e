//! The canonical rule: the one encoding that every decoder reads alike.
//!
//! proto3 allows a field twice (the last one wins), any order, wide varints; three decoders could then disagree about
//! what a message says, and a policy would judge another message than the room applies. So the Shield takes, and the
//! Brain applies, only bytes for which all of this holds, in the envelope and in every known message within it:
//!
//! * consumed exactly; every length within the rest; numbers 1 ..= 2^29−1;
//! * tags and varints minimal, no groups, the wire type as the schema says;
//! * fields ascending, a non-repeated one at most once, at most one member of a oneof;
//! * strings UTF-8, bool 0 or 1, `uint32` within 32 bits, enums within 0 ..= 2^31−1;
//! * fields that the schema does not know only with numbers 32 ..= 999 (they may repeat), at most [`UNKNOWN_MAX`] in
//!   the whole envelope; what they hold is length-checked and carried untouched.
//!
//! A field written out with its default value is canonical: all decoders agree on it.
//!
//! [`Reader`] applies the rule to one message while it is read; [`check`] descends. Nothing here allocates, and the
//! depth is bounded by the schema ([`table::DEPTH_MAX`]), which does not refer to itself.

use crate::Code;

/// Field tables, one static a message of `envelope.proto`, generated from the descriptor set.
pub mod table {
    use super::{Field, Kind, Message};
    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}

/// How many unknown fields one envelope may carry, over all its levels.
pub const UNKNOWN_MAX: u32 = 64;
const UNKNOWN_FIRST: u32 = 32;
const UNKNOWN_LAST: u32 = 999;

/// A message of the schema.
#[derive(Debug)]
pub struct Message {
    /// Its name, without the package.
    pub name: &'static str,
    /// Its fields, ascending by number.
    pub fields: &'static [Field],
}

/// A field of the schema.
#[derive(Debug)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// True if it may occur more than once.
    pub repeated: bool,
    /// 0, or 1 + the index of the oneof it is a member of.
    pub oneof: u8,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// 0 or 1.
    Bool,
    /// A varint within 32 bits.
    Uint32,
    /// A varint within 0 ..= 2^31−1.
    Enum,
    /// A varint within 64 bits, signed or not.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// Any bytes.
    Bytes,
    /// UTF-8.
    String,
    /// A message of the schema.
    Message(&'static Message),
}

/// Where and how bytes break the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (field {field}, byte {at})")]
pub struct Fault {
    /// [`Code::MalformedEnvelope`] where every decoder refuses, [`Code::NonCanonicalEnvelope`] where some would read on.
    pub code: Code,
    /// What is wrong, for people.
    pub detail: &'static str,
    /// The field number, 0 where none was read.
    pub field: u32,
    /// Offset of the fault from the start of the outermost message, in bytes.
    pub at: usize,
}

/// A field's value, borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 5, in unknown fields only.
    Fixed32(u32),
    /// Wire type 2. Checked UTF-8 if the field is a string; a message is *not* yet checked.
    Bytes(&'a [u8]),
}

/// One field as read.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its number.
    pub number: u32,
    /// Its row in the schema; `None` for an unknown field within the allowed range.
    pub field: Option<&'static Field>,
    /// What it holds.
    pub value: Value<'a>,
    /// Offset of the value's first byte from the start of the outermost message.
    pub at: usize,
}

/// How many unknown fields may still come. One budget serves an envelope and all messages within it.
#[derive(Clone, Copy, Debug)]
pub struct Budget(u32);

impl Default for Budget {
    fn default() -> Self {
        Self(UNKNOWN_MAX)
    }
}

/// Checks `bytes` as a `message`, and every known message within.
pub fn check(message: &'static Message, bytes: &[u8]) -> Result<(), Fault> {
    check_within(message, bytes, 0, &mut Budget::default())
}

/// [`check`] for a message that lies `base` bytes into a larger one, with what is left of that one's budget.
pub fn check_within(message: &'static Message, bytes: &[u8], base: usize, budget: &mut Budget) -> Result<(), Fault> {
    let mut reader = Reader::new(message, bytes, base);
    while let Some(item) = reader.next(budget)? {
        if let (Some(Field { kind: Kind::Message(inner), .. }), Value::Bytes(slice)) = (item.field, item.value) {
            check_within(inner, slice, item.at, budget)?;
        }
    }
    Ok(())
}

/// Reads the fields of one message and applies the rule to that level.
#[derive(Debug)]
pub struct Reader<'a> {
    fields: &'static [Field],
    bytes: &'a [u8],
    /// Of the next byte, in `bytes`.
    at: usize,
    /// Of `bytes[0]`, in the outermost message.
    base: usize,
    /// The last field number.
    last: u32,
    /// Row of the schema to look at next; rows and input both ascend.
    row: usize,
    /// A bit for each oneof that has a member already.
    oneofs: u8,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as a `message` that begins `base` bytes into the outermost one.
    pub const fn new(message: &'static Message, bytes: &'a [u8], base: usize) -> Self {
        Self { fields: message.fields, bytes, at: 0, base, last: 0, row: 0, oneofs: 0 }
    }

    /// The next field; `None` at the exact end.
    pub fn next(&mut self, budget: &mut Budget) -> Result<Option<Item<'a>>, Fault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint(0)?;
        let tag = u32::try_from(tag).map_err(|_| self.malformed("a tag beyond 32 bits", 0, start))?;
        let (number, wire) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(self.malformed("field number 0", 0, start));
        }
        if number < self.last {
            return Err(self.non_canonical("fields are not ascending", number, start));
        }
        while self.fields.get(self.row).is_some_and(|row| row.number < number) {
            self.row += 1;
        }
        let field = self.fields.get(self.row).filter(|row| row.number == number);
        let again = number == self.last;
        self.last = number;
        match field {
            Some(field) => self.known(field, again, start)?,
            None => self.unknown(number, budget, start)?,
        }
        let at = self.at;
        let value = self.value(number, wire, start)?;
        let at = match value {
            Value::Bytes(slice) => self.at - slice.len(),
            _ => at,
        };
        if let Some(field) = field {
            self.fits(field, value, at)?;
        }
        Ok(Some(Item { number, field, value, at: self.base + at }))
    }

    /// Cardinality of a field of the schema: once, and one of its oneof.
    fn known(&mut self, field: &'static Field, again: bool, start: usize) -> Result<(), Fault> {
        if again && !field.repeated {
            return Err(self.non_canonical("a field twice", field.number, start));
        }
        if field.oneof != 0 {
            let bit = 1 << field.oneof;
            if self.oneofs & bit != 0 {
                return Err(self.non_canonical("two members of a oneof", field.number, start));
            }
            self.oneofs |= bit;
        }
        Ok(())
    }

    fn unknown(&self, number: u32, budget: &mut Budget, start: usize) -> Result<(), Fault> {
        if !(UNKNOWN_FIRST..=UNKNOWN_LAST).contains(&number) {
            return Err(self.non_canonical("an unknown field outside 32..=999", number, start));
        }
        match budget.0.checked_sub(1) {
            Some(rest) => budget.0 = rest,
            None => return Err(self.non_canonical("more than 64 unknown fields", number, start)),
        }
        Ok(())
    }

    fn value(&mut self, number: u32, wire: u32, start: usize) -> Result<Value<'a>, Fault> {
        match wire {
            0 => Ok(Value::Varint(self.varint(number)?)),
            1 => {
                let bytes = self.take(8, number)?;
                Ok(Value::Fixed64(u64::from_le_bytes(bytes.try_into().expect("took 8 bytes"))))
            }
            2 => {
                let length = self.varint(number)?;
                Ok(Value::Bytes(self.take(length, number)?))
            }
            5 => {
                let bytes = self.take(4, number)?;
                Ok(Value::Fixed32(u32::from_le_bytes(bytes.try_into().expect("took 4 bytes"))))
            }
            3 => Err(self.non_canonical("a group", number, start)),
            _ => Err(self.malformed("an unknown wire type", number, start)),
        }
    }

    /// The value is what the schema says.
    fn fits(&self, field: &'static Field, value: Value<'a>, at: usize) -> Result<(), Fault> {
        let ok = match (field.kind, value) {
            (Kind::Varint, Value::Varint(_)) | (Kind::Fixed64, Value::Fixed64(_)) => true,
            (Kind::Bytes | Kind::Message(_), Value::Bytes(_)) => true,
            (Kind::Bool, Value::Varint(n)) => n <= 1,
            (Kind::Uint32, Value::Varint(n)) => n <= u64::from(u32::MAX),
            (Kind::Enum, Value::Varint(n)) => n <= u64::from(u32::MAX >> 1),
            (Kind::String, Value::Bytes(text)) => {
                return match std::str::from_utf8(text) {
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.malformed("a string that is not UTF-8", field.number, at)),
                };
            }
            _ => return Err(self.malformed("another wire type than the schema's", field.number, at)),
        };
        if ok { Ok(()) } else { Err(self.non_canonical("a number beyond its type", field.number, at)) }
    }

    fn varint(&mut self, field: u32) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.malformed("cut short", field, self.at));
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.non_canonical("a varint that is not minimal", field, start));
                }
                return Ok(value);
            }
        }
        Err(self.malformed("a varint beyond 64 bits", field, start))
    }

    fn take(&mut self, length: u64, field: u32) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(slice) => {
                self.at += slice.len();
                Ok(slice)
            }
            None => Err(self.malformed("cut short", field, self.at)),
        }
    }

    const fn malformed(&self, detail: &'static str, field: u32, at: usize) -> Fault {
        Fault { code: Code::MalformedEnvelope, detail, field, at: self.base + at }
    }

    const fn non_canonical(&self, detail: &'static str, field: u32, at: usize) -> Fault {
        Fault { code: Code::NonCanonicalEnvelope, detail, field, at: self.base + at }
    }
}
