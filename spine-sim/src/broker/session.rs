//! One connection: a reader that feeds the core and a writer that empties its output, one write per batch.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Broker;
use super::core::ConnId;
use crate::parser::Parser;

/// Bytes asked of one read.
const READ: usize = 64 * 1024;

/// Forgets the connection however its session ends, a cancelled task included.
struct Guard {
    broker: Broker,
    id: ConnId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.broker.lock().close(self.id);
    }
}

/// Ends the writer with its session.
struct Writer(JoinHandle<()>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn run<S>(broker: Broker, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (id, wake) = broker.lock().open(peer);
    let guard = Guard { broker, id };
    let (mut input, output) = tokio::io::split(stream);
    let mut writer = Writer(voltron_core::tasks::spawn(write(guard.broker.clone(), id, wake, output)));
    let options = guard.broker.options.clone();
    let auth_by = Instant::now() + options.auth_timeout;
    let mut must_auth = guard.broker.lock().awaits_auth(id);
    let mut ping_at = Instant::now() + options.ping_interval;
    let mut parser = Parser::new(options.max_payload);
    let mut buf = BytesMut::with_capacity(4096);
    let mut reading = true;
    let mut paused = guard.broker.paused.subscribe();
    loop {
        let awake = !*paused.borrow_and_update();
        buf.reserve(READ.min(buf.len().max(4096)));
        tokio::select! {
            biased;
            _ = &mut writer.0 => return,
            _ = paused.changed() => {}
            read = input.read_buf(&mut buf), if reading && awake => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    reading = feed(&guard.broker, id, &mut parser, &mut buf);
                    must_auth = must_auth && guard.broker.lock().awaits_auth(id);
                    ping_at = Instant::now() + options.ping_interval;
                }
            },
            () = sleep_until(auth_by), if must_auth && awake => {
                must_auth = false;
                guard.broker.lock().auth_timeout(id);
            }
            () = sleep_until(ping_at), if awake => {
                guard.broker.lock().ping(id);
                ping_at = Instant::now() + options.ping_interval;
            }
        }
    }
}

/// Hands everything complete in `buf` to the core, under one lock. False: the connection takes no more.
fn feed(broker: &Broker, id: ConnId, parser: &mut Parser, buf: &mut BytesMut) -> bool {
    let now_ms = (broker.options.clock)();
    let mut core = broker.lock();
    let goes_on = loop {
        match parser.next(buf) {
            Ok(Some(op)) => {
                if !core.handle(id, op, now_ms) {
                    break false;
                }
            }
            Ok(None) => break true,
            Err(violation) => {
                core.violation(id, violation);
                break false;
            }
        }
    };
    core.flush(now_ms);
    goes_on
}

async fn write(broker: Broker, id: ConnId, wake: Arc<Notify>, mut output: impl AsyncWrite + Unpin) {
    let mut paused = broker.paused.subscribe();
    loop {
        // The broker that holds the sender is alive, so the wait cannot fail.
        let _ = paused.wait_for(|paused| !*paused).await;
        let (bytes, closing) = broker.lock().take_output(id);
        if bytes.is_empty() {
            if closing {
                // Best effort: the peer may be gone already.
                let _ = timeout(broker.options.write_deadline, output.shutdown()).await;
                return;
            }
            wake.notified().await;
            continue;
        }
        let written = async {
            output.write_all(&bytes).await?;
            output.flush().await
        };
        match timeout(broker.options.write_deadline, written).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
