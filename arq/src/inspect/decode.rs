//! Bytes to JSON.

use data_encoding::HEXLOWER;
use proto::canonical::{Budget, Fault, Field, Kind, Message, Reader, Value as Wire, table};
use proto::view::{EnvelopeView, ViewError};
use proto::{Code, frame};
use serde_json::{Map, Value};

use super::{FRAMES, SIGNED, TEXTUAL, Violation, object};

/// A frame, read as far as it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What it holds; [`encode`](super::encode()) takes it back.
    pub json: Value,
    /// Why a server or client would refuse it.
    pub violation: Option<Violation>,
}

/// Reads one WebSocket message, of either direction.
pub fn decode(message: &[u8]) -> Decoded {
    let Some((opcode, body)) = message.split_first() else {
        let violation = Violation::new(Code::EmptyMessage, "no bytes at all", 0, 0);
        return Decoded { json: object(vec![("frame", Value::Null)]), violation: Some(violation) };
    };
    let name = FRAMES.iter().find(|(_, code)| code == opcode).map(|(name, _)| *name);
    let head = ("frame", Value::from(name));
    match *opcode {
        frame::PUB => publication(head, body),
        frame::ACK => {
            let (ack, fault) = message_json(&table::ACK, body);
            Decoded { json: object(vec![head, ("ack", ack)]), violation: fault.map(|fault| of_fault(&fault)) }
        }
        frame::SUB | frame::UNSUB | frame::HELLO | frame::AUTH => json_body(head, body),
        frame::HB => {
            let extra =
                (!body.is_empty()).then(|| Violation::new(Code::WrongFrameKind, "a heartbeat is one byte", 0, 1));
            Decoded { json: object(vec![head]), violation: extra }
        }
        frame::ERR => fault_frame(head, message, body),
        b'{' => json_body(("frame", "text".into()), message),
        other => {
            let hex = format!("hex:{}", HEXLOWER.encode(&body[..body.len().min(64)]));
            let detail = format!("0x{other:02x} is no opcode");
            let json = object(vec![head, ("opcode", other.into()), ("body", hex.into())]);
            Decoded { json, violation: Some(Violation::new(Code::UnknownOpcode, detail, 0, 0)) }
        }
    }
}

/// An envelope is judged as the one who may have written it: a client's command, a Shield's (with sender), a room's.
fn publication(head: (&'static str, Value), body: &[u8]) -> Decoded {
    let (envelope, _) = message_json(&table::ENVELOPE, body);
    let has = |key: &str| envelope.get(key).is_some();
    let (role, judged) = if has("sender") {
        ("shield", EnvelopeView::forwarded(body))
    } else if has("event") || (has("signal") && !has("cmd")) {
        ("room", EnvelopeView::delivered(body))
    } else {
        ("client", EnvelopeView::client(body))
    };
    let violation =
        judged.err().map(|ViewError { code, detail, field, at, .. }| Violation::new(code, detail, field, at + 1));
    Decoded { json: object(vec![head, ("from", role.into()), ("envelope", envelope)]), violation }
}

fn json_body(head: (&'static str, Value), body: &[u8]) -> Decoded {
    let skipped = usize::from(head.1 != "text");
    match serde_json::from_slice::<Value>(body) {
        Ok(body) => Decoded { json: object(vec![head, ("body", body)]), violation: None },
        Err(error) => {
            let text = String::from_utf8_lossy(body).into_owned();
            let at = skipped + error.column().saturating_sub(1);
            let violation = Violation::new(Code::MalformedJson, error.to_string(), 0, at);
            Decoded { json: object(vec![head, ("body", text.into())]), violation: Some(violation) }
        }
    }
}

fn fault_frame(head: (&'static str, Value), message: &[u8], body: &[u8]) -> Decoded {
    let wrong =
        proto::frame::ServerFrame::binary(message).err().map(|error| Violation::new(error.code, error.detail, 0, 1));
    let Some((code, text)) = body.split_first_chunk::<2>() else {
        return Decoded { json: object(vec![head]), violation: wrong };
    };
    let code = u16::from_be_bytes(*code);
    let name = Code::from_u16(code).map(Code::name);
    let text = String::from_utf8_lossy(text).into_owned();
    let json = object(vec![head, ("code", code.into()), ("name", name.into()), ("text", text.into())]);
    Decoded { json, violation: wrong }
}

fn of_fault(fault: &Fault) -> Violation {
    Violation::new(fault.code, fault.detail, fault.field, fault.at + 1)
}

/// Everything up to the first fault.
fn message_json(message: &'static Message, bytes: &[u8]) -> (Value, Option<Fault>) {
    let mut out = Map::new();
    let fault = fill(&mut out, message, bytes, 0, &mut Budget::default()).err();
    (Value::Object(out), fault)
}

fn fill(
    out: &mut Map<String, Value>,
    message: &'static Message,
    bytes: &[u8],
    base: usize,
    budget: &mut Budget,
) -> Result<(), Fault> {
    let mut reader = Reader::new(message, bytes, base);
    while let Some(item) = reader.next(budget)? {
        let Some(field) = item.field else {
            push(out, format!("#{}", item.number), unknown(item.value));
            continue;
        };
        match (field.kind, item.value) {
            (Kind::Message(inner), Wire::Bytes(slice)) => {
                let mut nested = Map::new();
                let done = fill(&mut nested, inner, slice, item.at, budget);
                put(out, field, Value::Object(nested));
                done?;
            }
            (_, value) => put(out, field, known(field, value)),
        }
    }
    Ok(())
}

fn put(out: &mut Map<String, Value>, field: &Field, value: Value) {
    if field.repeated {
        push(out, field.name.to_owned(), value);
    } else {
        out.insert(field.name.to_owned(), value);
    }
}

fn push(out: &mut Map<String, Value>, key: String, value: Value) {
    if let Value::Array(list) = out.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
        list.push(value);
    }
}

fn known(field: &Field, value: Wire<'_>) -> Value {
    match (field.kind, value) {
        (Kind::Bool, Wire::Varint(n)) => (n == 1).into(),
        (_, Wire::Varint(n)) if SIGNED.contains(&field.name) => n.cast_signed().into(),
        (_, Wire::Varint(n) | Wire::Fixed64(n)) => n.into(),
        (Kind::String, Wire::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
        (_, Wire::Bytes(bytes)) => bytes_json(bytes, TEXTUAL.contains(&field.name)),
        (_, Wire::Fixed32(n)) => n.into(),
    }
}

fn bytes_json(bytes: &[u8], textual: bool) -> Value {
    let readable = |text: &&str| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
    match std::str::from_utf8(bytes).ok().filter(|_| textual).filter(readable) {
        Some(text) => format!("text:{text}").into(),
        None => format!("hex:{}", HEXLOWER.encode(bytes)).into(),
    }
}

fn unknown(value: Wire<'_>) -> Value {
    match value {
        Wire::Varint(n) => format!("varint:{n}").into(),
        Wire::Fixed64(n) => format!("fixed64:{n}").into(),
        Wire::Fixed32(n) => format!("fixed32:{n}").into(),
        Wire::Bytes(bytes) => bytes_json(bytes, false),
    }
}
