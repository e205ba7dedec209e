//! A client that keeps itself connected: it obeys the close codes, backs off with jitter, and resumes where it was.

use std::time::Duration;

use proto::{MessageId, RoomId, v1};
use tokio::time::Instant;
use voltron_core::{Ids, Net, WallClock};

use super::core::{Core, Full};
use super::event::{AfterClose, ClientEvent, SubOptions};
use super::socket::{self, Client, ConnectError, Target};

/// How hard a session tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How often the very first connection is tried.
    pub first: u32,
    /// How often in a row a connection is tried after one that worked.
    pub again: u32,
    /// The first pause; it doubles. The pause drawn is between half of it and all of it.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { first: 1, again: 20, pause: Duration::from_millis(100), pause_max: Duration::from_secs(5) }
    }
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The URL or the token cannot be used.
    #[error("{0}")]
    Target(String),
    /// Nobody could be reached, as often as the policy allows.
    #[error("cannot reach {url}: {source}")]
    Unreachable {
        /// Where.
        url: String,
        /// The last failure.
        source: ConnectError,
    },
    /// The server does not want this client.
    #[error("{url} refused the connection: {source}")]
    Refused {
        /// Where.
        url: String,
        /// What it said.
        source: ConnectError,
    },
    /// The connection was closed with a code that forbids reconnecting as before.
    #[error("closed with {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The close code.
        code: u16,
        /// What the server said.
        reason: String,
    },
}

/// A client with its way to the server.
pub struct Session<N: Net, C, I> {
    net: N,
    target: Target,
    policy: Reconnect,
    link: Link<N, C, I>,
    /// Attempts in a row that did not reach HELLO.
    failures: u32,
    /// True once there was a HELLO.
    greeted: bool,
    /// Not before then.
    wait: Option<Instant>,
    /// What a draining server asked for.
    come_back: Option<Duration>,
    /// Why there will be no further connection.
    end: Option<(u16, String)>,
}

enum Link<N: Net, C, I> {
    Up(Box<Client<N::Stream, C, I>>),
    Down(Box<Core<C, I>>),
    /// Only while a value moves from one state to the other.
    Moving,
}

impl<N: Net, C, I> std::fmt::Debug for Session<N, C, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("url", &self.target.url)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl<N: Net, C: WallClock, I: Ids> Session<N, C, I> {
    /// A session that is not connected yet; the first [`Session::next`] connects.
    pub fn new(net: N, target: Target, core: Core<C, I>, policy: Reconnect) -> Self {
        let link = Link::Down(Box::new(core));
        Self { net, target, policy, link, failures: 0, greeted: false, wait: None, come_back: None, end: None }
    }

    /// The protocol core.
    pub fn core(&self) -> &Core<C, I> {
        match &self.link {
            Link::Up(client) => client.core(),
            Link::Down(core) => core,
            Link::Moving => unreachable!("no value is left between two states"),
        }
    }

    fn core_mut(&mut self) -> &mut Core<C, I> {
        match &mut self.link {
            Link::Up(client) => client.core_mut(),
            Link::Down(core) => core,
            Link::Moving => unreachable!("no value is left between two states"),
        }
    }

    /// See [`Core::publish`]; works without a connection, too.
    pub fn publish(&mut self, room: &RoomId, command: v1::Command, ack: bool) -> Result<MessageId, Full> {
        self.core_mut().publish(room, command, ack, Instant::now())
    }

    /// See [`Core::subscribe`].
    pub fn subscribe(&mut self, room: &RoomId, options: SubOptions) {
        self.core_mut().subscribe(room, options);
    }

    /// See [`Core::unsubscribe`].
    pub fn unsubscribe(&mut self, room: &RoomId) {
        self.core_mut().unsubscribe(room);
    }

    /// See [`Core::get`].
    pub fn get(&mut self, room: &RoomId) -> Option<u64> {
        self.core_mut().get(room)
    }

    /// The token for the next connection, and for this one.
    pub fn authenticate(&mut self, token: &str) {
        self.target.token = Some(token.to_owned());
        self.core_mut().authenticate(token);
    }

