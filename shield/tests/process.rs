//! The `shield` binary as a process of its own: what it says, where its configuration comes from, how it ends.
#![cfg(all(feature = "nats", not(madsim)))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use support::process::{Folder, Served, closed_pipe};
use support::world::now_ms;
use support::{Got, Raw, claims};

/// Standard output and standard error may lose their reader at any time; the server goes on and its end is still a good
/// one.
#[tokio::test]
async fn a_reader_that_is_gone_ends_no_server() {
    let folder = Folder::new();
    let config = folder.config("");
    for words in [&["--json"][..], &[]] {
        let mut served = Served::start(&config, words, Some(closed_pipe()), None).await;
        // Standard output has no reader, so the log names the addresses.
        served.logs("listening").await;
        assert_eq!(served.get("/healthz").await, "ok\n");
        assert_eq!(served.terminate().await, Some(0), "{words:?}");
    }
    let mut served = Served::start(&config, &["--json"], None, Some(closed_pipe())).await;
    served.says_where().await;
    // The log has no reader: a line of it must not end the server either.
    served.hang_up();
    for _ in 0..3 {
        assert_eq!(served.get("/healthz").await, "ok\n");
    }
    assert_eq!(served.terminate().await, Some(0));
}

fn base64url(bytes: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

/// A key pair of Ed25519 under a name: its JWK, and a token that it signed.
fn ed25519(kid: &str, seed: u8) -> (Value, String) {
    // RFC 8410: a PKCS#8 Ed25519 private key is this prefix and the 32 bytes of the seed.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    let public = proto::signature::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.kid = Some(kid.into());
    let key = jsonwebtoken::EncodingKey::from_ed_der(&der);
    let token = jsonwebtoken::encode(&header, &claims("ann", now_ms() / 1000), &key).unwrap();
    (json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url(&public)}), token)
}

/// True if a token opens a connection; false if it is refused as invalid.
async fn lets_in(served: &Served, token: &str) -> bool {
    let mut client = Raw::new(served.connect().await);
    let headers = ["Sec-WebSocket-Protocol: arqon.v1".into(), format!("Authorization: Bearer {token}")];
    assert!(client.handshake("/v1/ws", &headers).await.starts_with("HTTP/1.1 101 "));
    match client.next().await {
        Got::Text(hello) => hello.starts_with('\u{4}'),
        Got::Binary(err) => {
            assert_eq!(&err[1..3], &2002u16.to_be_bytes());
            false
        }
        other => panic!("{other:?}"),
    }
}

/// RFC 7517 §5: what a set holds beside the keys that check tokens neither stops the server nor a reload; and the keys of
/// the set as it is now are the only ones.
#[tokio::test]
async fn a_reload_takes_the_good_keys_of_a_set_and_drops_those_that_are_gone() {
    let folder = Folder::new();
    let set = |keys: &[&Value]| folder.write("jwks.json", json!({"keys": keys}).to_string().as_bytes());
    let foreign = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": base64url(&[7; 64])});
    let ((old, old_token), (new, new_token)) = (ed25519("old", 1), ed25519("new", 2));
    let jwks = set(&[&foreign, &old]);
    let auth = format!("[auth]\njwks_file = {:?}\n", jwks.display().to_string());
    let mut served = Served::ready(&folder.config_with(&auth, "")).await;
    assert!(served.logs("is not used").await.contains(r#"key 0 (kid "pq")"#), "what is skipped is named");
    assert!(lets_in(&served, &old_token).await);
    assert!(!lets_in(&served, &new_token).await);

    set(&[&new, &foreign, &old]);
    served.hang_up();
    served.logs("keys and limits reloaded").await;
    assert!(lets_in(&served, &old_token).await && lets_in(&served, &new_token).await);

    // Withdrawn: for a new connection, and for AUTH on one that is open.
    let mut open = Raw::open(served.connect().await, &new_token).await;
    set(&[&new, &foreign]);
    served.hang_up();
    served.logs("keys and limits reloaded").await;
    assert!(!lets_in(&served, &old_token).await && lets_in(&served, &new_token).await);
    open.text(&format!("\u{5}{}", json!({"token": old_token}))).await;
    assert_eq!(open.json().await["code"], 2002);

    folder.write("jwks.json", b"{no set");
    served.hang_up();
    served.logs("reload refused").await;
    assert!(lets_in(&served, &new_token).await, "a broken file leaves the keys as they are");

    set(&[&foreign]);
    served.hang_up();
    served.logs("no key is left").await;
    assert!(!lets_in(&served, &new_token).await, "a set that withdraws its last key is obeyed");
    assert_eq!(served.terminate().await, Some(0));

    let (code, log) = Served::start(&folder.config_with(&auth, ""), &[], None, None).await.refused().await;
    assert_eq!(code, Some(2), "a start without any key is refused: {log}");
    assert!(log.contains("no key that checks tokens") && log.contains("AKP"), "{log}");
}

#[tokio::test]
async fn a_secret_of_any_bytes_checks_tokens() {
    let folder = Folder::new();
    // No UTF-8, and its last byte is a line feed that belongs to it.
    let secret: Vec<u8> = (0x80..0x9f).chain([b'\n']).collect();
    let path = folder.write("random", &secret);
    let config = folder.config_with(&format!("[auth]\nhs256_secret_file = {:?}\n", path.display().to_string()), "");
    let served = Served::ready(&config).await;
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::EncodingKey::from_secret(&secret);
    let token = jsonwebtoken::encode(&header, &claims("ann", now_ms() / 1000), &key).unwrap();
    assert!(lets_in(&served, &token).await);
    assert_eq!(served.terminate().await, Some(0));
}

/// What cannot be served is refused with the words of `arq config check`, before anything is bound.
#[tokio::test]
async fn what_the_check_refuses_is_not_served() {
    let folder = Folder::new();
    let cases = [
        ("nats.password_file = \"/nonexistent/password\"\nnats.user = \"u\"\n", "[nats] password_file"),
        ("log.trace_file = \"/nonexistent/trace.jsonl\"\n", "[log] trace_file"),
    ];
    for (line, says) in cases {
        let path = folder.write("secret", support::SECRET);
        let auth = format!("auth.hs256_secret_file = {:?}\n", path.display().to_string());
        let config = folder.config_with(&auth, line);
        let config = voltron_core::config::Config::load(&config).unwrap();
        let told = shield::Startup::load(&config).err().expect("a file that is not there").to_string();
        assert!(told.contains(says), "{told}");
        let (code, log) = Served::start(&folder.config_with(&auth, line), &[], None, None).await.refused().await;
        assert_eq!((code, log.contains(&told)), (Some(2), true), "{told}: {log}");
    }
}
