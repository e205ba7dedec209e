//! Accepts sockets, watches over the Shield's tasks, and drains it.

mod admission;
mod handshake;
mod heartbeat;
mod upgrade;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use proto::v1::{self, envelope::Payload};
use proto::{Code, NodeId};
use spine::Spine;
use tokio::time::Instant;
use voltron_core::config::{Config, Limits};
use voltron_core::metrics::Metrics;
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, Listener, Net, Overseer, WallClock, mutant};

use crate::auth::Keys;
use crate::health::Health;
use crate::meters::Meters;
use crate::outbox::{Frame, Outbox};
use crate::replies::{Replies, Sizes};
use crate::rooms::{Absent, Rooms};
use crate::shared::{Connections, Shared};
use admission::Admission;

/// Everything a Shield is made of. Nothing else reaches it.
pub struct ShieldParts<N: Net, S, C, I> {
    /// Its name: unique among the Shields of one NATS account.
    pub node: NodeId,
    /// Where clients come in.
    pub ws: N::Listener,
    /// Where `/healthz`, `/readyz`, `/metrics` and the page are served.
    pub http: Option<N::Listener>,
    /// One connection to the message bus.
    pub spine: S,
    /// The wall clock.
    pub clock: C,
    /// Entropy.
    pub ids: I,
    /// The judge of every message.
    pub overseer: Arc<dyn Overseer>,
    /// The whole file; a reload changes only what the two swaps below hold.
    pub config: Config,
    /// Where the Shield's metrics go.
    pub metrics: Metrics,
    /// What tokens are checked with; swap it to reload.
    pub keys: Arc<ArcSwap<Keys>>,
}

/// Serves until `shutdown` resolves, then drains: returns within `[drain] exit_s`.
pub async fn serve<N: Net, S: Spine, C: WallClock, I: Ids>(
    parts: ShieldParts<N, S, C, I>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = Arc::new(ArcSwap::from_pointee(parts.config.limits.clone()));
    serve_with(parts, limits, shutdown).await;
}

/// The same with limits that the caller can swap while it runs.
pub async fn serve_with<N: Net, S: Spine, C: WallClock, I: Ids>(
    parts: ShieldParts<N, S, C, I>,
    limits: Arc<ArcSwap<Limits>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let ShieldParts { node, mut ws, http, spine, clock, ids, overseer, config, metrics, keys } = parts;
    let config = Arc::new(config);
    let meters = Meters::new(&metrics);
    let health = Arc::new(Health::default());
    let absent = Arc::new(Absent::default());
    let incarnation = ids.u64("incarnation");
    let sizes = Sizes::from(&config.shield);
    let replies = Arc::new(Replies::new(
        spine.clone(),
        node.clone(),
        incarnation,
        Duration::from_millis(config.shield.answer_timeout_ms),
        sizes,
        health.clone(),
        absent.clone(),
        meters.clone(),
    ));
    let shared = Arc::new(Shared {
        node,
        spine,
        clock,
        ids,
        overseer,
        config,
        limits,
        keys,
        replies,
        rooms: Rooms::new(sizes.questions),
        absent,
        health,
        meters,
        connections: Connections::default(),
    });

    let mut tasks = voltron_core::tasks::Tasks::default();
    tasks.spawn(heartbeat::watch_link(shared.clone()));
    tasks.spawn(shared.replies.clone().run());
    tasks.spawn(shared.replies.clone().sweep());
    tasks.spawn(heartbeat::speak(shared.clone(), incarnation));
    tasks.spawn(heartbeat::listen(shared.clone(), incarnation));
    if let Some(http) = http {
        tasks.spawn(crate::admin::serve(http, shared.health.clone(), metrics));
    }

    tokio::pin!(shutdown);
    accept(&mut ws, &shared, shutdown).await;
    drop(ws);
    drain(&shared).await;
    tasks.shutdown().await;
}

async fn accept<L: Listener, S: Spine, C: WallClock, I: Ids>(
    ws: &mut L,
    shared: &Arc<Shared<S, C, I>>,
    mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
) {
    let admission = Admission::new(shared.limits.load().accept_per_s, Instant::now());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = ws.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                shared.meters.accepted.inc();
                voltron_core::tasks::spawn(upgrade::run(shared.clone(), stream, admission.enter()));
            }
            Err(error) => {
                // Out of descriptors, mostly: waiting lets others close.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers what was accepted, tells everybody when to come back, and waits for them to go.
async fn drain<S: Spine, C: WallClock, I: Ids>(shared: &Arc<Shared<S, C, I>>) {
    let phase = |phase: &str| trace::emit(|| Record::Drain { phase: phase.into() });
    let deadline = Instant::now() + Duration::from_secs(shared.config.drain.exit_s);
    shared.health.drain();
    // Else who goes on talking holds up the drain until nobody can be told any more.
    shared.replies.close();
    phase("begin");
    tracing::info!(connections = shared.connections.len(), "draining");
    while shared.replies.in_flight() > 0 && Instant::now() < deadline && !mutant!(DrainDropsAcks) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    phase("answered");
    shared.connections.close();
    for outbox in shared.connections.all() {
        send_away(shared, &outbox);
    }
    phase("told");
    while shared.connections.len() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    phase("end");
    shared.spine.close().await;
}

/// Tells one connection when to come back, and ends it.
fn send_away<S: Spine, C: WallClock, I: Ids>(shared: &Shared<S, C, I>, outbox: &Outbox) {
    let after_ms = shared.below("drain", shared.config.drain.spread_s.saturating_mul(1000));
    let after_ms = u32::try_from(after_ms).unwrap_or(u32::MAX);
    outbox.push(Frame::Binary(signal(Code::CloseDraining, after_ms)));
    outbox.end(Code::CloseDraining, format!("draining; retry_after_ms={after_ms}"), true);
}

/// A PUB frame with a signal for everybody.
fn signal(code: Code, retry_after_ms: u32) -> Bytes {
    let signal = v1::SystemSignal {
        code: code.as_u16().into(),
        reason: code.message().into(),
        retry_after_ms,
        ..v1::SystemSignal::default()
    };
    let envelope = v1::Envelope { payload: Some(Payload::Signal(signal)), ..v1::Envelope::default() };
    proto::frame::publish(&prost::Message::encode_to_vec(&envelope))
}
