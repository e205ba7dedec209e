//! A broker with the permissions of production on real loopback TCP, Brains on it, and a stand-in for a Shield that
//! speaks the inner protocol.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use brain_shell::{BrainParts, Readiness, ShellError, run_shown};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use prost::Message as _;
use proto::internal::{LogEntry, Open, Opened, SyncReply};
use proto::sender::SenderRef;
use proto::v1::{self, command::Op, envelope::Payload, system_signal::Ask};
use proto::{NodeId, Pattern, Rights, RoomKey, Subject};
use spine::users::UserSpec;
use spine::{Delivery, Message, Spine, SpineOptions, StreamSeq, Via};
use spine_sim::{Broker, BrokerOptions, SimSpine, User};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voltron_core::config::Config;
use voltron_core::metrics::Metrics;
use voltron_core::{Listener, Net, OsIds, SystemClock, TcpNet, WallClock as _};

/// Far above what anything here takes, so that only a hang reaches it.
pub const LIMIT: Duration = Duration::from_secs(60);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// A broker, its users, and how to reach it.
pub struct Ground {
    pub broker: Broker,
    pub addr: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Ground {
    /// Serving, with users for `brains` and one Shield.
    pub async fn new(brains: &[&str]) -> Self {
        let mut ground = Self::silent(brains).await;
        ground.serve().await;
        ground
    }

    /// With an address on which nobody listens yet.
    pub async fn silent(brains: &[&str]) -> Self {
        let users = users(brains);
        let mut options = BrokerOptions::new(SystemClock, 7);
        options.users = users.iter().map(User::from).collect();
        let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let addr = Listener::local_addr(&listener).unwrap();
        drop(listener);
        Self { broker: Broker::new(options), addr, serving: None }
    }

    pub async fn serve(&mut self) {
        let listener = TcpNet.bind(&self.addr.to_string()).await.expect("the port is still free");
        let broker = self.broker.clone();
        self.serving = Some(tokio::spawn(async move {
            broker.serve(listener, std::future::pending()).await.expect("serves");
        }));
    }

    /// A crash; with `power_cut` the messages not yet synced are gone.
    pub async fn crash(&mut self, power_cut: bool) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.broker.crash(power_cut);
    }

    /// A crash after which nothing of what was stored is there any more.
    pub async fn lose_store(&mut self, brains: &[&str]) {
        self.crash(true).await;
        let mut options = BrokerOptions::new(SystemClock, 8);
        options.users = users(brains).iter().map(User::from).collect();
        self.broker = Broker::new(options);
    }

    pub fn brain(&self, name: &str) -> Brain {
        start(name, |user, inbox| spine(self.addr, user, inbox))
    }

    /// One whose configuration is changed.
    pub fn brain_with(&self, name: &str, change: impl FnOnce(&mut Config)) -> Brain {
        start_with(name, |user, inbox| spine(self.addr, user, inbox), change)
    }

    pub async fn shield(&self) -> Shield {
        Shield::at(self.addr).await
    }
}

/// Everything that the tests' users are.
pub fn users(brains: &[&str]) -> Vec<UserSpec> {
    let mut users = vec![UserSpec::shield(&node("shield-1"), "s")];
    for name in brains {
        users.extend([UserSpec::writer(&node(name), "w"), UserSpec::speaker(&node(name), "p")]);
    }
    users
}

pub fn options(addr: SocketAddr, user: &UserSpec, inbox: String) -> SpineOptions {
    let mut options = SpineOptions::of_user(format!("nats://{addr}"), user, inbox);
    options.publish_timeout = Duration::from_millis(400);
    options.reconnect_max = Duration::from_millis(50);
    options
}

pub fn spine(addr: SocketAddr, user: &UserSpec, inbox: String) -> SimSpine<TcpNet> {
    SimSpine::connect(TcpNet, options(addr, user, inbox), OsIds)
}

/// A node on any Spine.
pub fn start<S: Spine>(name: &str, connect: impl Fn(&UserSpec, String) -> S) -> Brain {
    start_with(name, connect, |_| {})
}