    /// The next event; connects and reconnects as needed. Cancel safe: an unfinished handshake begins anew.
    pub async fn next(&mut self) -> Result<ClientEvent, SessionError> {
        loop {
            if let Link::Up(client) = &mut self.link {
                if let Some(event) = client.next().await {
                    self.note(&event);
                    return Ok(event);
                }
                let Link::Up(client) = std::mem::replace(&mut self.link, Link::Moving) else { continue };
                self.link = Link::Down(Box::new(client.into_core()));
            }
            if let Some((code, reason)) = &self.end {
                return Err(SessionError::Closed { code: *code, reason: reason.clone() });
            }
            self.connect().await?;
        }
    }

    /// Says goodbye and returns what still came.
    pub async fn close(&mut self, limit: Duration) -> Vec<ClientEvent> {
        match &mut self.link {
            Link::Up(client) => client.close(limit).await,
            _ => Vec::new(),
        }
    }

    /// Learns from what happened what the next connection must mind.
    fn note(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Hello(_) => {
                self.failures = 0;
                self.greeted = true;
            }
            ClientEvent::Signal(signal) if signal.retry_after_ms > 0 => {
                self.come_back = Some(Duration::from_millis(signal.retry_after_ms.into()));
            }
            ClientEvent::Closed { code, reason } => match AfterClose::of(*code) {
                AfterClose::Stop | AfterClose::NewToken => self.end = Some((*code, reason.clone())),
                AfterClose::AtOnce => {
                    let pause = self.come_back.take().unwrap_or_default();
                    self.wait = Some(Instant::now() + pause);
                }
                AfterClose::BackOff => {
                    self.failures += 1;
                    self.wait = Some(Instant::now() + self.pause());
                }
            },
            _ => {}
        }
    }

    async fn connect(&mut self) -> Result<(), SessionError> {
        if let Some(wait) = self.wait {
            tokio::time::sleep_until(wait).await;
            self.wait = None;
        }
        match self.try_connect().await {
            Ok(socket) => {
                let Link::Down(core) = std::mem::replace(&mut self.link, Link::Moving) else {
                    unreachable!("connect is called without a connection only")
                };
                self.link = Link::Up(Box::new(Client::over(socket, *core)));
                Ok(())
            }
            Err(error) => self.not_connected(error),
        }
    }

    async fn try_connect(&self) -> Result<tokio_tungstenite::WebSocketStream<N::Stream>, ConnectError> {
        let addr = address(&self.target.url)?;
        let connecting = tokio::time::timeout(socket::CONNECT_LIMIT, self.net.connect(&addr));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(ConnectError::Io(error.to_string())),
            Err(_) => return Err(ConnectError::Io("no answer".into())),
        };
        socket::handshake(stream, &self.target, self.core().ids()).await
    }

    /// Decides whether to try again after this failure.
    fn not_connected(&mut self, error: ConnectError) -> Result<(), SessionError> {
        let url = self.target.url.clone();
        let mut pause = self.pause();
        match &error {
            ConnectError::Target(text) => return Err(SessionError::Target(text.clone())),
            ConnectError::Refused { status, .. } if *status != 503 && *status != 429 => {
                return Err(SessionError::Refused { url, source: error });
            }
            ConnectError::Refused { retry_after: Some(seconds), .. } => {
                pause = pause.max(Duration::from_secs((*seconds).min(60)));
            }
            ConnectError::Refused { .. } | ConnectError::Io(_) => {}
        }
        self.failures += 1;
        let tries = if self.greeted { self.policy.again } else { self.policy.first };
        if self.failures >= tries {
            return Err(SessionError::Unreachable { url, source: error });
        }
        self.wait = Some(Instant::now() + pause);
        Ok(())
    }

    /// Between half and all of the doubled pause, so that a crowd does not come back as one.
    fn pause(&self) -> Duration {
        let whole = self.policy.pause.saturating_mul(1 << self.failures.min(16)).min(self.policy.pause_max);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        let drawn = if half_ms == 0 { 0 } else { self.core().ids().u64("reconnect") % half_ms };
        Duration::from_millis(half_ms + drawn)
    }
}

/// `host:port` of a WebSocket URL. TLS is the business of a proxy in front, so only `ws:` is taken.
fn address(url: &str) -> Result<String, ConnectError> {
    let uri: tokio_tungstenite::tungstenite::http::Uri =
        url.parse().map_err(|error| ConnectError::Target(format!("{url}: {error}")))?;
    if uri.scheme_str() != Some("ws") {
        return Err(ConnectError::Target(format!("{url}: the URL must begin with ws://")));
    }
    let host = uri.host().ok_or_else(|| ConnectError::Target(format!("{url}: no host")))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}
