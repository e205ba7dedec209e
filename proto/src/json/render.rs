//! Events, acks and faults as JSON, for the text dialect and for `arq sub`. Keys and their order are stable.
//!
//! Bytes become a text under their name if they are UTF-8 and JSON writes them in at most twice their length; else base64
//! under the same name, with `"base64": true` beside it. Control characters take six bytes each in JSON, so without the
//! second rule a room of 512 KiB could render to 3 MiB.

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use crate::{Code, v1};

mod body;
pub use body::{event_body, snapshot};

/// An ACK: `{"op":"ack","message_id","code","name"?,"epoch","seq","duplicate", …}`; `id` is the request's, if it had one.
pub fn ack(ack: &v1::Ack, id: Option<u64>) -> Value {
    let mut out = Map::new();
    out.insert("op".into(), "ack".into());
    if let Some(id) = id {
        out.insert("id".into(), id.into());
    }
    out.insert("message_id".into(), HEXLOWER.encode(&ack.message_id).into());
    out.insert("code".into(), ack.code.into());
    if ack.code != 0 {
        let known = u16::try_from(ack.code).ok().and_then(Code::from_u16);
        out.insert("name".into(), known.map_or("unknown", Code::name).into());
        let text = if ack.message.is_empty() { known.map_or("", Code::message) } else { &ack.message };
        out.insert("message".into(), text.into());
    }
    out.insert("epoch".into(), ack.epoch.into());
    out.insert("seq".into(), ack.seq.into());
    out.insert("duplicate".into(), ack.duplicate.into());
    if ack.retry_after_ms != 0 {
        out.insert("retry_after_ms".into(), ack.retry_after_ms.into());
    }
    if ack.ver != 0 {
        out.insert("ver".into(), ack.ver.into());
    }
    Value::Object(out)
}

/// A fault that belongs to no command: `{"op":"err","code","name","message"}`.
pub fn err(code: Code, text: &str) -> Value {
    json!({ "op": "err", "code": code.as_u16(), "name": code.name(), "message": text })
}

/// A delivered envelope: `{"op":"event","room","epoch","seq","user","at","event", …}`, or `{"op":"signal", …}`; `None`
/// for one without event or signal.
pub fn envelope(envelope: &v1::Envelope) -> Option<Value> {
    match envelope.payload.as_ref()? {
        v1::envelope::Payload::Event(it) => Some(event(&envelope.room_id, it)),
        v1::envelope::Payload::Signal(signal) => Some(json!({
            "op": "signal", "room": envelope.room_id, "code": signal.code, "reason": signal.reason,
            "retry_after_ms": signal.retry_after_ms, "user": signal.user, "until": signal.until,
        })),
        v1::envelope::Payload::Cmd(_) => None,
    }
}

/// An event of `room`.
pub fn event(room: &str, event: &v1::Event) -> Value {
    let mut out = Map::new();
    out.insert("op".into(), "event".into());
    out.insert("room".into(), room.into());
    out.insert("epoch".into(), event.epoch.into());
    out.insert("seq".into(), event.seq.into());
    out.insert("user".into(), event.user.as_str().into());
    out.insert("at".into(), event.at.into());
    if !event.redacted_by.is_empty() {
        out.insert("redacted".into(), true.into());
    }
    event_body(&mut out, event.body.as_ref());
    Value::Object(out)
}

/// Puts bytes under `key`.
fn put_bytes(out: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if escaped_len(bytes) <= 2 * bytes.len() => drop(out.insert(key.into(), text.into())),
        _ => {
            out.insert(key.into(), BASE64.encode(bytes).into());
            out.insert("base64".into(), true.into());
        }
    }
}

/// How long JSON writes a text, without its quotes.
fn escaped_len(text: &[u8]) -> usize {
    let each = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.iter().map(each).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_render_to_more_than_twice_their_length() {
        let rendered = |bytes: &[u8]| {
            let mut out = Map::new();
            put_bytes(&mut out, "v", bytes);
            (Value::Object(out.clone()).to_string().len(), out.contains_key("base64"))
        };
        for byte in 0..=255u8 {
            let (len, _) = rendered(&[byte; 16_384]);
            assert!(len <= 2 * 16_384 + 40, "{byte}: {len}");
        }
        assert!(rendered(&[1; 64]).1 && rendered(&[0xff; 64]).1);
        let text = "{\"a\": \"b\",\n\t\"c\": \"\\\\\"}".as_bytes();
        assert!(!rendered(text).1, "JSON within JSON stays readable");
    }
}
