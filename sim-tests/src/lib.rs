//! The deterministic simulator: scenario + seed → [`plan`] → run → [`trace`] + verdict, and the [`oracles`] that judge a
//! trace, simulated or real. Its face is `cargo sim`.

pub mod client;
pub mod engine;
#[cfg(not(madsim))]
pub mod lockstep;
pub mod logbook;
pub mod oracles;
pub mod plan;
#[cfg(not(madsim))]
pub mod real;
pub mod scenario;
pub mod seed;
pub mod shrink;
pub mod timeline;
pub mod tokens;
pub mod trace;
pub mod twin;
pub mod verdict;
