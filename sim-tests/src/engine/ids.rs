//! Entropy of a simulated host: keyed by (seed, host, purpose, how often it was asked), so that one host's or one
//! purpose's draws never shift another's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use voltron_core::Ids;

use crate::seed::Draw;

/// Seeded [`Ids`] of one host. The counters live as long as the world, so a host that crashes and starts again draws
/// new numbers: an incarnation never comes twice.
#[derive(Clone, Debug)]
pub struct SimIds {
    seed: u64,
    host: Arc<str>,
    drawn: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl SimIds {
    /// For this host of the world with this seed.
    pub fn new(seed: u64, host: &str) -> Self {
        Self { seed, host: host.into(), drawn: Arc::default() }
    }
}

impl Ids for SimIds {
    fn fill(&self, purpose: &'static str, out: &mut [u8]) {
        let counter = {
            let mut drawn = self.drawn.lock().expect("no panic happens while it is held");
            let counter = drawn.entry(purpose).or_default();
            *counter += 1;
            *counter
        };
        Draw::new(self.seed, &format!("ids/{}/{purpose}", self.host)).fill_at(counter, out);
    }
}
