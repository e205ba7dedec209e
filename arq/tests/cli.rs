//! What the commands print and how they end: help and error texts are snapshots, so that a change is seen.

mod common;

use common::{arq, arq_with_stdin, show};

#[test]
fn help() {
    for words in [
        &["--help"][..],
        &["dev", "--help"],
        &["sub", "--help"],
        &["pub", "--help"],
        &["token", "new", "--help"],
        &["token", "inspect", "--help"],
        &["frame", "--help"],
        &["frame", "decode", "--help"],
        &["frame", "encode", "--help"],
        &["error", "--help"],
        &["config", "--help"],
        &["config", "render", "--help"],
    ] {
        let name = words.join("_").replace("--", "");
        insta::assert_snapshot!(format!("help_{name}"), show(&arq(words)));
    }
}

#[test]
fn errors_of_use() {
    let cases: &[(&str, &[&str])] = &[
        ("no_command", &[]),
        ("wrong_command", &["pubb"]),
        ("bad_room", &["sub", "a.b"]),
        ("nothing_to_say", &["pub", "lobby"]),
        ("bad_since", &["sub", "lobby", "--since", "5"]),
        ("bad_pair", &["pub", "lobby", "--set", "novalue"]),
        ("no_key", &["token", "new"]),
        ("bad_grant", &["token", "new", "--secret-file", "x", "--room", "lobby:admin"]),
        ("bad_ttl", &["token", "new", "--secret-file", "x", "--ttl", "1w"]),
        ("no_file", &["token", "new", "--secret-file", "/nonexistent/secret"]),
        ("https_url", &["sub", "lobby", "--url", "https://example.org"]),
        ("nobody_there", &["sub", "lobby", "--url", "ws://127.0.0.1:1/v1/ws"]),
        ("nobody_there_pub", &["pub", "lobby", "x", "--url", "ws://127.0.0.1:1/v1/ws", "--ack"]),
        ("no_config", &["config", "check", "/nonexistent/arqon.toml"]),
    ];
    for (name, words) in cases {
        insta::assert_snapshot!(format!("use_{name}"), show(&arq(words)));
    }
}

#[test]
fn error_explains_by_number_and_name_and_names_the_nearest() {
    insta::assert_snapshot!(show(&arq(&["error", "5010"])));
    assert_eq!(show(&arq(&["error", "outcome_expired"])), show(&arq(&["error", "5010"])));
    insta::assert_snapshot!("error_5010_json", show(&arq(&["error", "5010", "--json"])));
    insta::assert_snapshot!("error_unknown_number", show(&arq(&["error", "5099"])));
    insta::assert_snapshot!("error_unknown_name", show(&arq(&["error", "outcom_expird"])));
    let all = arq(&["error"]);
    assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), proto::error::REGISTRY.len());
}

