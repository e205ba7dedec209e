//! JSON bodies: strict on what clients send, stable in what servers say.

use bytes::Bytes;
use proto::json::{
    Audience, AuthRequest, Claims, Format, Hello, Jwk, Limits, Presence, SignatureMode, Since, SubFamily, SubResult,
    TextOp, UnsubRequest, Unsubbed, parse, render, sub_family, text_op, to_string,
};
use proto::{Code, Rights, v1};

fn refusal(text: &str) -> (Code, String) {
    let error = text_op(text).expect_err(text);
    (error.code, error.text)
}

#[test]
fn a_subscription_in_full_and_at_its_least() {
    let full = r#"{"id":7,"room":"lobby","since":{"epoch":1,"seq":2,"pos":3},"history":256,"presence":"list","format":"json"}"#;
    let Ok(SubFamily::Sub(request)) = sub_family(full) else { panic!("a SUB") };
    assert_eq!(request.since, Some(Since { epoch: 1, seq: 2, pos: Some(3) }));
    assert_eq!((request.presence, request.format), (Some(Presence::List), Some(Format::Json)));
    assert_eq!(to_string(&request), full);
    let with_op = full.replacen('{', r#"{"op":"sub","#, 1);
    assert_eq!(sub_family(&with_op), Ok(SubFamily::Sub(request.clone())));
    assert_eq!(text_op(&with_op), Ok(TextOp::Sub(request.clone())));
    assert_eq!(to_string(&TextOp::Sub(request)), with_op);
    let Ok(SubFamily::Sub(least)) = sub_family(r#"{"id":0,"room":"r"}"#) else { panic!("a SUB") };
    assert_eq!(least.since, None);
}

#[test]
fn the_family_of_sub() {
    assert!(matches!(sub_family(r#"{"op":"get","id":1,"room":"r"}"#), Ok(SubFamily::Get(_))));
    assert!(matches!(sub_family(r#"{"op":"presence","room":"r","meta":{"a":1}}"#), Ok(SubFamily::Presence(_))));
    assert_eq!(sub_family(r#"{"op":"unsub","room":"r"}"#).expect_err("not here").code, Code::MalformedJson);
    assert!(parse::<UnsubRequest>(r#"{"room":"r"}"#).is_ok());
    assert!(parse::<AuthRequest>(r#"{"token":"t"}"#).is_ok());
}

#[test]
fn every_text_op_round_trips() {
    for text in [
        r#"{"op":"sub","id":1,"room":"r"}"#,
        r#"{"op":"unsub","room":"r"}"#,
        r#"{"op":"pub","id":1,"room":"r","type":"t","data":"d","ack":true,"ephemeral":false}"#,
        r#"{"op":"get","id":1,"room":"r"}"#,
        r#"{"op":"presence","id":1,"room":"r","meta":null}"#,
        r#"{"op":"auth","token":"t"}"#,
    ] {
        assert_eq!(to_string(&text_op(text).expect(text)), text);
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let cases = [
        (r#"{"op":"sub","id":1,"room":"r","hist":3}"#, r#"unknown key "hist": the keys are op, id, room, since"#),
        (r#"{"op":"sub","id":1,"room":"r","presense":"off"}"#, r#"unknown key "presense": did you mean "presence"?"#),
        (r#"{"op":"pub","room":"r","ephmral":true}"#, r#"unknown key "ephmral": did you mean "ephemeral"?"#),
        (r#"{"op":"pub","room":"r","dta":"x"}"#, r#"unknown key "dta": did you mean "data"?"#),
        (r#"{"op":"unsub","room":"r","id":1}"#, r#"unknown key "id""#),
        (r#"{"op":"sub","id":1,"room":"r","since":{"epoch":1,"seq":2,"sq":1}}"#, "unknown field `sq`"),
    ];
    for (text, expected) in cases {
        let (code, said) = refusal(text);
        assert_eq!(code, Code::UnknownKey, "{text}: {said}");
        assert!(said.starts_with(expected), "{said}");
    }
    let long = format!(r#"{{"op":"unsub","room":"r","{}":1}}"#, "k".repeat(5000));
    assert!(refusal(&long).1.len() < 200, "a hostile key does not fill the answer");
    assert_eq!(parse::<UnsubRequest>(r#"{"op":"unsub","room":"r"}"#).expect_err("a frame").code, Code::UnknownKey);
}

#[test]
fn malformed_bodies_are_refused_with_what_was_expected() {
    for text in [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        r#"{"op":7}"#,
        r#"{"op":"fly"}"#,
        r#"{"op":"sub","id":-1,"room":"r"}"#,
        r#"{"op":"sub","id":1}"#,
        r#"{"op":"sub","id":1,"room":7}"#,
        r#"{"op":"sub","id":1,"id":2,"room":"r"}"#,
        r#"{"op":"sub","id":1,"room":"r","presence":"some"}"#,
        r#"{"op":"sub","id":1,"room":"r"} x"#,
        r#"{"op":"sub","id":1,"room":"r","history":4294967296}"#,
        r#"{"op":"sub","op":"get","id":1,"room":"r"}"#,
    ] {
        let (code, said) = refusal(text);
        assert_eq!(code, Code::MalformedJson, "{text}: {said}");
        assert!(!said.is_empty());
    }
    let deep = format!("{}{}", r#"{"op":"presence","room":"r","meta":"#, "[".repeat(100_000));
    assert_eq!(refusal(&deep).0, Code::MalformedJson, "depth is bounded");
    assert!(refusal(r#"{"op":"fly"}"#).1.contains("sub, unsub, pub, get, presence, auth"));
}

#[test]
fn what_a_server_says_may_grow() {
    let hello = Hello {
        version: "arqon.v1".into(),
        conn: "c".into(),
        node: "n".into(),
        tenant: "t".into(),
        user: "u".into(),
        exp: 1,
        heartbeat_ms: 25_000,
        limits: Limits { message_bytes: 65_536, rooms: 128, pub_per_s: 50, pub_burst: 100 },
        time: 2,
        signatures: SignatureMode::Off,
        ..Hello::default()
    };
    let text = to_string(&hello);
    assert_eq!(
        text,
        r#"{"version":"arqon.v1","conn":"c","node":"n","tenant":"t","user":"u","exp":1,"heartbeat_ms":25000,"limits":{"message_bytes":65536,"rooms":128,"pub_per_s":50,"pub_burst":100},"time":2,"signatures":"off"}"#
    );
    let stale = to_string(&Hello { stale: true, ..hello.clone() });
    assert!(stale.ends_with(r#""signatures":"off","stale":true}"#), "{stale}");
    let newer = text.replacen('{', r#"{"news":[1],"#, 1);
    assert_eq!(serde_json::from_str::<Hello>(&newer).expect("read on"), hello);

    let ok = SubResult::ok(7, "lobby", (5, 9), true, 3);
    assert_eq!(to_string(&ok), r#"{"id":7,"ok":true,"room":"lobby","epoch":5,"seq":9,"recovered":true,"replay":3}"#);
    let refused = SubResult::refused(7, Some("lobby"), Code::PermissionDenied, None);
    assert_eq!(
        to_string(&refused),
        r#"{"id":7,"ok":false,"room":"lobby","code":2004,"message":"the token does not grant this here"}"#
    );
    let gone = Unsubbed { room: "lobby".into(), code: Some(5007), resub: Some(true), ..Unsubbed::default() };
    assert_eq!(to_string(&gone), r#"{"room":"lobby","code":5007,"resub":true}"#);
}

fn claims() -> Claims {
    serde_json::from_str(
        r#"{"iss":"i","aud":["a","b"],"exp":10,"sub":"u","tid":"t","unheard_of":1,
            "cnf":{"jwk":{"kty":"OKP","crv":"Ed25519","x":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}},
            "arq":{"rooms":[{"m":"lobby","a":["sub","pub"]},{"m":"game-*","a":["sub","fly"]},{"m":"game-1","a":["mod"]}],
                   "meta":{"name":"U"}}}"#,
    )
    .expect("claims")
}

#[test]
fn a_token_grants_what_its_patterns_match() {
    let rights = |room: &str| claims().arq.rights(&room.parse().expect("an id")).0;
    assert_eq!(rights("lobby"), Rights::SUB.with(Rights::PUB).0);
    assert_eq!(rights("lobby2"), 0, "exact is exact");
    assert_eq!(rights("game-2"), Rights::SUB.0, "an action nobody knows grants nothing");
    assert_eq!(rights("game-1"), Rights::SUB.with(Rights::MOD).0, "all grants that match add up");
    assert_eq!(rights("game"), 0, "a prefix is the whole of it");
    let grant = |m: &str| proto::json::Grant { m: m.into(), a: vec!["sub".into()] };
    let room = "a-b".parse().expect("an id");
    assert!(grant("*").matches(&room) && grant("a-*").matches(&room) && grant("a-b*").matches(&room));
    assert!(!grant("").matches(&room) && !grant("*-b").matches(&room) && !grant("a-**").matches(&room));
    assert_eq!(Claims::default().arq.rights(&room), Rights::default());
}

/// The bits are on the wire (`Sender.rights`), so their numbers are the contract.
#[test]
fn rights_are_bits_by_name() {
    let bits: Vec<_> = Rights::NAMES.iter().map(|(name, right)| (*name, right.0)).collect();
    assert_eq!(
        bits,
        [("sub", 1), ("pub", 2), ("state", 4), ("presence", 8), ("mod", 16), ("create", 32), ("owner", 64)]
    );
    assert_eq!((Rights::named("mod"), Rights::named("MOD"), Rights::named("")), (Some(Rights::MOD), None, None));
    let both = Rights::SUB.with(Rights::PUB);
    assert!(both.has(Rights::SUB) && both.has(both) && both.has(Rights::default()));
    assert!(!Rights::SUB.has(both), "every right, not any");
}

#[test]
fn claims_are_read_as_jwt_demands() {
    let claims = claims();
    assert!(claims.aud.as_ref().expect("there").names("b") && !Audience::One("a".into()).names("b"));
    assert_eq!(claims.cnf.as_ref().expect("there").jwk.ed25519(), Some([7; 32]));
    assert_eq!(Jwk::new(&[7; 32]), claims.cnf.expect("there").jwk);
    let rsa = Jwk { kty: "RSA".into(), ..Jwk::new(&[7; 32]) };
    assert_eq!((rsa.ed25519(), Jwk { x: "AA".into(), ..Jwk::new(&[7; 32]) }.ed25519()), (None, None));
    let fraction: Claims = serde_json::from_str(r#"{"exp":10.9,"sub":"u","tid":"t","nbf":1.5}"#).expect("RFC 7519 §2");
    assert_eq!((fraction.exp, fraction.nbf), (10, Some(1)));
    for text in
        [r#"{"sub":"u","tid":"t"}"#, r#"{"exp":"10","sub":"u","tid":"t"}"#, r#"{"exp":1e300,"sub":"u","tid":"t"}"#]
    {
        assert!(serde_json::from_str::<Claims>(text).is_err(), "{text}");
    }
}

fn event(body: v1::event::Body) -> v1::Envelope {
    let event = v1::Event { epoch: 1, seq: 2, user: "ann".into(), at: 3, body: Some(body), ..Default::default() };
    v1::Envelope { room_id: "lobby".into(), payload: Some(v1::envelope::Payload::Event(event)), ..Default::default() }
}

#[test]
fn events_acks_and_faults_as_text() {
    use v1::event::Body;
    let said = |data: &'static [u8]| Body::Said(v1::Said { data: Bytes::from_static(data), r#type: "chat".into() });
    let text = |body| render::envelope(&event(body)).expect("an event").to_string();
    assert_eq!(
        text(said(b"hi")).to_string(),
        r#"{"at":3,"data":"hi","epoch":1,"event":"said","op":"event","room":"lobby","seq":2,"type":"chat","user":"ann"}"#
    );
    assert_eq!(
        text(said(b"\xff")).to_string(),
        r#"{"at":3,"base64":true,"data":"/w==","epoch":1,"event":"said","op":"event","room":"lobby","seq":2,"type":"chat","user":"ann"}"#
    );
    let set = v1::KeySet { key: "k".into(), value: "v".into(), ver: 9, expires_at: 0 };
    assert_eq!(
        text(Body::KeySet(set)).to_string(),
        r#"{"at":3,"epoch":1,"event":"key_set","expires_at":0,"key":"k","op":"event","room":"lobby","seq":2,"user":"ann","value":"v","ver":9}"#
    );
    let locked = v1::Locked { mode: 3, reason: "r".into(), until: 5, user: "mod".into() };
    assert_eq!(
        text(Body::Locked(locked)).to_string(),
        r#"{"at":3,"by":"mod","epoch":1,"event":"locked","mode":"all","op":"event","reason":"r","room":"lobby","seq":2,"until":5,"user":"ann"}"#
    );

    let ack = v1::Ack { message_id: Bytes::from_static(&[1; 16]), epoch: 1, seq: 2, ..Default::default() };
    assert_eq!(
        render::ack(&ack, Some(4)).to_string(),
        r#"{"code":0,"duplicate":false,"epoch":1,"id":4,"message_id":"01010101010101010101010101010101","op":"ack","seq":2}"#
    );
    let failed = v1::Ack { code: 5003, retry_after_ms: 10, ..ack };
    assert_eq!(
        render::ack(&failed, None).to_string(),
        r#"{"code":5003,"duplicate":false,"epoch":1,"message":"the room is locked","message_id":"01010101010101010101010101010101","name":"room_locked","op":"ack","retry_after_ms":10,"seq":2}"#
    );
    assert_eq!(
        render::err(Code::Stale, "old").to_string(),
        r#"{"code":6004,"message":"old","name":"stale","op":"err"}"#
    );
}

/// One of each body: the text dialect shows none as `none`, and no body's key hides one of the event's own.
#[test]
fn every_body_has_a_name_and_keeps_out_of_the_events_keys() {
    use v1::event::Body;
    let bodies = [
        Body::Said(Default::default()),
        Body::KeySet(Default::default()),
        Body::KeyDeleted(Default::default()),
        Body::Locked(Default::default()),
        Body::Unlocked(Default::default()),
        Body::Playlist(Default::default()),
        Body::Playback(Default::default()),
        Body::Kicked(Default::default()),
        Body::Banned(Default::default()),
        Body::Unbanned(Default::default()),
        Body::Muted(Default::default()),
        Body::Unmuted(Default::default()),
        Body::Configured(Default::default()),
        Body::Closed(Default::default()),
        Body::Snapshot(Default::default()),
        Body::Members(Default::default()),
        Body::Diff(Default::default()),
    ];
    let mut names = std::collections::BTreeSet::new();
    for body in bodies {
        let value = render::envelope(&event(body)).expect("an event");
        assert_eq!((&value["room"], &value["seq"]), (&"lobby".into(), &2.into()));
        assert_eq!((&value["user"], &value["at"]), (&"ann".into(), &3.into()), "{value}");
        assert!(names.insert(value["event"].to_string()), "{value}");
    }
    assert!(!names.contains("\"none\""));
    assert!(render::envelope(&v1::Envelope::default()).is_none());
}
