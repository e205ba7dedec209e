//! One connection past its handshake: one task, one loop. Each turn first writes what waits (a batch, then one flush),
//! then reads one message. Writing never blocks reading, so a client that only talks is heard, and one that does not
//! read fills its own bounded queue and nobody else's.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::{Code, frame};
use spine::Spine;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use voltron_core::{Ids, WallClock, mark};

use crate::meters::CodeLabel;
use crate::outbox::{Frame, Outbox};
use crate::session::Session;
use crate::shared::Shared;

/// Messages and bytes written before a flush.
const BATCH_MESSAGES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;
/// How long what is queued may take at the end.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long the peer may take to close its side.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Buffers of a WebSocket whose messages are at most `message_bytes`: small while idle, bounded always.
pub(crate) fn websocket_config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(BATCH_BYTES)
        .max_write_buffer_size(4 << 20)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

/// How a connection ends.
struct End {
    /// Close code; `None`: the peer is gone already.
    code: Option<u16>,
    reason: String,
    /// Write what is queued first.
    flush: bool,
}

enum Turn {
    Read(Message),
    Ended(End),
    /// A SUB that waited may begin.
    Begin,
    Due,
}

struct Connection<S, C, I, T> {
    ws: WebSocketStream<T>,
    outbox: Arc<Outbox>,
    session: Session<S, C, I>,
    shared: Arc<Shared<S, C, I>>,
    timer: Pin<Box<Sleep>>,
    /// Written, not flushed.
    dirty: bool,
    heard: Instant,
    ping_at: Instant,
    pong_by: Option<Instant>,
    token_at: Instant,
    /// When the first of these is due.
    due: Instant,
}

/// Serves a connection until it ends.
pub(crate) async fn run<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared<S, C, I>>,
    ws: WebSocketStream<T>,
    outbox: Arc<Outbox>,
    session: Session<S, C, I>,
) {
    let now = Instant::now();
    let first_ping = shared.below("ping", shared.config.shield.ping_ms.max(1));
    let mut connection = Connection {
        ws,
        outbox,
        session,
        shared,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        dirty: false,
        heard: now,
        ping_at: now + Duration::from_millis(first_ping),
        pong_by: None,
        token_at: now,
        due: now,
    };
    connection.serve().await;
}

