//! What lies between the hosts of the madsim world: links that hold, lose or carry, and the connections over them. A plain
//! value with its own time, so that it is tested without a scheduler.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::ReadBuf;

use super::LATENCY;
use crate::seed::Draw;

/// Bytes of one direction that were written and not read yet; a writer beyond waits.
const WINDOW: usize = 64 * 1024;
/// Connections that wait for a listener to take them; further ones are refused.
const BACKLOG: usize = 4096;

type Host = Arc<str>;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    id: u64,
    /// 0 opened it.
    side: usize,
}

impl End {
    /// Which connection.
    pub(super) fn flow(self) -> u64 {
        self.id
    }
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// Bytes, or the end of the stream.
    Something,
    /// It is woken when there is more.
    Nothing,
    /// The next segment is this far away.
    After(Duration),
}

#[derive(Debug)]
pub(super) struct Wires {
    /// Virtual time since the world began.
    pub(super) now: Duration,
    seed: u64,
    latencies: BTreeMap<(Host, Host), Draw>,
    /// Directed pairs.
    held: BTreeSet<(Host, Host)>,
    lossy: BTreeSet<(Host, Host)>,
    slow: BTreeMap<(Host, Host), Duration>,
    listeners: BTreeMap<(Host, u16), Backlog>,
    live: BTreeMap<u64, Connection>,
    next: u64,
    /// Who waits for a link that carries nothing.
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Backlog {
    id: u64,
    arrived: VecDeque<End>,
    acceptor: Option<Waker>,
}

#[derive(Debug)]
struct Connection {
    hosts: [Host; 2],
    /// Whose end is closed.
    gone: [bool; 2],
    /// By the side that writes.
    pipes: [Pipe; 2],
}

#[derive(Debug, Default)]
struct Pipe {
    /// With the time of arrival; none: a held link has it. An empty one is the end of the stream.
    flying: VecDeque<(Option<Duration>, Bytes)>,
    arrived: VecDeque<Bytes>,
    /// Written and not read.
    bytes: usize,
    /// The end of the stream was written.
    shut: bool,
    /// Something was lost: nothing arrives any more.
    dead: bool,
    /// No segment overtakes another.
    last: Duration,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wires {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            seed,
            latencies: BTreeMap::new(),
            held: BTreeSet::new(),
            lossy: BTreeSet::new(),
            slow: BTreeMap::new(),
            listeners: BTreeMap::new(),
            live: BTreeMap::new(),
            next: 0,
            waiting: Vec::new(),
        }
    }

    // What the nemesis does.

    pub(super) fn hold(&mut self, a: &str, b: &str) {
        for (from, to) in both(a, b) {
            self.each_pipe(&from, &to, |pipe, now, _| {
                pipe.arrive(now);
                pipe.flying.iter_mut().for_each(|(due, _)| *due = None);
            });
            self.held.insert((from, to));
        }
    }