#[test]
fn frames_good_and_bad() {
    let good = {
        let json = r#"{"frame":"pub","envelope":{"room_id":"lobby","timestamp":1700000000000,
            "message_id":"hex:07070707070707070707070707070707","ack_requested":true,
            "cmd":{"say":{"data":"text:hi","type":"chat"}}}}"#;
        let out = arq(&["frame", "encode", json]);
        assert!(out.status.success(), "{}", show(&out));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    insta::assert_snapshot!("frame_good", show(&arq(&["frame", "decode", &good])));
    insta::assert_snapshot!("frame_cut", show(&arq(&["frame", "decode", &good[..good.len() - 2]])));
    insta::assert_snapshot!("frame_twice", show(&arq(&["frame", "decode", "--json", &format!("{good}1a03626164")])));
    insta::assert_snapshot!("frame_opcode", show(&arq(&["frame", "decode", "--json", "7f00"])));
    insta::assert_snapshot!("frame_err", show(&arq(&["frame", "decode", "--json", "9917747761697420"])));
    insta::assert_snapshot!("frame_not_hex", show(&arq(&["frame", "decode", "not hex!"])));
    insta::assert_snapshot!("frame_incomplete", show(&arq(&["frame", "encode", r#"{"frame":"pub","envelope":{}}"#])));
    insta::assert_snapshot!(
        "frame_unknown_key",
        show(&arq(&["frame", "encode", r#"{"frame":"ack","ack":{"cod":1}}"#]))
    );
}

#[test]
fn a_frame_goes_through_files_and_pipes_in_every_form() {
    let json = r#"{"frame":"err","code":6004,"text":"wait"}"#;
    for form in ["hex", "base64", "raw"] {
        let encoded = arq(&["frame", "encode", json, "--form", form]);
        let decoded = arq_with_stdin(&["frame", "decode", "-", "--json"], &encoded.stdout);
        let decoded: serde_json::Value = serde_json::from_slice(&decoded.stdout).unwrap();
        assert_eq!((&decoded["code"], &decoded["name"]), (&6004.into(), &"stale".into()), "{form}");
    }
}

#[test]
fn tokens_are_made_and_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let secret = secret.to_str().unwrap();
    let words =
        ["token", "new", "--secret-file", secret, "--user", "ann", "--room", "lobby:sub,pub", "--room", "g-*:all"];
    let made = arq(&words);
    assert!(made.status.success(), "{}", show(&made));
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let shown = arq(&["token", "inspect", &token]);
    assert_eq!(shown.status.code(), Some(0), "{}", show(&shown));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["claims"]["sub"], "ann");
    assert_eq!(shown["claims"]["arq"]["rooms"][0], serde_json::json!({"m": "lobby", "a": ["sub", "pub"]}));
    assert_eq!(arq_with_stdin(&["token", "inspect", "-"], token.as_bytes()).status.code(), Some(0));

    std::fs::write(dir.path().join("short"), "short").unwrap();
    let short = dir.path().join("short");
    insta::assert_snapshot!(
        "token_short_secret",
        show(&arq(&["token", "new", "--secret-file", short.to_str().unwrap()]))
    );
    insta::assert_snapshot!("token_malformed", show(&arq(&["token", "inspect", "abc"])));
    // {"alg":"HS256"} and claims that ended in 2001.
    let old = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJ0aWQiOiJhLmIiLCJleHAiOjEwMDAwMDAwMDB9.AA";
    let old = arq(&["token", "inspect", old]);
    assert_eq!(old.status.code(), Some(1));
    let text = String::from_utf8(old.stderr).unwrap();
    for part in ["it expired", "names no audience", "tid: a tenant id must be", "grants nothing"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn the_jwk_set_holds_the_public_half_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "09".repeat(32)).unwrap();
    let out = arq(&["token", "jwks", "--key", key.to_str().unwrap(), "--kid", "k1"]);
    insta::assert_snapshot!(show(&out));
}

#[test]
fn configuration_is_checked_and_rendered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("arqon.toml");
    let path = file.to_str().unwrap();
    let rendered = arq(&["config", "render"]);
    std::fs::write(&file, &rendered.stdout).unwrap();
    let checked = arq(&["config", "check", path]);
    assert_eq!(checked.status.code(), Some(0), "{}", show(&checked));
    let brain = String::from_utf8(arq(&["config", "render", "brain", path]).stdout).unwrap();
    assert!(brain.trim_end().ends_with("."), "a term for file:consult/1 ends in a full stop: {brain}");
    let large = "logs = 8\nreplicas = 3\nlog_max_bytes = 10_737_418_240\n";
    std::fs::write(&file, format!("[nats]\n{large}\n[policy]\ndefault = \"none\"\n")).unwrap();
    let checked = show(&arq(&["config", "check", path]));
    assert!(checked.contains("reserves 80.0 GiB of disk, 8 log stream(s) of 10.0 GiB each"), "{checked}");
    assert!(checked.contains("240.0 GiB with 3 copies in all"), "{checked}");
    std::fs::write(&file, "[server]\nprot = 1\n\n[policy]\ndefault = \"none\"\n").unwrap();
    let refused = show(&arq(&["config", "check", path])).replace(path, "arqon.toml");
    insta::assert_snapshot!(refused);

    // The files that it names: what is not on this machine is noted, and refused where it is needed; what is there must be
    // good, for `shield serve` takes nothing else.
    let set = dir.path().join("jwks.json");
    let auth = format!("policy.default = \"none\"\nauth.jwks_file = {:?}\n", set.to_str().unwrap());
    std::fs::write(&file, &auth).unwrap();
    let missing = arq(&["config", "check", path]);
    assert_eq!(missing.status.code(), Some(0), "{}", show(&missing));
    assert!(show(&missing).contains("a Shield does not start without it"), "{}", show(&missing));
    let needed = arq(&["config", "check", "--files", path]);
    assert!(needed.status.code() == Some(1) && show(&needed).contains("jwks_file"), "{}", show(&needed));
    let good = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    for (keys, code, says) in [
        ("{".to_owned(), 1, "no JWK set"),
        (r#"{"keys":[{"kty":"oct","kid":"o"}]}"#.to_owned(), 1, "no key that checks tokens"),
        (format!(r#"{{"keys":[{{"kty":"oct","kid":"o"}},{good}]}}"#), 0, r#"key 0 (kid "o") is not used"#),
    ] {
        std::fs::write(&set, &keys).unwrap();
        let checked = arq(&["config", "check", path]);
        assert!(checked.status.code() == Some(code) && show(&checked).contains(says), "{keys}: {}", show(&checked));
    }
}
