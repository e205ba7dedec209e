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
    /// Our own heartbeat came back on this connection.
    echoed: AtomicBool,
    /// A Brain was heard lately.
    brain: AtomicBool,
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
        if !up {
            self.echoed.store(false, Ordering::Release);
        }
    }

    /// Our own heartbeat came back: the broker hears us, and we it.
    pub(crate) fn echoed(&self) {
        self.echoed.store(true, Ordering::Release);
    }

    pub(crate) fn set_brain(&self, heard: bool) {
        self.brain.store(heard, Ordering::Release);
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
        } else if !self.echoed.load(Ordering::Acquire) {
            Some("starting: our own heartbeat has not come back from NATS yet")
        } else if !self.brain.load(Ordering::Acquire) {
            Some("no Brain: no heartbeat of any Brain was heard within [brain] down_after_ms; see the Brains' /readyz")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_is_connected_hears_itself_and_a_brain() {
        let health = Health::default();
        let says = |words: &str| assert!(health.unready().is_some_and(|why| why.contains(words)), "{words}");
        says("the Spine is away");
        health.set_linked(true);
        says("reply inbox");
        health.inbox_ready();
        says("our own heartbeat has not come back");
        health.echoed();
        says("no Brain");
        health.set_brain(true);
        assert_eq!(health.unready(), None);
        health.set_brain(false);
        says("no Brain");
        health.set_brain(true);
        health.set_stale(true);
        says("stale");
        health.set_stale(false);
        // What was heard on a connection says nothing of the next one.
        health.set_linked(false);
        says("the Spine is away");
        health.set_linked(true);
        says("our own heartbeat has not come back");
        health.echoed();
        assert_eq!(health.unready(), None);
        health.drain();
        says("draining");
    }
}
