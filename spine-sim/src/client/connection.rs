//! The connection's life: connect, greet, subscribe again, write batches, read, notice silence, back off, begin again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;
use spine::{BrokerId, Link};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use voltron_core::{Ids, Net};

use super::parser::{Parser, ServerOp};
use super::shared::Shared;
use crate::wire;

/// Publishes that are drained into one write.
const BATCH: usize = 256;
/// No more is drained while so much waits to be written.
const WRITE_BUFFER: usize = 64 * 1024;
/// Bytes asked of one read.
const READ: usize = 64 * 1024;
/// The first pause between two attempts.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What callers send to the connection.
#[derive(Debug)]
pub(super) enum Command {
    /// A message; with `fence` the position that must be last, and the connection it may be sent through.
    Publish { subject: Bytes, reply: Option<Bytes>, fence: Option<(u64, u64)>, body: Bytes },
    /// Write out what is queued, then end.
    Close(oneshot::Sender<()>),
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    server_id: String,
    max_payload: Option<usize>,
}

/// How a connection ended.
enum End {
    Lost,
    Closed(Option<oneshot::Sender<()>>),
}

struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs until closed, or until every handle is dropped.
pub(super) async fn run<N: Net>(net: N, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>, ids: impl Ids) {
    let (mut failures, mut generation) = (0_u32, 0_u64);
    loop {
        let url = &shared.options.urls[failures as usize % shared.options.urls.len().max(1)];
        // One attempt may take as long as it takes to notice a dead connection.
        let limit = shared.options.ping_interval * 2;
        let greeted = tokio::select! {
            biased;
            () = shared.closing() => None,
            greeted = timeout(limit, greet(&net, &shared, url)) => greeted.ok().flatten(),
        };
        if let Some((stream, broker, rest)) = greeted {
            failures = 0;
            generation += 1;
            let mut out = BytesMut::new();
            shared.up(&mut out);
            shared.link.send_replace(Link::Connected { broker: BrokerId(broker), generation });
            if generation > 1 {
                voltron_core::mark!("spine.reconnect");
            }
            let end = connected(stream, &shared, generation, &mut commands, out, rest).await;
            shared.down();
            shared.link.send_replace(Link::Down { since: Instant::now() });
            if let End::Closed(done) = end {
                shared.close();
                if let Some(done) = done {
                    let _ = done.send(());
                }
                return;
            }
        }
        failures = failures.saturating_add(1);
        let pause = (BACK_OFF * 2_u32.saturating_pow(failures.min(16) - 1)).min(shared.options.reconnect_max);
        // Half of it is drawn, so that a thousand clients do not come back as one.
        let jitter = ids.u64("reconnect") % (u64::try_from(pause.as_micros()).unwrap_or(u64::MAX) / 2 + 1);
        let pause = if voltron_core::mutant!(ReconnectWithoutBackOff) { Duration::ZERO } else { pause };
        if closed_while(pause / 2 + Duration::from_micros(jitter), &shared, &mut commands).await {
            return;
        }
    }
}

/// Pauses. While disconnected nothing is taken from the queue, which fills, as a real client's does. True: closed.
async fn closed_while(pause: Duration, shared: &Shared, commands: &mut mpsc::Receiver<Command>) -> bool {
    tokio::select! {
        biased;
        () = shared.closing() => {}
        () = sleep(pause) => {}
    }
    let closed = shared.is_closing() || commands.is_closed();
    if closed {
        shared.close();
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Close(done) = command {
                let _ = done.send(());
            }
        }
    }
    closed
}

/// Connects and says hello: INFO, CONNECT, PING, PONG. Gives the stream, the broker's id and bytes read too many.
async fn greet<N: Net>(net: &N, shared: &Shared, url: &str) -> Option<(N::Stream, String, BytesMut)> {
    let addr = url.strip_prefix("nats://").unwrap_or(url);
    let mut stream = net.connect(addr).await.ok()?;
    let (mut parser, mut buf) = (Parser::default(), BytesMut::with_capacity(4096));
    let mut broker = None;
    loop {
        while let Some(op) = parser.next(&mut buf).ok()? {
            match op {
                ServerOp::Info(json) => {
                    let info: Info = serde_json::from_slice(&json).ok()?;
                    if let Some(limit) = info.max_payload {
                        shared.max_payload.store(limit, Ordering::Relaxed);
                    }
                    if broker.replace(info.server_id).is_none() {
                        stream.write_all(&hello(shared)).await.ok()?;
                        stream.flush().await.ok()?;
                    }
                }
                ServerOp::Pong => return Some((stream, broker?, buf)),
                ServerOp::Ping => stream.write_all(b"PONG\r\n").await.ok()?,
                ServerOp::Err(text) => {
                    tracing::warn!(%text, url, "the broker refuses the connection");
                    return None;
                }
                ServerOp::Ok | ServerOp::Msg(_) => {}
            }
        }
        if stream.read_buf(&mut buf).await.ok()? == 0 {
            return None;
        }
    }
}

