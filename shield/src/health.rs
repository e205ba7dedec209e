//! What the whole Shield knows of its own state: whether it hears the Spine, whether it is going away. Read on the hot
//! path, written by the tasks that watch.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::RoomKey;

/// Rooms that are remembered as silent at once.
const SUSPECTS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Health {
    linked: AtomicBool,
    inbox: AtomicBool,
    stale: AtomicBool,
    draining: AtomicBool,
    /// Rooms whose owner left a command without an answer.
    suspects: Mutex<BTreeSet<RoomKey>>,
}

impl Health {
    /// True if there is a connection to the broker.
    pub(crate) fn linked(&self) -> bool {
        self.linked.load(Ordering::Acquire)
    }

    pub(crate) fn set_linked(&self, up: bool) {
        self.linked.store(up, Ordering::Release);
    }

    /// Answers can arrive.
    pub(crate) fn inbox_ready(&self) {
        self.inbox.store(true, Ordering::Release);
    }

    /// True if our own heartbeat has not come back for long.
    pub(crate) fn stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// True if a command can be taken at all.
    pub(crate) fn serving(&self) -> bool {
        self.linked() && self.inbox.load(Ordering::Acquire) && !self.stale()
    }

    /// Why this Shield should get no new clients; `None`: it should.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        if self.draining() {
            Some("draining: this Shield is going away")
        } else if !self.linked() {
            Some("the Spine is away: no connection to NATS; see [nats] urls and the broker's log")
        } else if !self.inbox.load(Ordering::Acquire) {
            Some("starting: the reply inbox is not subscribed yet")
        } else if self.stale() {
            Some("stale: our own heartbeat does not come back from NATS")
        } else {
            None
        }
    }

    /// A command to this room got no answer in time.
    pub(crate) fn unanswered(&self, room: &RoomKey) {
        let mut suspects = self.suspects.lock().expect("no code panics while it holds this lock");
        if suspects.len() < SUSPECTS_MAX {
            suspects.insert(room.clone());
        }
    }

    /// The rooms of [`Health::unanswered`] since the last call.
    pub(crate) fn take_suspects(&self) -> BTreeSet<RoomKey> {
        std::mem::take(&mut *self.suspects.lock().expect("no code panics while it holds this lock"))
    }
}
