//! The operators' listener: `/healthz` (the process lives), `/readyz` (it should get clients; the text says why not),
//! `/metrics`, and a page to try the text dialect by hand. One request a connection, 64 connections at a time, each for at
//! most 10 s from its first byte to its last: who is slow on purpose holds up nobody for long.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use voltron_core::Listener;
use voltron_core::metrics::{self, Metrics};

use crate::health::Health;

#[derive(Clone)]
struct Admin {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Connections at a time; further ones wait in the system's backlog.
const CONNECTIONS_MAX: usize = 64;
/// The longest life of a connection.
const LIFE_MAX: Duration = Duration::from_secs(10);

/// Our listeners in axum's shape.
struct Accept<L> {
    listener: L,
    places: Arc<Semaphore>,
}

/// A connection with an end.
struct Limited<T> {
    stream: T,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<T> Limited<T> {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Limited<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Limited<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<L: Listener> axum::serve::Listener for Accept<L> {
    type Io = Limited<L::Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes the semaphore");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(tokio::time::sleep(LIFE_MAX));
                    return (Limited { stream, end, _place: place }, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the http listener");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Serves for ever.
pub(crate) async fn serve<L: Listener>(listener: L, health: Arc<Health>, metrics: Metrics) {
    let router = Router::new()
        .route("/", get(|| async { Html(include_str!("playground.html")) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .layer(axum::middleware::map_response(close_after))
        .with_state(Admin { health, metrics });
    let accept = Accept { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    if let Err(error) = axum::serve(accept, router).await {
        tracing::error!(%error, "the http listener ended");
    }
}

/// One request a connection: a scraper's idle one would else be cut just when it asks again.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.health.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], admin.metrics.encode())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;

    struct Queue(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Queue {
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

    #[tokio::test(start_paused = true)]
    async fn who_never_finishes_a_request_makes_room() {
        let (queue, incoming) = mpsc::unbounded_channel();
        tokio::spawn(serve(Queue(incoming), Arc::default(), Metrics::new()));
        let connect = || {
            let (near, far) = duplex(64 << 10);
            queue.send(far).unwrap();
            near
        };
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
            slow.push(stream);
        }
        let asked = tokio::time::Instant::now();
        let mut good = connect();
        good.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        good.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(asked.elapsed() <= LIFE_MAX + Duration::from_millis(10), "{:?}", asked.elapsed());
        for mut stream in slow {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert!(asked.elapsed() <= LIFE_MAX + Duration::from_millis(10), "all of them ended");
    }
}
