//! Rooms that are known not to exist: a SUB there is answered 5001 without asking anybody, for at most 5 s and only until
//! a command is on its way to the room or somebody is known to serve it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto::RoomKey;
use tokio::time::Instant;

/// How long an absent room is answered 5001 without asking.
const ABSENT: Duration = Duration::from_secs(5);
/// Absent rooms that are remembered; beyond, all are forgotten.
const ABSENT_MAX: usize = 4096;

/// The rooms, and when each was found to be absent.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    since: Mutex<BTreeMap<RoomKey, Instant>>,
    /// How many they are: mostly none, and then nobody need lock.
    len: AtomicUsize,
}

impl Absent {
    /// The room is known to be absent since less than 5 s.
    pub(crate) fn knows(&self, key: &RoomKey) -> bool {
        self.change(|since| match since.get(key) {
            Some(found) if found.elapsed() < ABSENT => true,
            Some(_) => {
                since.remove(key);
                false
            }
            None => false,
        })
        .unwrap_or(false)
    }

    /// The room was found to be absent.
    pub(crate) fn note(&self, key: &RoomKey) {
        let mut since = self.since.lock().expect("no code panics while it holds this lock");
        if since.len() >= ABSENT_MAX {
            since.clear();
        }
        since.insert(key.clone(), Instant::now());
        self.len.store(since.len(), Ordering::Release);
    }

    /// A command on its way to the room may bring it into being, or somebody serves it.
    pub(crate) fn forget(&self, key: &RoomKey) {
        self.change(|since| since.remove(key));
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<RoomKey, Instant>) -> T) -> Option<T> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut since = self.since.lock().expect("no code panics while it holds this lock");
        let done = change(&mut since);
        self.len.store(since.len(), Ordering::Release);
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{RoomId, TenantId};

    fn room(name: &str) -> RoomKey {
        RoomKey::new(TenantId::parse("acme").unwrap(), RoomId::parse(name).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_for_five_seconds_or_until_it_is_served() {
        let absent = Absent::default();
        assert!(!absent.knows(&room("a")));
        absent.note(&room("a"));
        absent.note(&room("b"));
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert!(absent.knows(&room("a")) && absent.knows(&room("b")));
        absent.forget(&room("a"));
        assert!(!absent.knows(&room("a")) && absent.knows(&room("b")), "only what was named");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!absent.knows(&room("b")));
        assert_eq!(absent.len.load(Ordering::Acquire), 0);
    }

    #[test]
    fn bounded() {
        let absent = Absent::default();
        for n in 0..3 * ABSENT_MAX {
            absent.note(&room(&format!("r{n}")));
        }
        assert!(absent.len.load(Ordering::Acquire) <= ABSENT_MAX);
    }
}
