//! The token's claims (RFC 7519, RFC 7800): who, which tenant, which key, which rooms.

use data_encoding::BASE64URL_NOPAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Rights, RoomId};

/// What a token says. Claims that are not listed are ignored, as JWT demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom: one name or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Valid until, seconds since 1970.
    #[serde(deserialize_with = "date")]
    pub exp: i64,
    /// Valid from, seconds since 1970.
    #[serde(default, deserialize_with = "date_maybe", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Issued at, seconds since 1970.
    #[serde(default, deserialize_with = "date_maybe", skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The user; must parse as a [`UserId`](crate::UserId).
    pub sub: String,
    /// The tenant; must parse as a [`TenantId`](crate::TenantId).
    pub tid: String,
    /// The key that signs this user's messages. Its presence obliges every PUB to be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// What it grants; nothing if absent.
    #[serde(default)]
    pub arq: Grants,
}

/// A NumericDate (RFC 7519 §2) may have a fraction; it is cut off.
fn date<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    // Beyond 2^53 s a float could round into a date that no one wrote.
    let whole = |n: f64| if n.abs() < 9e15 { Some(n as i64) } else { None };
    number
        .as_i64()
        .or_else(|| number.as_f64().and_then(whole))
        .ok_or_else(|| D::Error::custom("a date is seconds since 1970"))
}

fn date_maybe<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    date(from).map(Some)
}

/// `aud`: one name or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// True if `name` is among them.
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// `cnf` (RFC 7800).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The key.
    pub jwk: Jwk,
}

/// A public key (RFC 8037): only `OKP` with `Ed25519` is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// 32 bytes, base64url without padding.
    pub x: String,
}

impl Jwk {
    /// An Ed25519 key's 32 bytes.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { kty: "OKP".into(), crv: "Ed25519".into(), x: BASE64URL_NOPAD.encode(key) }
    }

    /// The 32 bytes, if this is an Ed25519 key.
    pub fn ed25519(&self) -> Option<[u8; 32]> {
        if self.kty != "OKP" || self.crv != "Ed25519" {
            return None;
        }
        BASE64URL_NOPAD.decode(self.x.as_bytes()).ok()?.try_into().ok()
    }
}

/// `arq`: rooms and public profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grants {
    /// Which rooms, and what there. A room's rights are those of all grants that match it.
    #[serde(default)]
    pub rooms: Vec<Grant>,
    /// Public profile, at most 1 KiB when encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<serde_json::Value>,
}

/// Actions for the rooms that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// A room id, or a prefix and `*` at the end; `*` alone matches every room.
    pub m: String,
    /// Names of [`Rights::NAMES`]; others grant nothing.
    pub a: Vec<String>,
}

impl Grant {
    /// True if this grant is for `room`. A `*` elsewhere than at the end is no wildcard and matches nothing, because
    /// no room id holds one.
    pub fn matches(&self, room: &RoomId) -> bool {
        match self.m.strip_suffix('*') {
            Some(prefix) => room.as_str().starts_with(prefix),
            None => room.as_str() == self.m,
        }
    }

    /// The actions as bits.
    pub fn rights(&self) -> Rights {
        self.a.iter().filter_map(|name| Rights::named(name)).fold(Rights::default(), Rights::with)
    }
}

impl Grants {
    /// What this token may do in `room`.
    pub fn rights(&self, room: &RoomId) -> Rights {
        self.rooms.iter().filter(|grant| grant.matches(room)).map(Grant::rights).fold(Rights::default(), Rights::with)
    }
}
