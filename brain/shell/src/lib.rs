//! The thin shell around the reference model: turns a Spine's messages into [`brain_model::Input`]s and the model's
//! effects into Spine calls, and nothing else. What decides is behind a seam ([`cores`]). It runs on any [`Spine`]: embedded in `arq dev`, in the simulator, and as
//! a process of its own.
//!
//! 1. A node holds two NATS users: the *writer* (log, snapshots, generation) never replies, the *speaker* (answers, live
//!    events, heartbeats) never writes the log.
//! 2. It owns nothing before it has heard two heartbeat rounds.
//! 3. It listens on `in.…` of the rooms that it owns, and of no other: where nobody listens, a Shield gets a 503 at once.
//! 4. One task a room; every queue is bounded.
//! 5. A Spine that is away, at the start or later, is waited for; nothing is answered meanwhile.

mod calls;
pub mod cores;
mod metrics;
mod node;
mod readiness;
mod room;
mod tails;

use std::future::Future;
use std::sync::Arc;

use cores::{Cores, Model};
use proto::NodeId;
pub use readiness::Readiness;
use spine::{EnsureError, Spine};
use voltron_core::config::Config;
use voltron_core::metrics::Metrics;
use voltron_core::{Ids, WallClock};

/// Everything that a node runs on.
pub struct BrainParts<S, C, I> {
    /// Its name, unique among the Brains.
    pub node: NodeId,
    /// Connection of the NATS user that writes the log.
    pub writer: S,
    /// Connection of the NATS user that answers.
    pub speaker: S,
    /// The wall clock.
    pub clock: C,
    /// Randomness.
    pub ids: I,
    /// `[brain]` and `[nats]` of it are read.
    pub config: Config,
    /// Where the node's metrics are registered.
    pub metrics: Metrics,
}

/// Why a node could not run.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A stream is there, but not as it must be.
    #[error("{0}")]
    Stream(#[from] EnsureError),
    /// The Spine was closed by its owner.
    #[error("the Spine was closed under the running Brain")]
    Closed,
}

/// Runs a node until `shutdown` ends; then finishes what is in flight, answers it, and closes both connections. A Spine
/// that cannot be reached is waited for without end.
///
/// # Errors
/// If a stream exists with another specification, or the Spine is closed from outside.
pub async fn run<S: Spine, C: WallClock, I: Ids>(
    parts: BrainParts<S, C, I>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ShellError> {
    run_until(parts, shutdown, || {}).await
}

/// As [`run`]; calls `ready` once, at the moment from which the node takes rooms.
///
/// # Errors
/// As [`run`].
pub async fn run_until<S: Spine, C: WallClock, I: Ids>(
    parts: BrainParts<S, C, I>,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), ShellError> {
    run_shown(parts, shutdown, ready, Readiness::default()).await
}

/// As [`run_until`]; `readiness` tells at any time whether the node can serve.
///
/// # Errors
/// As [`run`].
pub async fn run_shown<S: Spine, C: WallClock, I: Ids>(
    parts: BrainParts<S, C, I>,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(),
    readiness: Readiness,
) -> Result<(), ShellError> {
    node::run(Arc::new(Model), parts, shutdown, ready, readiness).await
}

/// As [`run`], on other cores than the model's.
///
/// # Errors
/// As [`run`].
pub async fn run_on<S: Spine, C: WallClock, I: Ids>(
    cores: Arc<dyn Cores>,
    parts: BrainParts<S, C, I>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ShellError> {
    node::run(cores, parts, shutdown, || {}, Readiness::default()).await
}
