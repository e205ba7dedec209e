//! Tokens for test clients: HS256 with a secret that the seed determines; and tokens that nobody should take.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::Code;
use proto::json::{Audience, Claims, Grant, Grants};

use crate::client::Token;
use crate::seed::Draw;

/// How long a token is good for, seconds.
const LIFETIME_S: i64 = 24 * 3600;

/// The secret of the world with this seed.
pub fn secret(seed: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    Draw::new(seed, "auth/secret").fill_at(0, &mut secret);
    secret
}

/// All that a member may in every room; a moderator may more.
pub fn grants(moderator: bool) -> Vec<Grant> {
    let actions = ["sub", "pub", "state", "presence", "create", "mod"];
    let granted = if moderator { &actions[..] } else { &actions[..5] };
    vec![Grant { m: "*".to_owned(), a: granted.iter().map(|&action| action.to_owned()).collect() }]
}

/// A token for `user`, who may do all that a member may in every room of `tenant`. `now_s`: seconds since 1970.
pub fn token(secret: &[u8], audience: &str, tenant: &str, user: &str, now_s: i64) -> String {
    with_grants(secret, audience, tenant, user, now_s, grants(false))
}

/// A token for `user` with these grants.
pub fn with_grants(secret: &[u8], audience: &str, tenant: &str, user: &str, now_s: i64, rooms: Vec<Grant>) -> String {
    let claims = Claims {
        aud: Some(Audience::One(audience.to_owned())),
        exp: now_s + LIFETIME_S,
        sub: user.to_owned(),
        tid: tenant.to_owned(),
        arq: Grants { rooms, meta: None },
        ..Claims::default()
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .expect("claims have string keys, and HS256 signs with any secret")
}

/// Tokens of `user` that must be refused, each with its codes.
pub fn strange(secret: &[u8], audience: &str, tenant: &str, user: &str, now_s: i64) -> Vec<Token> {
    let good = |secret: &[u8], audience: &str, now_s: i64| token(secret, audience, tenant, user, now_s);
    let refused =
        |what, token, code: Code, close: Code| Token { what, token, code: code.as_u16(), close: close.as_u16() };
    let invalid = |what, token| refused(what, token, Code::TokenInvalid, Code::CloseTokenInvalid);
    let expired = good(secret, audience, now_s - LIFETIME_S - 600);
    vec![
        refused("an expired token", expired, Code::TokenExpired, Code::CloseTokenExpired),
        invalid("a token that others signed", good(b"another secret of 32 bytes or so", audience, now_s)),
        invalid("a token for another audience", good(secret, "elsewhere", now_s)),
        invalid("no token at all", "not.a.jwt".to_owned()),
    ]
}
