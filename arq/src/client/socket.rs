//! One connection: a WebSocket over any byte stream, driving the protocol core. No task is spawned and nothing is
//! sent behind the caller's back: everything happens inside [`Client::next`].

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use futures_util::{Sink as _, Stream as _};
use proto::json::Since;
use proto::{MessageId, RoomId, v1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, Response, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use voltron_core::tasks::timeout_at;
use voltron_core::{Ids, WallClock};

use super::core::{Core, Frame, Full};
use super::event::{ClientEvent, SubOptions};

/// The WebSocket close code of a connection that ended without one.
pub const ABNORMAL: u16 = 1006;
/// The close code of a connection that the client itself let go.
pub const LET_GO: u16 = 1001;
/// How much longer than two heartbeats a server may be silent.
const SILENCE_GRACE: Duration = Duration::from_secs(10);
/// The longest wait for a stream and its handshake.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where to connect and who one is.
#[derive(Clone, Debug)]
pub struct Target {
    /// `ws://host:port/v1/ws`.
    pub url: String,
    /// The JWT, sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Keeps this client's presence across reconnects; unique within (tenant, user).
    pub client_id: Option<[u8; 16]>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or the token cannot be used in a request.
    #[error("{0}")]
    Target(String),
    /// The stream broke, or nobody answered.
    #[error("{0}")]
    Io(String),
    /// The server answered, but not with an upgrade.
    #[error("the server answered HTTP {status}{}{}", if text.is_empty() { "" } else { ": " }, text)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code of `problem+json`, if there is one.
        code: Option<u16>,
        /// For people.
        text: String,
        /// `Retry-After`, seconds.
        retry_after: Option<u64>,
    },
}

/// A connected client. Take events with [`Client::next`]; everything else only queues.
#[derive(Debug)]
pub struct Client<S, C, I> {
    socket: WebSocketStream<S>,
    core: Core<C, I>,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
    unflushed: bool,
    over: bool,
}

impl<S, C, I> Client<S, C, I>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: WallClock,
    I: Ids,
{
    /// Speaks the handshake over `stream`. On failure the core comes back with everything it holds.
    pub async fn connect(stream: S, target: &Target, core: Core<C, I>) -> Result<Self, (ConnectError, Core<C, I>)> {
        match handshake(stream, target, core.ids()).await {
            Ok(socket) => Ok(Self::over(socket, core)),
            Err(error) => Err((error, core)),
        }
    }

    /// A client over a socket whose handshake is done.
    pub(crate) fn over(socket: WebSocketStream<S>, core: Core<C, I>) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now));
        Self { socket, core, timer, heard: now, unflushed: false, over: false }
    }

    /// The protocol core, to look at.
    pub const fn core(&self) -> &Core<C, I> {
        &self.core
    }

    pub(crate) const fn core_mut(&mut self) -> &mut Core<C, I> {
        &mut self.core
    }

    /// Ends this connection at once, as a crash of the client would, and gives the core back. Commands without an
    /// outcome and wanted rooms go on with the next connection.
    pub fn into_core(mut self) -> Core<C, I> {
        if !self.over {
            self.core.closed(LET_GO, "the client let go");
        }
        self.core
    }

    /// See [`Core::publish`].
    pub fn publish(&mut self, room: &RoomId, command: v1::Command, ack: bool) -> Result<MessageId, Full> {
        self.core.publish(room, command, ack, Instant::now())
    }

    /// See [`Core::subscribe`].
    pub fn subscribe(&mut self, room: &RoomId, options: SubOptions) {
        self.core.subscribe(room, options);
    }

    /// See [`Core::unsubscribe`].
    pub fn unsubscribe(&mut self, room: &RoomId) {
        self.core.unsubscribe(room);
    }

    /// See [`Core::get`].
    pub fn get(&mut self, room: &RoomId) -> Option<u64> {
        self.core.get(room)
    }

    /// See [`Core::authenticate`].
    pub fn authenticate(&mut self, token: &str) {
        self.core.authenticate(token);
    }

    /// See [`Core::raw`].
    pub fn raw(&mut self, frame: Frame) {
        self.core.raw(frame);
    }

    /// See [`Core::cursor`].
    pub fn cursor(&self, room: &RoomId) -> Option<Since> {
        self.core.cursor(room)
    }

    /// Sends what is queued, reads, repeats what is due, and returns the next event. After
    /// [`ClientEvent::Closed`] there is none. Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Says goodbye (close 1000), waits for the answer and returns the events that came meanwhile, Closed last. At
    /// most `limit`.
    pub async fn close(&mut self, limit: Duration) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        if self.over {
            return events;
        }
        let deadline = Instant::now() + limit;
        // What is queued leaves first.
        let farewell = async {
            poll_fn(|cx| self.poll_send(cx)).await?;
            self.socket.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).await
        };
        if !matches!(timeout_at(deadline, farewell).await, Ok(Ok(()))) {
            self.end(ABNORMAL, "the connection broke while closing");
        }
        while let Ok(Some(event)) = timeout_at(deadline, self.next()).await {
            events.push(event);
        }
        if !self.over {
            self.end(ABNORMAL, "the server did not answer the close");
            events.extend(std::iter::from_fn(|| self.core.poll_event()));
        }
        events
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        loop {
            if let Some(event) = self.core.poll_event() {
                return Poll::Ready(Some(event));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                self.failed(&error);
                continue;
            }
            if let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(cx) {
                self.received(message);
                continue;
            }
            let silent = self.heard + self.silence_max();
            let due = self.core.next_tick().map_or(silent, |tick| tick.min(silent));
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= silent {
                self.end(ABNORMAL, "the server has fallen silent");
            } else {
                self.core.tick(Instant::now());
            }
        }
    }

    /// Hands everything queued to the socket and flushes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut socket = Pin::new(&mut self.socket);
        loop {
            std::task::ready!(socket.as_mut().poll_ready(cx))?;
            let Some(frame) = self.core.poll_frame() else { break };
            let message = match frame {
                Frame::Binary(bytes) => Message::Binary(bytes),
                Frame::Text(text) => Message::text(text),
            };
            socket.as_mut().start_send(message)?;
            self.unflushed = true;
        }
        if self.unflushed {
            std::task::ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn received(&mut self, message: Option<Result<Message, WsError>>) {
        let now = Instant::now();
        self.heard = now;
        match message {
            Some(Ok(Message::Binary(bytes))) => self.core.binary(&bytes, now),
            Some(Ok(Message::Text(text))) => self.core.text(&text, now),
            // The answer to a ping is queued by the socket itself and leaves with the next flush.
            Some(Ok(Message::Ping(_))) => self.unflushed = true,
            Some(Ok(Message::Close(Some(frame)))) => self.end(frame.code.into(), &frame.reason),
            Some(Ok(Message::Close(None))) => self.end(1005, "closed without a code"),
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => self.failed(&error),
            None => self.end(ABNORMAL, "the connection ended"),
        }
    }

    fn failed(&mut self, error: &WsError) {
        self.end(ABNORMAL, &error.to_string());
    }

    fn end(&mut self, code: u16, reason: &str) {
        if !self.over {
            self.over = true;
            self.core.closed(code, reason);
        }
    }

    /// How long the server may be silent: two of its heartbeats and a grace. Before HELLO, the connect limit.
    fn silence_max(&self) -> Duration {
        let Some(hello) = self.core.hello() else { return CONNECT_LIMIT };
        if hello.heartbeat_ms == 0 {
            return Duration::from_secs(24 * 3600);
        }
        Duration::from_millis(hello.heartbeat_ms.saturating_mul(2)) + SILENCE_GRACE
    }
}

