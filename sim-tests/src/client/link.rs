//! A client's end of its connection, and what may be wrong with it: it reads nothing for a while (a stalled reader), is
//! silent altogether (a half-open connection), breaks, or moves its bytes in small pieces or in heaps, so that WebSocket
//! frames end anywhere but at the end of a read. The client's own deeds and the nemesis pull the same [`Switch`].

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The largest piece, in bytes.
pub const PIECE_MAX: usize = 64;
/// The most that waits for a heap to be sent, in bytes.
const HEAP_MAX: usize = 64 << 10;

/// How bytes are handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As they come.
    #[default]
    Whole,
    /// At most so many at once, both ways; 1..=[`PIECE_MAX`].
    Pieces(usize),
    /// What is written within this time leaves at once.
    Heaps(Duration),
}

/// The troubles of one client's link, whichever connection it has.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<Mutex<Trouble>>);

#[derive(Debug, Default)]
struct Trouble {
    /// Reads nothing until then.
    stalled: Option<Instant>,
    /// Neither reads nor writes until then.
    silent: Option<Instant>,
    manner: Manner,
    /// How often the connection of the moment was broken.
    cuts: u64,
    wakers: Vec<Waker>,
}

impl Switch {
    /// Reads nothing for so long.
    pub fn stall(&self, lasts: Duration) {
        self.change(|trouble| trouble.stalled = Some(Instant::now() + lasts));
    }

    /// Neither reads nor writes for so long: to the other side as if the machine had gone.
    pub fn silence(&self, lasts: Duration) {
        self.change(|trouble| trouble.silent = Some(Instant::now() + lasts));
    }

    /// Breaks the connection of the moment.
    pub fn cut(&self) {
        self.change(|trouble| trouble.cuts += 1);
    }

    /// From now on.
    pub fn manner(&self, manner: Manner) {
        self.change(|trouble| trouble.manner = manner);
    }

    fn change(&self, change: impl FnOnce(&mut Trouble)) {
        let mut trouble = self.lock();
        change(&mut trouble);
        let wakers = std::mem::take(&mut trouble.wakers);
        drop(trouble);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Trouble> {
        self.0.lock().expect("no panic happens while it is held")
    }
}

/// Every client's switch, by name.
#[derive(Clone, Debug, Default)]
pub struct Switches(Arc<Mutex<BTreeMap<String, Switch>>>);

impl Switches {
    /// The switch of this client.
    pub fn of(&self, client: &str) -> Switch {
        self.0.lock().expect("no panic happens while it is held").entry(client.to_owned()).or_default().clone()
    }
}

/// A stream under a [`Switch`].
#[derive(Debug)]
pub struct Rough<S> {
    inner: S,
    switch: Switch,
    /// The switch's cuts when this connection began.
    cuts: u64,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    heap: Vec<u8>,
    /// When the heap's first byte came.
    heaped: Option<Instant>,
}

impl<S> Rough<S> {
    /// Over a fresh connection.
    pub fn new(inner: S, switch: &Switch) -> Self {
        let cuts = switch.lock().cuts;
        Self { inner, switch: switch.clone(), cuts, reading: None, writing: None, heap: Vec::new(), heaped: None }
    }

    /// Waits while the trouble lasts; then tells how bytes move.
    fn pass(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<io::Result<Manner>> {
        loop {
            let mut trouble = self.switch.lock();
            if trouble.cuts != self.cuts {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let stalled = trouble.stalled.filter(|_| reads);
            let until = stalled.max(trouble.silent).filter(|until| *until > Instant::now());
            let manner = trouble.manner;
            if !trouble.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                trouble.wakers.push(cx.waker().clone());
            }
            drop(trouble);
            let Some(until) = until else { return Poll::Ready(Ok(manner)) };
            let sleep = if reads { &mut self.reading } else { &mut self.writing };
            ready!(poll_until(sleep, until, cx));
        }
    }
}

fn poll_until(slot: &mut Option<Pin<Box<Sleep>>>, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let sleep = slot.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
    if sleep.deadline() != until {
        sleep.as_mut().reset(until);
    }
    ready!(sleep.as_mut().poll(cx));
    *slot = None;
    Poll::Ready(())
}

impl<S: AsyncRead + Unpin> AsyncRead for Rough<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Manner::Pieces(most) = ready!(self.pass(cx, true))? else {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        };
        let mut piece = [0; PIECE_MAX];
        let mut piece = ReadBuf::new(&mut piece[..most.clamp(1, PIECE_MAX).min(buf.remaining())]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Rough<S> {
    fn send_heap(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.heap.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.heap))?;
            self.heap.drain(..sent);
        }
        self.heaped = None;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rough<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.pass(cx, false))? {
            Manner::Heaps(_) => {
                if self.heap.len() + buf.len() > HEAP_MAX {
                    ready!(self.send_heap(cx))?;
                }
                self.heaped.get_or_insert_with(Instant::now);
                self.heap.extend_from_slice(buf);
                Poll::Ready(Ok(buf.len()))
            }
            manner => {
                ready!(self.send_heap(cx))?;
                let most = if let Manner::Pieces(most) = manner { most.clamp(1, PIECE_MAX) } else { buf.len() };
                Pin::new(&mut self.inner).poll_write(cx, &buf[..most.min(buf.len())])
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let (Manner::Heaps(time), Some(heaped)) = (ready!(self.pass(cx, false))?, self.heaped) {
            ready!(poll_until(&mut self.writing, heaped + time, cx));
        }
        ready!(self.send_heap(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_heap(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
