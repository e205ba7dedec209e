//! Cores that decide in the model's place, wherever they run.

use std::sync::Arc;

use brain_shell::cores::Cores;

/// The cores of every Brain of one simulated world.
pub trait Deciders: Send + Sync {
    /// Those of the Brain with this number.
    fn node(&self, node: u64) -> Arc<dyn Cores>;

    /// The first failure; from then on no core decides anything.
    fn failed(&self) -> Option<Failure>;

    /// How many steps were compared with the model's.
    fn compared(&self) -> u64;
}

/// Why the cores do not decide any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They do not do what the model does.
    Differs(String),
    /// A core raised, or said what no core can say.
    Broken(String),
    /// The process does not answer.
    Silent(String),
}
