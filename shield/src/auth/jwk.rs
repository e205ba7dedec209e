//! A JWK set (RFC 7517) as keys that check tokens. A key that is of another kind or for another use is skipped and named,
//! never a reason to refuse the set (§5): an issuer publishes the keys of all its clients in one set.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::keys::Key;

/// Keys of one set that are used. A token without `kid` is tried on each of its algorithm, so the number is a cost.
pub(super) const KEYS_MAX: usize = 64;
/// The shortest RSA modulus, in bytes (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;
/// The longest text out of a set that is shown.
const SHOWN_MAX: usize = 64;

/// A key of a set that checks no tokens here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its `kid`, shortened.
    pub kid: Option<String>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.index)?;
        if let Some(kid) = &self.kid {
            write!(f, " (kid {kid:?})")?;
        }
        write!(f, " is not used: {}", self.why)
    }
}

/// The usable keys of a set and the others; `Err` only if the text is no JWK set.
pub(super) fn read(json: &[u8]) -> Result<(Vec<Key>, Vec<Skipped>), String> {
    let set: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Some(set) = set.get("keys").and_then(Value::as_array) else {
        return Err("it has no array `keys`".into());
    };
    let (mut keys, mut skipped) = (Vec::new(), Vec::new());
    for (index, jwk) in set.iter().enumerate() {
        let kid = text(jwk, "kid").ok().flatten();
        let read =
            if keys.len() < KEYS_MAX { key_of(jwk) } else { Err(format!("at most {KEYS_MAX} keys of a set are used")) };
        match read {
            Ok(key) => keys.push(key),
            Err(why) => skipped.push(Skipped { index, kid: kid.map(shown), why }),
        }
    }
    Ok((keys, skipped))
}

fn key_of(jwk: &Value) -> Result<Key, String> {
    let text = |name| text(jwk, name);
    let part = |name| part(jwk, name);
    let (algorithm, key) = match (text("kty")?, text("crv")?) {
        (Some("OKP"), Some("Ed25519")) => {
            let x = part("x")?;
            let point = <[u8; 32]>::try_from(x.as_slice()).ok();
            if point.is_none_or(|point| proto::signature::public_key(&point).is_err()) {
                return Err("x is no Ed25519 key".into());
            }
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&x))
        }
        (Some("EC"), Some("P-256")) => {
            let (x, y) = (part("x")?, part("y")?);
            if (x.len(), y.len()) != (32, 32) {
                return Err("x and y of P-256 have 32 bytes each".into());
            }
            (Algorithm::ES256, DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        }
        (Some("RSA"), _) => {
            let (n, e) = (part("n")?, part("e")?);
            let len = n.iter().skip_while(|byte| **byte == 0).count();
            if len < RSA_BYTES_MIN {
                return Err(format!("RSA of {} bits, at least 2048 are needed", len * 8));
            }
            (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&n, &e))
        }
        (None, _) => return Err("it has no kty".into()),
        (Some(kty), crv) => {
            let what = crv.map_or_else(|| shown(kty), |crv| format!("{} {}", shown(kty), shown(crv)));
            return Err(format!("{what}: only OKP Ed25519 (EdDSA), EC P-256 (ES256) and RSA (RS256) check tokens"));
        }
    };
    if let Some(usage) = text("use")?.filter(|usage| *usage != "sig") {
        return Err(format!("use is {:?}, not \"sig\"", shown(usage)));
    }
    if let Some(operations) = jwk.get("key_ops") {
        let operations = operations.as_array().ok_or("key_ops is no array")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Err("key_ops does not hold \"verify\"".into());
        }
    }
    // RFC 9864 names the curve in the algorithm; RFC 8037 named the family.
    let names: &[&str] = match algorithm {
        Algorithm::EdDSA => &["EdDSA", "Ed25519"],
        Algorithm::ES256 => &["ES256"],
        _ => &["RS256"],
    };
    if let Some(alg) = text("alg")?.filter(|alg| !names.contains(alg)) {
        return Err(format!("alg is {:?}, and such a key checks {} here", shown(alg), names[0]));
    }
    Ok(Key { kid: text("kid")?.map(str::to_owned), algorithm, key })
}

/// A member that is a string if it is there.
fn text<'a>(jwk: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is no string")),
    }
}

/// A member in base64url.
fn part(jwk: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = text(jwk, name)?.ok_or_else(|| format!("it has no {name}"))?;
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map_err(|_| format!("{name} is not in base64url"))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}
