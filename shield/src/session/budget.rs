//! What a connection may send. Every frame takes from a budget, whatever it is:
//!
//! | frame | budget |
//! | --- | --- |
//! | PUB, malformed ones included | the gate's, `pub_per_s` and `pub_burst` |
//! | everything else: SUB, UNSUB, get, presence, AUTH, HB, WebSocket pings and pongs, what is no frame | [`Budget::take`] |
//!
//! A request over its budget is answered 4502, because its sender must know that it was not done; a frame that nothing
//! identifies is not answered. Each frame over the budget takes one from the patience, which refills at `pub_per_s`.
//! Without patience left the connection is closed with 4101. So the answers of a flood are bounded: at most the
//! patience, and `pub_per_s` after that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use voltron_core::config::Limits;

use crate::bucket::Bucket;

/// The patience, in bursts of PUB.
const PATIENCE_BURSTS: u32 = 20;

pub(super) struct Budget {
    /// Everything but PUB.
    frames: Bucket,
    patience: Bucket,
    /// What the buckets were last tuned to.
    limits: Arc<Limits>,
}

impl Budget {
    pub(super) fn new(limits: Arc<Limits>, now: Instant) -> Self {
        let frames = Bucket::new(limits.pub_per_s, frames_burst(&limits), now);
        let patience = Bucket::new(limits.pub_per_s, patience_burst(&limits), now);
        Self { frames, patience, limits }
    }

    /// Takes one frame, or says how long until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.frames.take(now)
    }

    /// One more frame over a budget. False: the patience is at its end.
    pub(super) fn bear(&mut self, now: Instant) -> bool {
        self.patience.take(now).is_ok()
    }

    /// The limits that hold.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes over new limits; true if they are new.
    pub(super) fn retune(&mut self, limits: &Arc<Limits>) -> bool {
        if Arc::ptr_eq(limits, &self.limits) {
            return false;
        }
        self.limits = limits.clone();
        self.frames.retune(limits.pub_per_s, frames_burst(limits));
        self.patience.retune(limits.pub_per_s, patience_burst(limits));
        true
    }
}

/// As many questions at once as a client that comes back needs: all its rooms, and their state.
fn frames_burst(limits: &Limits) -> u32 {
    limits.pub_burst.max(limits.rooms.saturating_mul(2))
}

fn patience_burst(limits: &Limits) -> u32 {
    limits.pub_burst.saturating_mul(PATIENCE_BURSTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_in_between_does_not_renew_the_patience() {
        let limits = Arc::new(Limits { pub_per_s: 10, pub_burst: 2, rooms: 1, ..Limits::default() });
        let start = Instant::now();
        let mut budget = Budget::new(limits.clone(), start);
        let mut borne = 0;
        for second in 0..4 {
            let now = start + Duration::from_secs(second);
            assert!(budget.take(now).is_ok(), "within the budget again");
            while budget.bear(now) {
                borne += 1;
            }
        }
        assert_eq!(borne, 40 + 3 * 10, "20 bursts of 2, then 10 a second");
        assert!(!budget.retune(&limits));
        assert!(budget.retune(&Arc::new(Limits { pub_burst: 100, ..Limits::default() })));
        assert!(budget.bear(start + Duration::from_secs(4)), "new limits hold at once");
    }
}
