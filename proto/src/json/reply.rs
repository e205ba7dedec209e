//! What a server says in JSON. These may grow; clients ignore keys they do not know.
//!
//! In frames the opcode says what a body is; in the text dialect `op` does, so each type has it, absent in frames.

use serde::{Deserialize, Serialize};

use crate::Code;

/// Whether messages are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureMode {
    /// This connection does not sign.
    #[default]
    Off,
    /// It may.
    Optional,
    /// Every PUB of this connection must be signed: the token carries a key, or the server insists.
    Required,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest WebSocket message, in bytes.
    pub message_bytes: u64,
    /// Rooms at once.
    pub rooms: u32,
    /// PUB a second, in the long run.
    pub pub_per_s: u32,
    /// PUB at once.
    pub pub_burst: u32,
}

/// The server's first word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `hello` in the text dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// `arqon.v1`.
    pub version: String,
    /// This connection's id.
    pub conn: String,
    /// Which server this is.
    pub node: String,
    /// The token's tenant.
    pub tenant: String,
    /// The token's user.
    pub user: String,
    /// The token's end, seconds since 1970.
    pub exp: i64,
    /// How often the server pings, in ms; HB in the same interval from clients that cannot see pings.
    pub heartbeat_ms: u64,
    /// What the connection may do.
    pub limits: Limits,
    /// The server's wall clock, ms since 1970.
    pub time: i64,
    /// Whether to sign.
    pub signatures: SignatureMode,
    /// The server has lost touch with its message bus, as 6004 says; left out: it has not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The answer to SUB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubResult {
    /// `sub` in the text dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// The request's.
    pub id: u64,
    /// False: refused, see `code`.
    pub ok: bool,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Epoch of the place from which live events follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Its sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// True: the events after `since` follow, without a gap; false: a snapshot follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// How many events are replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<u64>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When to try again, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

impl SubResult {
    /// Subscribed: `replay` events or a snapshot follow, then live events after (`epoch`, `seq`).
    pub fn ok(id: u64, room: &str, (epoch, seq): (u64, u64), recovered: bool, replay: u64) -> Self {
        Self {
            id,
            ok: true,
            room: Some(room.into()),
            epoch: Some(epoch),
            seq: Some(seq),
            recovered: Some(recovered),
            replay: Some(replay),
            ..Self::default()
        }
    }

    /// Refused. `message` defaults to the registry's.
    pub fn refused(id: u64, room: Option<&str>, code: Code, message: Option<&str>) -> Self {
        Self {
            id,
            room: room.map(Into::into),
            code: Some(code.as_u16()),
            message: Some(message.unwrap_or(code.message()).into()),
            ..Self::default()
        }
    }
}

/// The answer to UNSUB, or the server's own word that this connection was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubbed {
    /// `unsub` in the text dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// The room. No event of it comes after this.
    pub room: String,
    /// Why; absent: as you asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// True: subscribing again will help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resub: Option<bool>,
}

/// The answer to `get`: one or more results with the same `id`, `epoch` and `seq`, each with a part of the state, until
/// `state.last`. Lists of the parts follow each other; every other key stands in one part alone ([`GetResult::join`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GetResult {
    /// `get`.
    pub op: String,
    /// The request's.
    pub id: u64,
    /// False: refused, see `code`.
    pub ok: bool,
    /// The room.
    pub room: String,
    /// Epoch of the place the state was read at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Its sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// A part of the state, as [`super::render::snapshot`] writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<serde_json::Value>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl GetResult {
    /// True if no further part of this answer follows.
    pub fn is_last(&self) -> bool {
        !self.ok || self.state.as_ref().is_none_or(|state| state["last"] != serde_json::Value::Bool(false))
    }

    /// Takes in the next part of the same answer.
    pub fn join(&mut self, next: Self) {
        use serde_json::Value;
        let (Some(Value::Object(state)), Some(Value::Object(next))) = (&mut self.state, next.state) else { return };
        for (key, value) in next {
            match (state.get_mut(&key), value) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                (Some(Value::Number(one)), Value::Number(other)) => {
                    if other.as_u64() > one.as_u64() {
                        *one = other;
                    }
                }
                (Some(one), value) if !value.is_null() => *one = value,
                (Some(_), _) => {}
                (None, value) => drop(state.insert(key, value)),
            }
        }
    }
}

/// The answer to `presence`, if it carried an `id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceResult {
    /// `presence`.
    pub op: String,
    /// The request's.
    pub id: u64,
    /// False: refused, see `code`.
    pub ok: bool,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer to AUTH, or the server's word that the token ends soon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthResult {
    /// `auth` in the text dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// True: the new token holds from here on. False: refused, or `refresh`.
    pub ok: bool,
    /// The end of the token that holds, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// True: unasked; send a new token before `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<bool>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parts_of_an_answer_to_get_join_to_one_state() {
        let part = |state: serde_json::Value| GetResult { id: 7, ok: true, state: Some(state), ..GetResult::default() };
        let mut whole = part(json!({ "part": 0, "last": false, "entries": [1, 2], "lock": { "mode": "join" },
            "options": null, "playlist_ver": 3 }));
        assert!(!whole.is_last());
        let next = part(json!({ "part": 1, "last": true, "entries": [3], "lock": null, "options": { "presence": 1 },
            "playlist_ver": 0 }));
        assert!(next.is_last() && GetResult::default().is_last(), "a refusal has one part");
        whole.join(next);
        let joined = json!({ "part": 1, "last": true, "entries": [1, 2, 3], "lock": { "mode": "join" },
            "options": { "presence": 1 }, "playlist_ver": 3 });
        assert_eq!(whole.state, Some(joined));
        assert!(whole.is_last());
    }
}
