//! The simulated world on turmoil: sockets, clocks and entropy that only the seed determines.

pub mod clock;
pub mod ids;
pub mod nemesis;
pub mod net;
pub mod stage;
pub mod world;

pub use clock::SimClock;
pub use ids::SimIds;
pub use net::{Cables, TurmoilNet};
