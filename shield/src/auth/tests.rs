use super::*;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use voltron_core::config::Auth;

const NOW_MS: i64 = 1_700_000_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn keys() -> Keys {
    Keys::new(&Auth::default(), None, Some(SECRET)).expect("a good secret")
}

fn token(claims: serde_json::Value) -> String {
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).expect("claims encode")
}

fn good() -> serde_json::Value {
    json!({"aud": "arqon", "exp": NOW_MS / 1000 + 60, "sub": "ann", "tid": "acme",
           "arq": {"rooms": [{"m": "lobby", "a": ["sub", "pub"]}, {"m": "game-*", "a": ["sub"]}]}})
}

#[test]
fn good_token_gives_identity_and_rights() {
    let identity = keys().verify(&token(good()), NOW_MS).expect("a good token");
    assert_eq!((identity.tenant.as_str(), identity.user.as_str()), ("acme", "ann"));
    let rights = |room: &str| identity.rights(&RoomId::parse(room).unwrap());
    assert_eq!(rights("lobby"), Rights::SUB.with(Rights::PUB));
    assert_eq!(rights("game-7"), Rights::SUB);
    assert_eq!(rights("other"), Rights::default());
}

#[test]
fn bad_tokens_are_refused_with_their_code() {
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = good();
        claims[key] = value;
        token(claims)
    };
    let unsigned = {
        let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.", part(json!({"alg": "none"})), part(good()))
    };
    let crit = {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("x".into());
        let good = encode(&header, &good(), &EncodingKey::from_secret(SECRET)).unwrap();
        let head = BASE64URL_NOPAD.encode(json!({"alg": "HS256", "crit": ["exp"]}).to_string().as_bytes());
        format!("{head}.{}", good.split_once('.').unwrap().1)
    };
    let foreign =
        encode(&Header::default(), &good(), &EncodingKey::from_secret(b"another secret of 32 bytes....!!")).unwrap();
    let cases = [
        ("expired", with("exp", json!(NOW_MS / 1000)), Code::TokenExpired),
        ("not yet", with("nbf", json!(NOW_MS / 1000 + 120)), Code::TokenInvalid),
        ("future", with("iat", json!(NOW_MS / 1000 + 120)), Code::TokenInvalid),
        ("audience", with("aud", json!(["x", "y"])), Code::TokenInvalid),
        ("tenant", with("tid", json!("a.b")), Code::TokenInvalid),
        ("user", with("sub", json!("*")), Code::TokenInvalid),
        ("key", with("cnf", json!({"jwk": {"kty": "EC", "crv": "P-256", "x": "AA"}})), Code::TokenInvalid),
        ("meta", with("arq", json!({"rooms": [], "meta": "x".repeat(1100)})), Code::TokenInvalid),
        ("alg none", unsigned, Code::TokenInvalid),
        ("crit", crit, Code::TokenInvalid),
        ("foreign", foreign, Code::TokenInvalid),
        ("empty", String::new(), Code::TokenInvalid),
        ("no jwt", "a.b.c".into(), Code::TokenInvalid),
        ("long", "a".repeat(20_000), Code::TokenInvalid),
    ];
    for (name, token, code) in cases {
        let refusal = keys().verify(&token, NOW_MS).expect_err(name);
        assert_eq!(refusal.code, code, "{name}: {refusal}");
        assert!(token.is_empty() || !refusal.text.contains(&token), "{name}: a refusal never holds the token");
    }
}

#[test]
fn required_signatures_refuse_tokens_without_a_key() {
    let auth = Auth { signatures: voltron_core::config::Signatures::Required, ..Auth::default() };
    let keys = Keys::new(&auth, None, Some(SECRET)).unwrap();
    assert_eq!(keys.verify(&token(good()), NOW_MS).unwrap_err().code, Code::SignatureRequired);
}

#[test]
fn eddsa_key_of_a_set_verifies_by_kid() {
    use proto::signature::SigningKey;
    // RFC 8410: a PKCS#8 Ed25519 private key is this prefix and the 32 bytes of the seed.
    let seed = [7u8; 32];
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&seed);
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let jwks = |kid: &str| {
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64URL_NOPAD.encode(&public)}]})
            .to_string()
    };
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("one".into());
    let token = encode(&header, &good(), &EncodingKey::from_ed_der(&der)).unwrap();
    let verify = |kid: &str| Keys::new(&Auth::default(), Some(&jwks(kid)), None).unwrap().verify(&token, NOW_MS);
    assert!(verify("one").is_ok());
    assert_eq!(verify("two").unwrap_err().code, Code::TokenInvalid);
}

#[test]
fn short_secret_and_broken_set_are_refused() {
    assert!(matches!(Keys::new(&Auth::default(), None, Some(b"short")), Err(KeysError::Secret { found: 5 })));
    assert!(matches!(Keys::new(&Auth::default(), Some("{}"), None), Err(KeysError::Jwks(_))));
}
