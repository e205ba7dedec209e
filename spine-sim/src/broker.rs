//! The simulated broker: nats-server's protocol and the JetStream subset that we use, over streams that somebody else
//! accepts. [`core`](self::core) is pure (operations in, bytes per connection out); [`session`](self::session) moves
//! the bytes. Nothing here reads a clock or draws entropy but through [`BrokerOptions`].

pub(crate) mod auth;
mod border;
pub(crate) mod core;
pub(crate) mod faults;
mod info;
mod session;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use voltron_core::tasks::Tasks;
use voltron_core::trace::{self, Record};
use voltron_core::{Listener, WallClock};

use crate::jetstream::file::Journal;
pub use auth::{Access, User};
use core::Core;
pub use faults::{Faults, Rule};

/// What happens to a stored message.
#[derive(Clone, Copy, Debug)]
pub enum Witnessed<'a> {
    /// It was stored at this position of its stream.
    Stored {
        /// Where to.
        subject: &'a [u8],
        /// Position.
        seq: u64,
        /// Without headers.
        body: &'a Bytes,
    },
    /// A purge removed it.
    Purged {
        /// Where it stood.
        subject: &'a [u8],
        /// Position.
        seq: u64,
    },
    /// A power cut lost it; newest first.
    Lost {
        /// Where it stood.
        subject: &'a [u8],
        /// Position.
        seq: u64,
    },
}

/// Told of every stored message and its end, while the broker's state is locked: it must not call the broker.
pub type Witness = Arc<dyn Fn(Witnessed<'_>) + Send + Sync>;

/// What a broker is made of. Defaults are nats-server's.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Its name; also part of the id it announces.
    pub name: String,
    /// Determines every choice: which member of a queue group, the ids.
    pub seed: u64,
    /// Unix milliseconds, for the timestamps of stored messages.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Who may connect, to which account; empty: everybody, to the one with the streams.
    pub users: Vec<User>,
    /// The largest payload, headers included: 1 MiB.
    pub max_payload: usize,
    /// Bytes waiting for one connection; beyond, it is a slow consumer and cut off: 64 MiB.
    pub max_pending: usize,
    /// Connections at a time: 65,536.
    pub max_connections: usize,
    /// Subscriptions of one connection: 1,000,000 (nats-server has no limit).
    pub max_subscriptions: usize,
    /// How often a silent connection is pinged: 2 min. Two unanswered pings make it stale.
    pub ping_interval: Duration,
    /// How long a connection may take to say who it is, if there are users: 2 s.
    pub auth_timeout: Duration,
    /// How long one write may take before the connection counts as a slow consumer: 10 s.
    pub write_deadline: Duration,
    /// Bytes that all file streams may hold together, and all memory streams: 1 GiB each. Beyond, appends are refused
    /// with 10023.
    pub store_bytes_max: u64,
    /// Bytes that the streams may reserve together, each its `max_bytes`, by storage: 1 TiB each. Beyond, streams are
    /// refused with 10047 or 10028.
    pub reserved_bytes_max: u64,
    /// How many replicas a stream may ask for: 1, as a single nats-server. More are accepted and not modelled.
    pub replicas_max: u32,
    /// Stored messages younger than this are lost in a power cut: 2 min; zero loses nothing.
    pub sync_interval: Duration,
    /// A stream's PubAck and republish may come after what the broker says to later operations of the same read, a PONG
    /// above all, as on the server: drawn from the seed. Off, they come first.
    pub late_acks: bool,
    /// For a harness that keeps its own copy: none.
    pub witness: Option<Witness>,
}

impl BrokerOptions {
    /// Defaults with this clock and seed.
    pub fn new(clock: impl WallClock, seed: u64) -> Self {
        Self {
            name: "spine-sim".into(),
            seed,
            clock: Arc::new(move || clock.now_ms()),
            users: Vec::new(),
            max_payload: 1024 * 1024,
            max_pending: 64 * 1024 * 1024,
            max_connections: 65_536,
            max_subscriptions: 1_000_000,
            ping_interval: Duration::from_secs(120),
            auth_timeout: Duration::from_secs(2),
            write_deadline: Duration::from_secs(10),
            store_bytes_max: 1024 * 1024 * 1024,
            reserved_bytes_max: 1024 * 1024 * 1024 * 1024,
            replicas_max: 1,
            sync_interval: Duration::from_secs(120),
            late_acks: false,
            witness: None,
        }
    }
}

