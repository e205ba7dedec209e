//! The simulated world: hosts, sockets, clocks and entropy that only the seed determines. Two engines can hold it, one in
//! each compile world: turmoil runs the tasks of a host in the order in which they became ready; madsim (`--cfg madsim`)
//! in any order that the seed draws. [`world`] builds the same hosts on either.

pub mod cables;
pub mod clock;
mod deciders;
pub mod history;
pub mod hosts;
pub mod ids;
#[cfg(madsim)]
pub mod madsim;
pub mod nemesis;
#[cfg(not(madsim))]
pub mod turmoil;
#[cfg(any(madsim, test))]
mod wires;
pub mod world;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use voltron_core::Net;

pub use cables::{Cables, SimNet};
pub use clock::SimClock;
pub use deciders::{Deciders, Failure};
pub use ids::SimIds;
use nemesis::Stage;

/// The engine of this compile world.
#[cfg(madsim)]
pub use self::madsim::Madsim as ThisEngine;
#[cfg(not(madsim))]
pub use self::turmoil::Turmoil as ThisEngine;

/// How a process of the world ends.
pub type Ended = Result<(), Box<dyn Error>>;

/// Virtual time passes in steps of this: the nemesis looks, and acts, between two of them.
pub const TICK: Duration = Duration::from_millis(1);

/// The fastest and the slowest way of a segment from host to host.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(6));

/// A simulator that holds hosts, each with one process that can crash and start again.
pub trait Engine: Stage + Sized {
    /// The network as one host sees it.
    type Net: Net<Stream: cables::Wire> + Clone;

    /// The spans that it opens around a host's code: `node`, which has the host's `name`, and those within.
    const SPANS: &'static [&'static str];

    /// An empty world for so many clients.
    fn new(seed: u64, clients: u32) -> Self;

    /// Runs `run` so that nothing of what this process did before shows in it.
    fn enclosed<T: Send>(_seed: u64, run: impl FnOnce() -> T + Send) -> T {
        run()
    }

    /// The network as the host with this name sees it.
    fn net(&self, host: &str) -> Self::Net;

    /// Adds a host. `process` makes its process, now and whenever it starts again; it ends with `Ok`, or the run is over.
    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + 'static;

    /// Adds a host whose process runs once.
    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static;

    /// Lets one [`TICK`] pass. An error says which process ended by itself.
    fn tick(&mut self) -> Result<(), String>;

    /// Virtual time since the world began, as a host's own code sees it; `None` outside of every host.
    fn now() -> Option<Duration>;
}
