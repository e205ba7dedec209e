//! The broker's core, pure: who is connected, who subscribed to what, where a message goes. Operations and the time
//! go in; bytes gather per connection. It never waits and never fails.

mod route;
mod turns;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use spine::users::Account;
use tokio::sync::Notify;

use super::border::Border;
use super::faults::Faults;
use super::info::{Connect, Info};
use super::{Access, BrokerOptions, Load};
use crate::jetstream::{JetStream, Limits, Outgoing};
use crate::parser::{Op, Violation};
use crate::subject;
use crate::subject::trie::{SubId, Trie};
use turns::Turns;

/// A connection's number.
pub(crate) type ConnId = u64;

/// Everything the broker knows.
#[derive(Debug)]
pub(crate) struct Core {
    options: Arc<BrokerOptions>,
    host: String,
    port: u16,
    server_id: String,
    boots: u64,
    conns: BTreeMap<ConnId, Conn>,
    last_conn: ConnId,
    subs: BTreeMap<SubId, Sub>,
    last_sub: SubId,
    /// One for each account, by its number.
    tries: [Trie; Account::ALL.len()],
    border: Border,
    pub(crate) jetstream: JetStream,
    pub(crate) faults: Faults,
    /// What streams say to operations of the present read, and has not gone out yet.
    late: Vec<(Account, Outgoing)>,
    /// How often it was drawn whether that waits.
    late_draws: u64,
    /// Reused between messages.
    matched: Vec<SubId>,
    turns: Turns,
}

#[derive(Debug)]
struct Conn {
    peer: SocketAddr,
    connect: Connect,
    /// Index in the options' users, once known.
    user: Option<usize>,
    account: Account,
    authenticated: bool,
    greeted: bool,
    subs: BTreeMap<Bytes, SubId>,
    out: BytesMut,
    wake: Arc<Notify>,
    /// Nothing more is read; the connection ends once `out` is written.
    closing: bool,
    pings_out: u32,
}

#[derive(Debug)]
struct Sub {
    conn: ConnId,
    account: Account,
    sid: Bytes,
    pattern: Bytes,
    queue: Option<Bytes>,
    seen: u64,
    max: Option<u64>,
    /// A denied pattern overlaps this one.
    filtered: bool,
}

impl Core {
    pub(crate) fn new(options: Arc<BrokerOptions>) -> Self {
        let limits = Limits {
            store_bytes_max: options.store_bytes_max,
            reserved_bytes_max: options.reserved_bytes_max,
            replicas_max: i64::from(options.replicas_max),
            sync_interval_ms: i64::try_from(options.sync_interval.as_millis()).unwrap_or(i64::MAX),
        };
        let jetstream = JetStream::new(limits, options.name.clone(), options.witness.clone());
        let mut core = Self {
            options,
            host: "127.0.0.1".into(),
            port: 4222,
            server_id: String::new(),
            boots: 0,
            conns: BTreeMap::new(),
            last_conn: 0,
            subs: BTreeMap::new(),
            last_sub: 0,
            tries: <[Trie; Account::ALL.len()]>::default(),
            border: Border::new(),
            jetstream,
            faults: Faults::default(),
            late: Vec::new(),
            late_draws: 0,
            matched: Vec::new(),
            turns: Turns::default(),
        };
        core.boot();
        core
    }

    /// A new id, as a restarted server has.
    fn boot(&mut self) {
        self.boots += 1;
        self.server_id = format!("SIM{:016X}{:016X}", mix(self.options.seed), mix(self.options.seed ^ mix(self.boots)));
    }

    pub(crate) fn listens_on(&mut self, addr: SocketAddr) {
        self.host = addr.ip().to_string();
        self.port = addr.port();
    }

    pub(crate) fn crash(&mut self, lose_tail: bool) -> Vec<(u64, u64)> {
        let all: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in all {
            self.drop_now(id);
        }
        self.late.clear();
        self.boot();
        let revive = self.faults.revive_evicted.strikes();
        self.jetstream.crash(lose_tail, revive)
    }

