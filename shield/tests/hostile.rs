//! What a client does to harm the Shield or others: floods, silence, names that are none, tokens of strangers. Each test
//! has a witness who must not notice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/readers.rs"]
mod readers;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use support::world::{LIMIT, World, ask, event, now_ms, publish};
use support::{Got, Raw, claims, config, say, token};
use voltron_core::Net as _;

/// Waits until `/metrics` holds this line.
async fn until_metric(world: &World, line: &str) {
    tokio::time::timeout(LIMIT, async {
        while !world.http("/metrics").await.lines().any(|known| known == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{line} in time"));
}

/// Names that mean something to a broker, to HTTP or to a line protocol.
const NO_ROOMS: [&str; 16] = [
    "",
    ".",
    "a.b",
    "*",
    ">",
    "lobby.>",
    "a b",
    "lobby\r\nPUB x 0\r\n",
    "a\nb",
    "a\0b",
    "$JS.API.STREAM.DELETE.LOG_0",
    "$SYS",
    "_INBOX.s.shield-1.1",
    "-lobby",
    "lobb\u{443}",
    "\u{feff}lobby",
];

#[tokio::test]
async fn who_answers_no_ping_is_closed_with_4201() {
    let mut config = config();
    config.shield.ping_ms = 200;
    config.shield.pong_ms = 100;
    let world = World::new(config).await;
    let (mut dead, mut alive) = (world.client("dead").await, world.client("alive").await);
    dead.pongs = false;
    let answering = tokio::spawn(async move {
        loop {
            if let Got::Close(code, _) = alive.next().await {
                return code;
            }
        }
    });
    assert!(matches!(dead.next().await, Got::Close(4201, _)));
    until_metric(&world, "shield_active_connections 1").await;
    assert!(!answering.is_finished(), "who answers stays");
    answering.abort();
}

#[tokio::test]
async fn strangers_tokens_open_nothing() {
    let world = World::new(config()).await;
    let good = claims("ann", now_ms() / 1000);
    let foreign = |header: &Header, key: &[u8]| encode(header, &good, &EncodingKey::from_secret(key)).unwrap();
    let none = {
        let part = |json: &str| data_encoding::BASE64URL_NOPAD.encode(json.as_bytes());
        let body = serde_json::to_string(&good).unwrap();
        format!("{}.{}.", part(r#"{"alg":"none","typ":"JWT"}"#), part(&body))
    };
    let crit = {
        let part = |json: &str| data_encoding::BASE64URL_NOPAD.encode(json.as_bytes());
        let own = token(&good);
        let rest = own.split_once('.').unwrap().1;
        format!("{}.{rest}", part(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#))
    };
    let swapped = {
        let (mut mine, other) = (good.clone(), token(&good));
        mine.tid = "victim".into();
        let (head, signature) = (other.split('.').next().unwrap(), other.rsplit('.').next().unwrap());
        format!("{head}.{}.{signature}", token(&mine).split('.').nth(1).unwrap())
    };
    let mut tenant = good.clone();
    tenant.tid = "a.b".into();
    let mut user = good.clone();
    user.sub = "*".into();
    let mut audience = good.clone();
    audience.aud = None;
    let cases = [
        ("another key", foreign(&Header::default(), b"another secret, also of 32 bytes")),
        ("another algorithm", foreign(&Header::new(jsonwebtoken::Algorithm::HS384), support::SECRET)),
        ("none", none),
        ("crit", crit),
        ("claims of another token", swapped),
        ("tenant a.b", token(&tenant)),
        ("user *", token(&user)),
        ("no audience", token(&audience)),
        ("dots", "...".into()),
        ("long", "a".repeat(17 << 10)),
    ];
    for (name, token) in cases {
        let mut client = Raw::new(world.net.connect("ws").await.unwrap());
        let headers = ["Sec-WebSocket-Protocol: arqon.v1".into(), format!("Authorization: Bearer {token}")];
        let head = client.handshake("/v1/ws", &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{name}: {head}");
        match client.next().await {
            Got::Binary(err) => assert_eq!((err[0], &err[1..3]), (0x99, &2002u16.to_be_bytes()[..]), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(client.next().await, Got::Close(4001, _)), "{name}");
    }
    until_metric(&world, "shield_active_connections 0").await;
}

#[tokio::test]
async fn names_that_are_none_reach_nobody() {
    let mut config = config();
    config.shield.linger_ms = 100;
    let world = World::new(config).await;
    let (mut ann, mut eve, mut witness) =
        (world.client("ann").await, world.client("eve").await, world.client("wit").await);
    assert_eq!(publish(&mut ann, "lobby", "first").await["code"], 0);
    assert_eq!(ask(&mut witness, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
    event(&mut witness).await;
    for (id, name) in (1u64..).zip(NO_ROOMS) {
        let mut frame = vec![proto::frame::PUB];
        frame.extend(say(name, [id as u8; 16], now_ms(), "evil", true));
        eve.binary(&frame).await;
        let Got::Binary(answer) = eve.next().await else { panic!("{name:?}: no answer") };
        let code = match proto::frame::ServerFrame::binary(&answer).unwrap() {
            proto::frame::ServerFrame::Ack(ack) => ack.code,
            proto::frame::ServerFrame::Err(code, _) => code.into(),
            other => panic!("{name:?}: {other:?}"),
        };
        assert!(code == 2006 || (name.is_empty() && code == 1006), "PUB {name:?}: {code}");
        // As a frame and in the text dialect; the answers quote the name, escaped.
        eve.text(&format!("\u{2}{}", json!({"id": id, "room": name}))).await;
        let answer = eve.json().await;
        assert_eq!(
            (&answer["id"], &answer["ok"], &answer["code"]),
            (&json!(id), &json!(false), &json!(2006)),
            "{name:?}"
        );
        for op in ["sub", "get"] {
            eve.text(&json!({"op": op, "id": id, "room": name}).to_string()).await;
            let answer = eve.json().await;
            assert_eq!((&answer["op"], &answer["code"]), (&json!(op), &json!(2006)), "{name:?}: {answer}");
            assert_eq!(answer["room"], name, "{answer}");
        }
        eve.text(&json!({"op": "pub", "id": id, "room": name, "data": "evil", "ack": true}).to_string()).await;
        let code = eve.json().await["code"].as_u64().unwrap();
        assert!(code == 2006 || (name.is_empty() && code == 1006), "text pub {name:?}: {code}");
    }
    // The same room name in another tenant is another room.
    let mut theirs = claims("eve", now_ms() / 1000);
    theirs.tid = "evil".into();
    let mut stranger = Raw::open(world.net.connect("ws").await.unwrap(), &token(&theirs)).await;
    assert_eq!(ask(&mut stranger, json!({"op": "sub", "id": 1, "room": "lobby"})).await["code"], 5001);
    assert_eq!(publish(&mut stranger, "lobby", "evil").await["seq"], 1, "a room of its own");
    assert_eq!(publish(&mut ann, "lobby", "second").await["seq"], 2);
    let seen = event(&mut witness).await;
    assert!(seen["seq"] == 2 && seen.to_string().contains("second"), "{seen}");
    until_metric(&world, "shield_rooms 1").await;
}

#[tokio::test]
async fn many_subs_at_once_are_all_answered() {
    let world = World::new(config()).await;
    let mut ann = world.client("ann").await;
    for n in 0..20 {
        assert_eq!(publish(&mut ann, &format!("room-{n}"), "x").await["code"], 0);
    }
    let mut bob = world.client("bob").await;
    let burst: Vec<u8> = (0..20)
        .flat_map(|n| {
            support::frame(1, json!({"op": "sub", "id": n, "room": format!("room-{n}")}).to_string().as_bytes())
        })
        .collect();
    bob.bytes(&burst).await;
    let mut answered = BTreeSet::new();
    while answered.len() < 20 {
        let value = bob.json().await;
        if value["op"] == "sub" {
            assert_eq!(value["ok"], true, "{value}");
            answered.insert(value["id"].as_u64());
        }
    }
}

#[tokio::test]
async fn a_new_token_must_name_the_same_key() {
    let world = World::new(config()).await;
    let mut bound = claims("ann", now_ms() / 1000);
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    bound.cnf = Some(proto::json::Confirmation { jwk: proto::json::Jwk::new(key.verifying_key().as_bytes()) });
    let mut ann = Raw::open(world.net.connect("ws").await.unwrap(), &token(&bound)).await;
    let pub_unsigned = json!({"op": "pub", "room": "lobby", "data": "x", "ack": true}).to_string();
    ann.text(&pub_unsigned).await;
    assert_eq!(ann.json().await["code"], 2007);
    ann.text(&json!({"op": "auth", "token": token(&claims("ann", now_ms() / 1000))}).to_string()).await;
    assert_eq!(ann.json().await["code"], 2002, "a token without the key does not lift the duty to sign");
    ann.text(&pub_unsigned).await;
    assert_eq!(ann.json().await["code"], 2007);
    ann.text(&json!({"op": "auth", "token": token(&bound)}).to_string()).await;
    assert_eq!(ann.json().await["ok"], true);
}

#[tokio::test]
async fn sockets_that_never_finish_their_handshake_are_bounded() {
    let mut config = config();
    config.shield.handshake_ms = 3_600_000;
    let world = World::new(config).await;
    let mut idle = Vec::new();
    // More than may be in their handshake at once.
    for _ in 0..4_100 {
        idle.push(world.net.connect("ws").await.unwrap());
    }
    // The oldest makes room, and a client that speaks is served.
    let mut oldest = Raw::new(idle.remove(0));
    let _ = oldest.rest().await;
    let mut ann = world.client("ann").await;
    assert_eq!(publish(&mut ann, "lobby", "hello").await["code"], 0);
    drop(idle);
}

#[tokio::test]
async fn a_new_token_that_ends_earlier_ends_the_connection_earlier() {
    let mut config = config();
    config.auth.grace_s = 0;
    let world = World::new(config).await;
    let mut ann = world.client("ann").await;
    let mut short = claims("ann", now_ms() / 1000);
    short.exp = now_ms() / 1000 + 2;
    ann.text(&json!({"op": "auth", "token": token(&short)}).to_string()).await;
    assert_eq!(ann.json().await["ok"], true);
    loop {
        match ann.next().await {
            Got::Close(code, _) => break assert_eq!(code, 4300),
            Got::End => panic!("no close frame"),
            _ => {}
        }
    }
}
