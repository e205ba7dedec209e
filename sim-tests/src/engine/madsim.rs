//! madsim's hosts: whatever is ready runs in an order that the seed draws, so two tasks of one host meet in every order that
//! their wake-ups allow. Between hosts lies a network of our own (see [`net`]).
//!
//! What the model leaves out: tasks change places only where they wait, never within a step, as on one core; a `select!`
//! that is `biased` keeps its order; and the draws are one stream, so a plan with one fault less runs in another order
//! from the start (turmoil's hardly changes). Timers go off no earlier than 1 ms after they were set.

pub mod net;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::madsim::Config;
use ::madsim::runtime::{NodeHandle, Runtime};
use ::madsim::time::{TimeHandle, sleep};
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;

use super::nemesis::Stage;
use super::{Ended, Engine, TICK};
use crate::trace::Trace;
use net::{MadsimNet, Network};

/// A madsim runtime with the hosts on it.
pub struct Madsim {
    runtime: Runtime,
    network: Network,
    nodes: BTreeMap<String, NodeHandle>,
    elapsed: Duration,
    /// The first process that ended with an error.
    ended: Arc<Mutex<Option<String>>>,
}

impl Madsim {
    fn note(ended: &Mutex<Option<String>>, name: &str, outcome: Ended) {
        if let Err(error) = outcome {
            let mut ended = ended.lock().expect("no panic happens while it is held");
            ended.get_or_insert_with(|| format!("{name}: {error}"));
        }
    }

    fn node(&self, host: &str) -> &NodeHandle {
        self.nodes.get(host).unwrap_or_else(|| panic!("the plan names {host}, which is no host of this world"))
    }
}

impl Engine for Madsim {
    type Net = MadsimNet;

    fn subscriber(trace: &Trace, lines: Option<Targets>) -> Box<dyn Subscriber + Send + Sync> {
        super::by_spans(trace, lines, &["node", "task"])
    }

    fn new(seed: u64, _clients: u32) -> Self {
        Self {
            runtime: Runtime::with_seed_and_config(seed, Config::default()),
            network: Network::new(seed),
            nodes: BTreeMap::new(),
            elapsed: Duration::ZERO,
            ended: Arc::default(),
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a thread without a past: it lives as long as the run and shares nothing"
    )]
    fn enclosed<T: Send>(seed: u64, run: impl FnOnce() -> T + Send) -> T {
        let alone = move || {
            // The first runtime of a thread seeds what `HashMap`s of that thread are keyed with, if none was made before.
            drop(Runtime::with_seed_and_config(seed, Config::default()));
            run()
        };
        std::thread::scope(|scope| match scope.spawn(alone).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    fn net(&self, host: &str) -> MadsimNet {
        MadsimNet::new(host, &self.network)
    }

    fn host<P, F>(&mut self, name: &str, process: P)
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Ended> + Send + 'static,
    {
        let (ended, label) = (self.ended.clone(), name.to_owned());
        let init = move || {
            let (ended, label, process) = (ended.clone(), label.clone(), process());
            async move { Self::note(&ended, &label, process.await) }
        };
        let node = self.runtime.create_node().name(name).init(init).build();
        self.nodes.insert(name.to_owned(), node);
    }

    fn client<F>(&mut self, name: &str, process: F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (ended, label) = (self.ended.clone(), name.to_owned());
        let node = self.runtime.create_node().name(name).build();
        node.spawn(async move { Self::note(&ended, &label, process.await) });
        self.nodes.insert(name.to_owned(), node);
    }

    fn pass(&mut self, _until: Duration, told: &mut dyn FnMut(Duration)) -> Result<(), String> {
        told(self.elapsed);
        self.elapsed = self.runtime.block_on(async {
            sleep(TICK).await;
            TimeHandle::current().elapsed()
        });
        self.network.at(self.elapsed);
        match self.ended.lock().expect("no panic happens while it is held").take() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    fn now() -> Option<Duration> {
        TimeHandle::try_current().map(|time| time.elapsed())
    }
}

impl Stage for Madsim {
    fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn hold(&mut self, a: &str, b: &str) {
        self.network.hold(a, b);
    }

    fn release(&mut self, a: &str, b: &str) {
        self.network.release(a, b);
    }

    fn cut(&mut self, a: &str, b: &str) {
        self.network.cut(a, b);
        self.network.cut(b, a);
    }

    fn cut_one_way(&mut self, a: &str, b: &str) {
        self.network.cut(a, b);
    }

    fn repair(&mut self, a: &str, b: &str) {
        self.network.repair(a, b);
    }

    fn delay(&mut self, a: &str, b: &str, by: Duration) {
        self.network.delay(a, b, by);
    }

    fn pause(&mut self, host: &str) -> bool {
        self.runtime.handle().pause(self.node(host).id());
        true
    }

    fn resume(&mut self, host: &str) {
        self.runtime.handle().resume(self.node(host).id());
    }

    fn crash(&mut self, host: &str) {
        self.network.down(host);
        self.runtime.handle().kill(self.node(host).id());
    }

    fn start(&mut self, host: &str) {
        self.runtime.handle().restart(self.node(host).id());
    }
}
