//! The keys that tokens are checked with, as one value: a JWK set, an HS256 secret, the expected audience and issuer.
//! Reloading means building a new value and swapping it in; if that fails the old one stays.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::Code;
use proto::json::Claims;
use voltron_core::config::{Auth, Signatures};

use super::Refusal;

/// The shortest HS256 secret, in bytes (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The largest key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What tokens are checked with.
pub struct Keys {
    keys: Vec<Key>,
    audience: String,
    issuer: Option<String>,
    signatures_required: bool,
}

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read.
    #[error("[auth] {key} {path}: {why}")]
    File {
        /// Which configuration key names it.
        key: &'static str,
        /// As configured.
        path: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// The JWK set is none.
    #[error("[auth] jwks_file is no JWK set: {0}")]
    Jwks(serde_json::Error),
    /// A key of the set cannot be used.
    #[error("[auth] jwks_file, key {index}: {why}")]
    Key {
        /// Position in the set, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The secret is too short.
    #[error("[auth] hs256_secret_file: {found} bytes, at least 32 are needed")]
    Secret {
        /// Its length in bytes.
        found: usize,
    },
}

impl Keys {
    /// From a JWK set as JSON and an HS256 secret; names and the signature mode come from `auth`, its files are not read.
    pub fn new(auth: &Auth, jwks: Option<&str>, hs256_secret: Option<&[u8]>) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        if let Some(json) = jwks {
            let set: JwkSet = serde_json::from_str(json).map_err(KeysError::Jwks)?;
            for (index, jwk) in set.keys.iter().enumerate() {
                keys.push(key_of(jwk).map_err(|why| KeysError::Key { index, why })?);
            }
        }
        if let Some(secret) = hs256_secret {
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeysError::Secret { found: secret.len() });
            }
            keys.push(Key { kid: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) });
        }
        Ok(Self {
            keys,
            audience: auth.audience.clone(),
            issuer: auth.issuer.clone(),
            signatures_required: auth.signatures == Signatures::Required,
        })
    }

    /// Reads the files that `auth` names.
    pub fn load(auth: &Auth) -> Result<Self, KeysError> {
        let jwks = auth.jwks_file.as_deref().map(|path| read("jwks_file", path)).transpose()?;
        let secret = auth.hs256_secret_file.as_deref().map(|path| read("hs256_secret_file", path)).transpose()?;
        Self::new(auth, jwks.as_deref(), secret.as_deref().map(|text| text.trim().as_bytes()))
    }

    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(super) const fn signatures_required(&self) -> bool {
        self.signatures_required
    }

    /// The claims of a token whose signature verifies with one of the keys.
    pub(super) fn claims(&self, token: &str) -> Result<Claims, Refusal> {
        let invalid = |text: String| Refusal::new(Code::TokenInvalid, text);
        let header = jsonwebtoken::decode_header(token).map_err(|error| invalid(format!("header: {error}")))?;
        let mut tried = false;
        for key in &self.keys {
            // A key without a name fits any token; a named one only the token that asks for it, or for none.
            let fits = match (&key.kid, &header.kid) {
                (Some(mine), Some(asked)) => mine == asked,
                _ => true,
            };
            if key.algorithm != header.alg || !fits {
                continue;
            }
            tried = true;
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation(key.algorithm)) {
                Ok(token) => return Ok(token.claims),
                Err(error) if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(invalid(format!("claims: {error}"))),
            }
        }
        Err(invalid(if tried {
            "the signature does not verify".into()
        } else {
            format!("no key here fits alg {:?} and this kid", header.alg)
        }))
    }
}

/// The library verifies the signature and nothing else: names and times are ours to check, by the injected clock.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn key_of(jwk: &Jwk) -> Result<Key, String> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return Err("only OKP/Ed25519 (EdDSA), EC/P-256 (ES256) and RSA (RS256) are taken".into()),
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
    Ok(Key { kid: jwk.common.key_id.clone(), algorithm, key })
}

fn read(key: &'static str, path: &str) -> Result<String, KeysError> {
    use std::io::Read as _;
    let file = |why| KeysError::File { key, path: path.to_owned(), why };
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(file)?;
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(file)?;
    Ok(text)
}
