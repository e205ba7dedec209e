//! Sockets of the simulated world: turmoil's TCP behind the product's [`Net`] seam, with what turmoil lacks.
//!
//! What the model leaves out: a lost segment is never sent again, so a connection over a link that dropped anything is
//! dead for ever. Hence a short blip is a *hold*; an outage is a *partition*, silent while it lasts, and at its end
//! every connection that crossed it is reset ([`Cables::reset`]), as a kernel would find out. Connecting to a host
//! whose process is down is refused at once (turmoil alone would keep the SYN until the host is back).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltron_core::{Listener, Net};

/// Every connection of the world, so that faults can reach them. Shared by all hosts.
#[derive(Clone, Debug, Default)]
pub struct Cables(Arc<Mutex<Wiring>>);

#[derive(Debug, Default)]
struct Wiring {
    next: u64,
    live: BTreeMap<u64, Cable>,
    down: BTreeSet<String>,
}

#[derive(Debug)]
struct Cable {
    here: String,
    there: String,
    cut: bool,
    readers: Option<Waker>,
    writers: Option<Waker>,
}

impl Cables {
    /// Resets every connection between a host of `left` and a host of `right`, whichever side opened it. Returns how
    /// many ends noticed.
    pub fn reset(&self, left: &[String], right: &[String]) -> usize {
        let mut wakers = Vec::new();
        let mut ends = 0;
        for cable in self.lock().live.values_mut() {
            let crosses = (left.contains(&cable.here) && right.contains(&cable.there))
                || (right.contains(&cable.here) && left.contains(&cable.there));
            if crosses && !cable.cut {
                cable.cut = true;
                ends += 1;
                wakers.extend(cable.readers.take());
                wakers.extend(cable.writers.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        ends
    }

    /// Says whether the process on `host` runs: if not, connecting to it is refused.
    pub fn set_down(&self, host: &str, down: bool) {
        let mut wiring = self.lock();
        if down {
            wiring.down.insert(host.to_owned());
        } else {
            wiring.down.remove(host);
        }
    }

    fn plug(&self, here: &str, there: &str) -> Plug {
        let mut wiring = self.lock();
        let id = wiring.next;
        wiring.next += 1;
        let cable = Cable { here: here.to_owned(), there: there.to_owned(), cut: false, readers: None, writers: None };
        wiring.live.insert(id, cable);
        Plug { id, cables: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Wiring> {
        self.0.lock().expect("no panic happens while it is held")
    }
}

/// One end of a live connection.
#[derive(Debug)]
struct Plug {
    id: u64,
    cables: Cables,
}

impl Plug {
    /// True if this connection was reset; else the task is woken when that happens.
    fn is_cut(&self, cx: &Context<'_>, reading: bool) -> bool {
        let mut wiring = self.cables.lock();
        let Some(cable) = wiring.live.get_mut(&self.id) else { return true };
        if cable.cut {
            return true;
        }
        let slot = if reading { &mut cable.readers } else { &mut cable.writers };
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        // Waking nobody: the wakers belong to the owner of this very end.
        let cable = self.cables.lock().live.remove(&self.id);
        drop(cable);
    }
}

/// The network as one simulated host sees it.
#[derive(Clone, Debug)]
pub struct TurmoilNet {
    host: Arc<str>,
    cables: Cables,
}

impl TurmoilNet {
    /// For the host with this name.
    pub fn new(host: &str, cables: &Cables) -> Self {
        Self { host: host.into(), cables: cables.clone() }
    }
}

impl Net for TurmoilNet {
    type Stream = SimStream;
    type Listener = SimListener;

    /// Whatever address is named, the host's own one is meant: a simulated host has no other.
    async fn bind(&self, addr: &str) -> io::Result<SimListener> {
        let (_, port) = addr.rsplit_once(':').ok_or_else(|| invalid(addr))?;
        let port: u16 = port.parse().map_err(|_| invalid(addr))?;
        let inner = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(SimListener { inner, host: self.host.clone(), cables: self.cables.clone() })
    }

    async fn connect(&self, addr: &str) -> io::Result<SimStream> {
        let addr = addr.strip_prefix("nats://").unwrap_or(addr);
        let (host, _) = addr.rsplit_once(':').ok_or_else(|| invalid(addr))?;
        if self.cables.lock().down.contains(host) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "its process is down"));
        }
        let inner = turmoil::net::TcpStream::connect(addr).await?;
        Ok(SimStream { inner, plug: self.cables.plug(&self.host, host) })
    }
}

fn invalid(addr: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{addr:?} is not host:port"))
}

/// A bound simulated listener.
pub struct SimListener {
    inner: turmoil::net::TcpListener,
    host: Arc<str>,
    cables: Cables,
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let (inner, peer) = self.inner.accept().await?;
        let there = turmoil::reverse_lookup(peer.ip()).unwrap_or_else(|| self.host.to_string());
        Ok((SimStream { inner, plug: self.cables.plug(&self.host, &there) }, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A simulated connection.
#[derive(Debug)]
pub struct SimStream {
    inner: turmoil::net::TcpStream,
    plug: Plug,
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.plug.is_cut(cx, true) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.plug.is_cut(cx, false) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
