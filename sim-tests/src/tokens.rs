//! Tokens for test clients: HS256 with a secret that the seed determines.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::json::{Audience, Claims, Grant, Grants};

use crate::seed::Draw;

/// How long a token is good for, seconds.
const LIFETIME_S: i64 = 24 * 3600;

/// The secret of the world with this seed.
pub fn secret(seed: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    Draw::new(seed, "auth/secret").fill_at(0, &mut secret);
    secret
}

/// A token for `user`, who may do all that a member may in every room of `tenant`. `now_s`: seconds since 1970.
pub fn token(secret: &[u8], audience: &str, tenant: &str, user: &str, now_s: i64) -> String {
    let actions = ["sub", "pub", "state", "presence", "create"].map(str::to_owned).to_vec();
    let claims = Claims {
        aud: Some(Audience::One(audience.to_owned())),
        exp: now_s + LIFETIME_S,
        sub: user.to_owned(),
        tid: tenant.to_owned(),
        arq: Grants { rooms: vec![Grant { m: "*".to_owned(), a: actions }], meta: None },
        ..Claims::default()
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .expect("claims have string keys, and HS256 signs with any secret")
}
