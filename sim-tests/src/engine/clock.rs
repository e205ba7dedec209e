//! The wall clock of a simulated host: virtual time since a fixed date, with an offset of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use voltron_core::WallClock;

/// Every simulated world begins at this date: 2026-01-01T00:00:00Z, in ms since 1970.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// A [`WallClock`] that reads the engine's virtual time. Outside of a simulated host it stands still at the epoch.
#[derive(Clone, Debug)]
pub struct SimClock {
    offset_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is `offset_ms` ahead of the world (behind, if negative).
    pub fn new(offset_ms: i64) -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(offset_ms)) }
    }
}

impl WallClock for SimClock {
    fn now_ms(&self) -> i64 {
        let virtual_ms = <super::ThisEngine as super::Engine>::now().unwrap_or_default().as_millis();
        EPOCH_MS + i64::try_from(virtual_ms).unwrap_or(i64::MAX / 2) + self.offset_ms.load(Ordering::Relaxed)
    }
}
