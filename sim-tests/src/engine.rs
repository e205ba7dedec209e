//! The simulated world: hosts, sockets, clocks and entropy that only the seed determines. Three engines can hold it:
//! leap, where time jumps from one thing to do to the next, and turmoil run the tasks of a host in the order in which they
//! became ready; madsim (`--cfg madsim`, a compile world of its own) in any order that the seed draws. [`world`] builds the same
//! hosts on each.

pub mod cables;
mod captured;
pub mod clock;
mod deciders;
pub mod history;
pub mod hosts;
pub mod ids;
#[cfg(not(madsim))]
pub mod leap;
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

use tracing::Subscriber;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use voltron_core::Net;
use voltron_core::trace::TARGET;

use crate::trace::Trace;

pub use cables::{Cables, SimNet};
pub use clock::SimClock;
pub use deciders::{Deciders, Failure};
pub use ids::SimIds;
use nemesis::Stage;

/// Virtual time since the world of this thread began; `None` outside of one.
pub fn now() -> Option<Duration> {
    #[cfg(madsim)]
    return madsim::Madsim::now();
    #[cfg(not(madsim))]
    leap::Leap::now().or_else(turmoil::Turmoil::now)
}

/// How a process of the world ends.
pub type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Virtual time passes in steps of this: the nemesis looks, and acts, between two of them.
pub const TICK: Duration = Duration::from_millis(1);

/// The fastest and the slowest way of a segment from host to host.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(6));

/// A simulator that holds hosts, each with one process that can crash and start again.
pub trait Engine: Stage + Sized {
    /// The network as one host sees it.
    type Net: Net<Stream: cables::Wire> + Clone;

    /// What takes the trace's records and says which host wrote each; `lines` of the product go to standard error.
    fn subscriber(trace: &Trace, lines: Option<Targets>) -> Box<dyn Subscriber + Send + Sync>;

    /// An empty world for so many clients.
    fn new(seed: u64, clients: u32) -> Self;

    /// Runs `run` so that nothing of what this process did before shows in it.
    fn enclosed<T: Send>(_seed: u64, run: impl FnOnce() -> T + Send) -> T {
        run()
    }

    /// The network as the host with this name sees it.
    fn net(&self, host: &str) -> Self::Net;

    /// Runs `act` where a host's code would see this world's time.
    fn within<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        act(self)
    }

    /// Adds a host. `process` makes its process, now and whenever it starts again; it ends with `Ok`, or the run is over.
    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + Send + 'static;

    /// Adds a host whose process runs once.
    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static;

    /// Lets time pass: a [`TICK`], or until something happens somewhere, at most until `until`. `told` hears the time before
    /// hosts act at it. An error says which process ended by itself.
    fn pass(&mut self, until: Duration, told: &mut dyn FnMut(Duration)) -> Result<(), String>;

    /// How many tasks of this host's process live; `None`: this engine cannot tell.
    fn tasks(&self, _host: &str) -> Option<usize> {
        None
    }

    /// Virtual time since the world began, as a host's own code sees it; `None` outside of every host.
    fn now() -> Option<Duration>;
}

/// For engines that open spans around a host's code: `node`, which has the host's `name`, and those within.
fn by_spans(
    trace: &Trace,
    lines: Option<Targets>,
    spans: &'static [&'static str],
) -> Box<dyn Subscriber + Send + Sync> {
    let records = FilterFn::new(move |metadata| {
        metadata.target() == TARGET || (metadata.is_span() && spans.contains(&metadata.name()))
    });
    let shown = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_writer(std::io::stderr);
    let lines = lines.unwrap_or_default();
    Box::new(tracing_subscriber::registry().with(trace.layer().with_filter(records)).with(shown.with_filter(lines)))
}
