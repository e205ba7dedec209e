//! What a client asks in JSON. Unknown keys are refused.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{JsonError, Request, explain, parse};
use crate::Code;

/// How many events `history` may ask for.
pub const HISTORY_MAX: u32 = 256;

/// Where a client stopped reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The epoch of the last event seen.
    pub epoch: u64,
    /// Its sequence number.
    pub seq: u64,
    /// Its `prev`: the place to resume reading from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pos: Option<u64>,
}

/// How much presence a subscriber wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// None.
    #[default]
    Off,
    /// How many members.
    Count,
    /// Who.
    List,
}

/// How events are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// PUB frames.
    #[default]
    Binary,
    /// JSON text, one object an event; only with `[server] text_dialect`.
    Json,
}

/// SUB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubRequest {
    /// The client's own number; the answer carries it.
    pub id: u64,
    /// The room; must parse as a [`RoomId`](crate::RoomId).
    pub room: String,
    /// Replay what came after; absent: a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// Also the last n events, 0 ..= [`HISTORY_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<u32>,
    /// Presence of this room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// How events come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// UNSUB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsubRequest {
    /// The room to leave.
    pub room: String,
}

/// Reads a room's state, current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {
    /// The client's own number; the answer carries it.
    pub id: u64,
    /// The room.
    pub room: String,
}

/// Changes one's own presence meta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceRequest {
    /// The client's own number, if it wants an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The room.
    pub room: String,
    /// At most 1 KiB when encoded; null: none.
    pub meta: serde_json::Value,
}

/// A new token for this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthRequest {
    /// The JWT.
    pub token: String,
}

/// `say` in the text dialect; the server builds the (unsigned) envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PubRequest {
    /// The client's own number; the ACK carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The room.
    pub room: String,
    /// The sender's own word for what data is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The text to say.
    pub data: String,
    /// True: success is acknowledged, too.
    #[serde(default)]
    pub ack: bool,
    /// True: not stored, not deduplicated.
    #[serde(default)]
    pub ephemeral: bool,
}

/// A message of the text dialect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum TextOp {
    /// Subscribe.
    Sub(SubRequest),
    /// Unsubscribe.
    Unsub(UnsubRequest),
    /// Say.
    Pub(PubRequest),
    /// Read the state.
    Get(GetRequest),
    /// Change presence meta.
    Presence(PresenceRequest),
    /// A new token.
    Auth(AuthRequest),
}

/// The body of a SUB frame: without `op` a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum SubFamily {
    /// Subscribe.
    Sub(SubRequest),
    /// Read the state.
    Get(GetRequest),
    /// Change presence meta.
    Presence(PresenceRequest),
}

/// The `op` of a text, looked at before its body is read.
#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow, default)]
    op: Option<Cow<'a, str>>,
}

/// Reads the body of a SUB frame.
pub fn sub_family(text: &str) -> Result<SubFamily, JsonError> {
    if op(text)?.is_none() {
        return parse(text).map(SubFamily::Sub);
    }
    match text_op(text)? {
        TextOp::Sub(request) => Ok(SubFamily::Sub(request)),
        TextOp::Get(request) => Ok(SubFamily::Get(request)),
        TextOp::Presence(request) => Ok(SubFamily::Presence(request)),
        _ => Err(malformed("a SUB frame holds op sub, get or presence".into())),
    }
}

/// Reads a message of the text dialect.
pub fn text_op(text: &str) -> Result<TextOp, JsonError> {
    let name = op(text)?.ok_or_else(|| malformed(format!("the key \"op\" is missing: one of {OPS}")))?;
    let known = match name.as_ref() {
        "sub" => SubRequest::KEYS,
        "unsub" => UnsubRequest::KEYS,
        "pub" => PubRequest::KEYS,
        "get" => GetRequest::KEYS,
        "presence" => PresenceRequest::KEYS,
        "auth" => AuthRequest::KEYS,
        _ => return Err(malformed(format!("no such op: one of {OPS}"))),
    };
    serde_json::from_str(text).map_err(|error| explain(text, known, &error))
}

/// The `id` of a request that may be malformed otherwise, so that its error can name it.
pub fn id(text: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(text).ok()?.get("id")?.as_u64()
}

const OPS: &str = "sub, unsub, pub, get, presence, auth";

fn op(text: &str) -> Result<Option<Cow<'_, str>>, JsonError> {
    serde_json::from_str(text).map(|tag: Tag<'_>| tag.op).map_err(|error| malformed(error.to_string()))
}

const fn malformed(text: String) -> JsonError {
    JsonError { code: Code::MalformedJson, text }
}

macro_rules! keys {
    ($($name:ty: $($key:literal)*;)*) => {$(
        impl Request for $name {
            const KEYS: &'static [&'static str] = &["op", $($key),*];
        }
    )*};
}
keys! {
    SubRequest: "id" "room" "since" "history" "presence" "format";
    UnsubRequest: "room";
    GetRequest: "id" "room";
    PresenceRequest: "id" "room" "meta";
    AuthRequest: "token";
    PubRequest: "id" "room" "type" "data" "ack" "ephemeral";
}
