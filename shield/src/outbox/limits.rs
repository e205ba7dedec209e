//! What bounds a queue: the limits of the configuration as they are now, and what all queues of the Shield share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use voltron_core::config::Limits;

use super::SHIELD_BULK_MAX;

/// Bytes and messages that may wait.
pub(crate) enum Bounds {
    /// These.
    #[cfg(test)]
    Fixed(usize, usize),
    /// What the configuration says, also after a reload.
    Live(Arc<ArcSwap<Limits>>),
}

impl Bounds {
    pub(super) fn get(&self) -> (usize, usize) {
        match self {
            #[cfg(test)]
            Self::Fixed(bytes, messages) => (*bytes, *messages),
            Self::Live(limits) => {
                let limits = limits.load();
                (limits.queue_bytes as usize, limits.queue_messages as usize)
            }
        }
    }
}

/// Bytes of bulk that wait for all connections of one Shield.
#[derive(Debug, Default)]
pub(crate) struct Pool(AtomicUsize);

impl Pool {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() > SHIELD_BULK_MAX
    }

    /// How many they are.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
