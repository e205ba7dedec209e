//! A token bucket over tokio's clock: `burst` at once, `per_s` in the long run. Whole nanoseconds, so the simulator and
//! production agree to the last message.

use std::time::Duration;

use tokio::time::Instant;

/// Takes at most `burst` at once and `per_s` sustained.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// When the bucket is, or was, full again.
    full_at: Instant,
    cost: Duration,
    depth: Duration,
}

impl Bucket {
    pub(crate) fn new(per_s: u32, burst: u32, now: Instant) -> Self {
        let cost = Duration::from_secs(1) / per_s.max(1);
        Self { full_at: now, cost, depth: cost * burst.max(1) }
    }

    /// Takes one, or says how long until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let after = self.full_at.max(now) + self.cost;
        match after.checked_duration_since(now + self.depth) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = after;
                Ok(())
            }
        }
    }

    /// New limits from here on; what was taken stays taken.
    pub(crate) fn retune(&mut self, per_s: u32, burst: u32) {
        self.cost = Duration::from_secs(1) / per_s.max(1);
        self.depth = self.cost * burst.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        assert!((0..3).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(150)).is_err());
        let later = start + Duration::from_secs(60);
        assert!((0..3).all(|_| bucket.take(later).is_ok()), "a full bucket holds no more than its burst");
        assert!(bucket.take(later).is_err());
    }
}
