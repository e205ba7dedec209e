//! Frames as readable JSON, and back: `arq frame decode` and `encode`.
//!
//! Messages are read along the schema of `proto`, field by field, so what stands before a fault is shown even if the
//! whole is refused. Bytes appear as `text:…` where people put text (data, value, meta) and it is text, else as
//! `hex:…`; fields that the schema does not know as `"#40": ["hex:…"]`. JSON of a canonical message encodes to the same
//! bytes again, but for fields that were written out with their default value.

mod decode;
mod encode;

use proto::Code;
use serde_json::Value;

pub use decode::{Decoded, decode};
pub use encode::{EncodeError, encode};

/// Bytes fields in which people put text.
const TEXTUAL: [&str; 4] = ["data", "value", "meta", "metas"];
/// Varints that are signed in the schema.
const SIGNED: [&str; 5] = ["timestamp", "received_at", "at", "until", "expires_at"];

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The stable code.
    pub code: u16,
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub detail: String,
    /// The field number; 0: none was read.
    pub field: u32,
    /// Offset of the fault, counted from the frame's first byte (its opcode).
    pub byte: usize,
}

impl Violation {
    fn new(code: Code, detail: impl Into<String>, field: u32, byte: usize) -> Self {
        Self { code: code.as_u16(), name: code.name(), detail: detail.into(), field, byte }
    }
}

/// Names of the frames in JSON, with their opcodes.
const FRAMES: [(&str, u8); 8] = [
    ("pub", proto::frame::PUB),
    ("sub", proto::frame::SUB),
    ("unsub", proto::frame::UNSUB),
    ("hello", proto::frame::HELLO),
    ("auth", proto::frame::AUTH),
    ("hb", proto::frame::HB),
    ("ack", proto::frame::ACK),
    ("err", proto::frame::ERR),
];

/// The nearest of `known` to `word`, if one is near enough to have been meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::damerau_levenshtein(word, name), name));
    let (distance, name) = scored.min()?;
    (distance <= 2.max(name.len() / 3)).then_some(name)
}

/// `; did you mean …?`, or nothing.
fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

fn object(pairs: Vec<(&str, Value)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests;