fn hello(shared: &Shared) -> Vec<u8> {
    let mut connect = serde_json::json!({
        "verbose": false, "pedantic": false, "echo": true, "headers": true, "no_responders": true, "protocol": 1,
        "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": shared.options.name,
    });
    if let Some((user, password)) = &shared.options.credentials {
        connect["user"] = user.as_str().into();
        connect["pass"] = password.as_str().into();
    }
    format!("CONNECT {connect}\r\nPING\r\n").into_bytes()
}

/// Writes and reads until the connection is lost or closed. `out` goes first.
async fn connected<S>(
    stream: S,
    shared: &Arc<Shared>,
    generation: u64,
    commands: &mut mpsc::Receiver<Command>,
    mut out: BytesMut,
    rest: BytesMut,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (input, mut output) = tokio::io::split(stream);
    let mut reader = Reader(voltron_core::tasks::spawn(read(shared.clone(), input, rest)));
    let mut batch = Vec::with_capacity(BATCH);
    let mut ping_at = Instant::now() + shared.options.ping_interval;
    loop {
        shared.take_control(&mut out);
        tokio::select! {
            biased;
            _ = &mut reader.0 => return End::Lost,
            count = commands.recv_many(&mut batch, BATCH), if out.len() < WRITE_BUFFER => {
                let mut closing = (count == 0).then_some(None);
                for command in batch.drain(..) {
                    match command {
                        // An append of an earlier connection: its caller has been told that it is unknown, and
                        // reads the log before it writes again.
                        Command::Publish { fence: Some((_, asked)), .. } if asked != generation => {}
                        Command::Publish { subject, reply, fence, body } => {
                            let expect = fence.map(|(expect, _)| expect);
                            put_publish(&mut out, &subject, reply.as_deref(), expect, &body);
                        }
                        Command::Close(done) => closing = Some(Some(done)),
                    }
                }
                if let Some(done) = closing {
                    shared.take_control(&mut out);
                    // A broker that does not read cannot keep us from closing.
                    let flush = async {
                        output.write_all(&out).await?;
                        output.shutdown().await
                    };
                    let _ = timeout(shared.options.publish_timeout, flush).await;
                    return End::Closed(done);
                }
            }
            written = output.write(&out), if !out.is_empty() => match written {
                Ok(0) | Err(_) => return End::Lost,
                Ok(count) => {
                    out.advance(count);
                    if out.is_empty() && output.flush().await.is_err() {
                        return End::Lost;
                    }
                }
            },
            () = shared.bell.notified() => {}
            () = sleep_until(ping_at) => {
                // Two unanswered already, and this would be the third.
                if shared.ping() > 2 {
                    tracing::debug!("the broker is silent: connection given up");
                    return End::Lost;
                }
                ping_at = Instant::now() + shared.options.ping_interval;
            }
        }
    }
}

async fn read(shared: Arc<Shared>, mut input: impl AsyncRead + Unpin, mut buf: BytesMut) {
    let mut parser = Parser::default();
    loop {
        loop {
            match parser.next(&mut buf) {
                Ok(Some(ServerOp::Msg(message))) => shared.deliver(message),
                Ok(Some(ServerOp::Ping)) => shared.pinged(),
                Ok(Some(ServerOp::Pong)) => shared.ponged(),
                Ok(Some(ServerOp::Info(json))) => {
                    if let Some(limit) = serde_json::from_slice::<Info>(&json).ok().and_then(|info| info.max_payload) {
                        shared.max_payload.store(limit, Ordering::Relaxed);
                    }
                }
                Ok(Some(ServerOp::Err(text))) => {
                    tracing::warn!(%text, "the broker says");
                    shared.refused(&text);
                }
                Ok(Some(ServerOp::Ok)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "connection given up");
                    return;
                }
            }
        }
        buf.reserve(READ);
        match input.read_buf(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

const EXPECT: &[u8] = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: ";

/// The length of a fence's header block.
pub(super) fn fence_len(expect: u64) -> usize {
    let digits = expect.checked_ilog10().unwrap_or(0) as usize + 1;
    EXPECT.len() + digits + 4
}

fn put_publish(out: &mut BytesMut, subject: &[u8], reply: Option<&[u8]>, expect: Option<u64>, body: &[u8]) {
    let fence = expect.map(fence_len);
    out.reserve(subject.len() + reply.map_or(0, <[u8]>::len) + fence.unwrap_or(0) + body.len() + 64);
    out.put_slice(if fence.is_some() { b"HPUB " } else { b"PUB " });
    out.put_slice(subject);
    out.put_u8(b' ');
    if let Some(reply) = reply {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    if let Some(fence) = fence {
        wire::put_number(out, fence as u64);
        out.put_u8(b' ');
    }
    wire::put_number(out, (fence.unwrap_or(0) + body.len()) as u64);
    out.put_slice(b"\r\n");
    if let Some(expect) = expect {
        out.put_slice(EXPECT);
        wire::put_number(out, expect);
        out.put_slice(b"\r\n\r\n");
    }
    out.put_slice(body);
    out.put_slice(b"\r\n");
}