    pub(crate) fn cut(&mut self, name: &str) -> usize {
        let named = |conn: &Conn| conn.connect.name == name && !conn.closing;
        let ids: Vec<ConnId> = self.conns.iter().filter(|(_, conn)| named(conn)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.drop_now(*id);
        }
        ids.len()
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            connections: self.conns.len(),
            subscriptions: self.subs.len(),
            pending_bytes: self.conns.values().map(|conn| conn.out.len()).sum(),
        }
    }

    pub(crate) fn subscribed(&self, name: &str, prefix: &str) -> usize {
        let named = |sub: &Sub| self.conns.get(&sub.conn).is_some_and(|conn| conn.connect.name == name);
        self.subs.values().filter(|sub| sub.pattern.starts_with(prefix.as_bytes()) && named(sub)).count()
    }

    // === connections ===

    /// A new connection; its INFO waits in the output.
    pub(crate) fn open(&mut self, peer: SocketAddr) -> (ConnId, Arc<Notify>) {
        self.last_conn += 1;
        let id = self.last_conn;
        let wake = Arc::new(Notify::new());
        let conn = Conn {
            peer,
            connect: Connect::default(),
            user: None,
            account: Account::Log,
            authenticated: self.options.users.is_empty(),
            greeted: false,
            subs: BTreeMap::new(),
            out: BytesMut::new(),
            wake: wake.clone(),
            closing: false,
            pings_out: 0,
        };
        let full = self.conns.len() >= self.options.max_connections;
        self.conns.insert(id, conn);
        self.send_info(id, false);
        if full {
            self.fail(id, "maximum connections exceeded");
        }
        (id, wake)
    }

    /// Forgets a connection that has ended.
    pub(crate) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        for sub in conn.subs.into_values() {
            if let Some(sub_entry) = self.subs.remove(&sub) {
                self.tries[sub_entry.account as usize].remove(&sub_entry.pattern, sub);
            }
        }
    }

    /// What is to be written, and whether the connection ends after it.
    pub(crate) fn take_output(&mut self, id: ConnId) -> (BytesMut, bool) {
        match self.conns.get_mut(&id) {
            Some(conn) => (conn.out.split(), conn.closing),
            None => (BytesMut::new(), true),
        }
    }

    /// True until the connection has said who it is.
    pub(crate) fn awaits_auth(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| !conn.authenticated)
    }

    /// The connection was too slow to say who it is.
    pub(crate) fn auth_timeout(&mut self, id: ConnId) {
        self.fail(id, "Authentication Timeout");
    }

    /// One ping interval without a word from the client.
    pub(crate) fn ping(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.pings_out += 1;
        if conn.pings_out > 2 {
            self.fail(id, "Stale Connection");
        } else {
            self.send(id, b"PING\r\n");
        }
    }

    /// The peer does not read: cut it off, as nats-server does, without a word.
    pub(crate) fn drop_now(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.out.clear();
            conn.closing = true;
            conn.wake.notify_one();
        }
    }

    /// The client broke the protocol.
    pub(crate) fn violation(&mut self, id: ConnId, violation: Violation) {
        match violation.text() {
            Some(text) => self.fail(id, text),
            None => self.end(id),
        }
    }

    /// Handles one operation. False: the connection takes no more.
    pub(crate) fn handle(&mut self, id: ConnId, op: Op, now_ms: i64) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if conn.closing {
            return false;
        }
        if !conn.authenticated && !matches!(op, Op::Connect(_)) {
            self.fail(id, "Authorization Violation");
            return false;
        }
        match op {
            Op::Connect(json) => self.connect(id, &json),
            Op::Ping => {
                self.send(id, b"PONG\r\n");
                self.greet(id);
            }
            Op::Pong => conn.pings_out = 0,
            Op::Sub { subject, queue, sid } => self.subscribe(id, subject, queue, sid),
            Op::Unsub { sid, max } => self.unsubscribe(id, &sid, max),
            Op::Pub(message) => self.publish(id, &message, now_ms),
            Op::Ignored => {}
        }
        self.conns.get(&id).is_some_and(|conn| !conn.closing)
    }

    fn connect(&mut self, id: ConnId, json: &[u8]) {
        let Some(connect) = Connect::parse(json) else {
            self.end(id);
            return;
        };
        let user = self.options.users.iter().position(|user| {
            connect.user.as_deref() == Some(&user.name) && connect.pass.as_deref() == Some(&user.password)
        });
        if !self.options.users.is_empty() && user.is_none() {
            self.fail(id, "Authorization Violation");
            return;
        }
        if connect.no_responders && !connect.headers {
            self.fail(id, "no responders requires headers support");
            return;
        }
        let verbose = connect.verbose;
        let account = user.and_then(|user| self.options.users.get(user)).map_or(Account::Log, |user| user.account);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.connect = connect;
            conn.user = user;
            conn.account = account;
            conn.authenticated = true;
        }
        if verbose {
            self.send(id, b"+OK\r\n");
        }
    }

    /// The second INFO, right after the first PONG, for clients that said they can take it.
    fn greet(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && conn.connect.protocol > 0
            && !std::mem::replace(&mut conn.greeted, true)
        {
            self.send_info(id, true);
        }
    }

    fn send_info(&mut self, id: ConnId, connect_info: bool) {
        let Some(conn) = self.conns.get(&id) else { return };
        let info = Info {
            server_id: &self.server_id,
            server_name: &self.options.name,
            version: crate::SERVER_VERSION,
            proto: 1,
            go: "spine-sim",
            host: &self.host,
            port: self.port,
            headers: true,
            auth_required: !self.options.users.is_empty(),
            max_payload: self.options.max_payload,
            jetstream: true,
            client_id: id,
            client_ip: conn.peer.ip().to_string(),
            connect_info,
            remote_account: connect_info.then_some(if conn.user.is_some() { conn.account.name() } else { "$G" }),
            api_lvl: 5,
        };
        let mut line = BytesMut::from(&b"INFO "[..]);
        line.put_slice(&crate::wire::go_json(&info));
        line.put_slice(b" \r\n");
        self.send(id, &line);
    }

    // === subscriptions ===

    fn subscribe(&mut self, id: ConnId, pattern: Bytes, queue: Option<Bytes>, sid: Bytes) {
        let verbose = self.verbose(id);
        // As the server: what is not allowed is told before what is not valid.
        let invalid = !subject::is_valid(&pattern) || queue.as_ref().is_some_and(|queue| !subject::is_valid(queue));
        let mut filtered = false;
        if let Some(access) = self.access(id, |user| &user.subscribe) {
            if !access.may_subscribe(&pattern) {
                let using = queue.map_or(String::new(), |queue| format!(" using queue \"{}\"", lossy(&queue)));
                let text = format!("Permissions Violation for Subscription to \"{}\"{using}", lossy(&pattern));
                self.error(id, &text);
                return;
            }
            filtered = access.must_filter(&pattern);
        }
        if invalid {
            self.error(id, "Invalid Subject");
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.subs.len() >= self.options.max_subscriptions {
            self.fail(id, "maximum subscriptions exceeded");
            return;
        }
        // The same sid again changes nothing, as on the server. What is kept is copied: a slice pins its read buffer.
        if !conn.subs.contains_key(&sid) {
            self.last_sub += 1;
            let number = self.last_sub;
            let sid = Bytes::copy_from_slice(&sid);
            let pattern = Bytes::copy_from_slice(&pattern);
            let queue = queue.map(|queue| Bytes::copy_from_slice(&queue));
            conn.subs.insert(sid.clone(), number);
            let account = conn.account;
            self.tries[account as usize].insert(&pattern, number);
            self.subs.insert(number, Sub { conn: id, account, sid, pattern, queue, seen: 0, max: None, filtered });
        }
        if verbose {
            self.send(id, b"+OK\r\n");
        }
    }

    fn unsubscribe(&mut self, id: ConnId, sid: &Bytes, max: Option<u64>) {
        let number = self.conns.get(&id).and_then(|conn| conn.subs.get(sid)).copied();
        if let Some(number) = number
            && let Some(sub) = self.subs.get_mut(&number)
        {
            match max {
                Some(max) if max > sub.seen => sub.max = Some(max),
                _ => self.remove_sub(number),
            }
        }
        if self.verbose(id) {
            self.send(id, b"+OK\r\n");
        }
    }

    fn remove_sub(&mut self, number: SubId) {
        let Some(sub) = self.subs.remove(&number) else { return };
        self.tries[sub.account as usize].remove(&sub.pattern, number);
        if let Some(conn) = self.conns.get_mut(&sub.conn) {
            conn.subs.remove(&sub.sid);
        }
    }

    // === output ===

    fn verbose(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.connect.verbose)
    }

    fn access(&self, id: ConnId, which: impl Fn(&super::User) -> &Access) -> Option<Access> {
        let user = self.conns.get(&id)?.user?;
        self.options.users.get(user).map(|user| which(user).clone())
    }

    fn send(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.closing) {
            conn.out.put_slice(bytes);
            conn.wake.notify_one();
        }
    }

    /// An `-ERR` that leaves the connection open.
    fn error(&mut self, id: ConnId, text: &str) {
        self.send(id, format!("-ERR '{text}'\r\n").as_bytes());
    }

    /// An `-ERR`, then the end.
    fn fail(&mut self, id: ConnId, text: &str) {
        self.error(id, text);
        self.end(id);
    }

    /// The end, once what was said is written.
    fn end(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.closing = true;
            conn.wake.notify_one();
        }
    }
}

/// SplitMix64's finaliser: a well spread function of its argument.
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
