//! Tokens: making them from an HS256 secret or an Ed25519 key, and reading what one claims.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::json::{Audience, Claims, Confirmation, Grant, Grants, Jwk};
use proto::signature::SigningKey;
use proto::{Rights, TenantId, UserId, id};

/// The audience that servers demand by default.
pub const AUDIENCE: &str = "arqon";
/// The shortest HS256 secret, in bytes (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 §7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a token is signed with.
pub enum Issuer {
    /// A shared secret, for development.
    Hs256(Vec<u8>),
    /// An Ed25519 key; servers know its public half by `kid` from their JWK set.
    EdDsa {
        /// The private key.
        key: Box<SigningKey>,
        /// Its name in the JWK set.
        kid: Option<String>,
    },
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Shorter than RFC 7518 demands.
    #[error("the secret has {0} bytes; HS256 needs at least {SECRET_BYTES_MIN}")]
    ShortSecret(usize),
    /// Not a key in a known form.
    #[error(
        "no Ed25519 private key: expected PEM (`openssl genpkey -algorithm ed25519`), or its 32 bytes in hex or base64"
    )]
    NoKey,
    /// Not a grant.
    #[error("{0}")]
    Grant(String),
    /// Not a JWT.
    #[error("this is no JWT: {0}")]
    Malformed(&'static str),
    /// The library refused.
    #[error("the token could not be signed: {0}")]
    Sign(String),
}

impl Issuer {
    /// From the bytes of a secret file, as a Shield reads it (`[auth] hs256_secret_file`).
    pub fn secret(file: &[u8]) -> Result<Self, TokenError> {
        let secret = voltron_core::config::secret(file);
        if secret.len() < SECRET_BYTES_MIN {
            return Err(TokenError::ShortSecret(secret.len()));
        }
        Ok(Self::Hs256(secret.to_vec()))
    }

    /// Signs these claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let (header, key) = match self {
            Self::Hs256(secret) => (Header::new(Algorithm::HS256), EncodingKey::from_secret(secret)),
            Self::EdDsa { key, kid } => {
                let mut header = Header::new(Algorithm::EdDSA);
                header.kid.clone_from(kid);
                let der = [&PKCS8[..], &key.to_bytes()].concat();
                (header, EncodingKey::from_ed_der(&der))
            }
        };
        jsonwebtoken::encode(&header, claims, &key).map_err(|error| TokenError::Sign(error.to_string()))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hs256(_) => "Issuer::Hs256(..)",
            Self::EdDsa { .. } => "Issuer::EdDsa(..)",
        })
    }
}

/// Reads an Ed25519 private key: PKCS #8 in PEM as openssl writes it, or the 32 bytes in hex or base64.
pub fn private_key(text: &str) -> Result<SigningKey, TokenError> {
    let text = text.trim();
    let bytes = match text.strip_prefix("-----BEGIN PRIVATE KEY-----") {
        Some(rest) => {
            let body = rest.strip_suffix("-----END PRIVATE KEY-----").ok_or(TokenError::NoKey)?;
            let body: String = body.split_whitespace().collect();
            let der = BASE64.decode(body.as_bytes()).map_err(|_| TokenError::NoKey)?;
            der.strip_prefix(&PKCS8).ok_or(TokenError::NoKey)?.to_vec()
        }
        None => HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .or_else(|_| BASE64.decode(text.as_bytes()))
            .or_else(|_| BASE64URL_NOPAD.decode(text.as_bytes()))
            .map_err(|_| TokenError::NoKey)?,
    };
    let seed: [u8; 32] = bytes.try_into().map_err(|_| TokenError::NoKey)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// What a token is asked to say.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `tid`.
    pub tenant: TenantId,
    /// `sub`.
    pub user: UserId,
    /// `arq.rooms`.
    pub grants: Vec<Grant>,
    /// Seconds from now until it ends.
    pub ttl_s: i64,
    /// `aud`.
    pub audience: String,
    /// `iss`.
    pub issuer: Option<String>,
    /// `cnf.jwk`: this key signs the user's messages.
    pub signs_with: Option<SigningKey>,
    /// `jti`.
    pub id: String,
}

impl Wish {
    /// The claims, valid from `now_s` (seconds since 1970) on.
    pub fn claims(self, now_s: i64) -> Claims {
        Claims {
            iss: self.issuer,
            aud: Some(Audience::One(self.audience)),
            exp: now_s.saturating_add(self.ttl_s),
            nbf: None,
            iat: Some(now_s),
            jti: Some(self.id),
            sub: self.user.as_str().to_owned(),
            tid: self.tenant.as_str().to_owned(),
            cnf: self.signs_with.map(|key| Confirmation { jwk: Jwk::new(&key.verifying_key().to_bytes()) }),
            arq: Grants { rooms: self.grants, meta: None },
        }
    }
}

