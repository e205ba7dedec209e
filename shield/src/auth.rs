//! Who a client is: a JWT becomes an [`Identity`], or a [`Refusal`] with its code. Every check of time uses the clock
//! that the caller read; the library's own checks are off because they read the system's.

mod jwk;
mod keys;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use proto::json::{Claims, Grants};
use proto::signature::VerifyingKey;
use proto::{Code, Rights, RoomId, TenantId, UserId};

pub use jwk::Skipped;
pub use keys::{Keys, KeysError};

/// How far ahead of ours an issuer's clock may be, in seconds.
const SKEW_S: i64 = 60;
/// The largest public profile, in bytes of JSON.
const META_BYTES_MAX: usize = 1024;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Grants that one token may carry.
const GRANTS_MAX: usize = 1024;

/// What a token proved.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `tid`.
    pub tenant: TenantId,
    /// `sub`.
    pub user: UserId,
    /// End of the token, seconds since 1970.
    pub exp_s: i64,
    /// `cnf.jwk`: parsed once, used for every message.
    pub key: Option<SigningKeyOf>,
    /// Public profile as JSON, at most 1 KiB; empty: none.
    pub meta: Bytes,
    grants: Grants,
}

/// The key that a user signs with.
#[derive(Clone, Debug)]
pub struct SigningKeyOf {
    /// Parsed and found to be no weak one.
    pub key: VerifyingKey,
    /// Its 32 bytes, as `Sender.public_key` carries them.
    pub bytes: [u8; 32],
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Refusal {
    /// 2001, 2002, 2003 …
    pub code: Code,
    /// Which check failed, for people. Never holds the token.
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Identity {
    /// What the token grants in this room.
    pub fn rights(&self, room: &RoomId) -> Rights {
        self.grants.rights(room)
    }

    /// True if `other` is the same user of the same tenant.
    pub fn same_user(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.user == other.user
    }
}

impl Identity {
    /// True if `other` names the same signing key, or neither names one.
    pub fn same_key(&self, other: &Self) -> bool {
        self.key.as_ref().map(|key| key.bytes) == other.key.as_ref().map(|key| key.bytes)
    }
}

impl Keys {
    /// Checks a token: its form, signature, `aud`, `iss`, and its times against `now_ms`.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, Refusal> {
        let invalid = |text: &str| Refusal::new(Code::TokenInvalid, text);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("longer than 16 KiB"));
        }
        refuse_crit(token)?;
        let claims = self.claims(token)?;
        self.check_names(&claims)?;
        check_times(&claims, now_ms)?;
        if claims.arq.rooms.len() > GRANTS_MAX {
            return Err(invalid("arq.rooms has more than 1024 grants"));
        }
        let tenant = TenantId::parse(&claims.tid).map_err(|error| invalid(&format!("tid: {error}")))?;
        let user = UserId::parse(&claims.sub).map_err(|error| invalid(&format!("sub: {error}")))?;
        let key = match &claims.cnf {
            None if self.signatures_required() => {
                return Err(Refusal::new(
                    Code::SignatureRequired,
                    "cnf: this server takes only tokens that name a key",
                ));
            }
            None => None,
            Some(cnf) => {
                let bytes = cnf.jwk.ed25519().ok_or_else(|| invalid("cnf.jwk: not an OKP/Ed25519 key"))?;
                let key = proto::signature::public_key(&bytes).map_err(|_| invalid("cnf.jwk: not a usable key"))?;
                Some(SigningKeyOf { key, bytes })
            }
        };
        let meta = match &claims.arq.meta {
            None => Bytes::new(),
            Some(meta) => Bytes::from(proto::json::to_string(meta).into_bytes()),
        };
        if meta.len() > META_BYTES_MAX {
            return Err(invalid("arq.meta: larger than 1 KiB"));
        }
        Ok(Identity { tenant, user, exp_s: claims.exp, key, meta, grants: claims.arq })
    }

    fn check_names(&self, claims: &Claims) -> Result<(), Refusal> {
        if !claims.aud.as_ref().is_some_and(|aud| aud.names(self.audience())) {
            return Err(Refusal::new(Code::TokenInvalid, format!("aud: must name {:?}", self.audience())));
        }
        match self.issuer() {
            Some(issuer) if claims.iss.as_deref() != Some(issuer) => {
                Err(Refusal::new(Code::TokenInvalid, format!("iss: must be {issuer:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// RFC 7515 §4.1.11: an extension that must be understood and is not means refusal. We understand none.
fn refuse_crit(token: &str) -> Result<(), Refusal> {
    let malformed = || Refusal::new(Code::TokenInvalid, "not a JWT");
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64URL_NOPAD.decode(header.as_bytes()).map_err(|_| malformed())?;
    let header: serde_json::Value = serde_json::from_slice(&header).map_err(|_| malformed())?;
    if header.get("crit").is_some() {
        return Err(Refusal::new(Code::TokenInvalid, "crit: this server knows no critical extension"));
    }
    Ok(())
}

fn check_times(claims: &Claims, now_ms: i64) -> Result<(), Refusal> {
    let now_s = now_ms.div_euclid(1000);
    if claims.exp <= now_s {
        return Err(Refusal::new(Code::TokenExpired, "exp: the token has expired"));
    }
    if claims.nbf.is_some_and(|nbf| nbf > now_s.saturating_add(SKEW_S)) {
        return Err(Refusal::new(Code::TokenInvalid, "nbf: the token is not valid yet"));
    }
    if claims.iat.is_some_and(|iat| iat > now_s.saturating_add(SKEW_S)) {
        return Err(Refusal::new(Code::TokenInvalid, "iat: the token was issued in the future"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
