//! The whole system for development: a message bus (the simulated broker on loopback TCP, or the pinned nats-server), a Brain
//! (the reference model in this process, or the Elixir release as a child) and the production Shield, with a fresh secret
//! each run. Nothing is kept when it ends.
//!
//! Ready means that a message went through: a probe client publishes into a room of a tenant of its own and waits for
//! the answer.

mod backend;
mod brain;
mod probe;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use brain_shell::ShellError;
use data_encoding::BASE64URL_NOPAD;
use proto::{NodeId, TenantId, UserId};
use shield::{Keys, KeysError, ShieldParts};
use spine::{Spine, server::ServerError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voltron_core::config::{Config, DefaultPolicy};
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, Ids as _, Net as _, OsIds, SystemClock, TcpNet, WallClock as _};

use arq::release::Release;
use arq::token::{self, Issuer, TokenError, Wish};
use backend::{Backend, Spines, Users};
use brain::Brain;

/// The tenant of the token that is printed.
pub(crate) const TENANT: &str = "dev";
/// How long that token is good: as long as anybody leaves this running.
const TOKEN_TTL_S: i64 = 30 * 24 * 3600;
/// The longest from start to ready: on a busy machine an Erlang VM alone takes many seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The longest that each part may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Which message bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    /// The simulated broker, in this process.
    Sim,
    /// A nats-server of the pinned version, by absolute path, as a child process.
    Nats(PathBuf),
}

/// Which Brain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BrainChoice {
    /// The Rust reference model, in this process.
    Model,
    /// The Elixir release, as a child process.
    Elixir(Release),
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct DevOptions {
    /// Which message bus.
    pub(crate) bus: Bus,
    /// Which Brain.
    pub(crate) brain: BrainChoice,
    /// Port of the WebSocket; http gets the next one. 0: free ports for both.
    pub(crate) port: u16,
}