/// Parses `PATTERN:ACTIONS`: a room id, a prefix and `*`, or `*`; then actions parted by commas, or `all`.
pub fn grant(text: &str) -> Result<Grant, TokenError> {
    let wrong = |text: String| Err(TokenError::Grant(text));
    let Some((pattern, actions)) = text.split_once(':') else {
        return wrong(format!("{text:?} has no `:`; write PATTERN:ACTIONS, e.g. 'lobby:sub,pub' or 'game-*:all'"));
    };
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    if !(prefix.is_empty() && pattern == "*" || id::is_id(prefix, 128)) {
        return wrong(format!("{pattern:?} is neither a room id, nor a prefix of one and `*`, nor `*`"));
    }
    let names = Rights::NAMES.map(|(name, _)| name);
    let mut granted = Vec::new();
    for action in actions.split(',').map(str::trim) {
        if action == "all" {
            granted.extend(names.map(str::to_owned));
        } else if names.contains(&action) {
            granted.push(action.to_owned());
        } else {
            return wrong(format!("{action:?} is no action; there are {} and all", names.join(", ")));
        }
    }
    granted.dedup();
    Ok(Grant { m: pattern.to_owned(), a: granted })
}

/// A token's two JSON parts, read without checking its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// The header.
    pub header: serde_json::Value,
    /// The claims as they stand there.
    pub claims: serde_json::Value,
    /// The claims as a server reads them, or why it cannot.
    pub read: Result<Claims, String>,
}

/// Takes a token apart.
pub fn parts(token: &str) -> Result<Parts, TokenError> {
    let mut pieces = token.trim().split('.');
    let (Some(header), Some(claims), Some(_), None) = (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(TokenError::Malformed("it has not three parts with dots between"));
    };
    let json = |part: &str, base64, json| {
        let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenError::Malformed(base64))?;
        serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(json))
    };
    let header: serde_json::Value = json(header, "its header is not base64url", "its header is not JSON")?;
    let claims: serde_json::Value = json(claims, "its claims are not base64url", "its claims are not JSON")?;
    let read = serde_json::from_value(claims.clone()).map_err(|error| error.to_string());
    Ok(Parts { header, claims, read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            tenant: "acme".parse().unwrap(),
            user: "ann".parse().unwrap(),
            grants: vec![grant("lobby:sub,pub").unwrap()],
            ttl_s: 60,
            audience: AUDIENCE.into(),
            issuer: None,
            signs_with: None,
            id: "1".into(),
        }
    }

    #[test]
    fn a_token_reads_back() {
        let key = SigningKey::from_bytes(&[3; 32]);
        for issuer in [Issuer::Hs256(vec![1; 32]), Issuer::EdDsa { key: Box::new(key), kid: Some("k".into()) }] {
            let claims = wish().claims(100);
            let parts = parts(&issuer.sign(&claims).unwrap()).unwrap();
            assert_eq!(parts.read.unwrap(), claims);
            assert_eq!(claims.exp, 160);
        }
    }

    #[test]
    fn an_eddsa_token_verifies_with_the_public_key() {
        use jsonwebtoken::{DecodingKey, Validation, decode};
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = BASE64URL_NOPAD.encode(&key.verifying_key().to_bytes());
        let token = Issuer::EdDsa { key: Box::new(key), kid: None }.sign(&wish().claims(100)).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.set_audience(&[AUDIENCE]);
        let public = DecodingKey::from_ed_components(&public).unwrap();
        decode::<Claims>(&token, &public, &validation).expect("the signature holds");
    }

    #[test]
    fn grants_are_checked() {
        assert_eq!(
            grant("game-*:sub, pub").unwrap(),
            Grant { m: "game-*".into(), a: vec!["sub".into(), "pub".into()] }
        );
        assert_eq!(grant("*:all").unwrap().rights(), Rights(127));
        for bad in ["lobby", "a.b:sub", "*a:sub", "a**:sub", ":sub", "lobby:", "lobby:admin", ">:sub"] {
            assert!(grant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_keys_are_read_in_each_form() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let der = BASE64.encode(&[&PKCS8[..], &[9; 32]].concat());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        for text in [pem, "09".repeat(32), BASE64.encode(&[9; 32]), BASE64URL_NOPAD.encode(&[9; 32])] {
            assert_eq!(private_key(&text).unwrap(), key, "{text}");
        }
        for bad in ["", "09", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no key at all"] {
            assert!(private_key(bad).is_err(), "{bad}");
        }
    }
}
