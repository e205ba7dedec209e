//! Sockets of a simulated host, behind the product's [`Net`] seam.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltron_core::{Listener, Net};

use super::{Backlog, Conn, Fabric, Host, What};
use crate::engine::cables::Wire;

/// The network as one simulated host sees it.
#[derive(Clone)]
pub struct FabricNet {
    host: Arc<str>,
    fabric: Fabric,
}

impl FabricNet {
    /// For the host with this name.
    pub fn new(host: &str, fabric: &Fabric) -> Self {
        Self { host: host.into(), fabric: fabric.clone() }
    }
}

impl Net for FabricNet {
    type Stream = FabricStream;
    type Listener = FabricListener;

    /// Whatever address is named, the host's own one is meant: a simulated host has no other.
    async fn bind(&self, addr: &str) -> io::Result<FabricListener> {
        let (_, port) = host_and_port(addr)?;
        let at = self.fabric.with(|wiring| {
            let at = (wiring.at(&self.host).ok_or_else(|| invalid(addr))?, port);
            if wiring.listeners.contains_key(&at) {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            wiring.listeners.insert(at, Backlog::default());
            Ok(at)
        })?;
        Ok(FabricListener { fabric: self.fabric.clone(), at })
    }

    async fn connect(&self, addr: &str) -> io::Result<FabricStream> {
        let (host, port) = host_and_port(addr.strip_prefix("nats://").unwrap_or(addr))?;
        let conn = self.fabric.with(|wiring| {
            let ends = wiring.at(&self.host).zip(wiring.at(host));
            ends.map(|(from, to)| wiring.connect(from, to, port)).ok_or_else(|| invalid(addr))
        })?;
        // Held from here on: whoever stops waiting lets it go.
        let stream = FabricStream { fabric: self.fabric.clone(), conn, side: 0 };
        poll_fn(|cx| self.fabric.with(|wiring| wiring.poll_connected(conn, cx))).await?;
        Ok(stream)
    }
}

fn host_and_port(addr: &str) -> io::Result<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':').ok_or_else(|| invalid(addr))?;
    Ok((host, port.parse().map_err(|_| invalid(addr))?))
}

fn invalid(addr: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{addr:?} is no host:port of this world"))
}

/// A bound simulated listener.
pub struct FabricListener {
    fabric: Fabric,
    at: (Host, u16),
}

impl Listener for FabricListener {
    type Stream = FabricStream;

    async fn accept(&mut self) -> io::Result<(FabricStream, SocketAddr)> {
        let conn = poll_fn(|cx| self.fabric.with(|wiring| wiring.poll_accept(self.at, cx))).await?;
        let stream = FabricStream { fabric: self.fabric.clone(), conn, side: 1 };
        let peer = self.fabric.with(|wiring| wiring.conns.get(&conn).map(|connection| connection.ends[0].addr));
        Ok((stream, peer.ok_or(io::ErrorKind::ConnectionAborted)?))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((super::Wiring::ip(self.at.0), self.at.1)))
    }
}

impl Drop for FabricListener {
    fn drop(&mut self) {
        self.fabric.with(|wiring| {
            let Some(mut backlog) = wiring.listeners.remove(&self.at) else { return };
            wiring.spent.extend(backlog.waker.take());
            for conn in backlog.waiting {
                wiring.send(conn, 0, What::Rst);
                wiring.let_go(conn, 1);
            }
        });
    }
}

/// One end of a simulated connection.
pub struct FabricStream {
    fabric: Fabric,
    conn: Conn,
    side: usize,
}

impl Wire for FabricStream {
    fn flow(&self) -> u64 {
        self.conn
    }

    fn far(&self) -> String {
        self.fabric.with(|wiring| {
            let host = wiring.conns.get(&self.conn).map(|connection| connection.ends[1 - self.side].host);
            host.and_then(|host| wiring.hosts.get(host)).cloned().unwrap_or_default()
        })
    }
}

impl AsyncRead for FabricStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        self.fabric
            .with(|wiring| wiring.poll_read(self.conn, self.side, room, cx))
            .map_ok(|bytes| buf.put_slice(&bytes))
    }
}

impl AsyncWrite for FabricStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fabric.with(|wiring| wiring.poll_write(self.conn, self.side, bytes, cx))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fabric.with(|wiring| wiring.shut(self.conn, self.side));
        Poll::Ready(Ok(()))
    }
}

impl Drop for FabricStream {
    fn drop(&mut self) {
        self.fabric.with(|wiring| wiring.let_go(self.conn, self.side));
    }
}
