//! The message bus under `arq dev`, with the users and permissions of production.

use data_encoding::HEXLOWER;
use spine::server::{NatsServer, ServerOptions};
use spine::{NatsSpine, SpineOptions, UserSpec};
use spine_sim::{Broker, BrokerOptions, SimSpine};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voltron_core::{Ids as _, Net as _, OsIds, SystemClock, TcpNet};

use super::{BrainRoles, Bus, DevError, Names, Roles, STOP_LIMIT, random};

/// A running bus.
pub(super) enum Backend {
    Sim { url: String, stop: oneshot::Sender<()>, task: JoinHandle<std::io::Result<()>> },
    Nats { url: String, server: Box<NatsServer> },
}

/// Connections to it, which connect in the background.
pub(super) enum Spines {
    Sim(Roles<SimSpine<TcpNet>>),
    Nats(Roles<NatsSpine>),
}

/// The bus's users: who may say what.
pub(super) struct Users {
    pub(super) shield: UserSpec,
    pub(super) writer: UserSpec,
    pub(super) speaker: UserSpec,
}

impl Users {
    fn new(names: &Names) -> Self {
        let password = HEXLOWER.encode(&random::<16>("password"));
        Self {
            shield: UserSpec::shield(&names.shield, &password),
            writer: UserSpec::writer(&names.brain, &password),
            speaker: UserSpec::speaker(&names.brain, &password),
        }
    }

    fn all(&self) -> [UserSpec; 3] {
        [self.shield.clone(), self.writer.clone(), self.speaker.clone()]
    }
}

impl Backend {
    /// Starts it on a free port; everything it stores is gone when it stops. A Brain in this process gets its connections,
    /// one of its own makes them by itself.
    pub(super) async fn start(bus: &Bus, names: &Names, brain_here: bool) -> Result<(Self, Spines, Users), DevError> {
        let users = Users::new(names);
        match bus {
            Bus::Sim => {
                let listener = TcpNet.bind("127.0.0.1:0").await.map_err(DevError::Broker)?;
                let url = format!("nats://{}", listener.local_addr().map_err(DevError::Broker)?);
                let mut options = BrokerOptions::new(SystemClock, OsIds.u64("broker"));
                options.users = users.all().iter().map(Into::into).collect();
                let broker = Broker::new(options);
                let (stop, told) = oneshot::channel::<()>();
                let task = tokio::spawn(async move {
                    broker
                        .serve(listener, async {
                            let _ = told.await;
                        })
                        .await
                });
                let connect = |options| SimSpine::connect(TcpNet, options, OsIds);
                let spines = Spines::Sim(roles(&url, names, &users, brain_here, connect));
                Ok((Self::Sim { url, stop, task }, spines, users))
            }
            Bus::Nats(binary) => {
                let mut options = ServerOptions::new(binary.clone());
                options.users = users.all().to_vec();
                let server = NatsServer::start(options).await?;
                let url = server.url();
                let spines = Spines::Nats(roles(&url, names, &users, brain_here, NatsSpine::connect));
                Ok((Self::Nats { url, server: Box::new(server) }, spines, users))
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Sim { url, .. } | Self::Nats { url, .. } => url,
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Sim { .. } => "sim",
            Self::Nats { .. } => "nats",
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Sim { stop, task, .. } => {
                drop(stop);
                if let Ok(Ok(Err(error))) = tokio::time::timeout(STOP_LIMIT, task).await {
                    tracing::warn!(%error, "the simulated broker ended badly");
                }
            }
            Self::Nats { mut server, .. } => server.stop().await,
        }
    }
}

fn roles<S>(
    url: &str,
    names: &Names,
    users: &Users,
    brain_here: bool,
    connect: impl Fn(SpineOptions) -> S,
) -> Roles<S> {
    let role = |user: &UserSpec, inbox: String| connect(SpineOptions::of_user(url, user, inbox));
    let brain = brain_here.then(|| BrainRoles {
        writer: role(&users.writer, format!("_INBOX.w.{}", names.brain)),
        speaker: role(&users.speaker, format!("_INBOX.b.{}", names.brain)),
    });
    Roles { shield: role(&users.shield, format!("_INBOX.s.{}", names.shield)), brain }
}