/// Turns a stream into a WebSocket, within [`CONNECT_LIMIT`].
pub(crate) async fn handshake<S>(stream: S, target: &Target, ids: &impl Ids) -> Result<WebSocketStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let request = request(target, ids)?;
    // Small buffers: a process may hold thousands of clients.
    let config = WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(8 << 10)
        .max_write_buffer_size(4 << 20)
        .max_message_size(Some(4 << 20))
        .max_frame_size(Some(4 << 20));
    let shaking = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    match tokio::time::timeout(CONNECT_LIMIT, shaking).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(ConnectError::Io("no answer to the handshake".into())),
    }
}

/// The handshake's request. The key comes from the injected randomness.
fn request(target: &Target, ids: &impl Ids) -> Result<Request<()>, ConnectError> {
    let mut url = target.url.clone();
    if let Some(client) = &target.client_id {
        let joint = if url.contains('?') { '&' } else { '?' };
        url = format!("{url}{joint}client={}", BASE64URL_NOPAD.encode(client));
    }
    let mut request =
        url.into_client_request().map_err(|error| ConnectError::Target(format!("{}: {error}", target.url)))?;
    let mut key = [0; 16];
    ids.fill("ws-key", &mut key);
    let headers = request.headers_mut();
    let key = HeaderValue::from_str(&BASE64.encode(&key)).expect("base64 is a header value");
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("arqon.v1"));
    if let Some(token) = &target.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ConnectError::Target("the token holds characters that no token has".into()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

fn refused(error: WsError) -> ConnectError {
    match error {
        WsError::Http(response) => problem(&response),
        WsError::Url(error) => ConnectError::Target(error.to_string()),
        other => ConnectError::Io(other.to_string()),
    }
}

/// Reads `application/problem+json` as far as it came; the status alone is enough to act on.
fn problem(response: &Response<Option<Vec<u8>>>) -> ConnectError {
    #[derive(serde::Deserialize, Default)]
    struct Problem {
        code: Option<u16>,
        detail: Option<String>,
        title: Option<String>,
    }
    let body = response.body().as_deref().unwrap_or_default();
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    ConnectError::Refused {
        status: response.status().as_u16(),
        code: problem.code,
        text: problem.detail.or(problem.title).unwrap_or_default(),
        retry_after: retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()),
    }
}
