//! What may be wrong with a connection by itself, whichever engine carries it: it is reset, it is silent, a client is deaf,
//! a process hangs. A layer over an engine's network, which knows of links and hosts alone.
//!
//! A *silent* connection takes what is written and never yields anything, at both ends. A *deaf* client and a *paused*
//! host leave what comes where it is, until the sender's window is full. A *narrow* client takes `NARROW_BYTES` at a time,
//! `NARROW_PAUSE` apart. Connecting to a host whose process is down is
//! refused at once (turmoil alone would keep the SYN until the host is back).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use voltron_core::{Listener, Net};

/// What a narrow client reads at once.
const NARROW_BYTES: usize = 1_600;
/// The pause until it reads again.
const NARROW_PAUSE: Duration = Duration::from_millis(50);

/// A stream of an engine.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Which connection: the same number at both ends.
    fn flow(&self) -> u64;

    /// The host at the other end.
    fn far(&self) -> String;
}

/// Every connection of the world, so that faults can reach them. Shared by all hosts.
#[derive(Clone, Debug, Default)]
pub struct Cables(Arc<Mutex<Wiring>>);

#[derive(Debug, Default)]
struct Wiring {
    next: u64,
    live: BTreeMap<u64, Cable>,
    down: BTreeSet<String>,
    paused: BTreeSet<String>,
    deaf: BTreeSet<String>,
    narrow: BTreeSet<String>,
    /// Whoever connects or accepts on a paused host.
    waiting: Vec<Waker>,
}

/// One end of a connection.
#[derive(Debug)]
struct Cable {
    here: String,
    /// Who of the host this end belongs to, if not to the host as a whole.
    who: Option<Arc<str>>,
    there: String,
    /// Both ends know it.
    flow: u64,
    state: State,
    readers: Option<Waker>,
    writers: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Silent,
    Cut,
}

/// What an end may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// A little at a time.
    Narrow,
    /// Later: the task will be woken.
    Shut,
    /// What is written is lost, nothing comes.
    Void,
    Reset,
}

impl Wiring {
    /// The connections between the two sides, whichever opened them, oldest first.
    fn flows(&self, left: &[String], right: &[String], of: impl Fn(State) -> bool) -> Vec<u64> {
        let here = |side: &[String], cable: &Cable| {
            side.contains(&cable.here) || cable.who.as_deref().is_some_and(|who| side.iter().any(|name| name == who))
        };
        let crosses = |cable: &Cable| {
            (here(left, cable) && right.contains(&cable.there)) || (here(right, cable) && left.contains(&cable.there))
        };
        let mut found = Vec::new();
        for cable in self.live.values().filter(|cable| of(cable.state) && crosses(cable)) {
            if !found.contains(&cable.flow) {
                found.push(cable.flow);
            }
        }
        found
    }

    /// Puts both ends of these connections into a state. Returns whom to wake.
    fn put(&mut self, flows: &[u64], state: State) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for cable in self.live.values_mut().filter(|cable| flows.contains(&cable.flow)) {
            cable.state = state;
            wakers.extend(cable.readers.take().into_iter().chain(cable.writers.take()));
        }
        wakers
    }

    /// Every waiting task: something changed.
    fn wake_all(&mut self) -> Vec<Waker> {
        let mut wakers = std::mem::take(&mut self.waiting);
        for cable in self.live.values_mut() {
            wakers.extend(cable.readers.take().into_iter().chain(cable.writers.take()));
        }
        wakers
    }
}

