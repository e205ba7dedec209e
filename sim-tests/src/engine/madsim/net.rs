//! Sockets of the madsim world, on madsim's clock and tasks.
//!
//! madsim's own TCP is not used: it takes any number of bytes at once (no reader would ever be slow), loses nothing on a
//! clogged link but asks again after pauses of up to 10 s, and has no half-close. Here a connection has a window, a link
//! holds or loses what is on its way, and the end of a process closes its connections.
//!
//! What the model leaves out: as on turmoil a lost segment is never sent again, so a connection that lost anything is dead
//! until it is reset; a SYN alone is sent again until the link carries it. A process that ends with unread bytes says an
//! orderly goodbye where a kernel would reset.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use voltron_core::{Listener, Net};

use super::super::Engine as _;
use super::super::cables::Wire;
use super::super::wires::{End, Got, Wires};
use super::Madsim;

/// Every link and connection of the world. Shared by all hosts and the nemesis.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<Wires>>);

impl Network {
    /// A network whose latencies this seed draws.
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Wires::new(seed))))
    }

    /// Says how far virtual time is; for the nemesis, which stands outside of every host.
    pub(super) fn at(&self, now: Duration) {
        self.outside().now = now;
    }

    pub(super) fn hold(&self, a: &str, b: &str) {
        self.outside().hold(a, b);
    }

    pub(super) fn release(&self, a: &str, b: &str) {
        self.outside().release(a, b);
    }

    pub(super) fn cut(&self, from: &str, to: &str) {
        self.outside().cut(from, to);
    }

    pub(super) fn repair(&self, a: &str, b: &str) {
        self.outside().repair(a, b);
    }

    pub(super) fn delay(&self, a: &str, b: &str, by: Duration) {
        self.outside().delay(a, b, by);
    }

    /// The process on `host` is gone: its listeners and connections are closed.
    pub(super) fn down(&self, host: &str) {
        self.outside().down(host);
    }

    /// As a task of a host sees it.
    fn inside(&self) -> MutexGuard<'_, Wires> {
        match Madsim::now() {
            Some(now) => self.lock(now),
            None => self.outside(),
        }
    }

    fn lock(&self, now: Duration) -> MutexGuard<'_, Wires> {
        let mut wires = self.outside();
        wires.now = now;
        wires
    }

    fn outside(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().expect("no panic happens while it is held")
    }
}

/// The network as one host sees it.
#[derive(Clone, Debug)]
pub struct MadsimNet {
    host: Arc<str>,
    network: Network,
}

impl MadsimNet {
    /// For the host with this name.
    pub(super) fn new(host: &str, network: &Network) -> Self {
        Self { host: host.into(), network: network.clone() }
    }

    /// One way between two hosts, as soon as the link carries anything.
    async fn cross(&self, from: &str, to: &str) {
        loop {
            let takes = poll_fn(|cx| self.network.inside().poll_way(from, to, cx)).await;
            sleep(takes).await;
            if self.network.inside().carries(from, to) {
                return;
            }
        }
    }
}

impl Net for MadsimNet {
    type Stream = SimStream;
    type Listener = SimListener;

    /// Whatever address is named, the host's own one is meant: a simulated host has no other.
    async fn bind(&self, addr: &str) -> io::Result<SimListener> {
        let (_, port) = split(addr)?;
        let id = self.network.inside().listen(&self.host, port)?;
        Ok(SimListener { id, host: self.host.clone(), port, network: self.network.clone() })
    }

    async fn connect(&self, addr: &str) -> io::Result<SimStream> {
        let (there, port) = split(addr.strip_prefix("nats://").unwrap_or(addr))?;
        self.cross(&self.host, there).await;
        let end = self.network.inside().connect(&self.host, there, port);
        // From here on it is closed if nobody waits for it any more.
        let stream = end.map(|end| SimStream::new(end, &self.network));
        self.cross(there, &self.host).await;
        stream.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"))
    }
}

fn split(addr: &str) -> io::Result<(&str, u16)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{addr:?} is not host:port"));
    let (host, port) = addr.rsplit_once(':').ok_or_else(bad)?;
    Ok((host, port.parse().map_err(|_| bad())?))
}

/// A bound simulated listener.
#[derive(Debug)]
pub struct SimListener {
    id: u64,
    host: Arc<str>,
    port: u16,
    network: Network,
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let end = poll_fn(|cx| self.network.inside().poll_accept(&self.host, self.port, self.id, cx)).await;
        // Nobody looks at the address beyond printing it: hosts go by name here.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        Ok((SimStream::new(end, &self.network), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.inside().unlisten(&self.host, self.port, self.id);
    }
}

/// One end of a simulated connection.
#[derive(Debug)]
pub struct SimStream {
    end: End,
    network: Network,
    /// Goes off when the next segment arrives.
    arrival: Option<Sleep>,
}

impl SimStream {
    fn new(end: End, network: &Network) -> Self {
        Self { end, network: network.clone(), arrival: None }
    }
}

impl Wire for SimStream {
    fn flow(&self) -> u64 {
        self.end.flow()
    }

    fn far(&self) -> String {
        self.network.inside().far(self.end)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let got = self.network.inside().read(self.end, buf, cx)?;
            match got {
                Got::Something => return Poll::Ready(Ok(())),
                Got::Nothing => return Poll::Pending,
                Got::After(takes) => {
                    let arrival = self.arrival.insert(sleep(takes));
                    if Pin::new(arrival).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.inside().write(self.end, bytes, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.inside().shut(self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.inside().close(self.end);
    }
}
