//! The network of the simulated world: hosts, links, and what is on its way. It keeps a calendar of arrivals, so that
//! nobody has to ask every host every millisecond whether something came: time jumps to the next arrival or timer.
//!
//! What the model promises and leaves out:
//! - Byte streams in order, with a latency of 1 to 6 whole ms a segment that a link keeps for 10 ms, keyed by (seed, link, time):
//!   one more segment, here or elsewhere, shifts nothing. What arrives in the same ms arrives in the order in which it was sent. A writer
//!   waits while a window of bytes ([`WINDOWS`]) is on its way or unread; the window comes back at once.
//! - A link that is stopped, one way or both, keeps what was sent until it opens again, as TCP's repeats would; nothing
//!   that was written is lost but by a reset.
//! - A connection to a port where nobody listens is refused after a round trip. A process that dies closes what it had
//!   open: FIN, or RST if something was unread.
//! - No bandwidth, no packets, no loss that an application could see.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::seed::mix;

mod stream;

pub use stream::{FabricListener, FabricNet, FabricStream};

/// Bytes of one direction of a connection that may be on their way or unread: drawn for each link. The least is little beside
/// what kernels hold, so that who reads nothing for a second or two is felt by who writes to it; with the most, much arrives
/// at once.
const WINDOWS: [usize; 3] = [16 * 1024, 64 * 1024, 256 * 1024];
/// The latency of a segment, in ms.
const LATENCY_MS: std::ops::RangeInclusive<u64> = 1..=6;
/// For so long a link keeps its latency.
const KEPT_US: u64 = 10_000;
/// Connections that a listener holds until they are accepted; more are refused.
const BACKLOG: usize = 4096;

type Host = usize;
type Conn = u64;

/// The network. Clones share it.
#[derive(Clone)]
pub struct Fabric {
    wiring: Arc<Mutex<Wiring>>,
    /// Told when something arrives earlier than anything before.
    sooner: Arc<Notify>,
}

struct Wiring {
    seed: u64,
    start: Instant,
    hosts: Vec<String>,
    /// Links that are stopped, how many times over, and what waits there.
    stopped: BTreeMap<(Host, Host), (u32, VecDeque<Flight>)>,
    slow: BTreeMap<(Host, Host), Duration>,
    listeners: BTreeMap<(Host, u16), Backlog>,
    conns: BTreeMap<Conn, Connection>,
    next_conn: Conn,
    /// By arrival, then by the order of sending.
    calendar: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    /// To be woken, and to be dropped, when the lock is released: either may run code that comes back here.
    wake: Vec<Waker>,
    spent: Vec<Waker>,
}

/// Connections that wait to be accepted.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Conn>,
    waker: Option<Waker>,
}

/// Both ends of a stream: 0 opened it, 1 accepted it.
struct Connection {
    ends: [End; 2],
    port: u16,
    state: State,
    connector: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Refused,
    /// Nothing of it arrives any more.
    Reset,
}

struct End {
    host: Host,
    addr: SocketAddr,
    /// Somebody holds it.
    held: bool,
    inbox: VecDeque<Bytes>,
    /// The other end said that no more comes.
    fin: bool,
    /// This end said so.
    shut: bool,
    /// Written here and not yet read at the other end.
    unread: usize,
    /// The most of that.
    window: usize,
    /// When what was sent last arrives.
    last: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Something on its way to end `to` of a connection.
struct Flight {
    conn: Conn,
    to: usize,
    what: What,
}

enum What {
    Syn,
    SynAck,
    Refuse,
    Data(Bytes),
    Fin,
    Rst,
}

impl Fabric {
    /// A network without hosts. Latencies come from `seed`; time begins now.
    pub fn new(seed: u64) -> Self {
        let wiring = Wiring {
            seed,
            start: Instant::now(),
            hosts: Vec::new(),
            stopped: BTreeMap::new(),
            slow: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            calendar: BTreeMap::new(),
            sent: 0,
            wake: Vec::new(),
            spent: Vec::new(),
        };
        Self { wiring: Arc::new(Mutex::new(wiring)), sooner: Arc::default() }
    }

