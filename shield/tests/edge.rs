//! The Shield from the outside: raw WebSocket bytes in, a simulated broker with production's permissions and the Brain's
//! shell behind it, all over an in-memory network.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "edge/broker.rs"]
mod broker;

use serde_json::json;
use support::world::{LIMIT, World, ack, ask, event, now_ms, publish};
use support::{Got, Raw, claims, config, say, token};
use voltron_core::Net as _;

#[tokio::test]
async fn a_message_goes_through_and_comes_back() {
    let world = World::new(config()).await;
    let (mut ann, mut bob) = (world.client("ann").await, world.client("bob").await);

    let absent = ask(&mut bob, json!({"op": "sub", "id": 1, "room": "lobby"})).await;
    assert_eq!(absent["code"], 5001, "a SUB makes no room: {absent}");

    let first = publish(&mut ann, "lobby", "one").await;
    assert_eq!(
        (first["code"].as_u64(), first["seq"].as_u64(), first["id"].as_u64()),
        (Some(0), Some(1), Some(9)),
        "{first}"
    );

    let result = ask(&mut bob, json!({"op": "sub", "id": 2, "room": "lobby"})).await;
    assert_eq!(
        (&result["ok"], &result["seq"], &result["recovered"]),
        (&json!(true), &json!(1), &json!(false)),
        "{result}"
    );
    let snapshot = event(&mut bob).await;
    assert_eq!(snapshot["seq"], 1, "{snapshot}");

    for (seq, data) in [(2, "two"), (3, "three")] {
        assert_eq!(publish(&mut ann, "lobby", data).await["seq"], seq);
        let event = event(&mut bob).await;
        assert_eq!((&event["seq"], &event["user"]), (&json!(seq), &json!("ann")), "{event}");
        assert!(event.to_string().contains(data), "{event}");
    }

    // Binary frames, on the same connection.
    let id = [3; 16];
    let mut frame = vec![proto::frame::PUB];
    frame.extend(say("lobby", id, now_ms(), "four", true));
    ann.binary(&frame).await;
    let first = ack(&mut ann).await;
    assert_eq!((first.code, first.seq, first.duplicate), (0, 4, false));
    ann.binary(&frame).await;
    let again = ack(&mut ann).await;
    assert_eq!((again.code, again.seq, again.duplicate), (0, 4, true), "the same bytes are applied once");
    assert_eq!(event(&mut bob).await["seq"], 4);

    // What came after a place, and only that.
    let since = json!({"epoch": result["epoch"], "seq": 2});
    let mut late = world.client("cat").await;
    let resumed = ask(&mut late, json!({"op": "sub", "id": 3, "room": "lobby", "since": since})).await;
    assert_eq!(
        (&resumed["recovered"], &resumed["replay"], &resumed["seq"]),
        (&json!(true), &json!(2), &json!(4)),
        "{resumed}"
    );
    assert_eq!(event(&mut late).await["seq"], 3);
    assert_eq!(event(&mut late).await["seq"], 4);

    let got = ask(&mut late, json!({"op": "get", "id": 4, "room": "lobby"})).await;
    assert_eq!((&got["ok"], &got["seq"]), (&json!(true), &json!(4)), "{got}");

    let left = ask(&mut bob, json!({"op": "unsub", "room": "lobby"})).await;
    assert!(left["code"].is_null(), "{left}");
    assert_eq!(publish(&mut ann, "lobby", "five").await["seq"], 5);
    assert_eq!(event(&mut late).await["seq"], 5);
    assert_eq!(ask(&mut bob, json!({"op": "unsub", "room": "lobby"})).await["code"], 1012, "no event came before this");

    let metrics = world.http("/metrics").await;
    for name in ["shield_active_connections 3", "shield_ingress_ops_total", "policy_execution_duration_seconds_count"] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
}

