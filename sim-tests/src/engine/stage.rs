//! turmoil's hosts and links, as the nemesis troubles them.

use std::time::Duration;

use turmoil::Sim;

use super::nemesis::Stage;
use super::net::Cables;

/// A turmoil simulation with the connections that run over it.
pub struct Turmoil<'s> {
    sim: Sim<'s>,
    cables: Cables,
}

impl<'s> Turmoil<'s> {
    /// Takes a simulation whose hosts are all there.
    pub fn new(sim: Sim<'s>, cables: &Cables) -> Self {
        Self { sim, cables: cables.clone() }
    }

    /// The simulation itself: to step it, and to add a host.
    pub fn sim(&mut self) -> &mut Sim<'s> {
        &mut self.sim
    }
}

impl Stage for Turmoil<'_> {
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
