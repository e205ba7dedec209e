//! The shell on the pinned nats-server, over async-nats, with the users and permissions of production.
#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use spine::NatsSpine;
use spine::server::{NatsServer, ServerOptions};
use support::*;

#[tokio::test]
async fn a_server_without_its_store_gets_its_streams_again_and_a_new_epoch_begins() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binary = NatsServer::pinned(&root).expect("`cargo xtask setup` brings the pinned nats-server");
    let data = tempfile::tempdir().unwrap();
    let mut server_options = ServerOptions::new(binary);
    server_options.data = Some(data.path().join("streams"));
    server_options.users = users(&["brain-1"]);
    let mut server = within("the server's start", NatsServer::start(server_options)).await.unwrap();
    let addr: SocketAddr = format!("127.0.0.1:{}", server.port()).parse().unwrap();

    let brain = start("brain-1", |user, inbox| NatsSpine::connect(options(addr, user, inbox)));
    let mut shield = Shield::at(addr).await;
    let room = room("lobby");
    let before = shield.command(&room, "ann", say("before"));
    let before = shield.ask(&room, &before).await;
    brain.until(None).await;
    server.kill_9().await;
    brain.until(Some("the Spine is away")).await;
    std::fs::remove_dir_all(data.path().join("streams")).unwrap();
    within("the server's restart", server.restart()).await.unwrap();
    let after = shield.command(&room, "ann", say("after"));
    let after = shield.ask(&room, &after).await;
    assert_eq!((after.code, after.seq), (0, 1));
    assert!(after.epoch > before.epoch, "continuity was lost, and that is said");
    brain.until(None).await;
    brain.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_killed_server_and_a_killed_node_lose_and_double_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binary = NatsServer::pinned(&root).expect("`cargo xtask setup` brings the pinned nats-server");
    let data = tempfile::tempdir().unwrap();
    let mut server_options = ServerOptions::new(binary);
    server_options.data = Some(data.path().into());
    server_options.users = users(&["brain-1"]);
    let mut server = within("the server's start", NatsServer::start(server_options)).await.unwrap();
    let addr: SocketAddr = format!("127.0.0.1:{}", server.port()).parse().unwrap();

    let connect = |user: &spine::users::UserSpec, inbox| NatsSpine::connect(options(addr, user, inbox));
    let brain = start("brain-1", connect);
    let mut shield = Shield::at(addr).await;
    let room = room("lobby");
    let mut sent = Vec::new();
    for n in 0..20 {
        let command = shield.command(&room, "ann", say(&format!("{n}")));
        let ack = shield.ask(&room, &command).await;
        assert_eq!((ack.code, ack.seq), (0, n + 1));
        sent.push(command);
    }
    server.kill_9().await;
    within("the server's restart", server.restart()).await.unwrap();
    let again = shield.ask(&room, &sent[19]).await;
    assert_eq!((again.code, again.seq, again.duplicate), (0, 20, true));
    brain.kill().await;

    let brain = start("brain-1", connect);
    let more = shield.command(&room, "ann", say("more"));
    let more = shield.ask(&room, &more).await;
    assert_eq!((more.code, more.seq), (0, 21), "the same generation: the room goes on");
    for (n, command) in sent.iter().enumerate() {
        let ack = shield.ask(&room, command).await;
        assert_eq!((ack.code, ack.seq, ack.duplicate), (0, n as u64 + 1, true));
    }
    let said = events(&shield.log(&room).await);
    assert_eq!(said.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=21).collect::<Vec<_>>());
    brain.stop().await;
    server.stop().await;
}
