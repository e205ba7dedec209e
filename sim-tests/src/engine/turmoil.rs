//! turmoil's hosts and links. The tasks of a host run in the order in which they became ready, always.

pub mod net;
mod weather;

use std::future::Future;
use std::time::{Duration, SystemTime};

use ::turmoil::Sim;
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;

use super::clock::EPOCH_MS;
use super::nemesis::Stage;
use super::{Ended, Engine, LATENCY, TICK};
use crate::trace::Trace;
pub use net::TurmoilNet;
use weather::Weather;

/// Segments that one connection holds before its writer waits.
const SEGMENTS: usize = 64;
/// Connections of one client that may wait to be accepted, those that it gave up included. A listener with more waiting
/// connections ends the run, and turmoil has one bound for both.
const ATTEMPTS: usize = 16;
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// A turmoil simulation.
pub struct Turmoil {
    sim: Sim<'static>,
    seed: u64,
    hosts: Vec<String>,
    /// Of the hosts that were there when time began to pass.
    weather: Option<Weather>,
}

impl Engine for Turmoil {
    type Net = TurmoilNet;

    fn subscriber(trace: &Trace, lines: Option<Targets>) -> Box<dyn Subscriber + Send + Sync> {
        super::by_spans(trace, lines, &["node"])
    }

    fn new(seed: u64, clients: u32) -> Self {
        let epoch = Duration::from_millis(u64::try_from(EPOCH_MS).expect("after 1970"));
        let mut builder = ::turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + epoch)
            .simulation_duration(FOREVER)
            .tick_duration(TICK)
            .min_message_latency(LATENCY.0)
            .max_message_latency(LATENCY.1)
            .tcp_capacity(SEGMENTS.max(clients as usize * ATTEMPTS));
        Self { sim: builder.build(), seed, hosts: Vec::new(), weather: None }
    }

    fn net(&self, _host: &str) -> TurmoilNet {
        TurmoilNet
    }

    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + Send + 'static,
    {
        self.hosts.push(name.to_owned());
        self.sim.host(name, move || {
            let process = process();
            async move { process.await.map_err(|error| error as Box<dyn std::error::Error>) }
        });
    }

    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.sim.client(name, async move { process.await.map_err(|error| error as Box<dyn std::error::Error>) });
    }

    fn pass(&mut self, _until: Duration, told: &mut dyn FnMut(Duration)) -> Result<(), String> {
        told(self.sim.elapsed());
        self.weather.get_or_insert_with(|| Weather::new(self.seed, &self.hosts)).turn(&self.sim);
        self.sim.step().map(drop).map_err(|error| error.to_string())
    }

    fn now() -> Option<Duration> {
        ::turmoil::sim_elapsed()
    }
}

impl Stage for Turmoil {
    fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    fn hold(&mut self, a: &str, b: &str) {
        self.sim.hold(a, b);
    }

    fn release(&mut self, a: &str, b: &str) {
        self.sim.release(a, b);
    }

    fn cut(&mut self, a: &str, b: &str) {
        self.sim.partition(a, b);
    }

    fn cut_one_way(&mut self, a: &str, b: &str) {
        self.sim.partition_oneway(a, b);
    }

    fn repair(&mut self, a: &str, b: &str) {
        self.sim.repair(a, b);
    }

    fn delay(&mut self, a: &str, b: &str, by: Duration) {
        self.weather.get_or_insert_with(|| Weather::new(self.seed, &self.hosts)).delay(a, b, by);
    }

    fn crash(&mut self, host: &str) {
        self.sim.crash(host);
    }

    fn start(&mut self, host: &str) {
        self.sim.bounce(host);
    }
}
