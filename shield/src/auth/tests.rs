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
    let verify =
        |kid: &str| Keys::new(&Auth::default(), Some(jwks(kid).as_bytes()), None).unwrap().verify(&token, NOW_MS);
    assert!(verify("one").is_ok());
    assert_eq!(verify("two").unwrap_err().code, Code::TokenInvalid);
}

#[test]
fn short_secret_and_broken_set_are_refused() {
    assert!(matches!(Keys::new(&Auth::default(), None, Some(b"short")), Err(KeysError::Secret { found: 5 })));
    assert!(matches!(Keys::new(&Auth::default(), Some(b"{}"), None), Err(KeysError::Jwks(_))));
}

/// A set with a good key behind `other`; the token was signed by the good one and names no key.
fn beside(other: serde_json::Value) -> (Keys, Result<Identity, Refusal>) {
    use proto::signature::SigningKey;
    let seed = [7u8; 32];
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&seed);
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let good_key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "good", "x": BASE64URL_NOPAD.encode(&public), "use": "sig",
        "key_ops": ["verify"], "alg": "EdDSA", "x5c": ["AAAA"], "ext": true});
    let set = json!({"keys": [other, good_key]}).to_string();
    let keys = Keys::new(&Auth::default(), Some(set.as_bytes()), None).expect("a set");
    let token = encode(&Header::new(Algorithm::EdDSA), &good(), &EncodingKey::from_ed_der(&der)).unwrap();
    let verified = keys.verify(&token, NOW_MS);
    (keys, verified)
}

/// RFC 7517 §5, §4.2 to §4.4: a key of another kind, for another use or for another algorithm is skipped and named, and the
/// good one beside it serves.
#[test]
fn what_a_set_holds_besides_is_skipped_and_named() {
    let b64 = |len: usize| BASE64URL_NOPAD.encode(&vec![0xc5; len]);
    let rsa = |more: serde_json::Value| {
        let mut key = json!({"kty": "RSA", "kid": "rsa", "n": b64(256), "e": "AQAB"});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    let skipped = [
        (json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": b64(64)}), "AKP: only OKP Ed25519"),
        (rsa(json!({"use": "enc", "alg": "RSA-OAEP"})), "use is \"enc\""),
        (rsa(json!({"key_ops": ["encrypt", "wrapKey"]})), "key_ops does not hold"),
        (rsa(json!({"key_ops": "verify"})), "key_ops is no array"),
        (rsa(json!({"use": "sig", "alg": "PS256"})), "alg is \"PS256\""),
        (rsa(json!({"alg": "RS512"})), "alg is \"RS512\""),
        (rsa(json!({"n": b64(128)})), "RSA of 1024 bits"),
        (rsa(json!({"kid": 5})), "kid is no string"),
        (rsa(json!({"n": "!"})), "n is not in base64url"),
        (json!({"kty": "OKP", "crv": "X25519", "use": "enc", "kid": "x", "x": b64(32)}), "OKP X25519"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": b64(31)}), "x is no Ed25519 key"),
        (json!({"kty": "EC", "crv": "P-384", "alg": "ES384", "kid": "p384", "x": b64(48), "y": b64(48)}), "EC P-384"),
        (json!({"kty": "EC", "crv": "P-256", "x": b64(32), "y": b64(31)}), "have 32 bytes each"),
        (json!({"kty": "oct", "kid": "o", "k": b64(32)}), "oct: only"),
        (json!("no object"), "it has no kty"),
        (json!({}), "it has no kty"),
    ];
    for (other, why) in skipped {
        let (keys, verified) = beside(other.clone());
        assert!(verified.is_ok(), "{other}: {verified:?}");
        assert_eq!(keys.skipped().len(), 1, "{other}");
        let told = keys.skipped()[0].to_string();
        assert!(told.starts_with("key 0") && told.contains(why), "{told}");
        assert!(keys.check().is_ok());
        let alone = json!({"keys": [other]}).to_string();
        let alone = Keys::new(&Auth::default(), Some(alone.as_bytes()), None).expect("a set");
        assert!(matches!(alone.check(), Err(KeysError::NoKey(text)) if text.contains(why)));
    }
    // Good ones of other kinds: nothing is skipped. A point that is on no curve shows itself only when it is used.
    for other in [
        rsa(json!({})),
        rsa(json!({"use": "sig", "alg": "RS256", "key_ops": ["sign", "verify"]})),
        json!({"kty": "EC", "crv": "P-256", "x": b64(32), "y": b64(32)}),
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "x": BASE64URL_NOPAD.encode(&proto::signature::SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes())}),
    ] {
        let (keys, verified) = beside(other.clone());
        assert_eq!((keys.skipped(), verified.is_ok()), (&[][..], true), "{other}");
    }
}

#[test]
fn the_number_of_keys_is_bounded() {
    let one = |n: u8| {
        let public = proto::signature::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
        json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(&public)})
    };
    let set = json!({"keys": (0..=64).map(one).collect::<Vec<_>>()}).to_string();
    let keys = Keys::new(&Auth::default(), Some(set.as_bytes()), None).unwrap();
    assert_eq!(keys.skipped().len(), 1);
    assert!(keys.skipped()[0].to_string().contains("key 64 is not used: at most 64"), "{}", keys.skipped()[0]);
}