    /// Adds a host.
    pub fn host(&self, name: &str) {
        self.with(|wiring| wiring.hosts.push(name.to_owned()));
    }

    /// When the next thing arrives.
    pub fn due(&self) -> Option<Instant> {
        self.with(|wiring| wiring.calendar.first_key_value().map(|(key, _)| key.0))
    }

    /// Returns when something was sent that arrives before all else.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Delivers everything that has arrived by now.
    pub fn deliver(&self) {
        let now = Instant::now();
        while self.with(|wiring| match wiring.calendar.first_entry() {
            Some(first) if first.key().0 <= now => {
                let flight = first.remove();
                wiring.arrive(flight);
                true
            }
            _ => false,
        }) {}
    }

    /// What is on its way from `from` to `to`, and what is sent from now on, waits until [`open`](Self::open) was called as
    /// often as this.
    pub fn stop(&self, from: &str, to: &str) {
        self.with(|wiring| wiring.stop(from, to));
    }

    /// What waited goes on its way.
    pub fn open(&self, from: &str, to: &str) {
        self.with(|wiring| wiring.open(from, to));
    }

    /// From now on a segment takes so much longer from `from` to `to`; zero: as usual.
    pub fn delay(&self, from: &str, to: &str, by: Duration) {
        self.with(|wiring| {
            if let (Some(from), Some(to)) = (wiring.at(from), wiring.at(to)) {
                wiring.slow.insert((from, to), by);
            }
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut Wiring) -> R) -> R {
        let mut wiring = self.wiring.lock().expect("no panic happens while it is held");
        let before = wiring.calendar.first_key_value().map(|(key, _)| *key);
        let result = act(&mut wiring);
        let after = wiring.calendar.first_key_value().map(|(key, _)| *key);
        let (wake, spent) = (std::mem::take(&mut wiring.wake), std::mem::take(&mut wiring.spent));
        drop(wiring);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
        wake.into_iter().for_each(Waker::wake);
        drop(spent);
        result
    }
}

impl Wiring {
    fn at(&self, host: &str) -> Option<Host> {
        self.hosts.iter().position(|name| name == host)
    }

    /// The address of a host: 10.0.x.y.
    fn ip(host: Host) -> Ipv4Addr {
        let n = u16::try_from(host + 1).unwrap_or(u16::MAX).to_be_bytes();
        Ipv4Addr::new(10, 0, n[0], n[1])
    }

    fn connect(&mut self, from: Host, to: Host, port: u16) -> Conn {
        let conn = self.next_conn;
        self.next_conn += 1;
        let ephemeral = 32_768 + u16::try_from(conn % 28_000).unwrap_or(0);
        let end = |host, port, other| End {
            host,
            addr: SocketAddr::from((Self::ip(host), port)),
            held: false,
            inbox: VecDeque::new(),
            fin: false,
            shut: false,
            unread: 0,
            window: self.window(host, other),
            last: self.start,
            reader: None,
            writer: None,
        };
        let mut ends = [end(from, ephemeral, to), end(to, port, from)];
        ends[0].held = true;
        self.conns.insert(conn, Connection { ends, port, state: State::Opening, connector: None });
        self.send(conn, 1, What::Syn);
        conn
    }

    /// By the seed and the link alone.
    fn window(&self, from: Host, to: Host) -> usize {
        let drawn = mix(&[self.seed, from as u64, to as u64, u64::MAX]) % WINDOWS.len() as u64;
        WINDOWS[usize::try_from(drawn).unwrap_or_default()]
    }

    /// Puts something on its way to end `to`.
    fn send(&mut self, conn: Conn, to: usize, what: What) {
        let Some(connection) = self.conns.get(&conn) else { return };
        let link = (connection.ends[1 - to].host, connection.ends[to].host);
        let flight = Flight { conn, to, what };
        match self.stopped.get_mut(&link) {
            Some((_, waiting)) => waiting.push_back(flight),
            None => self.launch(flight, link),
        }
    }

