//! The handshake: reads the request, decides, words the answer. Browsers hide the HTTP status of a failed handshake, so
//! a client that offered `arqon.v1` gets the upgrade first and then learns why it must go; others get
//! `application/problem+json`.

use std::io;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use futures_util::SinkExt as _;
use proto::{Code, frame};
use spine::Spine;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use voltron_core::{Ids, WallClock};

use super::admission::Place;
use super::upgrade::ClientId;
use crate::auth::{Identity, Refusal};
use crate::shared::Shared;

/// The longest request head, in bytes: a token of 16 KiB and the rest.
const HEAD_BYTES_MAX: usize = 24 << 10;
/// Connections of one Shield.
const CONNECTIONS_MAX: usize = 200_000;
const PATH: &str = "/v1/ws";
const PROTOCOL: &str = "arqon.v1";
const BEARER: &str = "arqon.bearer.";

/// What the client offered as subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Arqon,
    /// None at all: only where the text dialect is on.
    Nothing,
}

pub(super) enum Decision {
    Accept { head: String, offer: Offer, client: ClientId, identity: Box<Identity> },
    RefuseUpgraded { head: String, refusal: Refusal, close: Code },
    Http { status: u16, refusal: Refusal },
}

impl Decision {
    fn http(status: u16, code: Code, text: impl Into<String>) -> Self {
        Self::Http { status, refusal: Refusal::new(code, text) }
    }

    /// What a socket is told that makes room for a newer one.
    pub(super) fn evicted() -> Self {
        Self::http(503, Code::CloseCapacity, "too many sockets are in their handshake; this one was the oldest")
    }

    /// The bytes to write.
    pub(super) fn response(&self) -> Vec<u8> {
        match self {
            Self::Accept { head, .. } | Self::RefuseUpgraded { head, .. } => head.clone().into_bytes(),
            Self::Http { status, refusal } => problem(*status, refusal),
        }
    }
}

/// RFC 9457.
fn problem(status: u16, refusal: &Refusal) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let body = serde_json::json!({
        "type": format!("urn:arqon:error:{}", refusal.code.as_u16()), "title": refusal.code.message(), "status": status,
        "detail": refusal.text, "code": refusal.code.as_u16(), "name": refusal.code.name(), "help": refusal.code.help(),
    })
    .to_string();
    let extra = match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET\r\n",
        // RFC 6455 §4.4: a refused version is answered with the one that is taken; RFC 9110 §7.8: Upgrade is named in
        // Connection.
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        503 => "Retry-After: 5\r\n",
        _ => "",
    };
    let connection = if status == 426 { "Upgrade, close" } else { "close" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: {connection}\r\n{extra}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads a request and decides about it; also returns what came after the request.
pub(super) async fn read_and_decide<S: Spine, C: WallClock, I: Ids, T: AsyncRead + Unpin>(
    shared: &Shared<S, C, I>,
    stream: &mut T,
    place: &Place,
) -> io::Result<(Decision, Vec<u8>)> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let mut chunk = [0; 1024];
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let known = head.len();
        head.extend_from_slice(&chunk[..n]);
        // Parsed when its end may be there, and to refuse early what begins as no request: byte by byte would cost the
        // square of its length.
        let ends = head[known.saturating_sub(3)..].windows(2).any(|two| two == b"\n\n" || two == b"\n\r");
        if !ends && known >= 16 && head.len() <= HEAD_BYTES_MAX {
            continue;
        }
        match Request::try_parse(&head) {
            Ok(Some((len, request))) => {
                let tail = head.split_off(len);
                return Ok((decide(shared, &request, place), tail));
            }
            Ok(None) if head.len() > HEAD_BYTES_MAX => {
                return Ok((
                    Decision::http(431, Code::BadHandshake, "the request's head is longer than 24 KiB"),
                    Vec::new(),
                ));
            }
            Ok(None) => {}
            Err(error) => {
                let status = if head.starts_with(b"GET ") { 400 } else { 405 };
                return Ok((Decision::http(status, Code::BadHandshake, error.to_string()), Vec::new()));
            }
        }
    }
}

/// RFC 9112 §3.2 and RFC 6455 §4.1: what a request must say once. A second one could mean one thing here and another in
/// a proxy before.
fn malformed(request: &Request) -> Option<String> {
    let count = |name: &str| request.headers().get_all(name).iter().count();
    if count("Host") != 1 {
        return Some("Host: exactly one is needed".into());
    }
    let once = ["Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin"];
    once.iter().find(|name| count(name) > 1).map(|name| format!("{name}: more than one"))
}

