//! JSON to bytes.

use bytes::BufMut as _;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use proto::canonical::{Field, Kind, Message, table};
use proto::frame;
use serde_json::{Map, Value};

use super::{FRAMES, hint};

/// Why JSON is no frame. `at` is the path to the key, e.g. `envelope.cmd.say.data`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct EncodeError {
    /// Which key.
    pub at: String,
    /// What is wrong there.
    pub why: String,
}

fn wrong<T>(at: &str, why: impl Into<String>) -> Result<T, EncodeError> {
    Err(EncodeError { at: at.to_owned(), why: why.into() })
}

/// Builds the frame that `json` describes, canonical by construction; whether it has all that a server demands is
/// [`decode`](super::decode())'s to say.
pub fn encode(json: &Value) -> Result<Vec<u8>, EncodeError> {
    let Value::Object(keys) = json else { return wrong("frame", "the JSON is no object") };
    let names = || FRAMES.iter().map(|(name, _)| *name).chain(["text"]);
    let Some(name) = keys.get("frame").and_then(Value::as_str) else {
        let all: Vec<&str> = names().collect();
        return wrong("frame", format!("name the frame: one of {}", all.join(", ")));
    };
    let opcode = FRAMES.iter().find(|(known, _)| *known == name).map(|(_, opcode)| *opcode);
    let part = |key: &str| keys.get(key).map_or_else(|| wrong(key, "is missing"), Ok);
    let mut out = Vec::from_iter(opcode);
    match (opcode, name) {
        (Some(frame::PUB), _) => message(&mut out, &table::ENVELOPE, part("envelope")?, "envelope")?,
        (Some(frame::ACK), _) => message(&mut out, &table::ACK, part("ack")?, "ack")?,
        (Some(frame::HB), _) => {}
        (Some(frame::ERR), _) => {
            let code = part("code")?.as_u64().and_then(|code| u16::try_from(code).ok());
            let Some(code) = code else { return wrong("code", "must be a number of at most 65535") };
            out.put_u16(code);
            out.extend_from_slice(keys.get("text").and_then(Value::as_str).unwrap_or_default().as_bytes());
        }
        (Some(_), _) | (None, "text") => out.extend_from_slice(part("body")?.to_string().as_bytes()),
        (None, other) => return wrong("frame", format!("there is no frame {other:?}{}", hint(other, names()))),
    }
    Ok(out)
}

fn message(out: &mut Vec<u8>, schema: &'static Message, json: &Value, at: &str) -> Result<(), EncodeError> {
    let Value::Object(keys) = json else { return wrong(at, format!("{} is an object", schema.name)) };
    // One piece a value, so that they can be put in the order of their numbers.
    let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
    for (key, value) in keys {
        let at = format!("{at}.{key}");
        if let Some(number) = key.strip_prefix('#') {
            unknown(&mut pieces, number, value, &at)?;
            continue;
        }
        let Some(field) = schema.fields.iter().find(|field| field.name == key) else {
            let near = hint(key, schema.fields.iter().map(|field| field.name));
            return wrong(&at, format!("{} has no such field{near}", schema.name));
        };
        one_of(schema, field, keys, &at)?;
        match value {
            Value::Array(list) if field.repeated => {
                for value in list {
                    pieces.push((field.number, known(field, value, &at)?));
                }
            }
            _ if field.repeated => return wrong(&at, "is repeated: write an array"),
            value => pieces.push((field.number, known(field, value, &at)?)),
        }
    }
    pieces.sort_by_key(|(number, _)| *number);
    pieces.iter().for_each(|(_, piece)| out.extend_from_slice(piece));
    Ok(())
}

/// At most one member of a oneof.
fn one_of(schema: &Message, field: &Field, keys: &Map<String, Value>, at: &str) -> Result<(), EncodeError> {
    let rival = |other: &&Field| other.oneof != 0 && other.oneof == field.oneof && other.number != field.number;
    match schema.fields.iter().filter(rival).find(|other| keys.contains_key(other.name)) {
        Some(other) => wrong(at, format!("stands beside {:?}: one of them only", other.name)),
        None => Ok(()),
    }
}

fn known(field: &Field, value: &Value, at: &str) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    let max = match field.kind {
        Kind::Bool => {
            let Some(value) = value.as_bool() else { return wrong(at, "must be true or false") };
            tag(&mut out, field.number, 0);
            varint(&mut out, value.into());
            return Ok(out);
        }
        Kind::Uint32 => u64::from(u32::MAX),
        Kind::Enum => u64::from(u32::MAX >> 1),
        Kind::Varint | Kind::Fixed64 => u64::MAX,
        Kind::String => {
            let Some(text) = value.as_str() else { return wrong(at, "must be a text") };
            delimited(&mut out, field.number, text.as_bytes());
            return Ok(out);
        }
        Kind::Bytes => {
            delimited(&mut out, field.number, &bytes(value, at)?);
            return Ok(out);
        }
        Kind::Message(inner) => {
            let mut nested = Vec::new();
            message(&mut nested, inner, value, at)?;
            delimited(&mut out, field.number, &nested);
            return Ok(out);
        }
    };
    let number = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    let Some(number) = number.filter(|number| *number <= max) else {
        return wrong(at, format!("must be a whole number of at most {max}"));
    };
    if matches!(field.kind, Kind::Fixed64) {
        tag(&mut out, field.number, 1);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        tag(&mut out, field.number, 0);
        varint(&mut out, number);
    }
    Ok(out)
}

fn unknown(pieces: &mut Vec<(u32, Vec<u8>)>, number: &str, value: &Value, at: &str) -> Result<(), EncodeError> {
    let number = number.parse().ok().filter(|number| (1..1 << 29).contains(number));
    let Some(number) = number else { return wrong(at, "write # and the field's number") };
    let Value::Array(list) = value else { return wrong(at, "write an array of values") };
    for value in list {
        let mut piece = Vec::new();
        let text = value.as_str().unwrap_or_default();
        let parsed = |digits: &str| digits.parse::<u64>().or_else(|_| wrong(at, "must be a number"));
        if let Some(digits) = text.strip_prefix("varint:") {
            tag(&mut piece, number, 0);
            varint(&mut piece, parsed(digits)?);
        } else if let Some(digits) = text.strip_prefix("fixed64:") {
            tag(&mut piece, number, 1);
            piece.extend_from_slice(&parsed(digits)?.to_le_bytes());
        } else if let Some(digits) = text.strip_prefix("fixed32:") {
            let Ok(small) = u32::try_from(parsed(digits)?) else { return wrong(at, "is beyond 32 bits") };
            tag(&mut piece, number, 5);
            piece.extend_from_slice(&small.to_le_bytes());
        } else {
            delimited(&mut piece, number, &bytes(value, at)?);
        }
        pieces.push((number, piece));
    }
    Ok(())
}

fn bytes(value: &Value, at: &str) -> Result<Vec<u8>, EncodeError> {
    let expected = "must be \"text:…\", \"hex:…\" or \"base64:…\"";
    let Some(text) = value.as_str() else { return wrong(at, expected) };
    match text.split_once(':') {
        Some(("text", rest)) => Ok(rest.as_bytes().to_vec()),
        Some(("hex", rest)) => {
            HEXLOWER_PERMISSIVE.decode(rest.as_bytes()).or_else(|error| wrong(at, format!("hex: {error}")))
        }
        Some(("base64", rest)) => BASE64.decode(rest.as_bytes()).or_else(|error| wrong(at, format!("base64: {error}"))),
        _ => wrong(at, expected),
    }
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u64) {
    varint(out, u64::from(number) << 3 | wire);
}

fn delimited(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    tag(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}
