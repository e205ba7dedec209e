//! What the broker's tests share: a client that speaks raw bytes, the real server, the simulated one.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use spine::server::{NatsServer, ServerOptions};
use spine_sim::{Broker, BrokerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use voltron_core::SystemClock;

/// The longest wait for something that must come.
pub const SOON: Duration = Duration::from_secs(20);

/// Serves a simulated broker on a free port.
pub async fn sim(options: BrokerOptions) -> (Broker, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let broker = Broker::new(options);
    let serving = broker.clone();
    tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    (broker, addr)
}

pub fn options() -> BrokerOptions {
    // Compared step by step, everything is said before the PONG.
    // Compared step by step, everything is said before the PONG.
    BrokerOptions { late_acks: false, ..BrokerOptions::new(SystemClock, 7) }
}

/// Starts the pinned nats-server; fails with what to do if it is not there.
pub async fn real(change: impl FnOnce(&mut ServerOptions)) -> NatsServer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let binary = NatsServer::pinned(root).unwrap_or_else(|error| panic!("{error}"));
    let mut options = ServerOptions::new(binary);
    change(&mut options);
    NatsServer::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// One thing a server said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// sid, subject, reply, header block, body
    Msg { sid: String, subject: String, reply: String, header: String, body: String },
    /// `+OK`, `-ERR …`, `PONG`
    Line(String),
    /// The connection ended.
    End,
}

/// A client that sends and reads bytes.
pub struct Raw {
    stream: TcpStream,
    buf: Vec<u8>,
    pub info: String,
    ended: bool,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let mut raw = Self { stream, buf: Vec::new(), info: String::new(), ended: false };
        let first = timeout(SOON, raw.line()).await.expect("an INFO").expect("an INFO");
        raw.info = first.strip_prefix("INFO ").expect("the first line is INFO").trim().into();
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A server that has hung up is seen when reading.
        let _ = self.stream.write_all(bytes).await;
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buf.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buf.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buf.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buf.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buf.drain(..count).collect())
    }

    /// The next thing said, INFO and PING (answered) left out.
    pub async fn next(&mut self) -> Said {
        if self.ended {
            return Said::End;
        }
        loop {
            let Some(line) = self.line().await else {
                self.ended = true;
                return Said::End;
            };
            let fields: Vec<&str> = line.split(' ').filter(|field| !field.is_empty()).collect();
            match fields[0] {
                "INFO" => {}
                "PING" => self.send(b"PONG\r\n").await,
                verb @ ("MSG" | "HMSG") => {
                    let numbers = if verb == "HMSG" { 2 } else { 1 };
                    let total: usize = fields[fields.len() - 1].parse().expect("a length");
                    let header: usize =
                        if numbers == 2 { fields[fields.len() - 2].parse().expect("a length") } else { 0 };
                    let reply = if fields.len() == 4 + numbers { fields[3].into() } else { String::new() };
                    let (sid, subject) = (fields[2].to_owned(), fields[1].to_owned());
                    let Some(bytes) = self.bytes(total + 2).await else {
                        self.ended = true;
                        return Said::End;
                    };
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let (header, body) = (text(&bytes[..header]), text(&bytes[header..total]));
                    return Said::Msg { sid, subject, reply, header, body };
                }
                _ => return Said::Line(line),
            }
        }
    }

    /// Everything said up to the answer of a PING that is sent now, the PONG left out; or up to the end.
    pub async fn until_pong(&mut self) -> Vec<Said> {
        self.send(b"PING\r\n").await;
        let mut all = Vec::new();
        loop {
            match timeout(SOON, self.next()).await.expect("a PONG or the end") {
                Said::Line(line) if line == "PONG" => return all,
                Said::End => {
                    all.push(Said::End);
                    return all;
                }
                said => all.push(said),
            }
        }
    }

    /// What is said up to the end of the connection.
    pub async fn until_end(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        loop {
            let said = timeout(SOON, self.next()).await.expect("the end");
            let end = said == Said::End;
            all.push(said);
            if end {
                return all;
            }
        }
    }
}

/// `HPUB` with these headers.
pub fn hpub(subject: &str, reply: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut header = String::from("NATS/1.0\r\n");
    for (key, value) in headers {
        header.push_str(&format!("{key}: {value}\r\n"));
    }
    header.push_str("\r\n");
    let total = header.len() + body.len();
    format!("HPUB {subject} {reply} {} {total}\r\n{header}{body}\r\n", header.len()).into_bytes()
}

pub fn publish(subject: &str, reply: &str, body: &str) -> Vec<u8> {
    format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()).into_bytes()
}

/// A JetStream request whose answer comes to `_R.api`.
pub fn api(call: &str, body: &str) -> Vec<u8> {
    publish(&format!("$JS.API.{call}"), "_R.api", body)
}
