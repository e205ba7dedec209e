//! JSON bodies: HELLO, the SUB family, UNSUB, AUTH, the text dialect and the token's claims.
//!
//! What a client sends is read strictly: a key that an operation does not know is refused, with the nearest known one.
//! What a server sends may grow; clients ignore keys they do not know.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Code;

pub mod claims;
pub mod render;
pub mod reply;
pub mod request;

pub use claims::{Audience, Claims, Confirmation, Grant, Grants, Jwk};
pub use reply::{AuthResult, GetResult, Hello, Limits, PresenceResult, SignatureMode, SubResult, Unsubbed};
pub use request::{
    AuthRequest, Format, GetRequest, Presence, PresenceRequest, PubRequest, Since, SubFamily, SubRequest, TextOp,
    UnsubRequest, id, sub_family, text_op,
};

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct JsonError {
    /// [`Code::MalformedJson`] or [`Code::UnknownKey`].
    pub code: Code,
    /// Names the key and what was expected.
    pub text: String,
}

/// A body that a client sends, with the keys it may have.
pub trait Request: DeserializeOwned {
    /// The known keys.
    const KEYS: &'static [&'static str];
}

/// Reads one body strictly.
pub fn parse<T: Request>(text: &str) -> Result<T, JsonError> {
    serde_json::from_str(text).map_err(|error| explain(text, T::KEYS, &error))
}

/// The parse failed; if it was for an unknown key, say which and what was meant.
fn explain(text: &str, known: &[&str], error: &serde_json::Error) -> JsonError {
    let keys: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).ok();
    let stranger = keys.iter().flatten().map(|(key, _)| key).find(|key| !known.contains(&key.as_str()));
    let Some(stranger) = stranger else {
        let text = error.to_string();
        // A key within a key; serde names it and the known ones.
        let code = if text.starts_with("unknown field") { Code::UnknownKey } else { Code::MalformedJson };
        return JsonError { code, text };
    };
    let stranger: String = stranger.chars().take(64).collect();
    let nearest = known.iter().map(|key| (strsim::damerau_levenshtein(&stranger, key), key)).min();
    let text = match nearest {
        Some((distance, key)) if distance <= 2 => format!("unknown key {stranger:?}: did you mean {key:?}?"),
        _ => format!("unknown key {stranger:?}: the keys are {}", known.join(", ")),
    };
    JsonError { code: Code::UnknownKey, text }
}

/// Compact JSON, keys in the order of the struct.
pub fn to_string<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).expect("bodies have string keys and no fallible parts")
}
