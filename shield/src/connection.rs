//! One connection past its handshake: one task, one loop. Each turn first writes what waits (a batch, then one flush),
//! then reads one message. Writing never blocks reading, so a client that only talks is heard, and one that does not
//! read fills its own bounded queue and nobody else's.

mod finish;
mod metered;
mod pulse;

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use proto::Code;
use spine::Spine;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, WallClock, mark};

use crate::meters::CodeLabel;
use crate::outbox::{Frame, Outbox};
use crate::session::Session;
use crate::shared::Shared;
use metered::Metered;
use pulse::{Beat, Pulse, Signs};

/// Messages and bytes written before a flush.
const BATCH_MESSAGES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;
/// The largest message that any configuration allows. What the limits of the moment allow is the session's to check, so
/// that a reload holds for living connections.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// How often a connection looks whether the Shield has room for what it waits for.
const POOL_PAUSE: Duration = Duration::from_millis(100);

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
    /// A SUB or a get that waited may begin.
    Begin,
    Due,
}

struct Connection<S, C, I, T> {
    ws: WebSocketStream<Metered<T>>,
    outbox: Arc<Outbox>,
    session: Session<S, C, I>,
    shared: Arc<Shared<S, C, I>>,
    timer: Pin<Box<Sleep>>,
    /// Written, not flushed.
    dirty: bool,
    pulse: Pulse,
    token_at: Instant,
    /// Bytes read when the last message was complete.
    read_to: u64,
}

/// Serves a connection until it ends; `tail`: what was read after its handshake.
pub(crate) async fn run<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared<S, C, I>>,
    (stream, tail): (T, Vec<u8>),
    outbox: Arc<Outbox>,
    session: Session<S, C, I>,
) {
    let now = Instant::now();
    let config = websocket_config(MESSAGE_BYTES_MAX);
    let stream = Metered::new(stream, now);
    let ws = WebSocketStream::from_partially_read(stream, tail, Role::Server, Some(config)).await;
    let times = &shared.config.shield;
    let ms = Duration::from_millis;
    // Jitter, so that connections made in one moment are not pinged in one moment.
    let first = now + ms(shared.below("ping", times.ping_ms.max(1)));
    let pulse = Pulse::new(ms(times.ping_ms), ms(times.pong_ms), ms(times.stall_ms), first);
    let mut connection = Connection {
        ws,
        outbox,
        session,
        shared,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        dirty: false,
        pulse,
        token_at: now,
        read_to: 0,
    };
    connection.serve().await;
}

impl<S: Spine, C: WallClock, I: Ids, T: AsyncRead + AsyncWrite + Unpin> Connection<S, C, I, T> {
    async fn serve(&mut self) {
        self.on_due();
        let end = loop {
            match std::future::poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Read(message) => {
                    self.read_to = self.ws.get_ref().bytes_read;
                    // What a connection says after it was ended is not taken: it could not be answered.
                    if self.outbox.ending().is_none() {
                        self.session.on_message(&message).await;
                    }
                    // The timer is looked at when there is nothing to read; who never stops talking must not escape it.
                    let now = Instant::now();
                    if self.session.take_renewed() {
                        self.token_at = now;
                    }
                    if now >= self.due() {
                        self.on_due();
                    }
                }
                Turn::Begin => {}
                Turn::Due => self.on_due(),
                Turn::Ended(end) => break end,
            }
            self.session.begin();
        };
        self.session.end();
        let code = end.code.unwrap_or(0);
        self.shared.meters.closes.get_or_create(&CodeLabel { code: code.into() }).inc();
        if code == Code::CloseSlowConsumer.as_u16() {
            mark!("shield.slow-consumer");
            self.shared.meters.slow_consumers.inc();
        }
        if let Some(code) = end.code {
            trace::emit(|| Record::Ended { conn: self.session.conn().to_owned(), code });
            self.finish(code, &end.reason, end.flush).await;
        }
        self.outbox.gone();
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.outbox.register(cx.waker());
        if let Poll::Ready(Err(_)) = self.poll_write(cx) {
            return Poll::Ready(Turn::Ended(End { code: None, reason: String::new(), flush: false }));
        }
        if let Some(ending) = self.outbox.ending() {
            let end = End { code: Some(ending.code.as_u16()), reason: ending.reason, flush: ending.flush };
            return Poll::Ready(Turn::Ended(end));
        }
        if self.session.can_begin() {
            return Poll::Ready(Turn::Begin);
        }
        if let Poll::Ready(read) = self.ws.poll_next_unpin(cx) {
            return Poll::Ready(match read {
                Some(Ok(message)) => Turn::Read(message),
                Some(Err(error)) => Turn::Ended(self.failed(&error)),
                None => Turn::Ended(End { code: None, reason: String::new(), flush: false }),
            });
        }
        if self.ws.get_ref().bytes_read - self.read_to > self.session.wire_bytes_max() {
            self.session.too_big();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Writing and reading move deadlines.
        let due = self.due();
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
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
                self.pulse.written(Instant::now());
            }
            let (mut messages, mut bytes) = (0, 0);
            while messages < BATCH_MESSAGES && bytes < BATCH_BYTES {
                let Some(frame) = self.outbox.pop() else { break };
                messages += 1;
                bytes += frame.len();
                if let Some(message) = frame.into_message() {
                    self.ws.start_send_unpin(message)?;
                }
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
                self.session.too_big();
                end(Code::CloseMessageTooBig.as_u16(), Code::CloseMessageTooBig.message())
            }
            // An end of the stream without a close frame: the peer is gone, which is no fault of its bytes.
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                End { code: None, reason: String::new(), flush: false }
            }
            WsError::Utf8(_) => end(1007, "a text message must be UTF-8"),
            WsError::Protocol(_) => end(1002, "not WebSocket as RFC 6455 has it"),
            _ => End { code: None, reason: String::new(), flush: false },
        }
    }

    fn signs(&self) -> Signs {
        let stream = self.ws.get_ref();
        Signs { heard: stream.heard, blocked: stream.blocked, progress: stream.progress }
    }

    /// When the first deadline is due.
    fn due(&self) -> Instant {
        let due = self.pulse.next(self.signs()).min(self.token_at);
        if self.session.waits_for_pool() { due.min(Instant::now() + POOL_PAUSE) } else { due }
    }

    /// Looks at every deadline and sets the timer to the next.
    fn on_due(&mut self) {
        let now = Instant::now();
        let signs = self.signs();
        match self.pulse.beat(now, signs) {
            Beat::Fine => {}
            Beat::Ping => {
                self.session.idle(now, Duration::from_millis(self.shared.config.shield.ping_ms));
                self.outbox.push(Frame::Ping);
            }
            Beat::Dead => self.outbox.end(Code::ClosePingTimeout, Code::ClosePingTimeout.message(), false),
            Beat::Slow => self.outbox.end(Code::CloseSlowConsumer, Code::CloseSlowConsumer.message(), false),
        }
        if now >= self.token_at {
            self.token_at = self.session.check_token(now);
        }
        let due = self.due();
        self.timer.as_mut().reset(due);
    }
}
