//! The binary as a process of its own: it says when it takes rooms, tells its metrics, and ends at SIGTERM.
#![cfg(all(feature = "nats", not(madsim)))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::path::Path;
use std::process::Stdio;

use spine::server::{NatsServer, ServerOptions};
use spine::users::UserSpec;
use support::*;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

async fn get(authority: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_binary_serves_tells_and_ends() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binary = NatsServer::pinned(&root).expect("`cargo xtask setup` brings the pinned nats-server");
    let mut options = ServerOptions::new(binary);
    options.users = users(&["brain-1"]);
    let mut server = within("the server's start", NatsServer::start(options)).await.unwrap();

    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let name = "brain-1".parse().unwrap();
    let (writer, speaker) = (UserSpec::writer(&name, "w").name, UserSpec::speaker(&name, "p").name);
    let secret = write("secret", &"5a".repeat(32));
    let (w, p) = (write("w", "w\n"), write("p", "p\n"));
    let config = format!(
        "[policy]\ndefault = \"none\"\n[auth]\nhs256_secret_file = \"{secret}\"\n[http]\nhost = \"127.0.0.1\"\n[nats]\nurls = [\"nats://127.0.0.1:{}\"]\n[brain]\nmetrics_port = 0\nheartbeat_ms = 20\ndown_after_ms = 200\n\
         writer_user = \"{writer}\"\nwriter_password_file = \"{w}\"\nspeaker_user = \"{speaker}\"\n\
         speaker_password_file = \"{p}\"\n",
        server.port()
    );
    let config = write("arqon.toml", &config);
    let mut process = Command::new(env!("CARGO_BIN_EXE_brain-shell"))
        .args(["--config", &config, "--node", "brain-1", "--json"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = within("the ready line", lines.next_line()).await.unwrap().expect("it says that it is ready");
    let url = ready.split('"').find_map(|part| part.strip_prefix("http://")).expect("an address");
    let authority = url.strip_suffix("/metrics").unwrap();

    let mut shield = Shield::at(format!("127.0.0.1:{}", server.port()).parse().unwrap()).await;
    let room = room("lobby");
    let hello = shield.command(&room, "ann", say("hello"));
    assert_eq!(shield.ask(&room, &hello).await.seq, 1);
    assert!(within("health", get(authority, "/healthz")).await.starts_with("HTTP/1.1 200"));
    let readyz = within("readiness", get(authority, "/readyz")).await;
    assert!(readyz.starts_with("HTTP/1.1 200"), "{readyz}");
    let metrics = within("metrics", get(authority, "/metrics")).await;
    assert!(metrics.contains("\nbrain_room_count 1\n") && metrics.contains("\nbrain_events_total 1\n"), "{metrics}");

    let pid = process.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(within("a graceful end", process.wait()).await.unwrap().success());
    server.stop().await;
}
