//! The wall clock of a simulated host: virtual time since a fixed date, with an offset of its own that steps or drifts.

use std::sync::{Arc, Mutex, MutexGuard};

use voltron_core::WallClock;

/// Every simulated world begins at this date: 2026-01-01T00:00:00Z, in ms since 1970.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// A [`WallClock`] that reads the engine's virtual time. Outside of a simulated host it stands still at the epoch. Clones
/// share the offset.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<Offset>>);

/// How far a clock is ahead of the world.
#[derive(Clone, Copy, Debug, Default)]
struct Offset {
    fixed_ms: i64,
    drift: Option<Drift>,
}

/// From `from_ms` to `to_ms`, virtual, the clock gains `gain_ms`, evenly.
#[derive(Clone, Copy, Debug)]
struct Drift {
    from_ms: i64,
    to_ms: i64,
    gain_ms: i64,
}

impl Offset {
    fn at(self, virtual_ms: i64) -> i64 {
        let drifted = self.drift.map_or(0, |Drift { from_ms, to_ms, gain_ms }| {
            let gone = virtual_ms.clamp(from_ms, to_ms) - from_ms;
            // Both factors are below a day of milliseconds.
            gain_ms * gone / (to_ms - from_ms).max(1)
        });
        self.fixed_ms + drifted
    }
}

impl SimClock {
    /// A clock that is `offset_ms` ahead of the world (behind, if negative).
    pub fn new(offset_ms: i64) -> Self {
        Self(Arc::new(Mutex::new(Offset { fixed_ms: offset_ms, drift: None })))
    }

    /// Steps: from now on it is `offset_ms` ahead of the world, and drifts no more.
    pub fn set(&self, offset_ms: i64) {
        *self.lock() = Offset { fixed_ms: offset_ms, drift: None };
    }

    /// Gains `gain_ms` evenly between two virtual times, in ms since the world began (or loses, if negative).
    pub fn drift(&self, from_ms: i64, to_ms: i64, gain_ms: i64) {
        self.lock().drift = Some(Drift { from_ms, to_ms, gain_ms });
    }

    fn lock(&self) -> MutexGuard<'_, Offset> {
        self.0.lock().expect("no panic happens while it is held")
    }
}

impl WallClock for SimClock {
    fn now_ms(&self) -> i64 {
        let virtual_ms = super::now().unwrap_or_default().as_millis();
        let virtual_ms = i64::try_from(virtual_ms).unwrap_or(i64::MAX / 2);
        EPOCH_MS + virtual_ms + self.lock().at(virtual_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_gains_evenly_and_stays_until_it_is_set() {
        let clock = SimClock::new(0);
        clock.drift(1_000, 3_000, -400);
        let offset = *clock.lock();
        assert_eq!([0, 1_000, 2_000, 3_000, 9_000].map(|at| offset.at(at)), [0, 0, -200, -400, -400]);
        clock.set(70);
        assert_eq!(clock.now_ms(), EPOCH_MS + 70);
    }
}