fn decide<S: Spine, C: WallClock, I: Ids>(shared: &Shared<S, C, I>, request: &Request, place: &Place) -> Decision {
    if request.uri().path() != PATH {
        return Decision::http(404, Code::BadHandshake, "the only path here is /v1/ws");
    }
    if let Some(text) = malformed(request) {
        return Decision::http(400, Code::BadHandshake, text);
    }
    let upgrade = match create_response(request) {
        Ok(response) => response,
        Err(
            error @ WsError::Protocol(
                ProtocolError::MissingSecWebSocketVersionHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingConnectionUpgradeHeader,
            ),
        ) => return Decision::http(426, Code::BadHandshake, error.to_string()),
        Err(error) => return Decision::http(400, Code::BadHandshake, error.to_string()),
    };
    if let Some(origin) = request.headers().get("Origin") {
        let origins = &shared.config.server.origins;
        let known = |origin: &str| origins.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin));
        if !origin.to_str().is_ok_and(known) {
            return Decision::http(403, Code::OriginRefused, "this Origin is not in [server] origins");
        }
    }
    if shared.health.draining() {
        return Decision::http(503, Code::CloseDraining, "this Shield is going away; another one will take you");
    }
    if !place.allows(shared.limits.load().accept_per_s) || shared.connections.len() >= CONNECTIONS_MAX {
        return Decision::http(503, Code::CloseCapacity, "too many connections, or too many at once; come back later");
    }

    let offered: Vec<&str> = request
        .headers()
        .get_all("Sec-WebSocket-Protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let offer = if offered.contains(&PROTOCOL) {
        Offer::Arqon
    } else if offered.is_empty() && shared.config.server.text_dialect {
        Offer::Nothing
    } else {
        return Decision::http(400, Code::BadHandshake, "offer the subprotocol arqon.v1");
    };
    let accept =
        upgrade.headers().get("Sec-WebSocket-Accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let protocol = if offer == Offer::Arqon { "Sec-WebSocket-Protocol: arqon.v1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    let verified = token(request, &offered, shared.config.server.query_token)
        .and_then(|token| shared.keys.load().verify(&token, shared.clock.now_ms()));
    let verified = verified.and_then(|identity| Ok((identity, client_id(request)?)));
    match verified {
        Ok((identity, client)) => Decision::Accept { head, offer, client, identity: Box::new(identity) },
        Err(refusal) if offer == Offer::Arqon => {
            let close = match refusal.code {
                Code::TokenExpired => Code::CloseTokenExpired,
                _ => Code::CloseTokenInvalid,
            };
            Decision::RefuseUpgraded { head, refusal, close }
        }
        Err(refusal) => {
            let status = match refusal.code {
                Code::TokenTwice | Code::BadHandshake => 400,
                Code::SignatureRequired => 403,
                _ => 401,
            };
            Decision::Http { status, refusal }
        }
    }
}

/// The one token that was presented.
fn token(request: &Request, offered: &[&str], query_allowed: bool) -> Result<String, Refusal> {
    let mut found = Vec::new();
    for header in request.headers().get_all("Authorization") {
        let text = header.to_str().map_err(|_| Refusal::new(Code::TokenInvalid, "Authorization: not ASCII"))?;
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => found.push(token.trim().to_owned()),
            _ => return Err(Refusal::new(Code::TokenInvalid, "Authorization: only Bearer is taken")),
        }
    }
    found.extend(offered.iter().filter_map(|one| one.strip_prefix(BEARER)).map(str::to_owned));
    match query(request, "token") {
        Some(token) if query_allowed => found.push(token.to_owned()),
        Some(_) => return Err(Refusal::new(Code::TokenMissing, "?token= is off here ([server] query_token)")),
        None => {}
    }
    match found.len() {
        0 => Err(Refusal::new(Code::TokenMissing, Code::TokenMissing.message())),
        1 => Ok(found.remove(0)),
        _ => Err(Refusal::new(Code::TokenTwice, Code::TokenTwice.message())),
    }
}

fn client_id(request: &Request) -> Result<ClientId, Refusal> {
    let Some(text) = query(request, "client") else { return Ok(Bytes::new()) };
    match BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()) {
        Ok(id) if id.len() == 16 => Ok(id.into()),
        _ => Err(Refusal::new(Code::BadHandshake, "?client= must be 16 bytes in base64url")),
    }
}

/// A query parameter. Tokens and client ids are of letters that need no percent-encoding.
fn query<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let query = request.uri().query()?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// ERR, then the close that says what to do.
pub(super) async fn say_refusal<T: AsyncRead + AsyncWrite + Unpin>(
    ws: &mut WebSocketStream<T>,
    refusal: &Refusal,
    close: Code,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    use futures_util::StreamExt as _;
    ws.feed(Message::Binary(frame::err(refusal.code, &refusal.text))).await?;
    let reason = refusal.code.message().into();
    ws.send(Message::Close(Some(CloseFrame { code: CloseCode::from(close.as_u16()), reason }))).await?;
    // Until the peer has closed, too: else what it sends meanwhile would reset our last words away.
    while let Some(Ok(_)) = ws.next().await {}
    Ok(())
}