    fn launch(&mut self, flight: Flight, (from, to): (Host, Host)) {
        let now = Instant::now();
        let Some(connection) = self.conns.get_mut(&flight.conn) else { return };
        let us = u64::try_from((now - self.start).as_micros()).unwrap_or(u64::MAX);
        let seed = self.seed;
        let latency = |window: u64| {
            let drawn = mix(&[seed, from as u64, to as u64, window]);
            Duration::from_millis(LATENCY_MS.start() + drawn % (LATENCY_MS.end() - LATENCY_MS.start() + 1))
        };
        // Nothing overtakes what could have been sent at the end of the window before, whether or not it was: so the time of
        // arrival says nothing of what else the connection carries.
        let window = us / KEPT_US;
        let before = window.checked_sub(1).map(|last| {
            let end = self.start + Duration::from_micros(window * KEPT_US) - Duration::from_millis(1);
            end + latency(last)
        });
        let usual = before.map_or(now + latency(window), |before| before.max(now + latency(window)));
        let slow = self.slow.get(&(from, to)).copied().unwrap_or_default();
        let sender = &mut connection.ends[1 - flight.to];
        let due = (usual + slow).max(sender.last);
        sender.last = due;
        self.calendar.insert((due, self.sent), flight);
        self.sent += 1;
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight { conn, to, what } = flight;
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if connection.state == State::Reset {
            return;
        }
        match what {
            What::Syn => {
                let key = (connection.ends[1].host, connection.port);
                match self.listeners.get_mut(&key) {
                    Some(backlog) if backlog.waiting.len() < BACKLOG => {
                        connection.ends[1].held = true;
                        backlog.waiting.push_back(conn);
                        self.wake.extend(backlog.waker.take());
                        self.send(conn, 0, What::SynAck);
                    }
                    _ => self.send(conn, 0, What::Refuse),
                }
            }
            What::SynAck | What::Refuse if connection.state == State::Opening => {
                connection.state = if matches!(what, What::SynAck) { State::Open } else { State::Refused };
                self.wake.extend(connection.connector.take());
            }
            What::SynAck | What::Refuse => {}
            What::Data(_) if !connection.ends[to].held => self.send(conn, 1 - to, What::Rst),
            What::Data(bytes) => {
                let end = &mut connection.ends[to];
                end.inbox.push_back(bytes);
                self.wake.extend(end.reader.take());
            }
            What::Fin => {
                let end = &mut connection.ends[to];
                end.fin = true;
                self.wake.extend(end.reader.take());
            }
            What::Rst => self.kill(conn),
        }
    }

    /// Both ends see a reset.
    fn kill(&mut self, conn: Conn) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        connection.state = State::Reset;
        self.wake.extend(connection.connector.take());
        for end in &mut connection.ends {
            end.inbox.clear();
            self.wake.extend(end.reader.take());
            self.wake.extend(end.writer.take());
        }
        self.forget_if_left(conn);
    }

    fn forget_if_left(&mut self, conn: Conn) {
        let left = |connection: &Connection| {
            let quiet = connection.state == State::Reset || connection.ends.iter().all(|end| end.shut);
            quiet && connection.ends.iter().all(|end| !end.held)
        };
        if self.conns.get(&conn).is_some_and(left) {
            self.conns.remove(&conn);
        }
    }

    /// Whoever held this end is gone.
    fn let_go(&mut self, conn: Conn, side: usize) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        let end = &mut connection.ends[side];
        end.held = false;
        self.spent.extend(end.reader.take());
        self.spent.extend(end.writer.take());
        let (unread, shut) = (!end.inbox.is_empty(), std::mem::replace(&mut end.shut, true));
        if side == 0 {
            self.spent.extend(connection.connector.take());
        }
        match connection.state {
            State::Reset | State::Refused => connection.state = State::Reset,
            _ if unread => self.send(conn, 1 - side, What::Rst),
            _ if !shut => self.send(conn, 1 - side, What::Fin),
            _ => {}
        }
        self.forget_if_left(conn);
    }

