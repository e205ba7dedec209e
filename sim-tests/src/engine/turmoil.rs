//! turmoil's hosts and links. The tasks of a host run in the order in which they became ready, always.

pub mod net;

use std::future::Future;
use std::time::{Duration, SystemTime};

use ::turmoil::Sim;

use super::clock::EPOCH_MS;
use super::nemesis::Stage;
use super::{Ended, Engine, LATENCY, TICK};
pub use net::{Cables, TurmoilNet};

/// Segments that one socket or listener holds; a listener with more waiting connections ends the run.
const TCP_CAPACITY: usize = 4096;
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// A turmoil simulation with the connections that run over it.
pub struct Turmoil {
    sim: Sim<'static>,
    cables: Cables,
}

impl Engine for Turmoil {
    type Net = TurmoilNet;

    const SPANS: &'static [&'static str] = &["node"];

    fn new(seed: u64) -> Self {
        let epoch = Duration::from_millis(u64::try_from(EPOCH_MS).expect("after 1970"));
        let mut builder = ::turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + epoch)
            .simulation_duration(FOREVER)
            .tick_duration(TICK)
            .min_message_latency(LATENCY.0)
            .max_message_latency(LATENCY.1)
            .tcp_capacity(TCP_CAPACITY);
        Self { sim: builder.build(), cables: Cables::default() }
    }

    fn net(&self, host: &str) -> TurmoilNet {
        TurmoilNet::new(host, &self.cables)
    }

    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + 'static,
    {
        self.sim.host(name, process);
    }

    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.sim.client(name, process);
    }

    fn tick(&mut self) -> Result<(), String> {
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

    fn reset(&mut self, left: &[String], right: &[String]) {
        self.cables.reset(left, right);
    }

    fn crash(&mut self, host: &str) {
        self.cables.set_down(host, true);
        self.sim.crash(host);
    }

    fn start(&mut self, host: &str) {
        self.cables.set_down(host, false);
        self.sim.bounce(host);
    }
}
