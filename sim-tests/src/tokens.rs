//! Tokens for test clients: HS256 with a secret that the seed determines; and tokens that nobody should take.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::Code;
use proto::json::{Audience, Claims, Confirmation, Grant, Grants, Jwk};

use crate::client::{Renewal, Token};
use crate::seed::Draw;

/// The base point of Ed25519: a public key that is no weak one.
const ED25519_BASE: [u8; 32] = {
    let mut bytes = [0x66; 32];
    bytes[0] = 0x58;
    bytes
};

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
    signed(&claims(audience, tenant, user, now_s, rooms), secret)
}

fn claims(audience: &str, tenant: &str, user: &str, now_s: i64, rooms: Vec<Grant>) -> Claims {
    Claims {
        aud: Some(Audience::One(audience.to_owned())),
        exp: now_s + LIFETIME_S,
        sub: user.to_owned(),
        tid: tenant.to_owned(),
        arq: Grants { rooms, meta: None },
        ..Claims::default()
    }
}

fn signed(claims: &Claims, secret: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
        .expect("claims have string keys, and HS256 signs with any secret")
}

/// Tokens to present on a connection of `user` that lives, each with the code that answers it; 0: it is accepted.
pub fn renewals(secret: &[u8], audience: &str, tenant: &str, user: &str, now_s: i64, rooms: &[Grant]) -> Vec<Renewal> {
    let good = claims(audience, tenant, user, now_s, rooms.to_vec());
    let of = |what, claims: &Claims, secret: &[u8], code: u16| Renewal { what, token: signed(claims, secret), code };
    let (invalid, expired) = (Code::TokenInvalid.as_u16(), Code::TokenExpired.as_u16());
    let later = Claims { exp: good.exp + 60, ..good.clone() };
    let foreign = Claims { sub: format!("{user}-other"), ..good.clone() };
    let bound = Claims { cnf: Some(Confirmation { jwk: Jwk::new(&ED25519_BASE) }), ..good.clone() };
    let ahead = Claims { nbf: Some(now_s + LIFETIME_S / 2), ..good.clone() };
    let past = Claims { exp: now_s - 600, ..good };
    vec![
        of("a token that holds", &later, secret, 0),
        of("a token that holds", &later, secret, 0),
        of("a token of another user", &foreign, secret, invalid),
        of("a token that names a key", &bound, secret, invalid),
        of("a token that is not valid yet", &ahead, secret, invalid),
        of("a token that has expired", &past, secret, expired),
        of("a token that others signed", &later, b"another secret of 32 bytes or so", invalid),
    ]
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