/// A node on any Spine whose configuration is changed.
pub fn start_with<S: Spine>(
    name: &str,
    connect: impl Fn(&UserSpec, String) -> S,
    change: impl FnOnce(&mut Config),
) -> Brain {
    let metrics = Metrics::new();
    let mut config = Config::default();
    config.brain.heartbeat_ms = 20;
    config.brain.down_after_ms = 200;
    change(&mut config);
    let parts = BrainParts {
        node: node(name),
        writer: connect(&UserSpec::writer(&node(name), "w"), format!("_INBOX.w.{name}")),
        speaker: connect(&UserSpec::speaker(&node(name), "p"), format!("_INBOX.b.{name}")),
        clock: SystemClock,
        ids: OsIds,
        config,
        metrics: metrics.clone(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let readiness = Readiness::default();
    let stopped = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(run_shown(parts, stopped, || {}, readiness.clone()));
    Brain { metrics, readiness, stop: Some(stop), task }
}

impl Shield {
    pub async fn at(addr: SocketAddr) -> Self {
        let name = node("shield-1");
        let spine = spine(addr, &UserSpec::shield(&name, "s"), "_INBOX.s.shield-1".into());
        let slots = loop {
            match spine.subscribe(&Pattern::reply_slots(&name), None, 4096).await {
                Ok(slots) => break slots,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        Self { spine, slots, next: 0, messages: 0 }
    }
}

pub struct Brain {
    pub metrics: Metrics,
    pub readiness: Readiness,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ShellError>>,
}

impl Brain {
    pub async fn stop(mut self) {
        drop(self.stop.take());
        within("a graceful stop", self.task).await.expect("no panic").expect("no error");
    }

    /// As a process that is killed: nothing is said.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until it says why it is not ready, in words that hold these; or, without any, that it is.
    pub async fn until(&self, words: Option<&str>) {
        within(words.unwrap_or("ready"), async {
            loop {
                match (self.readiness.unready(), words) {
                    (None, None) => return,
                    (Some(why), Some(words)) if why.contains(words) => return,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
    }

    /// The value of a counter or gauge.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }
}

/// What a Shield does, by hand.
pub struct Shield {
    pub spine: SimSpine<TcpNet>,
    slots: <SimSpine<TcpNet> as Spine>::Sub,
    next: u16,
    messages: u64,
}

pub fn room(name: &str) -> RoomKey {
    RoomKey::new("acme".parse().unwrap(), name.parse().unwrap())
}

impl Shield {
    pub fn slot(&mut self) -> Subject {
        self.next += 1;
        Subject::reply_slot(&node("shield-1"), self.next)
    }

    /// The next message in any slot.
    async fn heard(&mut self) -> Message {
        match self.slots.next().await.expect("subscribed") {
            Delivery::Msg(message) => message,
            Delivery::Lost(count) => panic!("{count} answers lost"),
        }
    }

    /// The answer in this very slot; 503 counts as none.
    async fn answer(&mut self, slot: &Subject) -> Option<Bytes> {
        loop {
            let message = self.heard().await;
            if message.subject == *slot {
                return message.status.is_none().then_some(message.body);
            }
        }
    }

    /// Asks until somebody serves the room.
    pub async fn open(&mut self, room: &RoomKey) -> Opened {
        within("a room that is served", async {
            loop {
                let opened = self.asks_to_open(room).await;
                if opened.code == 0 {
                    return opened;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Asks until somebody answers.
    pub async fn asks_to_open(&mut self, room: &RoomKey) -> Opened {
        let open = Open { room: room.room.as_str().into(), create: true, ..Open::default() };
        let body: Bytes = open.encode_to_vec().into();
        within("an answer to an open", async {
            loop {
                let slot = self.slot();
                if self.spine.publish(&Subject::open(&room.tenant), Some(&slot), body.clone()).await.is_ok()
                    && let Ok(Some(body)) = tokio::time::timeout(Duration::from_secs(2), self.answer(&slot)).await
                {
                    return Opened::decode(body).expect("an Opened");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// A new command's bytes.
    pub fn command(&mut self, room: &RoomKey, user: &str, op: Op) -> Bytes {
        self.messages += 1;
        let envelope = v1::Envelope {
            room_id: room.room.as_str().into(),
            // No two at the same time: what was sent at the time of a forgotten command is refused.
            timestamp: SystemClock.now_ms() + i64::try_from(self.messages).unwrap(),
            message_id: (u128::from(self.messages) | 0xa5 << 120).to_be_bytes().to_vec().into(),
            ack_requested: true,
            payload: Some(Payload::Cmd(v1::Command { op: Some(op), ..v1::Command::default() })),
            ..v1::Envelope::default()
        };
        sealed(&envelope, user)
    }

    /// Sends a request without waiting; its slot.
    pub async fn send(&mut self, room: &RoomKey, body: &Bytes) -> Subject {
        let slot = self.slot();
        self.spine.publish(&Subject::input(room), Some(&slot), body.clone()).await.expect("queued");
        slot
    }

    /// As a Shield does it: again, the same bytes, after silence or 503, opening the room in between.
    pub async fn request(&mut self, room: &RoomKey, body: &Bytes) -> Bytes {
        within("a request", async {
            loop {
                let slot = self.slot();
                let sent = self.spine.publish(&Subject::input(room), Some(&slot), body.clone()).await;
                if sent.is_ok()
                    && let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(2), self.answer(&slot)).await
                {
                    return answer;
                }
                self.open(room).await;
            }
        })
        .await
    }

    pub async fn ask(&mut self, room: &RoomKey, body: &Bytes) -> v1::Ack {
        v1::Ack::decode(self.request(room, body).await).expect("an Ack")
    }

    /// Every ack in one of these slots.
    pub async fn acks(&mut self, slots: &[Subject]) -> Vec<v1::Ack> {
        within("all acks", async {
            let mut acks = Vec::new();
            while acks.len() < slots.len() {
                let message = self.heard().await;
                if slots.contains(&message.subject) {
                    assert_eq!(message.status, None, "nobody listened");
                    acks.push(v1::Ack::decode(message.body).expect("an Ack"));
                }
            }
            acks
        })
        .await
    }

    pub async fn sync(&mut self, room: &RoomKey, sync: v1::Sync) -> SyncReply {
        let ask = v1::SystemSignal { ask: Some(Ask::Sync(sync)), ..v1::SystemSignal::default() };
        let envelope = v1::Envelope {
            room_id: room.room.as_str().into(),
            payload: Some(Payload::Signal(ask)),
            ..v1::Envelope::default()
        };
        SyncReply::decode(self.request(room, &sealed(&envelope, "ann")).await).expect("a SyncReply")
    }

    /// The room's whole log.
    pub async fn log(&self, room: &RoomKey) -> Vec<LogEntry> {
        let mut entries = Vec::new();
        let mut from = StreamSeq(1);
        loop {
            let Ok(batch) = self.spine.read(&Subject::log(room), from, 64, Via::Leader).await else { continue };
            for stored in &batch.entries {
                from = stored.seq.next();
                entries.push(LogEntry::decode(stored.body.clone()).expect("an entry"));
            }
            if !batch.more {
                return entries;
            }
        }
    }
}

fn sealed(envelope: &v1::Envelope, user: &str) -> Bytes {
    let mut bytes = BytesMut::from(envelope.encode_to_vec().as_slice());
    let sender = SenderRef { user, conn: "c1", rights: Rights(127), ..SenderRef::default() };
    proto::sender::append(&mut bytes, &sender);
    bytes.freeze()
}

pub fn say(text: &str) -> Op {
    Op::Say(v1::Say { data: text.as_bytes().to_vec().into(), r#type: "text".into() })
}

/// The events of some entries.
pub fn events(entries: &[LogEntry]) -> Vec<v1::Event> {
    let bytes = entries.iter().flat_map(|entry| entry.envelopes.iter().cloned());
    let events = bytes.map(|bytes| match v1::Envelope::decode(bytes).expect("an envelope").payload {
        Some(Payload::Event(event)) => event,
        other => panic!("no event: {other:?}"),
    });
    events.collect()
}