    fn stop(&mut self, from: &str, to: &str) {
        let (Some(from), Some(to)) = (self.at(from), self.at(to)) else { return };
        if let Some((times, _)) = self.stopped.get_mut(&(from, to)) {
            *times += 1;
            return;
        }
        let on_link = |flight: &Flight| {
            self.conns.get(&flight.conn).is_some_and(|connection| {
                connection.ends[1 - flight.to].host == from && connection.ends[flight.to].host == to
            })
        };
        let keys: Vec<_> = self.calendar.iter().filter(|(_, flight)| on_link(flight)).map(|(key, _)| *key).collect();
        let waiting = keys.iter().filter_map(|key| self.calendar.remove(key)).collect();
        self.stopped.insert((from, to), (1, waiting));
    }

    fn open(&mut self, from: &str, to: &str) {
        let (Some(from), Some(to)) = (self.at(from), self.at(to)) else { return };
        match self.stopped.get_mut(&(from, to)) {
            Some((times, _)) if *times > 1 => return *times -= 1,
            _ => {}
        }
        let (_, waiting) = self.stopped.remove(&(from, to)).unwrap_or_default();
        waiting.into_iter().for_each(|flight| self.launch(flight, (from, to)));
    }

    // === what streams and listeners ask ===

    fn poll_connected(&mut self, conn: Conn, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(connection) = self.conns.get_mut(&conn) else { return Poll::Ready(Err(reset())) };
        match connection.state {
            State::Open => Poll::Ready(Ok(())),
            State::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            State::Reset => Poll::Ready(Err(reset())),
            State::Opening => {
                self.spent.extend(connection.connector.replace(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn poll_accept(&mut self, at: (Host, u16), cx: &Context<'_>) -> Poll<io::Result<Conn>> {
        let Some(backlog) = self.listeners.get_mut(&at) else { return Poll::Ready(Err(reset())) };
        match backlog.waiting.pop_front() {
            Some(conn) => Poll::Ready(Ok(conn)),
            None => {
                self.spent.extend(backlog.waker.replace(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// The next bytes, at most `room`; none: the other end said that no more comes.
    fn poll_read(&mut self, conn: Conn, side: usize, room: usize, cx: &Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(connection) = self.conns.get_mut(&conn) else { return Poll::Ready(Err(reset())) };
        if connection.state == State::Reset {
            return Poll::Ready(Err(reset()));
        }
        let end = &mut connection.ends[side];
        let Some(first) = end.inbox.front_mut() else {
            if end.fin {
                return Poll::Ready(Ok(Bytes::new()));
            }
            self.spent.extend(end.reader.replace(cx.waker().clone()));
            return Poll::Pending;
        };
        let bytes = first.split_to(room.min(first.len()));
        if first.is_empty() {
            end.inbox.pop_front();
        }
        let writer = &mut connection.ends[1 - side];
        writer.unread -= bytes.len();
        self.wake.extend(writer.writer.take());
        Poll::Ready(Ok(bytes))
    }

    fn poll_write(&mut self, conn: Conn, side: usize, bytes: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Some(connection) = self.conns.get_mut(&conn) else { return Poll::Ready(Err(reset())) };
        if connection.state == State::Reset {
            return Poll::Ready(Err(reset()));
        }
        let end = &mut connection.ends[side];
        if end.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let fits = bytes.len().min(end.window - end.unread);
        if fits == 0 {
            self.spent.extend(end.writer.replace(cx.waker().clone()));
            return Poll::Pending;
        }
        end.unread += fits;
        self.send(conn, 1 - side, What::Data(Bytes::copy_from_slice(&bytes[..fits])));
        Poll::Ready(Ok(fits))
    }

    fn shut(&mut self, conn: Conn, side: usize) {
        let Some(connection) = self.conns.get_mut(&conn) else { return };
        if !std::mem::replace(&mut connection.ends[side].shut, true) {
            self.send(conn, 1 - side, What::Fin);
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

#[cfg(test)]
mod tests;
