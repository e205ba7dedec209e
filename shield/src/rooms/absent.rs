//! Rooms that are known not to exist: a SUB there is answered 5001 without asking anybody, for at most 5 s and only until
//! a command is on its way to the room or it is known to exist: by an answer of its owner, whatever it says, by an event,
//! by a heartbeat. An answer that is older than the room is not
//! remembered: while it was on its way, a command may have brought the room into being.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use proto::RoomKey;
use tokio::time::Instant;

/// How long an absent room is answered 5001 without asking.
const ABSENT: Duration = Duration::from_secs(5);
/// Absent rooms that are remembered; beyond, all are forgotten.
const ABSENT_MAX: usize = 4096;
/// Counters of signs that a room is served; rooms share them, by hash. Whoever meets another's sign only asks once more.
const SERVED: usize = 1024;

/// The rooms, and when each was found to be absent.
#[derive(Debug)]
pub(crate) struct Absent {
    since: Mutex<BTreeMap<RoomKey, Instant>>,
    /// How many they are: mostly none, and then nobody need lock.
    len: AtomicUsize,
    served: Box<[AtomicU32]>,
}

/// What was known of a room when somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u32);

impl Default for Absent {
    fn default() -> Self {
        let served = (0..SERVED).map(|_| AtomicU32::new(0)).collect();
        Self { since: Mutex::default(), len: AtomicUsize::new(0), served }
    }
}

impl Absent {
    /// To be taken before the room is asked for.
    pub(crate) fn asked(&self, key: &RoomKey) -> Asked {
        Asked(self.slot(key).load(Ordering::SeqCst))
    }

    /// The room is known to exist: it answered, one of its events came, or its Brain named it.
    pub(crate) fn served(&self, key: &RoomKey) {
        self.slot(key).fetch_add(1, Ordering::SeqCst);
        self.forget(key);
    }

    /// FNV-1a, as the counters need no more.
    fn slot(&self, key: &RoomKey) -> &AtomicU32 {
        let names = [key.tenant.as_str(), key.room.as_str()];
        let hash = names
            .iter()
            .flat_map(|name| name.bytes().chain([0]))
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        &self.served[usize::try_from(hash % SERVED as u64).unwrap_or_default()]
    }

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

    /// The room was found to be absent by who had `asked`.
    pub(crate) fn note(&self, key: &RoomKey, asked: Asked) {
        let mut since = self.since.lock().expect("no code panics while it holds this lock");
        if since.len() >= ABSENT_MAX {
            since.clear();
        }
        // What was said from memory alone does not prolong the memory.
        let found = since.entry(key.clone()).or_insert_with(Instant::now);
        if found.elapsed() >= ABSENT {
            *found = Instant::now();
        }
        // Told before it is looked at, as `served` tells before it looks: one of the two sees the other.
        self.len.store(since.len(), Ordering::SeqCst);
        if self.asked(key) != asked {
            since.remove(key);
            self.len.store(since.len(), Ordering::SeqCst);
        }
    }

    /// A command is on its way to the room, which may bring it into being.
    pub(crate) fn forget(&self, key: &RoomKey) {
        self.change(|since| since.remove(key));
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<RoomKey, Instant>) -> T) -> Option<T> {
        if self.len.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut since = self.since.lock().expect("no code panics while it holds this lock");
        let done = change(&mut since);
        self.len.store(since.len(), Ordering::SeqCst);
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
        absent.note(&room("a"), absent.asked(&room("a")));
        absent.note(&room("b"), absent.asked(&room("b")));
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert!(absent.knows(&room("a")) && absent.knows(&room("b")));
        absent.forget(&room("a"));
        assert!(!absent.knows(&room("a")) && absent.knows(&room("b")), "only what was named");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!absent.knows(&room("b")));
        assert_eq!(absent.len.load(Ordering::Acquire), 0);
    }

    #[test]
    fn an_answer_older_than_the_room_is_not_remembered() {
        let absent = Absent::default();
        let asked = absent.asked(&room("a"));
        absent.served(&room("a"));
        absent.note(&room("a"), asked);
        assert!(!absent.knows(&room("a")), "it was brought into being meanwhile");
        absent.note(&room("a"), absent.asked(&room("a")));
        assert!(absent.knows(&room("a")));
    }

    #[test]
    fn bounded() {
        let absent = Absent::default();
        for n in 0..3 * ABSENT_MAX {
            let room = room(&format!("r{n}"));
            absent.note(&room, absent.asked(&room));
        }
        assert!(absent.len.load(Ordering::Acquire) <= ABSENT_MAX);
    }
}
