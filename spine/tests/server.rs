//! The child process: ready means connectable, kill is a kill, restart keeps port and data.

use std::path::Path;

use spine::server::{NatsServer, ServerError, ServerOptions};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn options() -> ServerOptions {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    ServerOptions::new(NatsServer::pinned(root).unwrap_or_else(|e| panic!("{e}")))
}

async fn greets(server: &NatsServer) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", server.port())).await else { return false };
    let mut first = [0; 5];
    stream.read_exact(&mut first).await.is_ok() && &first == b"INFO "
}

#[tokio::test]
async fn starts_dies_and_comes_back_on_its_port() {
    let mut server = NatsServer::start(options()).await.unwrap();
    let (port, pid) = (server.port(), server.pid());
    assert!(greets(&server).await);
    server.kill_9().await;
    assert!(!greets(&server).await);
    assert!(matches!(server.pause().await, Err(ServerError::NotRunning)));
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert!(greets(&server).await);
    server.pause().await.unwrap();
    server.resume().unwrap();
    server.stop().await;
    assert!(!greets(&server).await);
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_log() {
    let first = NatsServer::start(options()).await.unwrap();
    let error = NatsServer::start(ServerOptions { port: first.port(), ..options() }).await.unwrap_err();
    assert!(error.to_string().contains("address already in use"), "{error}");
}

#[tokio::test]
async fn a_missing_binary_says_what_to_run() {
    let error = NatsServer::pinned(Path::new("/nonexistent")).unwrap_err();
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    let error = NatsServer::start(ServerOptions::new("/nonexistent/nats-server".into())).await.unwrap_err();
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
}

#[tokio::test]
async fn another_binary_is_refused() {
    let error = NatsServer::start(ServerOptions::new("/bin/echo".into())).await.unwrap_err();
    assert!(matches!(error, ServerError::Version { .. }), "{error}");
}