impl<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin> Connection<S, C, I, T> {
    async fn serve(&mut self) {
        self.on_due();
        let end = loop {
            match std::future::poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Read(message) => {
                    self.heard = Instant::now();
                    // What a connection says after it was ended is not taken: it could not be answered.
                    if self.outbox.ending().is_none() {
                        self.session.on_message(&message).await;
                    }
                    // The timer is looked at when there is nothing to read; who never stops talking must not escape it.
                    let renewed = self.session.take_renewed();
                    if renewed {
                        self.token_at = self.heard;
                    }
                    if renewed || self.heard >= self.due {
                        self.on_due();
                    }
                }
                Turn::Begin => {}
                Turn::Due => self.on_due(),
                Turn::Ended(end) => break end,
            }
            self.session.begin_subs();
        };
        self.session.end();
        let code = end.code.unwrap_or(0);
        self.shared.meters.closes.get_or_create(&CodeLabel { code: code.into() }).inc();
        if code == Code::CloseSlowConsumer.as_u16() {
            mark!("shield.slow-consumer");
            self.shared.meters.slow_consumers.inc();
        }
        if let Some(code) = end.code {
            self.finish(code, end.reason, end.flush).await;
        }
        self.outbox.gone();
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.outbox.register(cx.waker());
        let written = match self.poll_write(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => {
                return Poll::Ready(Turn::Ended(End { code: None, reason: String::new(), flush: false }));
            }
            Poll::Pending => false,
        };
        if let Some(ending) = self.outbox.ending() {
            if written || !ending.flush || ending.since.elapsed() >= FLUSH_MAX {
                let end = End { code: Some(ending.code.as_u16()), reason: ending.reason, flush: ending.flush };
                return Poll::Ready(Turn::Ended(end));
            }
            let by = ending.since + FLUSH_MAX;
            if self.timer.deadline() > by {
                self.timer.as_mut().reset(by);
            }
        } else if self.session.can_begin() {
            return Poll::Ready(Turn::Begin);
        }
        if let Poll::Ready(read) = self.ws.poll_next_unpin(cx) {
            return Poll::Ready(match read {
                Some(Ok(message)) => Turn::Read(message),
                Some(Err(error)) => Turn::Ended(self.failed(&error)),
                None => Turn::Ended(End { code: None, reason: String::new(), flush: false }),
            });
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Turn::Due)
    }

    /// Writes batches until nothing waits. One flush a batch: it is what costs.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        loop {
            if self.dirty {
                ready!(self.ws.poll_flush_unpin(cx))?;
                self.dirty = false;
            }
            let (mut messages, mut bytes) = (0, 0);
            while messages < BATCH_MESSAGES && bytes < BATCH_BYTES {
                let Some(frame) = self.outbox.pop() else { break };
                messages += 1;
                bytes += frame.len();
                self.ws.start_send_unpin(message(frame))?;
            }
            if messages == 0 {
                return Poll::Ready(Ok(()));
            }
            self.dirty = true;
        }
    }

    fn failed(&self, error: &WsError) -> End {
        let end = |code: u16, reason: &str| End { code: Some(code), reason: reason.into(), flush: true };
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                let code = Code::CloseMessageTooBig;
                self.outbox.push(Frame::Binary(frame::err(Code::MessageTooBig, code.message())));
                end(code.as_u16(), code.message())
            }
            WsError::Utf8(_) => end(1007, "a text message must be UTF-8"),
            WsError::Protocol(_) => end(1002, "not WebSocket as RFC 6455 has it"),
            _ => End { code: None, reason: String::new(), flush: false },
        }
    }

    /// Looks at every deadline and sets the timer to the next.
    fn on_due(&mut self) {
        let now = Instant::now();
        let config = &self.shared.config.shield;
        let (ping, pong) = (Duration::from_millis(config.ping_ms), Duration::from_millis(config.pong_ms));
        if let Some(by) = self.pong_by.filter(|by| now >= *by) {
            self.pong_by = None;
            // Anything at all since the ping is a sign of life; how late this timer fires says nothing about the peer.
            if self.heard + pong < by {
                self.outbox.end(Code::ClosePingTimeout, Code::ClosePingTimeout.message(), false);
            }
        }
        if now >= self.ping_at {
            if self.heard + ping <= now {
                self.session.idle();
            }
            self.outbox.push(Frame::Ping);
            self.pong_by = Some(now + pong);
            self.ping_at = now + ping;
        }
        if now >= self.token_at {
            self.token_at = self.session.check_token(now);
        }
        let mut next = self.ping_at.min(self.token_at);
        if let Some(by) = self.pong_by {
            next = next.min(by);
        }
        if self.outbox.ending().is_some() {
            next = next.min(now + Duration::from_millis(200));
        }
        self.due = next;
        self.timer.as_mut().reset(next);
    }

    /// Close frame, then the peer's; what it still sends is read and dropped, so that our last words are not lost in a
    /// reset.
    async fn finish(&mut self, code: u16, reason: String, flush: bool) {
        let reason = reason[..reason.floor_char_boundary(120)].to_owned();
        let close = Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }));
        let _ = tokio::time::timeout(LINGER_MAX, async {
            if flush {
                while let Some(frame) = self.outbox.pop() {
                    self.ws.feed(message(frame)).await?;
                }
            }
            self.ws.send(close).await
        })
        .await;
        self.outbox.gone();
        let raw = self.ws.get_mut();
        let _ = tokio::time::timeout(LINGER_MAX, async {
            let mut sink = [0; 2048];
            let mut seen = 0;
            while let Ok(n) = raw.read(&mut sink).await {
                seen += n;
                // An answering close frame is small; a peer that goes on talking is not waited for.
                if n == 0 || seen > 1 << 20 || is_close(&sink[..n]) {
                    break;
                }
            }
            use tokio::io::AsyncWriteExt as _;
            let _ = raw.shutdown().await;
        })
        .await;
    }
}

/// A masked close frame, as most clients send it alone.
fn is_close(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x88)
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Text(text) => Message::Text(text),
        Frame::Ping => Message::Ping(Bytes::new()),
    }
}
