//! The wall clock as a seam. Durations are measured with `tokio::time::Instant`, which the simulator owns; only the
//! date comes from here, and in the simulator it steps and skews per host.

/// Reads the wall clock.
pub trait WallClock: Clone + Send + Sync + 'static {
    /// Milliseconds since 1970. May step backwards.
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the real clock")]
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
