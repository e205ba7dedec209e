//! The suite that every [`Spine`] must pass: one case for each sentence of the trait's documentation, and for each
//! thing that a real client does badly, written as what the trait promises instead.
//!
//! An arm is a [`World`]: a broker that can be killed, restarted, paused, and a way to connect to it. One line makes
//! a `#[test]` of every case, with the same names on each arm, and one that checks and prints their number:
//!
//! ```ignore
//! spine::contract_tests!(MyWorld);
//! ```

pub mod accounts;
mod cases;
pub mod core;
pub mod faults;
pub mod jetstream;
pub mod permissions;
mod tools;

use std::future::Future;
use std::time::Duration;

use crate::{Spine, SpineOptions, UserSpec};

pub use cases::CASES;

/// What a case says: `Err` holds what was seen instead of what must be.
pub type Outcome = Result<(), String>;

/// The longest that a case may run, on the world's clock.
pub const CASE_LIMIT: Duration = Duration::from_secs(90);

/// How the broker of a case is set up. JetStream is always on; its files survive [`World::kill`].
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Bytes; `None`: 1 MiB.
    pub max_payload: Option<usize>,
    /// Bytes of disk that the streams may take together; `None`: plenty.
    pub max_store: Option<u64>,
    /// Empty: anyone may do everything, without credentials.
    pub users: Vec<UserSpec>,
}

/// A broker under test and the way to connect to it.
pub trait World: Sized + Send + 'static {
    /// The implementation under test.
    type Spine: Spine;

    /// Starts a broker of its own, without any stream.
    fn start(setup: Setup) -> impl Future<Output = Result<Self, String>> + Send;

    /// A new connection. The world puts its broker's address in place of `options.urls`. Returns at once.
    fn connect(&self, options: SpineOptions) -> Self::Spine;

    /// The broker dies without a goodbye; what it has written to files stays.
    fn kill(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// The broker starts again at the same address, with its files.
    fn restart(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// The broker hangs: connections stay open, nothing is read or answered.
    fn pause(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// The broker goes on where it was paused.
    fn resume(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// Runs a case to its end. A simulated world overrides this to put the case on one of its hosts.
    fn run(case: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        runtime.block_on(case)
    }
}

/// Runs one case within [`CASE_LIMIT`] and panics with its name if it fails. The macro calls this.
pub fn run<W: World>(name: &str, case: impl Future<Output = Outcome> + Send + 'static) {
    let limited = async move {
        tokio::time::timeout(CASE_LIMIT, case).await.unwrap_or_else(|_| Err(format!("not done after {CASE_LIMIT:?}")))
    };
    if let Err(seen) = W::run(limited) {
        panic!("contract case {name}: {seen}");
    }
}
