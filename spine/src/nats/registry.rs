//! The live subscriptions, for what concerns more than one: a denial by the broker, a loss in the client, the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::Pattern;

use crate::buffer::Feed;

/// All subscriptions of a connection.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<Mutex<Subscriptions>>);

#[derive(Default)]
struct Subscriptions {
    next: u64,
    all: BTreeMap<u64, Entry>,
}

struct Entry {
    pattern: Bytes,
    feed: Feed,
    denied: Option<String>,
}

/// One subscription's place; dropping it leaves the registry.
pub(super) struct Registration {
    registry: Registry,
    id: u64,
}

impl Registry {
    pub(super) fn add(&self, pattern: &Pattern, feed: Feed) -> Registration {
        let mut subscriptions = self.lock();
        let id = subscriptions.next;
        subscriptions.next += 1;
        subscriptions.all.insert(id, Entry { pattern: pattern.as_bytes().clone(), feed, denied: None });
        Registration { registry: self.clone(), id }
    }

    /// The broker said no to a pattern: all subscriptions to it end. That also holds for one that was allowed before
    /// and is denied at a reconnect, because permissions have changed.
    pub(super) fn deny(&self, pattern: &str, text: &str) {
        for entry in self.lock().all.values_mut().filter(|entry| entry.pattern == pattern.as_bytes()) {
            entry.denied = Some(text.to_owned());
            entry.feed.end();
        }
    }

    /// The client dropped messages and does not say whose: everybody is told, since a needless repair is harmless.
    pub(super) fn lose_everywhere(&self) {
        for entry in self.lock().all.values() {
            entry.feed.lose(1);
        }
    }

    pub(super) fn end_all(&self) {
        for entry in self.lock().all.values() {
            entry.feed.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Subscriptions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Why the broker refused it, if it did.
    pub(super) fn denied(&self) -> Option<String> {
        self.registry.lock().all.get(&self.id).and_then(|entry| entry.denied.clone())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().all.remove(&self.id);
    }
}
