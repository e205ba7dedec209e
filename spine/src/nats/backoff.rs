//! How long to wait before the next attempt to connect.

use tokio::time::Duration;
use voltron_core::mutant;

const FIRST: Duration = Duration::from_millis(20);

/// Doubles from 20 ms to the configured longest pause, of which each connection takes another part: a broker that
/// comes back is not met by all at once. The part follows from the connection's name and the attempt, so a run can be
/// repeated.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    seed: u64,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(name: &str, longest: Duration) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| mix(hash ^ u64::from(b)));
        Self { seed, longest }
    }

    /// `attempt` counts from 1 since the last connection. The very first attempt ever does not wait.
    pub(super) fn delay(&self, attempt: usize, was_connected: bool) -> Duration {
        if (attempt <= 1 && !was_connected) || mutant!(ReconnectWithoutBackOff) {
            return Duration::ZERO;
        }
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let full = FIRST.saturating_mul(1 << doublings).min(self.longest);
        // Between a half and all of it.
        let part = mix(self.seed ^ attempt as u64) % 512;
        full / 2 + full.saturating_mul(u32::try_from(part).unwrap_or(0)) / 1_024
    }
}

/// SplitMix64's finaliser: spreads every bit over all others.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_differs_between_names() {
        let longest = Duration::from_secs(1);
        let (one, two) = (Backoff::new("shield-1", longest), Backoff::new("shield-2", longest));
        assert_eq!(one.delay(1, false), Duration::ZERO);
        assert!(one.delay(1, true) >= FIRST / 2);
        for attempt in 2..100 {
            let delay = one.delay(attempt, true);
            assert!(delay <= longest && delay >= FIRST / 2, "attempt {attempt}: {delay:?}");
            assert_eq!(delay, one.delay(attempt, true));
        }
        assert!(one.delay(20, true) >= longest / 2);
        assert!((2..20).any(|n| one.delay(n, true) != two.delay(n, true)));
        assert!(one.delay(usize::MAX, true) <= longest);
    }
}
