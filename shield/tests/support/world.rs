//! A whole edge in one process: a simulated broker with production's permissions, the Brain's shell and one Shield, all
//! over an in-memory network; and what a test says to it in the text dialect.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use brain_shell::BrainParts;
use proto::NodeId;
use serde_json::{Value, json};
use shield::ShieldParts;
use spine::SpineOptions;
use spine::users::UserSpec;
use spine_sim::{Broker, BrokerOptions, SimSpine, User};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voltron_core::config::{Config, Limits};
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, Net as _, OsIds, SystemClock, WallClock as _};

use super::{Got, MemNet, Raw, claims, keys, token};

pub const LIMIT: Duration = Duration::from_secs(60);

pub struct World {
    pub net: MemNet,
    pub broker: Broker,
    pub serving: JoinHandle<()>,
    pub stop: Option<oneshot::Sender<()>>,
    pub shield: JoinHandle<()>,
    pub brain: JoinHandle<()>,
    /// As a reload swaps them.
    pub limits: Arc<ArcSwap<Limits>>,
}

pub fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub fn now_ms() -> i64 {
    SystemClock.now_ms()
}

pub async fn serve(net: &MemNet, broker: &Broker) -> JoinHandle<()> {
    let (listener, broker) = (net.bind("127.0.0.1:4222").await.unwrap(), broker.clone());
    tokio::spawn(async move {
        broker.serve(listener, std::future::pending()).await.unwrap();
    })
}

impl World {
    pub async fn new(config: Config) -> Self {
        let users = [
            UserSpec::shield(&node("shield-1"), "s"),
            UserSpec::writer(&node("b"), "w"),
            UserSpec::speaker(&node("b"), "p"),
        ];
        let mut options = BrokerOptions::new(SystemClock, 7);
        options.users = users.iter().map(User::from).collect();
        let (net, broker) = (MemNet::default(), Broker::new(options));
        let serving = serve(&net, &broker).await;
        let spine = |user: &UserSpec, inbox: &str| {
            let mut options = SpineOptions::of_user("nats://127.0.0.1:4222", user, inbox);
            options.publish_timeout = Duration::from_millis(400);
            options.reconnect_max = Duration::from_millis(50);
            SimSpine::connect(net.clone(), options, OsIds)
        };
        let brain = brain_shell::run(
            BrainParts {
                node: node("b"),
                writer: spine(&users[1], "_INBOX.w.b"),
                speaker: spine(&users[2], "_INBOX.b.b"),
                clock: SystemClock,
                ids: OsIds,
                config: config.clone(),
                metrics: Metrics::new(),
            },
            std::future::pending(),
        );
        let brain = tokio::spawn(async move {
            brain.await.expect("the Brain runs");
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = ShieldParts::<MemNet, _, _, _> {
            node: node("shield-1"),
            ws: net.bind("ws").await.unwrap(),
            http: Some(net.bind("http").await.unwrap()),
            spine: spine(&users[0], "_INBOX.s.shield-1"),
            clock: SystemClock,
            ids: OsIds,
            overseer: Arc::new(AllowAll),
            keys: keys(&config),
            config,
            metrics: Metrics::new(),
        };
        let limits = Arc::new(ArcSwap::from_pointee(parts.config.limits.clone()));
        let shield = tokio::spawn(shield::serve_with(parts, limits.clone(), async {
            let _ = stopped.await;
        }));
        let world = Self { net, broker, serving, stop: Some(stop), shield, brain, limits };
        world.until_ready(true).await;
        world
    }

    /// Waits until `/readyz` says so.
    pub async fn until_ready(&self, ready: bool) {
        until_ready(&self.net, ready).await;
    }

    pub async fn http(&self, path: &str) -> String {
        http(&self.net, path).await
    }

    /// A client whose link holds so many bytes each way.
    pub async fn narrow_client(&self, user: &str, bytes: usize) -> Raw<DuplexStream> {
        let stream = self.net.connect_narrow("ws", bytes).await.unwrap();
        Raw::open(stream, &token(&claims(user, now_ms() / 1000))).await
    }

    pub async fn client(&self, user: &str) -> Raw<DuplexStream> {
        Raw::open(self.net.connect("ws").await.unwrap(), &token(&claims(user, now_ms() / 1000))).await
    }
}

pub async fn http(net: &MemNet, path: &str) -> String {
    let mut client = Raw::new(net.connect("http").await.unwrap());
    client.bytes(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
    client.rest().await
}

/// Waits until `/readyz` says so.
pub async fn until_ready(net: &MemNet, ready: bool) {
    tokio::time::timeout(LIMIT, async {
        while http(net, "/readyz").await.starts_with("HTTP/1.1 200") != ready {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("ready in time");
}

/// Waits until commands are taken, though no Brain was heard.
pub async fn until_serving(net: &MemNet) {
    tokio::time::timeout(LIMIT, async {
        loop {
            let said = http(net, "/readyz").await;
            let misses = ["our own heartbeat has not come back", "no Brain:"];
            if said.starts_with("HTTP/1.1 200") || misses.iter().any(|what| said.contains(what)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("serving in time");
}

/// A connection as the Brain's speaker has it, for what a test wants to overhear.
pub fn speaker(net: &MemNet) -> SimSpine<MemNet> {
    let options = SpineOptions::of_user("nats://127.0.0.1:4222", &UserSpec::speaker(&node("b"), "p"), "_INBOX.b.b");
    SimSpine::connect(net.clone(), options, OsIds)
}

/// Asks in the text dialect until the answer is not `busy` or `unavailable`; events in between are skipped.
pub async fn ask(client: &mut Raw<DuplexStream>, question: Value) -> Value {
    loop {
        client.text(&question.to_string()).await;
        let answer = loop {
            let answer = client.json().await;
            if answer["op"] == question["op"] || answer["op"] == "ack" || answer["op"] == "err" {
                break answer;
            }
        };
        match answer["code"].as_u64() {
            Some(6000..=6002) => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return answer,
        }
    }
}

pub async fn publish(client: &mut Raw<DuplexStream>, room: &str, data: &str) -> Value {
    ask(client, json!({"op": "pub", "room": room, "data": data, "ack": true, "id": 9})).await
}

pub async fn event(client: &mut Raw<DuplexStream>) -> Value {
    loop {
        let value = client.json().await;
        if value["op"] == "event" {
            return value;
        }
    }
}

pub async fn ack(client: &mut Raw<DuplexStream>) -> proto::v1::Ack {
    loop {
        if let Got::Binary(bytes) = client.next().await
            && let Ok(proto::frame::ServerFrame::Ack(ack)) = proto::frame::ServerFrame::binary(&bytes)
        {
            return ack;
        }
    }
}
