//! The message bus under `arq dev`, with the users and permissions of production.

use data_encoding::HEXLOWER;
use spine::server::{NatsServer, ServerOptions};
use spine::{NatsSpine, SpineOptions, UserSpec};
use spine_sim::{Broker, BrokerOptions, SimSpine};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voltron_core::{Ids as _, Net as _, OsIds, SystemClock, TcpNet};

use super::{Bus, DevError, Names, Roles, STOP_LIMIT, random};

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

impl Backend {
    /// Starts it on a free port; everything it stores is gone when it stops.
    pub(super) async fn start(bus: &Bus, names: &Names) -> Result<(Self, Spines), DevError> {
        let password = HEXLOWER.encode(&random::<16>("password"));
        let users = [
            UserSpec::shield(&names.shield, &password),
            UserSpec::writer(&names.brain, &password),
            UserSpec::speaker(&names.brain, &password),
        ];
        match bus {
            Bus::Sim => {
                let listener = TcpNet.bind("127.0.0.1:0").await.map_err(DevError::Broker)?;
                let url = format!("nats://{}", listener.local_addr().map_err(DevError::Broker)?);
                let mut options = BrokerOptions::new(SystemClock, OsIds.u64("broker"));
                options.users = users.iter().map(Into::into).collect();
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
                let spines = Spines::Sim(roles(&url, names, &users, connect));
                Ok((Self::Sim { url, stop, task }, spines))
            }
            Bus::Nats(binary) => {
                let mut options = ServerOptions::new(binary.clone());
                options.users = users.to_vec();
                let server = NatsServer::start(options).await?;
                let url = server.url();
                let spines = Spines::Nats(roles(&url, names, &users, NatsSpine::connect));
                Ok((Self::Nats { url, server: Box::new(server) }, spines))
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

fn roles<S>(url: &str, names: &Names, users: &[UserSpec; 3], connect: impl Fn(SpineOptions) -> S) -> Roles<S> {
    let role = |user: &UserSpec, inbox: String| {
        let options = SpineOptions::new(url, user.name.clone(), inbox);
        connect(SpineOptions { credentials: Some(user.credentials()), ..options })
    };
    let [shield, writer, speaker] = users;
    Roles {
        shield: role(shield, format!("_INBOX.s.{}", names.shield)),
        writer: role(writer, format!("_INBOX.w.{}", names.brain)),
        speaker: role(speaker, format!("_INBOX.b.{}", names.brain)),
    }
}
