//! Sockets of the simulated world: turmoil's TCP behind the product's [`Net`] seam.
//!
//! What the model leaves out: a lost segment is never sent again, so a connection over a link that dropped anything is
//! dead for ever. Hence a short blip is a *hold*; an outage is a *partition*, silent while it lasts, and at its end
//! every connection that crossed it is reset, as a kernel would find out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltron_core::{Listener, Net};

use crate::engine::cables::Wire;

/// The network as turmoil's host of the moment sees it.
#[derive(Clone, Debug)]
pub struct TurmoilNet;

impl Net for TurmoilNet {
    type Stream = TurmoilStream;
    type Listener = TurmoilListener;

    /// Whatever address is named, the host's own one is meant: a simulated host has no other.
    async fn bind(&self, addr: &str) -> io::Result<TurmoilListener> {
        let (_, port) = split(addr)?;
        Ok(TurmoilListener(turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?))
    }

    async fn connect(&self, addr: &str) -> io::Result<TurmoilStream> {
        let (host, _) = split(addr)?;
        let inner = turmoil::net::TcpStream::connect(addr).await?;
        Ok(TurmoilStream { flow: flow(inner.local_addr()?), far: host.to_owned(), inner })
    }
}

fn split(addr: &str) -> io::Result<(&str, u16)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{addr:?} is not host:port"));
    let (host, port) = addr.rsplit_once(':').ok_or_else(bad)?;
    Ok((host, port.parse().map_err(|_| bad())?))
}

/// The address of the end that opened the connection: both ends know it.
fn flow(opener: SocketAddr) -> u64 {
    let ip = match opener.ip() {
        std::net::IpAddr::V4(ip) => u64::from(ip.to_bits()),
        std::net::IpAddr::V6(ip) => ip.to_bits() as u64,
    };
    ip << 16 | u64::from(opener.port())
}

/// A bound simulated listener.
pub struct TurmoilListener(turmoil::net::TcpListener);

impl Listener for TurmoilListener {
    type Stream = TurmoilStream;

    async fn accept(&mut self) -> io::Result<(TurmoilStream, SocketAddr)> {
        let (inner, peer) = self.0.accept().await?;
        let far = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
        Ok((TurmoilStream { flow: flow(peer), far, inner }, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A simulated connection.
#[derive(Debug)]
pub struct TurmoilStream {
    inner: turmoil::net::TcpStream,
    flow: u64,
    far: String,
}

impl Wire for TurmoilStream {
    fn flow(&self) -> u64 {
        self.flow
    }

    fn far(&self) -> String {
        self.far.clone()
    }
}

impl AsyncRead for TurmoilStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for TurmoilStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
