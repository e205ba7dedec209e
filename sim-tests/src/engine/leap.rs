//! Leap: all processes of the world in one tokio runtime on one thread, with paused time. Nothing ticks: when nobody has
//! anything to do, time jumps to the next timer or the next arrival on a link (`leap/fabric.rs`). Every task belongs to the process
//! that started it (`leap/processes.rs`), so that a process can die with all of its tasks.
//!
//! What the model leaves out: tasks run in the order in which they became ready, and a process that hangs keeps its timers.

mod fabric;
mod processes;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::time::{Instant, sleep_until};
use tracing::Subscriber;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use super::nemesis::Stage;
use super::{Ended, Engine};
use crate::seed::Draw;
use crate::trace::{Logs, Trace};
pub use fabric::{Fabric, FabricListener, FabricNet, FabricStream};
use processes::Processes;
pub use processes::whose;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A runtime with the processes and the network between them.
pub struct Leap {
    processes: Processes,
    fabric: Fabric,
    elapsed: Duration,
    /// Last: what dies with it still finds the rest.
    runtime: Runtime,
}

impl Drop for Leap {
    fn drop(&mut self) {
        BEGAN.set(None);
    }
}

impl Engine for Leap {
    type Net = FabricNet;

    fn subscriber(trace: &Trace, lines: Option<Targets>) -> Box<dyn Subscriber + Send + Sync> {
        Box::new(trace.collector(lines.map(|lines| -> Logs {
            let shown = tracing_subscriber::fmt::layer().without_time().with_ansi(false).with_writer(|| Shown);
            Box::new(tracing_subscriber::registry().with(shown.with_filter(lines)))
        })))
    }

    fn new(seed: u64, _clients: u32) -> Self {
        let mut draws = [0; 32];
        Draw::new(seed, "runtime").fill_at(0, &mut draws);
        let runtime = processes::hooks(&mut Builder::new_current_thread())
            .enable_time()
            .start_paused(true)
            // What a `select!` that is not biased draws from.
            .rng_seed(RngSeed::from_bytes(&draws))
            .unhandled_panic(UnhandledPanic::ShutdownRuntime)
            .build()
            .expect("a runtime of one thread without I/O needs nothing that could be missing");
        let fabric = {
            let _inside = runtime.enter();
            BEGAN.set(Some(Instant::now()));
            Fabric::new(Draw::new(seed, "latency").u64())
        };
        Self { processes: Processes::default(), fabric, elapsed: Duration::ZERO, runtime }
    }

    fn net(&self, host: &str) -> FabricNet {
        FabricNet::new(host, &self.fabric)
    }

    fn within<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let handle = self.runtime.handle().clone();
        let _inside = handle.enter();
        act(self)
    }

    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + Send + 'static,
    {
        self.fabric.host(name);
        self.processes.add(name, move || {
            let process = process();
            Box::pin(async move { process.await.map_err(|error| error.to_string()) })
        });
    }

    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.fabric.host(name);
        let once = Mutex::new(Some(process));
        self.processes.add(name, move || {
            let process = once.lock().expect("no panic happens while it is held").take();
            Box::pin(async move {
                match process {
                    Some(process) => process.await.map_err(|error| error.to_string()),
                    None => Ok(()),
                }
            })
        });
    }

    fn pass(&mut self, until: Duration, told: &mut dyn FnMut(Duration)) -> Result<(), String> {
        let Self { processes, fabric, elapsed, runtime } = self;
        runtime.block_on(async {
            processes.bury().await?;
            let now = || Self::now().unwrap_or_default();
            let limit = Instant::now() + until.saturating_sub(now());
            tokio::select! {
                biased;
                () = fabric.sooner() => {}
                () = sleep_until(fabric.due().map_or(limit, |due| due.min(limit))) => {}
            }
            *elapsed = now();
            told(*elapsed);
            fabric.deliver();
            processes.failed().map_or(Ok(()), Err)
        })
    }

    fn tasks(&self, host: &str) -> Option<usize> {
        Processes::tasks(host)
    }

    fn now() -> Option<Duration> {
        Some(BEGAN.get()?.elapsed())
    }
}

impl Stage for Leap {
    fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn hold(&mut self, a: &str, b: &str) {
        self.fabric.stop(a, b);
        self.fabric.stop(b, a);
    }

    fn release(&mut self, a: &str, b: &str) {
        self.fabric.open(a, b);
        self.fabric.open(b, a);
    }

    fn cut(&mut self, a: &str, b: &str) {
        self.hold(a, b);
    }

    fn cut_one_way(&mut self, a: &str, b: &str) {
        self.fabric.stop(a, b);
    }

    fn repair(&mut self, a: &str, b: &str) {
        self.release(a, b);
    }

    fn delay(&mut self, a: &str, b: &str, by: Duration) {
        self.fabric.delay(a, b, by);
        self.fabric.delay(b, a, by);
    }

    fn crash(&mut self, host: &str) {
        self.processes.kill(host);
    }

    fn start(&mut self, host: &str) {
        self.processes.start(host);
    }
}

/// Standard error, each line behind the name of the process that says it.
struct Shown;

impl io::Write for Shown {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr().lock();
        whose(|name| write!(out, "{:<10} ", name.unwrap_or("harness")))?;
        out.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