impl Cables {
    /// Resets every connection between the two sides, whichever opened it. A side may name clients beside hosts.
    pub fn reset(&self, left: &[String], right: &[String]) {
        let mut wiring = self.lock();
        let flows = wiring.flows(left, right, |state| state != State::Cut);
        let wakers = wiring.put(&flows, State::Cut);
        drop(wiring);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many connections this host has.
    pub fn sockets(&self, host: &str) -> usize {
        self.lock().live.values().filter(|cable| cable.here == host).count()
    }

    /// The oldest connection between the two sides goes silent.
    pub fn silence(&self, left: &[String], right: &[String]) {
        let mut wiring = self.lock();
        let flows = wiring.flows(left, right, |state| state == State::Up);
        let wakers = wiring.put(&flows[..flows.len().min(1)], State::Silent);
        drop(wiring);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Says whether the process on `host` hangs: if so, it neither reads, writes, connects nor accepts.
    pub fn set_paused(&self, host: &str, paused: bool) {
        self.change(|wiring| &mut wiring.paused, host, paused);
    }

    /// Says whether `who`, one of a host's clients, reads nothing.
    pub fn set_deaf(&self, who: &str, deaf: bool) {
        self.change(|wiring| &mut wiring.deaf, who, deaf);
    }

    /// Says whether `who`, one of a host's clients, reads only a little at a time.
    pub fn set_narrow(&self, who: &str, narrow: bool) {
        self.change(|wiring| &mut wiring.narrow, who, narrow);
    }

    fn change(&self, set: impl Fn(&mut Wiring) -> &mut BTreeSet<String>, name: &str, to: bool) {
        let mut wiring = self.lock();
        let changed = if to { set(&mut wiring).insert(name.to_owned()) } else { set(&mut wiring).remove(name) };
        let wakers = if changed { wiring.wake_all() } else { Vec::new() };
        drop(wiring);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Says whether the process on `host` runs: if not, connecting to it is refused. A new process does not hang.
    pub fn set_down(&self, host: &str, down: bool) {
        self.set_paused(host, false);
        let mut wiring = self.lock();
        if down {
            wiring.down.insert(host.to_owned());
        } else {
            wiring.down.remove(host);
        }
    }

    /// Waits as long as this host is paused.
    async fn awake(&self, host: &str) {
        std::future::poll_fn(|cx| {
            let mut wiring = self.lock();
            if wiring.paused.contains(host) {
                wiring.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn plug(&self, here: &str, who: Option<Arc<str>>, there: &str, flow: u64) -> Plug {
        let mut wiring = self.lock();
        let id = wiring.next;
        wiring.next += 1;
        let (here, there) = (here.to_owned(), there.to_owned());
        // The other end may have been silenced or reset before this one was accepted.
        let state = wiring.live.values().find(|cable| cable.flow == flow).map_or(State::Up, |cable| cable.state);
        wiring.live.insert(id, Cable { here, who, there, flow, state, readers: None, writers: None });
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
    /// What this end may do; unless it may, the task is woken when that changes.
    fn gate(&self, cx: &Context<'_>, reading: bool) -> Gate {
        let mut wiring = self.cables.lock();
        let Wiring { live, paused, deaf, narrow, .. } = &mut *wiring;
        let Some(cable) = live.get_mut(&self.id) else { return Gate::Reset };
        if cable.state == State::Cut {
            return Gate::Reset;
        }
        let slot = if reading { &mut cable.readers } else { &mut cable.writers };
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        let is = |those: &BTreeSet<String>| reading && cable.who.as_deref().is_some_and(|who| those.contains(who));
        if paused.contains(&cable.here) || is(deaf) {
            Gate::Shut
        } else if cable.state == State::Silent {
            if reading { Gate::Shut } else { Gate::Void }
        } else if is(narrow) {
            Gate::Narrow
        } else {
            Gate::Open
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        // Waking nobody: the wakers belong to the owner of this very end.
        let cable = self.cables.lock().live.remove(&self.id);
        drop(cable);
    }
}

/// The network as one simulated host sees it, over an engine's.
#[derive(Clone, Debug)]
pub struct SimNet<N> {
    inner: N,
    host: Arc<str>,
    who: Option<Arc<str>>,
    cables: Cables,
}

impl<N> SimNet<N> {
    /// For the host with this name, whose network is `inner`.
    pub fn new(inner: N, host: &str, cables: &Cables) -> Self {
        Self { inner, host: host.into(), who: None, cables: cables.clone() }
    }

    /// The same for one client of several on this host: faults can name it.
    #[must_use]
    pub fn of(&self, who: &str) -> Self
    where
        N: Clone,
    {
        Self { who: Some(who.into()), ..self.clone() }
    }
}

impl<N: Net<Stream: Wire>> Net for SimNet<N> {
    type Stream = SimStream<N::Stream>;
    type Listener = SimListener<N::Listener>;

    async fn bind(&self, addr: &str) -> io::Result<Self::Listener> {
        let inner = self.inner.bind(addr).await?;
        Ok(SimListener { inner, host: self.host.clone(), cables: self.cables.clone() })
    }

    async fn connect(&self, addr: &str) -> io::Result<Self::Stream> {
        let addr = addr.strip_prefix("nats://").unwrap_or(addr);
        let (host, _) = addr
            .rsplit_once(':')
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{addr:?} is not host:port")))?;
        if self.cables.lock().down.contains(host) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "its process is down"));
        }
        self.cables.awake(&self.host).await;
        let inner = self.inner.connect(addr).await?;
        let plug = self.cables.plug(&self.host, self.who.clone(), host, inner.flow());
        Ok(SimStream { inner, plug, pause: None })
    }
}

/// A bound simulated listener.
#[derive(Debug)]
pub struct SimListener<L> {
    inner: L,
    host: Arc<str>,
    cables: Cables,
}

impl<L: Listener<Stream: Wire>> Listener for SimListener<L> {
    type Stream = SimStream<L::Stream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)> {
        self.cables.awake(&self.host).await;
        let (inner, peer) = self.inner.accept().await?;
        let plug = self.cables.plug(&self.host, None, &inner.far(), inner.flow());
        Ok((SimStream { inner, plug, pause: None }, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A simulated connection.
#[derive(Debug)]
pub struct SimStream<S> {
    inner: S,
    plug: Plug,
    /// Until a narrow client reads again.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S: Wire> SimStream<S> {
    fn poll_read_little(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let mut bytes = [0; NARROW_BYTES];
        let mut little = ReadBuf::new(&mut bytes[..buf.remaining().min(NARROW_BYTES)]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut little))?;
        if !little.filled().is_empty() {
            self.pause = Some(Box::pin(sleep(NARROW_PAUSE)));
        }
        buf.put_slice(little.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: Wire> AsyncRead for SimStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.plug.gate(cx, true) {
            Gate::Open => Pin::new(&mut self.inner).poll_read(cx, buf),
            Gate::Narrow => self.poll_read_little(cx, buf),
            Gate::Shut | Gate::Void => Poll::Pending,
            Gate::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl<S: Wire> AsyncWrite for SimStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.plug.gate(cx, false) {
            Gate::Open | Gate::Narrow => Pin::new(&mut self.inner).poll_write(cx, buf),
            Gate::Shut => Poll::Pending,
            Gate::Void => Poll::Ready(Ok(buf.len())),
            Gate::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.plug.gate(cx, false) {
            Gate::Open | Gate::Narrow | Gate::Reset => Pin::new(&mut self.inner).poll_shutdown(cx),
            Gate::Shut => Poll::Pending,
            Gate::Void => Poll::Ready(Ok(())),
        }
    }
}
