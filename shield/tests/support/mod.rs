//! What the integration tests share: an in-memory network, tokens, and a WebSocket client of raw bytes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part; a test may panic")]

#[cfg(all(feature = "nats", not(madsim)))]
pub mod process;
pub mod world;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proto::json::{Claims, Grant, Grants};
use shield::Keys;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use voltron_core::config::Config;
use voltron_core::{Listener, Net};

pub const SECRET: &[u8] = b"a secret of the tests, 32 bytes..";

/// An in-memory network: every address is a name.
#[derive(Clone, Default)]
pub struct MemNet {
    bound: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<DuplexStream>>>>,
}

pub struct MemListener(mpsc::UnboundedReceiver<DuplexStream>);

impl Net for MemNet {
    type Stream = DuplexStream;
    type Listener = MemListener;

    async fn bind(&self, addr: &str) -> io::Result<MemListener> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.bound.lock().unwrap().insert(addr.into(), tx);
        Ok(MemListener(rx))
    }

    async fn connect(&self, addr: &str) -> io::Result<DuplexStream> {
        self.connect_narrow(addr, 256 << 10).await
    }
}

impl MemNet {
    /// Connects with a stream that holds so many bytes each way.
    pub async fn connect_narrow(&self, addr: &str, bytes: usize) -> io::Result<DuplexStream> {
        let (near, far) = duplex(bytes);
        let bound = self.bound.lock().unwrap().get(addr).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        bound.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }
}

impl Listener for MemListener {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, SocketAddr::from(([127, 0, 0, 1], 1)))),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

/// A configuration for tests: limits out of the way, short times.
pub fn config() -> Config {
    let mut config = Config::default();
    config.limits.pub_per_s = 1_000_000;
    config.limits.pub_burst = 1_000_000;
    config.shield.heartbeat_ms = 200;
    config.brain.heartbeat_ms = 100;
    config.brain.down_after_ms = 500;
    config.server.text_dialect = true;
    config.server.query_token = true;
    config
}

pub fn keys(config: &Config) -> Arc<ArcSwap<Keys>> {
    Arc::new(ArcSwap::from_pointee(Keys::new(&config.auth, None, Some(SECRET)).expect("a good secret")))
}

pub fn claims(user: &str, now_s: i64) -> Claims {
    let all = ["sub", "pub", "state", "mod", "create", "owner"].map(String::from).to_vec();
    Claims {
        aud: Some(proto::json::Audience::One("arqon".into())),
        exp: now_s + 3600,
        sub: user.into(),
        tid: "acme".into(),
        arq: Grants { rooms: vec![Grant { m: "*".into(), a: all }], meta: None },
        ..Claims::default()
    }
}

pub fn token(claims: &Claims) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("claims encode")
}

/// A WebSocket client that writes and reads bytes, so that a test can be as wrong as it likes.
pub struct Raw<T> {
    stream: T,
    unread: Vec<u8>,
    /// False: pings find no answer.
    pub pongs: bool,
}

/// One message from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Close(u16, String),
    End,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    pub fn new(stream: T) -> Self {
        Self { stream, unread: Vec::new(), pongs: true }
    }

    /// Sends a request with these header lines and returns the answer's head.
    pub async fn handshake(&mut self, path: &str, headers: &[String]) -> String {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        self.bytes(request.as_bytes()).await;
        loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.unread.split_off(at + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(head).expect("a head is ASCII");
            }
            assert!(self.more().await, "no answer to the handshake: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Connects with a token; checks the upgrade and HELLO.
    pub async fn open(stream: T, token: &str) -> Self {
        let mut client = Self::new(stream);
        let headers = ["Sec-WebSocket-Protocol: arqon.v1".into(), format!("Authorization: Bearer {token}")];
        let head = client.handshake("/v1/ws", &headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        match client.next().await {
            Got::Text(hello) if hello.starts_with('\u{4}') => {}
            other => panic!("HELLO comes first, not {other:?}"),
        }
        client
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
        self.stream.flush().await.expect("the server reads");
    }

    pub async fn binary(&mut self, payload: &[u8]) {
        self.bytes(&frame(2, payload)).await;
    }

    pub async fn text(&mut self, payload: &str) {
        self.bytes(&frame(1, payload.as_bytes())).await;
    }

    /// False at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    /// Reads at most so many bytes; false at the end of the stream.
    pub async fn sip(&mut self, most: usize) -> bool {
        let mut chunk = vec![0; most];
        let n = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.unread.extend_from_slice(&chunk[..n]);
        n > 0
    }

    /// The next message that has been read whole; pings are answered.
    pub async fn at_hand(&mut self) -> Option<Got> {
        while let Some((opcode, payload, len)) = parse(&self.unread) {
            self.unread.drain(..len);
            if let Some(got) = self.message(opcode, payload).await {
                return Some(got);
            }
        }
        None
    }

    async fn message(&mut self, opcode: u8, payload: Vec<u8>) -> Option<Got> {
        Some(match opcode {
            1 => Got::Text(String::from_utf8(payload).expect("text is UTF-8")),
            2 => Got::Binary(payload),
            8 if payload.len() >= 2 => Got::Close(
                u16::from_be_bytes([payload[0], payload[1]]),
                String::from_utf8_lossy(&payload[2..]).into_owned(),
            ),
            8 => Got::Close(1005, String::new()),
            9 => {
                if self.pongs {
                    self.bytes(&frame(10, &payload)).await;
                }
                return None;
            }
            _ => return None,
        })
    }

    /// The next message; pings are answered and reported.
    pub async fn next(&mut self) -> Got {
        let wait = std::time::Duration::from_secs(20);
        tokio::time::timeout(wait, self.read()).await.expect("the server says something within 20 s")
    }

    async fn read(&mut self) -> Got {
        loop {
            if let Some(got) = self.at_hand().await {
                return got;
            }
            if !self.more().await {
                return Got::End;
            }
        }
    }

    /// The next JSON text.
    pub async fn json(&mut self) -> serde_json::Value {
        match self.next().await {
            Got::Text(text) => {
                let body = text.trim_start_matches(|c: char| c < ' ');
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text:?}"))
            }
            other => panic!("expected JSON, got {other:?}"),
        }
    }

    /// Ends its half of the stream, without a close frame.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("the stream is open");
    }

    /// Everything that is still sent, without decoding it.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

/// A masked client frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    out
}

/// An unmasked server frame: opcode, payload, whole length.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        n => (usize::from(n), 2),
    };
    Some((first & 15, bytes.get(at..at + len)?.to_vec(), at + len))
}

/// The bytes of a `say` as a client sends them, without the opcode.
pub fn say(room: &str, id: [u8; 16], timestamp: i64, data: &str, ack: bool) -> Vec<u8> {
    use proto::v1::{Command, Envelope, Say, command::Op, envelope::Payload};
    let say = Say { data: data.as_bytes().to_vec().into(), r#type: "text".into() };
    let envelope = Envelope {
        room_id: room.into(),
        timestamp,
        message_id: id.to_vec().into(),
        ack_requested: ack,
        payload: Some(Payload::Cmd(Command { op: Some(Op::Say(say)), ..Command::default() })),
        ..Envelope::default()
    };
    prost::Message::encode_to_vec(&envelope)
}
