//! The keys that tokens are checked with, as one value: a JWK set, an HS256 secret, the expected audience and issuer.
//! Reloading means building a new value and swapping it in; if that fails the old one stays.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proto::Code;
use proto::json::Claims;
use voltron_core::config::{self, Auth, Signatures};

use super::Refusal;
use super::jwk::{self, Skipped};

/// The shortest HS256 secret, in bytes (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The largest key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Skipped keys that an error names.
const SKIPPED_SHOWN: usize = 8;

/// What tokens are checked with.
pub struct Keys {
    keys: Vec<Key>,
    skipped: Vec<Skipped>,
    /// True if a set was read. Without one and without a secret, the configuration is warned about.
    from_set: bool,
    audience: String,
    issuer: Option<String>,
    signatures_required: bool,
}

/// One key and the only algorithm that it is used with.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
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
    Jwks(String),
    /// No key of the set checks tokens.
    #[error("[auth] jwks_file has no key that checks tokens: {0}")]
    NoKey(String),
    /// The secret is too short.
    #[error("[auth] hs256_secret_file: {found} bytes, at least 32 are needed")]
    Secret {
        /// Its length in bytes.
        found: usize,
    },
}

impl Keys {
    /// From a JWK set as JSON and an HS256 secret; names and the signature mode come from `auth`, its files are not read.
    pub fn new(auth: &Auth, jwks: Option<&[u8]>, hs256_secret: Option<&[u8]>) -> Result<Self, KeysError> {
        let (mut keys, skipped) = jwks.map_or_else(|| Ok(Default::default()), jwk::read).map_err(KeysError::Jwks)?;
        if let Some(secret) = hs256_secret {
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeysError::Secret { found: secret.len() });
            }
            keys.push(Key { kid: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) });
        }
        Ok(Self {
            keys,
            skipped,
            from_set: jwks.is_some(),
            audience: auth.audience.clone(),
            issuer: auth.issuer.clone(),
            signatures_required: auth.signatures == Signatures::Required,
        })
    }

    /// Reads the files that `auth` names.
    pub fn load(auth: &Auth) -> Result<Self, KeysError> {
        let jwks = auth.jwks_file.as_deref().map(|path| read("jwks_file", path)).transpose()?;
        let secret = auth.hs256_secret_file.as_deref().map(|path| read("hs256_secret_file", path)).transpose()?;
        Self::new(auth, jwks.as_deref(), secret.as_deref().map(config::secret))
    }

    /// The keys of the set that check no tokens here, each with the reason.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Fails if no key is left, so that every token would be refused. A start is refused for that; a reload is not: a
    /// set that withdraws its last good key means it.
    pub fn check(&self) -> Result<(), KeysError> {
        if !self.keys.is_empty() || !self.from_set {
            return Ok(());
        }
        let reasons: Vec<String> = self.skipped.iter().take(SKIPPED_SHOWN).map(Skipped::to_string).collect();
        Err(KeysError::NoKey(if reasons.is_empty() { "the set is empty".into() } else { reasons.join("; ") }))
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
                // A key that turns out to be none, e.g. a point off its curve, must not hide the good one behind it.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::InvalidSignature
                            | ErrorKind::InvalidKeyFormat
                            | ErrorKind::InvalidEcdsaKey
                            | ErrorKind::InvalidEddsaKey
                            | ErrorKind::InvalidRsaKey(_)
                    ) => {}
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

/// A file's bytes; a longer one is refused, for its beginning alone would be another key.
fn read(key: &'static str, path: &str) -> Result<Vec<u8>, KeysError> {
    use std::io::Read as _;
    let file = |why| KeysError::File { key, path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(file)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(file(std::io::Error::other("longer than 1 MiB")));
    }
    Ok(bytes)
}
