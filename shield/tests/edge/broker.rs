//! The broker goes away and comes back.

use serde_json::json;
use voltron_core::Net as _;

use super::support::world::{World, ask, event, now_ms, publish, serve};
use super::support::{Got, Raw, claims, config, token};

#[tokio::test]
async fn the_broker_away_and_back() {
    let mut config = config();
    config.shield.stale_ms = 60_000;
    let mut world = World::new(config).await;
    let (mut ann, mut bob) = (world.client("ann").await, world.client("bob").await);
    assert_eq!(publish(&mut ann, "lobby", "before").await["code"], 0);
    assert_eq!(ask(&mut bob, json!({"op": "sub", "id": 1, "room": "lobby"})).await["ok"], true);
    event(&mut bob).await;

    world.serving.abort();
    let _ = (&mut world.serving).await;
    world.broker.crash(false);
    world.until_ready(false).await;
    assert!(world.http("/readyz").await.contains("the Spine is away"));
    assert!(world.http("/healthz").await.starts_with("HTTP/1.1 200"));
    ann.text(&json!({"op": "pub", "room": "lobby", "data": "lost", "ack": true}).to_string()).await;
    assert_eq!(ann.json().await["code"], 6000, "surely not applied");

    world.serving = serve(&world.net, &world.broker).await;
    world.until_ready(true).await;
    assert_eq!(publish(&mut ann, "lobby", "after").await["code"], 0);
    loop {
        let event = event(&mut bob).await;
        assert!(!event.to_string().contains("lost"), "{event}");
        if event.to_string().contains("after") {
            break;
        }
    }
}

/// Waits for an ERR with this code.
async fn told(client: &mut Raw<tokio::io::DuplexStream>, code: u16) {
    loop {
        if let Got::Binary(bytes) = client.next().await
            && let Ok(proto::frame::ServerFrame::Err(told, _)) = proto::frame::ServerFrame::binary(&bytes)
            && told == code
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_stale_shield_says_so_to_who_comes_and_tells_the_end() {
    let mut config = config();
    config.shield.stale_ms = 600;
    config.shield.stale_close_ms = 600_000;
    let mut world = World::new(config).await;
    let mut ann = world.client("ann").await;
    world.serving.abort();
    let _ = (&mut world.serving).await;
    world.broker.crash(false);
    told(&mut ann, 6004).await;

    let mut bob = Raw::new(world.net.connect("ws").await.unwrap());
    let bearer = format!("Authorization: Bearer {}", token(&claims("bob", now_ms() / 1000)));
    bob.handshake("/v1/ws", &["Sec-WebSocket-Protocol: arqon.v1".into(), bearer]).await;
    let hello = bob.json().await;
    assert_eq!(hello["stale"], true, "{hello}");

    world.serving = serve(&world.net, &world.broker).await;
    told(&mut ann, 6010).await;
    told(&mut bob, 6010).await;
    let mut cid = world.client("cid").await;
    assert_eq!(publish(&mut cid, "lobby", "x").await["code"], 0);
}