/// Where everything is, once it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// `ws://127.0.0.1:PORT/v1/ws`.
    pub(crate) ws: String,
    /// `http://127.0.0.1:PORT`.
    pub(crate) http: String,
    /// `nats://127.0.0.1:PORT`.
    pub(crate) nats: String,
    /// A token for every right in every room of [`TENANT`].
    pub(crate) token: String,
    /// Which bus: `sim` or `nats`.
    pub(crate) spine: &'static str,
    /// Which Brain: `model` or `elixir`.
    pub(crate) brain: &'static str,
    /// Where a Brain with a process of its own shows its metrics.
    pub(crate) brain_metrics: Option<String>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// A port is taken.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Port {
        /// Which one.
        port: u16,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bus did not start.
    #[error(transparent)]
    Nats(#[from] ServerError),
    /// The bus's own listener failed.
    #[error("the simulated broker cannot listen: {0}")]
    Broker(std::io::Error),
    /// The Brain could not run.
    #[error("the Brain stopped: {0}")]
    Brain(#[from] ShellError),
    /// The Elixir Brain cannot be started.
    #[error("the Elixir Brain cannot be started: {what}: {source}")]
    Child {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The Elixir Brain ended although nobody asked it to; what it said about that went to standard error.
    #[error("the Elixir Brain ended unexpectedly ({0})")]
    ChildEnded(String),
    /// A part ended although nobody asked it to.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// The probe's message did not go through.
    #[error("no message went through: {0}")]
    NotReady(String),
    /// The run's own secret or token was refused: a fault in this program.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The same, for the Shield's side.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// Runs until `shutdown`, then drains. `ready` is called once, when a message went through.
pub(crate) async fn run(
    options: DevOptions,
    ready: impl FnOnce(&Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), DevError> {
    let ws = bind(options.port).await?;
    let http = bind(if options.port == 0 { 0 } else { options.port.saturating_add(1) }).await?;
    let (ws_port, http_port) = (port(&ws)?, port(&http)?);
    let names = Names::default();
    let brain_here = options.brain == BrainChoice::Model;
    let (backend, spines, users) = Backend::start(&options.bus, &names, brain_here).await?;
    let issuer = Issuer::Hs256(BASE64URL_NOPAD.encode(&random::<32>("secret")).into_bytes());
    let found = Ready {
        ws: format!("ws://127.0.0.1:{ws_port}/v1/ws"),
        http: format!("http://127.0.0.1:{http_port}"),
        nats: backend.url().to_owned(),
        token: issue(&issuer, TENANT, "dev")?,
        spine: backend.name(),
        brain: if brain_here { "model" } else { "elixir" },
        brain_metrics: None,
    };
    let system = System { ws, http, names: &names, users: &users, brain: &options.brain, issuer: &issuer };
    let outcome = match spines {
        Spines::Sim(spines) => compose(spines, system, found, ready, shutdown).await,
        Spines::Nats(spines) => compose(spines, system, found, ready, shutdown).await,
    };
    backend.stop().await;
    outcome
}

/// The nodes' names; the bus's users and inboxes carry them.
#[derive(Debug)]
struct Names {
    shield: NodeId,
    brain: NodeId,
}

impl Default for Names {
    fn default() -> Self {
        let name = |text: &str| NodeId::parse(text).expect("a good name");
        Self { shield: name("shield-1"), brain: name("brain-1") }
    }
}

/// One connection a role.
struct Roles<S> {
    shield: S,
    /// Only for a Brain in this process.
    brain: Option<BrainRoles<S>>,
}

/// The Brain's two.
struct BrainRoles<S> {
    writer: S,
    speaker: S,
}

/// What all parts are made from.
struct System<'a> {
    ws: TcpListener,
    http: TcpListener,
    names: &'a Names,
    users: &'a Users,
    brain: &'a BrainChoice,
    issuer: &'a Issuer,
}

/// Brain and Shield on a bus, from start to drain.
async fn compose<S: Spine>(
    roles: Roles<S>,
    System { ws, http, names, users, brain, issuer }: System<'_>,
    mut found: Ready,
    ready: impl FnOnce(&Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), DevError> {
    let (config, metrics) = (config(), Metrics::new());
    let Issuer::Hs256(secret) = issuer else { unreachable!("dev makes HS256 secrets only") };
    let keys = Keys::new(&config.auth, None, Some(secret))?;
    let mut brain = match (brain, roles.brain) {
        (BrainChoice::Elixir(release), _) => Brain::child(release, &names.brain, &found.nats, users, &config)?,
        (BrainChoice::Model, Some(roles)) => Brain::here(&names.brain, roles, config.clone(), metrics.clone()),
        (BrainChoice::Model, None) => unreachable!("the backend was asked for its connections"),
    };
    let brain_takes_rooms = brain.takes_rooms();
    let mut shield = Part::start("the Shield", |stop| {
        let parts: ShieldParts<TcpNet, S, SystemClock, OsIds> = ShieldParts {
            node: names.shield.clone(),
            ws,
            http: Some(http),
            spine: roles.shield,
            clock: SystemClock,
            ids: OsIds,
            overseer: Arc::new(AllowAll),
            config,
            metrics,
            keys: Arc::new(ArcSwap::from_pointee(keys)),
        };
        shield::serve(parts, stop)
    });
    let ws = found.ws.clone();
    let probing = tokio::time::timeout(READY_LIMIT, async {
        let metrics = brain_takes_rooms.await;
        probe::goes_through(&ws, issuer).await.map(|()| metrics)
    });
    tokio::pin!(shutdown);
    let outcome = tokio::select! {
        biased;
        () = &mut shutdown => Ok(()),
        ended = brain.ended() => Err(ended),
        () = shield.ended() => Err(DevError::Ended("the Shield")),
        probed = probing => match probed {
            Ok(Ok(metrics)) => {
                found.brain_metrics = metrics;
                ready(&found);
                tokio::select! {
                    biased;
                    () = &mut shutdown => Ok(()),
                    ended = brain.ended() => Err(ended),
                    () = shield.ended() => Err(DevError::Ended("the Shield")),
                }
            }
            Ok(Err(why)) => Err(DevError::NotReady(why)),
            Err(_) => Err(DevError::NotReady(format!("no answer within {} s", READY_LIMIT.as_secs()))),
        },
    };
    // The Shield first: while it drains, what it has accepted is still answered.
    shield.stop().await;
    brain.stop().await;
    outcome
}

/// A task that can be told to stop.
struct Part<T> {
    name: &'static str,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<T>,
    over: bool,
}

impl<T: Send + 'static> Part<T> {
    fn start<F>(name: &'static str, run: impl FnOnce(Stop) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (stop, told) = oneshot::channel();
        Self { name, stop: Some(stop), task: tokio::spawn(run(Stop(told))), over: false }
    }

    /// Its result, when it ends by itself. A panic in it goes on here.
    async fn ended(&mut self) -> T {
        let ended = (&mut self.task).await;
        self.over = true;
        match ended {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        if !self.over && tokio::time::timeout(STOP_LIMIT, &mut self.task).await.is_err() {
            tracing::warn!(part = self.name, "did not stop in time; cut off");
            self.task.abort();
        }
    }
}

/// Resolves when the sender is dropped.
struct Stop(oneshot::Receiver<()>);

impl Future for Stop {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

async fn bind(port: u16) -> Result<TcpListener, DevError> {
    TcpNet.bind(&format!("127.0.0.1:{port}")).await.map_err(|source| DevError::Port { port, source })
}

fn port(listener: &TcpListener) -> Result<u16, DevError> {
    listener.local_addr().map(|addr| addr.port()).map_err(|source| DevError::Port { port: 0, source })
}

/// Short times, so that a room opens at once, and an end without a long farewell.
fn config() -> Config {
    let mut config = Config::default();
    config.server.text_dialect = true;
    config.server.origins = vec!["*".into()];
    config.policy.default = DefaultPolicy::None;
    config.brain.heartbeat_ms = 100;
    config.brain.down_after_ms = 2_000;
    config.drain.spread_s = 0;
    config.drain.exit_s = 5;
    config
}

/// A token for every right in every room of a tenant.
fn issue(issuer: &Issuer, tenant: &str, user: &str) -> Result<String, TokenError> {
    let wish = Wish {
        tenant: TenantId::parse(tenant).expect("a good name"),
        user: UserId::parse(user).expect("a good name"),
        grants: vec![token::grant("*:all")?],
        ttl_s: TOKEN_TTL_S,
        audience: token::AUDIENCE.into(),
        issuer: None,
        signs_with: None,
        id: BASE64URL_NOPAD.encode(&random::<12>("jti")),
    };
    issuer.sign(&wish.claims(SystemClock.now_ms().div_euclid(1000)))
}

fn random<const N: usize>(purpose: &'static str) -> [u8; N] {
    let mut bytes = [0; N];
    OsIds.fill(purpose, &mut bytes);
    bytes
}