    pub(super) fn release(&mut self, a: &str, b: &str) {
        for (from, to) in both(a, b) {
            self.held.remove(&(from.clone(), to.clone()));
            self.each_pipe(&from, &to, |pipe, now, latency| {
                for (due, _) in pipe.flying.iter_mut().filter(|(due, _)| due.is_none()) {
                    pipe.last = pipe.last.max(now + latency);
                    *due = Some(pipe.last);
                }
                wake(&mut pipe.reader);
            });
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    pub(super) fn cut(&mut self, from: &str, to: &str) {
        let (from, to): (Host, Host) = (from.into(), to.into());
        self.each_pipe(&from, &to, |pipe, now, _| {
            pipe.arrive(now);
            pipe.dead |= !pipe.flying.is_empty();
            pipe.flying.clear();
        });
        self.lossy.insert((from, to));
    }

    pub(super) fn repair(&mut self, a: &str, b: &str) {
        both(a, b).iter().for_each(|link| {
            self.lossy.remove(link);
        });
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Every segment takes so much longer than usual; zero: as usual.
    pub(super) fn delay(&mut self, a: &str, b: &str, by: Duration) {
        for link in both(a, b) {
            self.slow.insert(link, by);
        }
    }

    pub(super) fn down(&mut self, host: &str) {
        self.listeners.retain(|(at, _), _| **at != *host);
        let ends: Vec<End> = self
            .live
            .iter()
            .flat_map(|(id, connection)| [0, 1].map(|side| (End { id: *id, side }, &connection.hosts[side])))
            .filter(|(_, at)| ***at == *host)
            .map(|(end, _)| end)
            .collect();
        ends.into_iter().for_each(|end| self.close(end));
    }

    // What hosts do.

    /// How long a segment takes, as soon as the link carries one.
    pub(super) fn poll_way(&mut self, from: &str, to: &str, cx: &Context<'_>) -> Poll<Duration> {
        if self.carries(from, to) {
            return Poll::Ready(self.latency(&from.into(), &to.into()));
        }
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn carries(&self, from: &str, to: &str) -> bool {
        let link = (from.into(), to.into());
        !self.held.contains(&link) && !self.lossy.contains(&link)
    }

    /// Returns the listener's number.
    pub(super) fn listen(&mut self, host: &Host, port: u16) -> io::Result<u64> {
        let at = (host.clone(), port);
        if self.listeners.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let id = self.number();
        self.listeners.insert(at, Backlog { id, arrived: VecDeque::new(), acceptor: None });
        Ok(id)
    }

    pub(super) fn unlisten(&mut self, host: &Host, port: u16, id: u64) {
        let at = (host.clone(), port);
        // Another number is the listener of a process that started since.
        if self.listeners.get(&at).is_some_and(|backlog| backlog.id == id)
            && let Some(backlog) = self.listeners.remove(&at)
        {
            backlog.arrived.into_iter().for_each(|end| self.close(end));
        }
    }

    /// A SYN has arrived: the end of who sent it, if somebody listens.
    pub(super) fn connect(&mut self, from: &Host, to: &str, port: u16) -> Option<End> {
        let id = self.number();
        let at = (to.into(), port);
        let backlog = self.listeners.get_mut(&at).filter(|backlog| backlog.arrived.len() < BACKLOG)?;
        backlog.arrived.push_back(End { id, side: 1 });
        wake(&mut backlog.acceptor);
        let hosts = [from.clone(), at.0];
        self.live.insert(id, Connection { hosts, gone: [false; 2], pipes: Default::default() });
        Some(End { id, side: 0 })
    }

    pub(super) fn poll_accept(&mut self, host: &Host, port: u16, id: u64, cx: &Context<'_>) -> Poll<End> {
        let at = (host.clone(), port);
        let Some(backlog) = self.listeners.get_mut(&at).filter(|backlog| backlog.id == id) else {
            // Its process is being stopped.
            return Poll::Pending;
        };
        match backlog.arrived.pop_front() {
            Some(end) => Poll::Ready(end),
            None => {
                backlog.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn read(&mut self, end: End, buf: &mut ReadBuf<'_>, cx: &Context<'_>) -> io::Result<Got> {
        let now = self.now;
        let Some(connection) = self.live.get_mut(&end.id) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let pipe = &mut connection.pipes[1 - end.side];
        pipe.arrive(now);
        if let Some(segment) = pipe.arrived.front_mut() {
            let taken = segment.len().min(buf.remaining());
            buf.put_slice(&segment[..taken]);
            segment.advance(taken);
            // The end of the stream stays for whoever reads again.
            if taken > 0 && segment.is_empty() {
                pipe.arrived.pop_front();
            }
            pipe.bytes -= taken;
            if taken > 0 {
                wake(&mut pipe.writer);
            }
            return Ok(Got::Something);
        }
        pipe.reader = Some(cx.waker().clone());
        Ok(match pipe.flying.front() {
            Some((Some(due), _)) => Got::After(due.saturating_sub(now)),
            _ => Got::Nothing,
        })
    }

    pub(super) fn write(&mut self, end: End, bytes: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let now = self.now;
        let Some(connection) = self.live.get_mut(&end.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let back = &mut connection.pipes[1 - end.side];
        back.arrive(now);
        let goodbye = back.arrived.back().is_some_and(Bytes::is_empty);
        if connection.gone[1 - end.side] {
            // Into nothing, until the goodbye of the other side is here.
            return Poll::Ready(if goodbye { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) });
        }
        let pipe = &mut connection.pipes[end.side];
        if pipe.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(WINDOW - pipe.bytes);
        if taken == 0 && !bytes.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes += taken;
        if taken > 0 {
            self.send(end, Bytes::copy_from_slice(&bytes[..taken]));
        }
        Poll::Ready(Ok(taken))
    }

    /// The host at the other end; empty once both are closed.
    pub(super) fn far(&self, end: End) -> String {
        self.live.get(&end.id).map_or_else(String::new, |connection| connection.hosts[1 - end.side].to_string())
    }

    /// No more bytes from this end.
    pub(super) fn shut(&mut self, end: End) {
        let Some(connection) = self.live.get_mut(&end.id) else { return };
        if !std::mem::replace(&mut connection.pipes[end.side].shut, true) {
            self.send(end, Bytes::new());
        }
    }

    /// This end is gone. Harmless if it was before.
    pub(super) fn close(&mut self, end: End) {
        self.shut(end);
        let Some(connection) = self.live.get_mut(&end.id) else { return };
        connection.gone[end.side] = true;
        // Whoever waits for room writes into nothing from now on.
        wake(&mut connection.pipes[1 - end.side].writer);
        if connection.gone == [true; 2] {
            self.live.remove(&end.id);
        }
    }

    fn send(&mut self, end: End, segment: Bytes) {
        let Some(connection) = self.live.get(&end.id) else { return };
        let [from, to] = [&connection.hosts[end.side], &connection.hosts[1 - end.side]].map(Arc::clone);
        let latency = self.latency(&from, &to);
        let (now, link) = (self.now, (from, to));
        let (lossy, held) = (self.lossy.contains(&link), self.held.contains(&link));
        let Some(connection) = self.live.get_mut(&end.id) else { return };
        let pipe = &mut connection.pipes[end.side];
        pipe.dead |= lossy;
        if pipe.dead {
            return;
        }
        let due = (!held).then(|| {
            pipe.last = pipe.last.max(now + latency);
            pipe.last
        });
        pipe.flying.push_back((due, segment));
        wake(&mut pipe.reader);
    }

    /// Keyed by link and time: what happens elsewhere shifts nothing here.
    fn latency(&mut self, from: &Host, to: &Host) -> Duration {
        let draw = self
            .latencies
            .entry((from.clone(), to.clone()))
            .or_insert_with(|| Draw::new(self.seed, &format!("latency/{from}/{to}")));
        let mut word = [0; 8];
        draw.fill_at(u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX), &mut word);
        let (least, most) = (LATENCY.0.as_micros() as u64, LATENCY.1.as_micros() as u64);
        let usual = Duration::from_micros(least + u64::from_le_bytes(word) % (most - least + 1));
        usual + self.slow.get(&(from.clone(), to.clone())).copied().unwrap_or_default()
    }

    fn each_pipe(&mut self, from: &Host, to: &Host, each: impl Fn(&mut Pipe, Duration, Duration)) {
        let (now, latency) = (self.now, self.latency(from, to));
        for connection in self.live.values_mut() {
            for side in [0, 1] {
                if connection.hosts[side] == *from && connection.hosts[1 - side] == *to {
                    each(&mut connection.pipes[side], now, latency);
                }
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Pipe {
    /// Takes in what is due.
    fn arrive(&mut self, now: Duration) {
        while let Some((Some(due), _)) = self.flying.front()
            && *due <= now
        {
            self.arrived.extend(self.flying.pop_front().map(|(_, segment)| segment));
        }
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

fn both(a: &str, b: &str) -> [(Host, Host); 2] {
    [(a.into(), b.into()), (b.into(), a.into())]
}

#[cfg(test)]
mod tests;
