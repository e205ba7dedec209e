//! Floods: whatever a client sends takes from a budget.

use serde_json::json;

use voltron_core::Net as _;

use super::support::world::{World, ask, now_ms, publish};
use super::support::{self, Got, Raw, claims, config, say, token};
use super::until_metric;

#[tokio::test]
async fn a_flood_of_subs_and_tokens_is_refused() {
    let mut config = config();
    config.limits.pub_per_s = 1;
    config.limits.pub_burst = 10;
    config.limits.rooms = 4;
    let world = World::new(config).await;
    let mut eve = world.client("eve").await;
    // SUB and UNSUB in turns never hold more than one room, yet each SUB costs the Brain a question. Both take from the
    // budget of ten.
    let mut refused = 0;
    for n in 0..40 {
        eve.text(&json!({"op": "sub", "id": n, "room": format!("absent-{n}")}).to_string()).await;
        eve.text(&json!({"op": "unsub", "room": format!("absent-{n}")}).to_string()).await;
        loop {
            let value = eve.json().await;
            refused += u32::from(value["code"] == 4502);
            if value["op"] == "unsub" {
                break;
            }
        }
    }
    assert!((25..=35).contains(&refused), "{refused} of 40 refused");
    eve.text(&json!({"op": "auth", "token": "x"}).to_string()).await;
    assert_eq!(eve.json().await["code"], 4502);
    eve.text(&json!({"op": "get", "id": 1, "room": "absent"}).to_string()).await;
    assert_eq!(eve.json().await["code"], 4502);
    // Who does not listen is sent away.
    loop {
        eve.text(&json!({"op": "get", "id": 1, "room": "absent"}).to_string()).await;
        match eve.next().await {
            Got::Text(_) => {}
            Got::Close(code, _) => break assert_eq!(code, 4101),
            other => panic!("{other:?}"),
        }
    }
}

/// Whatever it sends, a flood ends with a close code, and its answers are bounded before that. In paused time no budget
/// refills while the flood runs.
#[tokio::test(start_paused = true)]
async fn every_flood_ends_with_its_code() {
    let mut config = config();
    config.limits.pub_per_s = 1;
    config.limits.pub_burst = 30;
    config.limits.rooms = 4;
    let world = World::new(config).await;
    let mut witness = world.client("wit").await;
    assert_eq!(publish(&mut witness, "lobby", "first").await["code"], 0);
    let frame = |opcode: u8, body: &[u8]| support::frame(2, &[&[opcode], body].concat());
    // The second field of an envelope twice: it names no command that an answer could carry.
    let twice = [0x1a, 1, b'x', 0x1a, 1, b'x'];
    let known = {
        let mut cut = say("lobby", [9; 16], now_ms(), "evil", true);
        cut.truncate(cut.len() - 1);
        cut
    };
    // (what, one frame, close code, most answers)
    let patience = 600;
    let floods: Vec<(&str, Vec<u8>, u16, usize)> = vec![
        ("an unknown opcode", frame(0x77, b""), 4000, 3),
        ("an empty message", support::frame(2, b""), 4000, 3),
        ("cut JSON", frame(proto::frame::SUB, b"{"), 4000, 3),
        ("an unknown key", frame(proto::frame::UNSUB, br#"{"rooom":"x"}"#), 4000, 3),
        ("AUTH that is no object", frame(proto::frame::AUTH, b"[]"), 4000, 3),
        ("cut text dialect", support::frame(1, br#"{"op":"sub""#), 4101, 30),
        ("an envelope without an id", frame(proto::frame::PUB, &twice), 4000, 3),
        ("a cut envelope", frame(proto::frame::PUB, &known), 4101, 30 + patience),
        ("a PUB", frame(proto::frame::PUB, &say("nobodys", [8; 16], 0, "x", false)), 4101, 30 + patience),
        ("HB", frame(proto::frame::HB, b""), 4101, 30),
        ("pings", support::frame(9, b"x"), 4101, 30 + patience),
        ("pongs", support::frame(10, b""), 4101, 0),
        ("UNSUB of nothing", frame(proto::frame::UNSUB, br#"{"room":"zz"}"#), 4101, 30 + patience),
        ("SUB of nothing", frame(proto::frame::SUB, br#"{"id":1,"room":"zz"}"#), 4101, 30 + patience),
        ("SUB of no room", frame(proto::frame::SUB, br#"{"id":1,"room":"*"}"#), 4101, 30 + patience),
        ("get of nothing", frame(proto::frame::SUB, br#"{"op":"get","id":1,"room":"zz"}"#), 4101, 30 + patience),
        ("presence", frame(proto::frame::SUB, br#"{"op":"presence","room":"zz","meta":null}"#), 4101, 30 + patience),
        ("AUTH", frame(proto::frame::AUTH, br#"{"token":"x"}"#), 4101, 30 + patience),
    ];
    for (what, one, close, most) in floods {
        let mut eve = world.client("eve").await;
        // It does not wait for answers, and stops only when it is sent away.
        eve.bytes(&one.repeat(700)).await;
        let mut answers = 0;
        let code = loop {
            match eve.next().await {
                Got::Close(code, _) => break code,
                Got::End => panic!("{what}: no close frame after {answers} answers"),
                _ => answers += 1,
            }
        };
        assert_eq!(code, close, "{what}");
        assert!(answers <= most, "{what}: {answers} answers");
        assert_eq!(publish(&mut witness, "lobby", "still here").await["code"], 0, "{what}");
    }
}

#[tokio::test]
async fn a_tenant_follows_so_many_rooms_and_leaves_the_others_to_other_tenants() {
    let mut config = config();
    (config.shield.rooms, config.shield.tenant_rooms, config.shield.linger_ms) = (3, 2, 0);
    let world = World::new(config).await;
    let mut ann = world.client("ann").await;
    let mut other = claims("bob", now_ms() / 1000);
    other.tid = "other".into();
    let mut bob = Raw::open(world.net.connect("ws").await.unwrap(), &token(&other)).await;
    for room in ["one", "two", "three"] {
        assert_eq!(publish(&mut ann, room, "x").await["code"], 0);
        assert_eq!(publish(&mut bob, room, "x").await["code"], 0);
    }
    let sub = |room: &str| json!({"op": "sub", "id": 1, "room": room});
    for room in ["one", "two"] {
        assert_eq!(ask(&mut ann, sub(room)).await["ok"], true);
    }
    assert_eq!(ask(&mut ann, sub("three")).await["code"], 4501);
    assert_eq!(ask(&mut bob, sub("one")).await["ok"], true);
    // Now the Shield is full.
    assert_eq!(ask(&mut bob, sub("two")).await["code"], 4501);
    ann.text(&json!({"op": "unsub", "room": "one"}).to_string()).await;
    until_metric(&world, "shield_rooms 2").await;
    assert_eq!(ask(&mut ann, sub("three")).await["ok"], true);
}