#[tokio::test]
async fn bad_input_gets_its_code_and_harms_nobody() {
    let world = World::new(config()).await;
    let (mut ann, mut witness) = (world.client("ann").await, world.client("wit").await);
    assert_eq!(publish(&mut ann, "lobby", "first").await["code"], 0);
    assert_eq!(ask(&mut witness, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
    event(&mut witness).await;

    let now = now_ms();
    let good = say("lobby", [1; 16], now, "x", true);
    let put = |envelope: &[u8]| [&[proto::frame::PUB], envelope].concat();
    let room = |name: &str| put(&say(name, [2; 16], now, "x", true));
    let tenant = {
        use prost::Message as _;
        let mut envelope = proto::v1::Envelope::decode(good.as_slice()).unwrap();
        envelope.tenant_id = "other".into();
        put(&envelope.encode_to_vec())
    };
    let sender = put(&[&good[..], &[0xc2, 0x3e, 0x00]].concat());
    let twice = put(&[&good[..], &good[..]].concat());
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        ("truncated", put(&good[..good.len() - 1]), 1004),
        ("garbage", put(&[0xff; 40]), 1004),
        ("fields twice", twice, 1005),
        ("sender from a client", sender, 1008),
        ("no fields", put(&[]), 1006),
        ("another tenant", tenant, 2005),
        ("room a.b", room("a.b"), 2006),
        ("room *", room("*"), 2006),
        ("room >", room(">"), 2006),
        ("room with line break", room("a\r\nPUB x 0"), 2006),
        ("room $JS", room("$JS.API.STREAM.DELETE.LOG_0"), 2006),
        ("long room", room(&"a".repeat(129)), 2006),
        ("old", put(&say("lobby", [3; 16], now - 121_000, "x", true)), 2009),
        ("future", put(&say("lobby", [4; 16], now + 60_000, "x", true)), 2009),
    ];
    for (name, bytes, code) in cases {
        ann.binary(&bytes).await;
        let Got::Binary(answer) = ann.next().await else { panic!("{name}: no answer") };
        let answered = match proto::frame::ServerFrame::binary(&answer).unwrap() {
            proto::frame::ServerFrame::Ack(ack) => ack.code,
            proto::frame::ServerFrame::Err(code, _) => code.into(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(answered, code, "{name}");
    }
    let texts = [
        (json!({"op": "sub", "id": 1, "room": "a.b"}), 2006),
        (json!({"op": "sub", "id": 1, "room": "lobby", "sinze": 1}), 1010),
        (json!({"op": "sub", "room": "lobby"}), 1009),
        (json!({"op": "sub", "id": 1, "room": "lobby", "history": 257}), 1009),
        (json!({"op": "pub", "room": "$SYS", "data": "x"}), 2006),
        (json!({"op": "unsub", "room": "nowhere"}), 1012),
        (json!({"op": "presence", "id": 1, "room": "lobby", "meta": null}), 1014),
        (json!({"op": "presence", "room": "lobby", "meta": null}), 1014),
        (json!({"op": "sub", "id": 1, "room": "lobby", "presence": "count"}), 1014),
        (json!({"op": "sub", "id": 1, "room": "lobby", "presence": "list"}), 1014),
        (json!({"op": "auth", "token": "x"}), 2002),
        (json!({"op": "dance"}), 1009),
    ];
    for (text, code) in texts {
        ann.text(&text.to_string()).await;
        let answer = ann.json().await;
        assert_eq!(answer["code"], code, "{text}: {answer}");
        assert_eq!(answer["id"], text["id"], "the request's id stands in its error: {answer}");
    }
    assert_eq!(publish(&mut ann, "lobby", "still here").await["code"], 0, "the connection lives on");
    let event = event(&mut witness).await;
    assert!(event.to_string().contains("still here"), "nothing of the rest reached anybody: {event}");
}

#[tokio::test]
async fn three_protocol_errors_and_too_big_messages_close() {
    let world = World::new(config()).await;
    let mut ann = world.client("ann").await;
    for (bytes, code) in [(vec![], 1001u16), (vec![0x77], 1002), (vec![0x09], 1002)] {
        ann.binary(&bytes).await;
        match ann.next().await {
            Got::Binary(err) => assert_eq!((err[0], &err[1..3]), (0x99, &code.to_be_bytes()[..])),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(ann.next().await, Got::Close(4000, _)));

    let mut bob = world.client("bob").await;
    bob.binary(&vec![1; 70_000]).await;
    match bob.next().await {
        Got::Binary(err) => assert_eq!(&err[1..3], &4504u16.to_be_bytes()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(bob.next().await, Got::Close(4002, _)));

    let mut cat = world.client("cat").await;
    cat.bytes(&[0x81, 0x02, b'h', b'i']).await;
    assert!(matches!(cat.next().await, Got::Close(1002, _)), "an unmasked frame");
}

#[tokio::test]
async fn refused_handshakes_say_why() {
    let mut config = config();
    config.server.query_token = false;
    config.server.text_dialect = false;
    let world = World::new(config).await;
    let good = token(&claims("ann", now_ms() / 1000));
    let expired = token(&claims("ann", now_ms() / 1000 - 7200));
    let arqon = "Sec-WebSocket-Protocol: arqon.v1".to_owned();
    let bearer = |token: &str| format!("Authorization: Bearer {token}");

    // Clients without the subprotocol, and everything before the upgrade: HTTP.
    let http = [
        ("wrong path", "/v1/other", vec![arqon.clone(), bearer(&good)], "404"),
        ("no subprotocol", "/v1/ws", vec![bearer(&good)], "400"),
        ("foreign origin", "/v1/ws", vec![arqon.clone(), bearer(&good), "Origin: https://evil.example".into()], "403"),
    ];
    for (name, path, headers, status) in http {
        let mut client = Raw::new(world.net.connect("ws").await.unwrap());
        let head = client.handshake(path, &headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {head}");
        assert!(head.contains("application/problem+json"), "{name}: {head}");
    }
    // Browsers hide the status: upgrade, ERR, close.
    let upgraded = [
        ("no token", "/v1/ws".to_owned(), vec![arqon.clone()], 2001u16, 4001),
        ("bad token", "/v1/ws".to_owned(), vec![arqon.clone(), bearer("x.y.z")], 2002, 4001),
        ("expired", "/v1/ws".to_owned(), vec![arqon.clone(), bearer(&expired)], 2003, 4300),
        ("two tokens", "/v1/ws".to_owned(), vec![format!("{arqon}, arqon.bearer.{good}"), bearer(&good)], 2010, 4001),
        ("query off", format!("/v1/ws?token={good}"), vec![arqon.clone()], 2001, 4001),
        ("client id", "/v1/ws?client=short".to_owned(), vec![arqon.clone(), bearer(&good)], 1015, 4001),
    ];
    for (name, path, headers, code, close) in upgraded {
        let mut client = Raw::new(world.net.connect("ws").await.unwrap());
        let head = client.handshake(&path, &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{name}: {head}");
        match client.next().await {
            Got::Binary(err) => assert_eq!((err[0], &err[1..3]), (0x99, &code.to_be_bytes()[..]), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        match client.next().await {
            Got::Close(found, _) => assert_eq!(found, close, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    // As a browser does it.
    let mut browser = Raw::new(world.net.connect("ws").await.unwrap());
    let head = browser.handshake("/v1/ws", &[format!("{arqon}, arqon.bearer.{good}")]).await;
    assert!(head.contains("Sec-WebSocket-Protocol: arqon.v1\r\n") && !head.contains("bearer"), "{head}");
    assert!(matches!(browser.next().await, Got::Text(hello) if hello.contains("\"user\":\"ann\"")));
    // RFC 6455 §4.2.1, §4.4 and RFC 9112 §3.2: head lines that are missing, wrong or there twice.
    let host = "Host: test";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let version = "Sec-WebSocket-Version: 13";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    let heads = [
        ("version 8", vec![host, key, "Sec-WebSocket-Version: 8", upgrade], "426"),
        ("no version", vec![host, key, upgrade], "426"),
        ("two versions", vec![host, key, version, "Sec-WebSocket-Version: 8", upgrade], "400"),
        ("no upgrade", vec![host, key, version], "426"),
        ("two keys", vec![host, key, key, version, upgrade], "400"),
        ("no key", vec![host, version, upgrade], "400"),
        ("a short key", vec![host, "Sec-WebSocket-Key: AAAA", version, upgrade], "400"),
        ("no host", vec![key, version, upgrade], "400"),
        ("two hosts", vec![host, host, key, version, upgrade], "400"),
        ("two origins", vec![host, key, version, upgrade, "Origin: null", "Origin: null"], "400"),
    ];
    for (name, lines, status) in heads {
        let mut client = Raw::new(world.net.connect("ws").await.unwrap());
        let head = format!("GET /v1/ws HTTP/1.1\r\n{arqon}\r\n{}\r\n{}\r\n\r\n", bearer(&good), lines.join("\r\n"));
        client.bytes(head.as_bytes()).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert_eq!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), status == "426", "{name}: {answer}");
    }
    // No HTTP at all.
    let mut wrong = Raw::new(world.net.connect("ws").await.unwrap());
    wrong.bytes(b"POST / HTTP/1.1\r\n\r\n").await;
    assert!(wrong.rest().await.starts_with("HTTP/1.1 405 "));
}

/// Many sockets that never say anything take no place from a client that speaks, at whatever rate they come.
#[tokio::test]
async fn a_flood_of_idle_sockets_keeps_nobody_out() {
    let mut config = config();
    config.limits.accept_per_s = 10;
    let world = World::new(config).await;
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        idle.push(world.net.connect("ws").await.unwrap());
        if idle.len().is_multiple_of(2_000) {
            let mut ann = world.client("ann").await;
            assert_eq!(publish(&mut ann, "lobby", "through").await["code"], 0);
        }
    }
    // Those that made room were told so; the newest may still speak.
    let told = Raw::new(idle.swap_remove(0)).rest().await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("\r\nRetry-After: "), "{told}");
    let mut late = Raw::open(idle.pop().unwrap(), &token(&claims("late", now_ms() / 1000))).await;
    assert_eq!(publish(&mut late, "lobby", "late").await["code"], 0);
    // What the operator sees of it.
    assert!(world.http("/metrics").await.contains("shield_refused_handshakes_total{code=\"4100\"}"));
}

/// A peer that goes away without a close frame broke no rule: it counts as gone (0), not as a protocol error.
#[tokio::test]
async fn the_end_of_a_stream_is_no_protocol_error() {
    let world = World::new(config()).await;
    for half in [false, true] {
        let mut ann = world.client("ann").await;
        if half {
            ann.finish().await;
            assert_eq!(ann.next().await, Got::End);
        }
    }
    let counted = async {
        while !world.http("/metrics").await.contains("shield_closes_total{code=\"0\"} 2") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("both are counted as gone");
    assert!(!world.http("/metrics").await.contains("shield_closes_total{code=\"1002\"}"));
}

#[tokio::test]
async fn without_a_brain_a_shield_is_not_ready() {
    let mut config = config();
    config.brain.heartbeat_ms = 20;
    config.brain.down_after_ms = 200;
    let world = World::new(config).await;
    world.brain.abort();
    world.until_ready(false).await;
    assert!(world.http("/readyz").await.contains("no Brain"));
    assert!(world.http("/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn draining_answers_tells_and_ends() {
    let mut config = config();
    config.drain.spread_s = 3;
    config.drain.exit_s = 10;
    let mut world = World::new(config).await;
    let mut ann = world.client("ann").await;
    assert_eq!(publish(&mut ann, "lobby", "x").await["code"], 0);
    let mut frame = vec![proto::frame::PUB];
    frame.extend(say("lobby", [5; 16], now_ms(), "last", true));
    ann.binary(&frame).await;
    let stop = world.stop.take().unwrap();
    // The last command is in flight or not yet read: either way it is answered.
    tokio::task::yield_now().await;
    stop.send(()).unwrap();
    let (mut answered, mut told) = (false, false);
    loop {
        match ann.next().await {
            Got::Binary(bytes) => match proto::frame::ServerFrame::binary(&bytes).unwrap() {
                proto::frame::ServerFrame::Ack(_) => answered = true,
                proto::frame::ServerFrame::Pub(envelope) => {
                    let envelope: proto::v1::Envelope = prost::Message::decode(envelope).unwrap();
                    let Some(proto::v1::envelope::Payload::Signal(signal)) = envelope.payload else {
                        panic!("a signal")
                    };
                    assert!(signal.code == 4200 && signal.retry_after_ms < 3000);
                    told = true;
                }
                _ => {}
            },
            Got::Close(code, reason) => {
                assert_eq!(code, 4200);
                assert!(reason.contains("retry_after_ms="), "{reason}");
                break;
            }
            Got::End => panic!("no close frame"),
            _ => {}
        }
    }
    assert!(answered && told, "answered {answered}, told {told}");
    tokio::time::timeout(LIMIT, world.shield).await.expect("ends in time").unwrap();
}

#[tokio::test]
async fn an_expired_token_ends_the_connection_unless_renewed() {
    let mut config = config();
    config.auth.grace_s = 0;
    let world = World::new(config).await;
    let short = || {
        let mut claims = claims("ann", now_ms() / 1000);
        claims.exp = now_ms() / 1000 + 2;
        token(&claims)
    };
    let mut keeps = Raw::open(world.net.connect("ws").await.unwrap(), &short()).await;
    let mut loses = Raw::open(world.net.connect("ws").await.unwrap(), &short()).await;
    let mut swaps = world.client("ann").await;
    assert_eq!(keeps.json().await["refresh"], true, "asked for a new token in time");
    let fresh = token(&claims("ann", now_ms() / 1000));
    let answer = ask(&mut keeps, json!({"op": "auth", "token": fresh})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    loop {
        match loses.next().await {
            Got::Binary(err) => assert_eq!(&err[1..3], &2003u16.to_be_bytes()),
            Got::Close(code, _) => break assert_eq!(code, 4300),
            Got::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(publish(&mut keeps, "lobby", "alive").await["code"], 0);
    let other = token(&claims("bob", now_ms() / 1000));
    swaps.text(&json!({"op": "auth", "token": other}).to_string()).await;
    assert_eq!(swaps.json().await["code"], 2002);
    assert!(matches!(swaps.next().await, Got::Close(4001, _)), "another user needs another connection");
}

#[tokio::test]
async fn every_sub_gets_one_result_also_when_another_takes_its_place() {
    let world = World::new(config()).await;
    let (mut ann, mut bob) = (world.client("ann").await, world.client("bob").await);
    assert_eq!(publish(&mut ann, "lobby", "one").await["code"], 0);
    // All in one piece, so that each comes before the result of the one before it.
    let mut burst = Vec::new();
    for id in 1..=20 {
        burst.extend(support::frame(1, json!({"op": "sub", "id": id, "room": "lobby"}).to_string().as_bytes()));
    }
    burst.extend(support::frame(1, json!({"op": "unsub", "room": "lobby"}).to_string().as_bytes()));
    burst.extend(support::frame(1, json!({"op": "sub", "id": 21, "room": "lobby"}).to_string().as_bytes()));
    bob.bytes(&burst).await;
    let mut results = std::collections::BTreeMap::new();
    while results.len() < 21 {
        let value = bob.json().await;
        if value["op"] == "sub" {
            let id = value["id"].as_u64().unwrap();
            assert!(value["ok"] == true || value["code"] == 1012, "{value}");
            assert!(results.insert(id, value).is_none(), "{id} answered twice");
        }
    }
    assert_eq!(results[&21]["ok"], true, "the last one stands");
    assert_eq!(publish(&mut ann, "lobby", "two").await["seq"], 2);
    loop {
        let event = event(&mut bob).await;
        if event["seq"] == 2 {
            break;
        }
    }
}

#[tokio::test]
async fn a_silent_owner_is_named_when_its_rooms_are_opened_elsewhere() {
    use futures_util::StreamExt as _;
    use prost::Message as _;
    use spine::Spine as _;
    let world = World::new(config()).await;
    let (mut ann, mut bob) = (world.client("ann").await, world.client("bob").await);
    let ears = support::world::speaker(&world.net);
    let mut beats = ears.subscribe(&proto::Pattern::all_heartbeats(), None, 1000).await.unwrap();
    let mut opens = ears.subscribe(&proto::Pattern::all_opens(), None, 1000).await.unwrap();
    assert_eq!(publish(&mut ann, "lobby", "one").await["code"], 0);
    assert_eq!(ask(&mut bob, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
    let heard = async {
        // The room's last entry is some time old: its owner says where it stands, and so who it is.
        loop {
            let Some(spine::Delivery::Msg(message)) = beats.next().await else { panic!("a heartbeat") };
            let beat = proto::internal::Heartbeat::decode(message.body).unwrap();
            if beat.node == "b" && !beat.tails.is_empty() {
                break;
            }
        }
        world.brain.abort();
        loop {
            let Some(spine::Delivery::Msg(message)) = opens.next().await else { panic!("an open") };
            let open = proto::internal::Open::decode(message.body).unwrap();
            if !open.suspect_node.is_empty() {
                return open;
            }
        }
    };
    let open = tokio::time::timeout(LIMIT, heard).await.expect("in time");
    assert_eq!((open.room.as_str(), open.create), ("lobby", false));
    assert_eq!((open.suspect_node.as_str(), open.suspect_term), ("b", 1));
}
