//! Latencies of the links, keyed by (seed, link, virtual time): what one client does or leaves undone shifts no other
//! message. turmoil would draw each delay from the one stream that all messages share.

use std::collections::BTreeMap;
use std::time::Duration;

use ::turmoil::Sim;

use crate::seed::Draw;

/// For so long a link keeps its latency.
const WINDOW: Duration = Duration::from_millis(10);
/// Mostly short, sometimes long, in milliseconds.
const LATENCIES_MS: [u64; 8] = [1, 1, 1, 2, 2, 3, 4, 6];

/// Every link with its stream of latencies.
#[derive(Default)]
pub(super) struct Weather {
    /// What a link takes longer than usual.
    slow: BTreeMap<(String, String), Duration>,
    links: Vec<(String, String, Draw)>,
    /// The window that the links have their latencies of.
    window: Option<u64>,
}

impl Weather {
    /// Between any two of these hosts.
    pub(super) fn new(seed: u64, hosts: &[String]) -> Self {
        let pairs = hosts.iter().enumerate().flat_map(|(at, a)| hosts[at + 1..].iter().map(move |b| (a, b)));
        let link = |(a, b): (&String, &String)| (a.clone(), b.clone(), Draw::new(seed, &format!("latency/{a}|{b}")));
        Self { links: pairs.map(link).collect(), window: None, slow: BTreeMap::new() }
    }

    /// From now on this link takes so much longer than usual.
    pub(super) fn delay(&mut self, a: &str, b: &str, by: Duration) {
        self.slow.insert((a.to_owned(), b.to_owned()), by);
        self.slow.insert((b.to_owned(), a.to_owned()), by);
        self.window = None;
    }

    /// Sets what holds now. Every host must be there.
    pub(super) fn turn(&mut self, sim: &Sim<'_>) {
        let window = u64::try_from(sim.elapsed().as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX);
        if self.window.replace(window) == Some(window) {
            return;
        }
        for (a, b, draw) in &self.links {
            let mut byte = [0];
            draw.fill_at(window, &mut byte);
            let ms = LATENCIES_MS[usize::from(byte[0]) % LATENCIES_MS.len()];
            let slow = self.slow.get(&(a.clone(), b.clone())).copied().unwrap_or_default();
            sim.set_link_latency(a.as_str(), b.as_str(), Duration::from_millis(ms) + slow);
        }
    }
}
