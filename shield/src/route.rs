//! Where one room's messages go: subjects built once, cloned without allocation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::{RoomKey, Subject};

/// The subjects of one room, as one connection uses them.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) key: RoomKey,
    /// `in.…`
    pub(crate) input: Subject,
    /// `open.t.…` of its tenant.
    pub(crate) open: Subject,
    /// When the room's owner answered a command of this connection last, in ms of the Shield's life and one more; 0:
    /// never.
    spoke: AtomicU64,
    /// The highest (epoch, seq) acknowledged to this connection.
    head: Mutex<(u64, u64)>,
}

impl Route {
    pub(crate) fn new(key: RoomKey) -> Self {
        Self {
            input: Subject::input(&key),
            open: Subject::open(&key.tenant),
            key,
            spoke: AtomicU64::new(0),
            head: Mutex::default(),
        }
    }

    /// The owner answered.
    pub(crate) fn owner_spoke(&self, at_ms: u64) {
        self.spoke.store(at_ms.saturating_add(1), Ordering::Relaxed);
    }

    /// A command of this connection is stored at this place.
    pub(crate) fn stored(&self, epoch: u64, seq: u64) {
        let mut head = self.head.lock().expect("no code panics while it holds this lock");
        *head = (*head).max((epoch, seq));
    }

    /// The highest (epoch, seq) of [`Route::stored`]: whoever claims to own the room and knows less was deposed.
    pub(crate) fn acknowledged(&self) -> (u64, u64) {
        *self.head.lock().expect("no code panics while it holds this lock")
    }

    /// True if the owner answered less than `within_ms` before `now_ms`.
    pub(crate) fn owner_known(&self, now_ms: u64, within_ms: u64) -> bool {
        let spoke = self.spoke.load(Ordering::Relaxed);
        spoke > 0 && now_ms.saturating_sub(spoke - 1) < within_ms
    }
}