impl std::fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerOptions").field("name", &self.name).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A broker. Cloning shares it. Its streams live as long as any clone, so a crash is the end of [`Broker::serve`]
/// followed by [`Broker::crash`], and a restart another `serve`.
#[derive(Clone, Debug)]
pub struct Broker {
    core: Arc<Mutex<Core>>,
    options: Arc<BrokerOptions>,
    paused: Arc<watch::Sender<bool>>,
}

impl Broker {
    /// A broker whose file streams live in memory, as long as this value.
    pub fn new(options: BrokerOptions) -> Self {
        let options = Arc::new(options);
        let paused = Arc::new(watch::Sender::new(false));
        Self { core: Arc::new(Mutex::new(Core::new(options.clone()))), options, paused }
    }

    /// A broker whose file streams are kept in `dir` too. Only one process may use a directory.
    pub fn with_store(options: BrokerOptions, dir: &Path) -> io::Result<Self> {
        let broker = Self::new(options);
        let (journal, streams) = Journal::open(dir)?;
        broker.lock().jetstream.attach(journal, streams);
        Ok(broker)
    }

    /// Serves until `shutdown`, or for ever. Then (or when this future is dropped) every connection is cut.
    pub async fn serve<L: Listener>(&self, mut listener: L, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        self.lock().listens_on(listener.local_addr()?);
        let mut sessions = Tasks::default();
        tokio::pin!(shutdown);
        let mut paused = self.paused.subscribe();
        loop {
            let accepting = !*paused.borrow_and_update();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                _ = paused.changed() => {}
                accepted = listener.accept(), if accepting => match accepted {
                    Ok((stream, peer)) => {
                        let broker = self.clone();
                        sessions.spawn(async move { broker.serve_stream(stream, peer).await });
                    }
                    Err(error) => {
                        // Out of descriptors, or a peer that went away in the queue: neither ends the broker.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        sessions.shutdown().await;
        self.lock().jetstream.sync((self.options.clock)());
        Ok(())
    }

    /// Serves one connection until it ends. Dropping the future cuts it.
    pub async fn serve_stream<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        session::run(self.clone(), stream, peer).await;
    }

    /// The process dies: connections are cut without a word, memory streams are gone; with `lose_unsynced_tail` it is
    /// a power cut, and file streams lose what was not synced, so that those positions are handed out again.
    pub fn crash(&self, lose_unsynced_tail: bool) {
        self.resume();
        for (from, to) in self.lock().crash(lose_unsynced_tail) {
            trace::emit(|| Record::TailLost { from, to });
        }
    }

    /// The machine comes back with an empty disk: every stream is gone, and its configuration with it. To be said of a
    /// process that is dead.
    pub fn lose_store(&self) {
        for (from, to) in self.lock().jetstream.lose_store() {
            trace::emit(|| Record::TailLost { from, to });
        }
    }

    /// The process hangs (as under SIGSTOP): connections stay open, nothing is read, written or accepted.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// The process goes on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Everything stored survives a power cut from now on.
    pub fn sync(&self) {
        let now_ms = (self.options.clock)();
        self.lock().jetstream.sync(now_ms);
    }

    /// Changes what goes wrong from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// What became of the appends that [`Faults::undecided`] held back: stored after all (and republished, and
    /// acknowledged late), or lost.
    pub fn settle_undecided(&self, stored: bool) {
        let now_ms = (self.options.clock)();
        self.lock().settle_undecided(stored, now_ms);
    }

    /// Cuts every connection of this name (`CONNECT`'s `name`), without a word. Returns how many.
    pub fn cut(&self, name: &str) -> usize {
        self.lock().cut(name)
    }

    /// How many connections there are, subscriptions, and bytes waiting for slow readers: for assertions on bounds.
    pub fn load(&self) -> Load {
        self.lock().load()
    }

    /// How many subscriptions to subjects below `prefix` the connections of this name (`CONNECT`'s `name`) hold.
    pub fn subscribed(&self, name: &str, prefix: &str) -> usize {
        self.lock().subscribed(name, prefix)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic while it was held would be a bug of ours; the tables are valid at every step all the same.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a broker holds right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Bytes waiting to be written.
    pub pending_bytes: usize,
}
