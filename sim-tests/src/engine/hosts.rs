//! What a host has that outlives its process: a wall clock, and the signal that tells the process to stop. Engines know
//! nothing of either.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use voltron_core::metrics::Metrics;

use super::SimClock;

/// Every host of a world, by name. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<BTreeMap<String, Host>>>);

#[derive(Debug)]
struct Host {
    clock: SimClock,
    stop: watch::Sender<bool>,
    /// The process has ended by itself.
    ended: bool,
    /// Of its process.
    metrics: Metrics,
}

impl Default for Host {
    fn default() -> Self {
        Self { clock: SimClock::new(0), stop: watch::Sender::new(false), ended: false, metrics: Metrics::new() }
    }
}

impl Hosts {
    /// The wall clock of this host, the same one after a restart.
    pub fn clock(&self, host: &str) -> SimClock {
        self.with(host, |host| host.clock.clone())
    }

    /// A process starts on this host. The future ends once it is told to stop.
    pub fn started(&self, host: &str) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.with(host, |host| {
            host.ended = false;
            host.stop.send_replace(false);
            host.stop.subscribe()
        });
        async move {
            // The world holds the sender as long as it runs its processes.
            let _ = told.wait_for(|told| *told).await;
        }
    }

    /// A registry for the process that starts on this host.
    pub fn metrics(&self, host: &str) -> Metrics {
        let metrics = Metrics::new();
        self.with(host, |host| host.metrics = metrics.clone());
        metrics
    }

    /// What a gauge of this host's process says; `None`: it has no such gauge.
    pub fn gauge(&self, host: &str, name: &str) -> Option<u64> {
        let text = self.with(host, |host| host.metrics.encode());
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The process on this host has ended by itself.
    pub fn ended(&self, host: &str) {
        self.with(host, |host| host.ended = true);
    }

    /// Tells the process on this host to stop.
    pub fn stop(&self, host: &str) {
        self.with(host, |host| host.stop.send_replace(true));
    }

    /// True if the process on this host has ended by itself.
    pub fn has_ended(&self, host: &str) -> bool {
        self.with(host, |host| host.ended)
    }

    fn with<T>(&self, host: &str, act: impl FnOnce(&mut Host) -> T) -> T {
        act(self.lock().entry(host.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.0.lock().expect("no panic happens while it is held")
    }
}
