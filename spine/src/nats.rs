//! The production Spine: async-nats 0.51 behind our own promises.
//!
//! | what the client does | what stands here instead |
//! | --- | --- |
//! | `publish` blocks for ever while disconnected for long | a deadline; a message that timed out was never queued |
//! | `flush` means "written to the socket" | a message to ourselves and back: the broker has seen all before it |
//! | a full subscription drops in silence | a pump into a [`buffer`](crate::buffer) that counts |
//! | a request that timed out stays in a map for ever | calls of our own, gone when dropped |
//! | connection events come late or never | the client's state decides; events only say when to look |
//! | `Connected` before the subscriptions are made again | announced after a round trip behind them |
//!
//! A reconnect loses what the client had written to its buffer: that is what `Ok` = "queued" means, and why every
//! command carries a reply subject and every append a fence.

mod backoff;
mod calls;
mod convert;
mod link;
mod registry;
mod spine;
mod sub;

use std::sync::Arc;

use async_nats::{ConnectOptions, ServerAddr};
use futures_util::FutureExt as _;
use tokio::time::{Duration, Instant};

use crate::SpineOptions;
use calls::Calls;
use link::Shared;
use sub::AbortOnDrop;

pub use sub::NatsSub;

/// How many messages are queued while there is no connection, or a slow one.
pub const QUEUE_MESSAGES: usize = 2_048;

/// The client's own buffer per subscription. Our pumps empty it whenever they run, and what the client reads before
/// they run is bounded by its reads, so it is never full; if it should be, every subscription says `Lost`.
const CLIENT_BUFFER: usize = 1 << 20;

/// A connection to NATS. Cloning shares it; the last clone to go closes it without writing out what is queued.
#[derive(Clone)]
pub struct NatsSpine {
    inner: Arc<Inner>,
}

struct Inner {
    // `None`: no usable URL; such a Spine was never open.
    client: Option<async_nats::Client>,
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    options: SpineOptions,
    // Keep the inbox and the link going; they hold clients, so they must end with the last clone.
    _tasks: Vec<AbortOnDrop>,
}

impl NatsSpine {
    /// Connects in the background, for as long as it takes: a broker that is away now is found when it comes.
    /// [`link`](crate::Spine::link) says when. Must be called within a Tokio runtime.
    ///
    /// Unusable URLs ([`SpineOptions::check`]) are logged and skipped; without any other the Spine is closed from the
    /// start.
    pub fn connect(options: SpineOptions) -> Self {
        let shared = Arc::new(Shared::new(Instant::now()));
        let calls = Arc::new(Calls::default());
        let mut tasks = Vec::new();
        let client = open(&options, &shared);
        match &client {
            Some(client) => {
                tasks.push(AbortOnDrop::spawn(calls::pump(calls.clone(), client.clone(), shared.clone())));
                tasks.push(AbortOnDrop::spawn(link::supervise(
                    client.clone(),
                    calls.clone(),
                    shared.clone(),
                    options.ping_interval,
                )));
            }
            None => {
                shared.close();
            }
        }
        Self { inner: Arc::new(Inner { client, shared, calls, options, _tasks: tasks }) }
    }
}

impl Inner {
    /// The client, unless closed.
    fn client(&self) -> Option<&async_nats::Client> {
        self.client.as_ref().filter(|_| !self.shared.is_closed())
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.publish_timeout
    }
}

/// The client, which connects by itself. Everything here is set because the default is not what we promise.
fn open(options: &SpineOptions, shared: &Arc<Shared>) -> Option<async_nats::Client> {
    let mut urls: Vec<ServerAddr> = Vec::new();
    for url in &options.urls {
        match url.parse() {
            Ok(url) => urls.push(url),
            Err(error) => tracing::error!(url, %error, "not a NATS URL: write nats://host:port"),
        }
    }
    if urls.is_empty() {
        tracing::error!("no usable NATS URL: this connection is closed");
        return None;
    }
    let (events, delays) = (Arc::downgrade(shared), Arc::downgrade(shared));
    let backoff = backoff::Backoff::new(&options.name, options.reconnect_max);
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .custom_inbox_prefix(&options.inbox_prefix)
        .require_tls(options.tls)
        .retry_on_initial_connect()
        // The order is the operator's, and so are the servers: those that a cluster advertises may not be reachable
        // or not be meant for us.
        .retain_servers_order()
        .ignore_discovered_servers()
        .ping_interval(options.ping_interval)
        .connection_timeout(options.ping_interval.saturating_mul(2).max(Duration::from_secs(1)))
        .client_capacity(QUEUE_MESSAGES)
        .subscription_capacity(CLIENT_BUFFER)
        // Our subjects cannot be built otherwise than valid.
        .skip_subject_validation(true)
        .reconnect_delay_callback(move |attempt| match delays.upgrade() {
            Some(shared) if !shared.is_closed() => backoff.delay(attempt, shared.was_connected()),
            // The client retries for ever and cannot be told to stop: let it sleep.
            _ => Duration::from_secs(365 * 24 * 3_600),
        })
        .event_callback(move |event| {
            if let Some(shared) = events.upgrade() {
                shared.on_event(event);
            }
            std::future::ready(())
        });
    if let Some((user, password)) = &options.credentials {
        connect = connect.user_and_password(user.clone(), password.clone());
    }
    // With `retry_on_initial_connect` this only spawns the client's task: it never waits.
    match connect.connect(urls).now_or_never() {
        Some(Ok(client)) => Some(client),
        Some(Err(error)) => {
            tracing::error!(%error, "cannot start the NATS client: this connection is closed");
            None
        }
        None => {
            tracing::error!("the NATS client did not start at once: this connection is closed");
            None
        }
    }
}
