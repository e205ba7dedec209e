//! The client over real WebSockets: against a scripted server, over an in-memory stream and over loopback TCP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use arq::client::{
    Client, ClientEvent, ConnectError, Core, CoreOptions, Reconnect, Session, SessionError, SubOptions, Target, say,
};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::json::{Hello, Since, SubFamily, SubResult, sub_family};
use proto::{RoomId, frame, v1};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use voltron_core::{OsIds, SystemClock, TcpNet};

type TestClient<S> = Client<S, SystemClock, OsIds>;
type TestSession = Session<TcpNet, SystemClock, OsIds>;

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(30);

fn lobby() -> RoomId {
    "lobby".parse().unwrap()
}

fn core() -> Core<SystemClock, OsIds> {
    Core::new(CoreOptions::new("c1"), SystemClock, OsIds)
}

fn target(url: &str) -> Target {
    Target { url: url.into(), token: Some("a.b.c".into()), client_id: Some([1; 16]) }
}

/// A server's side of one connection.
struct Server<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Takes the handshake, checks what the client sent, and greets.
    async fn greet(stream: S, heartbeat_ms: u64) -> Self {
        let socket = tokio_tungstenite::accept_hdr_async(stream, accept).await.unwrap();
        let mut server = Self(socket);
        let hello = Hello { tenant: "acme".into(), user: "ann".into(), heartbeat_ms, ..Hello::default() };
        server.text(frame::text(frame::HELLO, &hello)).await;
        server
    }

    async fn text(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn binary(&mut self, bytes: Bytes) {
        self.0.send(Message::Binary(bytes)).await.unwrap();
    }

    /// The next binary message.
    async fn next(&mut self) -> Bytes {
        loop {
            match self.0.next().await.expect("the client is there").unwrap() {
                Message::Binary(bytes) => return bytes,
                Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn sub(&mut self) -> proto::json::SubRequest {
        let bytes = self.next().await;
        match sub_family(std::str::from_utf8(&bytes[1..]).unwrap()).unwrap() {
            SubFamily::Sub(request) => request,
            other => panic!("{other:?}"),
        }
    }

    async fn close(&mut self, code: u16) {
        self.0.close(Some(CloseFrame { code: code.into(), reason: "test".into() })).await.unwrap();
        // The client's close frame, and then its end of the stream.
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

#[allow(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the shape that the callback must have")]
fn accept(
    request: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("authorization"), Some("Bearer a.b.c"));
    assert_eq!(header("sec-websocket-protocol"), Some("arqon.v1"));
    assert_eq!(request.uri().query(), Some("client=AQEBAQEBAQEBAQEBAQEBAQ"));
    response.headers_mut().insert("sec-websocket-protocol", "arqon.v1".parse().unwrap());
    Ok(response)
}

fn said(seq: u64, size: usize) -> Bytes {
    let said = v1::Said { data: vec![b'x'; size].into(), r#type: String::new() };
    let event = v1::Event { epoch: 7, seq, prev: seq, body: Some(v1::event::Body::Said(said)), ..v1::Event::default() };
    let payload = Some(v1::envelope::Payload::Event(event));
    let envelope = v1::Envelope { room_id: "lobby".into(), payload, ..v1::Envelope::default() };
    frame::publish(&envelope.encode_to_vec())
}

fn ack(of: &[u8], code: u32) -> Bytes {
    let envelope = v1::Envelope::decode(&of[1..]).unwrap();
    frame::ack(&v1::Ack { message_id: envelope.message_id, code, epoch: 7, seq: 1, ..v1::Ack::default() })
}

/// Both ends of an in-memory connection, greeted; HELLO is taken.
async fn pair() -> (TestClient<tokio::io::DuplexStream>, Server<tokio::io::DuplexStream>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let target = target("ws://test/v1/ws");
    let (client, server) = tokio::join!(Client::connect(near, &target, core()), Server::greet(far, 25_000));
    let mut client = client.map_err(|(error, _)| error).unwrap();
    assert!(matches!(next(&mut client).await, ClientEvent::Hello(hello) if hello.user == "ann"));
    (client, server)
}

async fn next<S: AsyncRead + AsyncWrite + Unpin + Send>(client: &mut TestClient<S>) -> ClientEvent {
    tokio::time::timeout(LIMIT, client.next()).await.expect("something happens").expect("the client is not over")
}

async fn next_of(session: &mut TestSession) -> Result<ClientEvent, SessionError> {
    tokio::time::timeout(LIMIT, session.next()).await.expect("something happens")
}

#[tokio::test]
async fn a_message_in_fragments_with_a_ping_between_is_one_event() {
    let (mut client, mut server) = pair().await;
    let whole = said(1, 5_000);
    let pieces: Vec<Bytes> = [0..1, 1..100, 100..4_000, 4_000..whole.len()].map(|r| whole.slice(r)).into();
    let last = pieces.len() - 1;
    for (index, piece) in pieces.into_iter().enumerate() {
        let data = if index == 0 { Data::Binary } else { Data::Continue };
        server.0.send(Message::Frame(RawFrame::message(piece, OpCode::Data(data), index == last))).await.unwrap();
        if index == 1 {
            server.0.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
        }
    }
    match next(&mut client).await {
        ClientEvent::Event(event) => {
            assert_eq!((event.epoch, event.seq), (7, 1));
            assert_eq!(event.bytes, whole.slice(1..));
        }
        other => panic!("{other:?}"),
    }
    // The pong leaves while the client waits for more.
    tokio::select! {
        biased;
        event = next(&mut client) => panic!("{event:?}"),
        message = server.0.next() => assert!(matches!(message, Some(Ok(Message::Pong(answer))) if &answer[..] == b"p")),
    }
}

#[tokio::test]
async fn an_unknown_opcode_is_told_and_the_connection_lives() {
    let (mut client, mut server) = pair().await;
    server.binary(Bytes::from_static(b"\x7f??")).await;
    server.binary(said(1, 1)).await;
    assert!(matches!(next(&mut client).await, ClientEvent::Unknown { head, .. } if head == b"\x7f??"));
    assert!(matches!(next(&mut client).await, ClientEvent::Event(event) if event.seq == 1));
}

#[tokio::test]
async fn an_unknown_outcome_is_repeated_byte_for_byte() {
    let (mut client, mut server) = pair().await;
    client.publish(&lobby(), say("", "x"), true).unwrap();
    let serve = async {
        let first = server.next().await;
        server.binary(ack(&first, 6001)).await;
        let second = server.next().await;
        assert_eq!(first, second);
        server.binary(ack(&second, 0)).await;
        // A late answer to the first send.
        server.binary(ack(&first, 0)).await;
        server
    };
    let read = async {
        let mut acks = Vec::new();
        while acks.len() < 3 {
            match next(&mut client).await {
                ClientEvent::Ack(ack) => acks.push((ack.code, ack.repeating, ack.room)),
                other => panic!("{other:?}"),
            }
        }
        acks
    };
    let (_, acks) = tokio::join!(serve, read);
    let room = Some(lobby());
    assert_eq!(acks, [(6001, true, room.clone()), (0, false, room.clone()), (0, false, room)]);
}

#[tokio::test]
async fn a_broken_stream_is_one_closed_event_and_the_core_goes_on() {
    let (mut client, server) = pair().await;
    client.publish(&lobby(), say("", "x"), true).unwrap();
    drop(server);
    assert!(matches!(next(&mut client).await, ClientEvent::Closed { code: 1006, .. }));
    assert_eq!(client.next().await, None);
    assert_eq!(client.into_core().waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_left() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let target = target("ws://test/v1/ws");
    let (client, server) = tokio::join!(Client::connect(near, &target, core()), Server::greet(far, 1_000));
    let mut client = client.map_err(|(error, _)| error).unwrap();
    assert!(matches!(client.next().await, Some(ClientEvent::Hello(_))));
    let before = tokio::time::Instant::now();
    assert!(matches!(client.next().await, Some(ClientEvent::Closed { code: 1006, .. })));
    assert_eq!(before.elapsed(), Duration::from_secs(12), "two heartbeats and ten seconds, on the paused clock");
    drop(server);
}

#[tokio::test]
async fn goodbye_sends_what_is_queued_first() {
    let (mut client, mut server) = pair().await;
    client.publish(&lobby(), say("", "last words"), false).unwrap();
    let serve = async {
        let bytes = server.next().await;
        assert_eq!(bytes[0], frame::PUB);
        server.binary(ack(&bytes, 2004)).await;
        assert!(matches!(server.0.next().await, Some(Ok(Message::Close(_)))));
        while let Some(Ok(_)) = server.0.next().await {}
    };
    let (events, ()) = tokio::join!(client.close(LIMIT), serve);
    assert!(matches!(&events[..], [ClientEvent::Ack(ack), ClientEvent::Closed { code: 1000, .. }] if ack.code == 2004));
}

#[tokio::test]
async fn a_refused_handshake_carries_status_code_and_text() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let body = r#"{"type":"about:blank","title":"no","status":401,"code":2003,"detail":"exp: the token has expired"}"#;
    let serve = async {
        let mut buffer = [0; 4096];
        let _ = far.read(&mut buffer).await.unwrap();
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/problem+json\r\nretry-after: 3\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        far.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        far
    };
    let target = target("ws://test/v1/ws");
    let (client, _far) = tokio::join!(Client::connect(near, &target, core()), serve);
    match client.map_err(|(error, _)| error) {
        Err(ConnectError::Refused { status, code, text, retry_after }) => {
            assert_eq!((status, code, retry_after), (401, Some(2003), Some(3)));
            assert_eq!(text, "exp: the token has expired");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_resumes_with_its_cursor_and_repeats_what_was_not_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/ws", listener.local_addr().unwrap());
    let serve = async {
        let mut one = Server::greet(listener.accept().await.unwrap().0, 25_000).await;
        let request = one.sub().await;
        assert_eq!(request.since, None);
        let publication = one.next().await;
        one.text(frame::text(frame::SUB, &SubResult::ok(request.id, "lobby", (7, 0), false, 0))).await;
        one.binary(said(1, 1)).await;
        one.close(4200).await;
        let mut two = Server::greet(listener.accept().await.unwrap().0, 25_000).await;
        let request = two.sub().await;
        assert_eq!(request.since, Some(Since { epoch: 7, seq: 1, pos: Some(1) }));
        two.text(frame::text(frame::SUB, &SubResult::ok(request.id, "lobby", (7, 2), true, 1))).await;
        assert_eq!(two.next().await, publication, "the same bytes on the next connection");
        two.binary(said(2, 1)).await;
        two.binary(ack(&publication, 0)).await;
        two.close(4004).await;
    };
    let mut session: TestSession = Session::new(TcpNet, target(&url), core(), Reconnect::default());
    session.subscribe(&lobby(), SubOptions { persist: true, ..SubOptions::default() });
    session.publish(&lobby(), say("", "x"), true).unwrap();
    let read = async {
        let mut seen = Vec::new();
        loop {
            match next_of(&mut session).await {
                Ok(ClientEvent::Event(event)) => seen.push(format!("event {}", event.seq)),
                Ok(ClientEvent::Subscribed { recovered, .. }) => seen.push(format!("subscribed {recovered}")),
                Ok(ClientEvent::Ack(ack)) => seen.push(format!("ack {}", ack.code)),
                Ok(ClientEvent::Closed { code, .. }) => seen.push(format!("closed {code}")),
                Ok(ClientEvent::Hello(_)) => seen.push("hello".into()),
                Ok(other) => panic!("{other:?}"),
                Err(SessionError::Closed { code, .. }) => {
                    seen.push(format!("over {code}"));
                    return seen;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (seen, ()) = tokio::join!(read, serve);
    let expected = [
        "hello",
        "subscribed false",
        "event 1",
        "closed 4200",
        "hello",
        "subscribed true",
        "event 2",
        "ack 0",
        "closed 4004",
        "over 4004",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_session_gives_up_after_the_tries_it_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/ws", listener.local_addr().unwrap());
    drop(listener);
    let tries = Reconnect { first: 3, pause: Duration::from_millis(1), ..Reconnect::default() };
    let mut session: TestSession = Session::new(TcpNet, target(&url), core(), tries);
    assert!(matches!(next_of(&mut session).await, Err(SessionError::Unreachable { .. })));
    let mut session: TestSession = Session::new(TcpNet, target("http://x/"), core(), tries);
    assert!(matches!(next_of(&mut session).await, Err(SessionError::Target(_))));
}
