//! Which sockets may be in their handshake. The number is bounded; when it is reached the oldest makes room, so a flood
//! of sockets that say nothing cannot keep out a client that speaks. Only a complete request counts against
//! `[limits] accept_per_s`, for the same reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bucket::Bucket;

/// Sockets that may be in their handshake, or on their way out of a refused one, at once.
const HANDSHAKES_MAX: usize = 4096;

pub(super) struct Admission {
    rate: Mutex<Rate>,
    open: Mutex<Open>,
}

struct Rate {
    per_s: u32,
    bucket: Bucket,
}

/// In the order of their arrival.
#[derive(Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, Arc<Notify>>,
}

/// One socket's place; free again when dropped.
pub(super) struct Place {
    admission: Arc<Admission>,
    n: u64,
    evicted: Arc<Notify>,
}

impl Admission {
    pub(super) fn new(per_s: u32, now: Instant) -> Arc<Self> {
        let rate = Mutex::new(Rate { per_s, bucket: Bucket::new(per_s, per_s, now) });
        Arc::new(Self { rate, open: Mutex::default() })
    }

    /// Takes one request out of this second's, whose number is `[limits] accept_per_s` as it is now.
    fn allows(&self, per_s: u32, now: Instant) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.per_s != per_s {
            rate.per_s = per_s;
            rate.bucket.retune(per_s, per_s);
        }
        rate.bucket.take(now).is_ok()
    }

    /// A place for a new socket; the oldest is told to go if there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.places.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = open.places.pop_first()
        {
            oldest.notify_one();
        }
        open.next += 1;
        let (n, evicted) = (open.next, Arc::new(Notify::new()));
        open.places.insert(n, evicted.clone());
        Place { admission: self.clone(), n, evicted }
    }
}

impl Place {
    /// Takes one request out of this second's.
    pub(super) fn allows(&self, per_s: u32) -> bool {
        self.admission.allows(per_s, Instant::now())
    }

    /// Resolves when a newer socket needs the place.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.lock().unwrap_or_else(PoisonError::into_inner).places.remove(&self.n);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_and_a_reload_changes_the_rate() {
        let admission = Admission::new(2, Instant::now());
        let mut places: Vec<Place> = (0..HANDSHAKES_MAX).map(|_| admission.enter()).collect();
        assert!(places[0].evicted().now_or_never().is_none(), "there is room for all");
        drop(places.remove(1));
        places.push(admission.enter());
        assert!(places[0].evicted().now_or_never().is_none(), "a place that was given back is used first");
        places.push(admission.enter());
        assert!(places[0].evicted().now_or_never().is_some(), "the oldest goes");
        assert!(places[1].evicted().now_or_never().is_none(), "and no other");
        assert_eq!(admission.open.lock().unwrap().places.len(), HANDSHAKES_MAX);
        drop(places);
        assert_eq!(admission.open.lock().unwrap().places.len(), 0);

        let now = Instant::now();
        let allowed = |per_s| (0..10).filter(|_| admission.allows(per_s, now)).count();
        assert_eq!(allowed(2), 2);
        assert_eq!(allowed(2), 0);
    }
}
