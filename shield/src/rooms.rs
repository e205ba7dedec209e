//! The rooms this Shield follows: one task and one Spine subscription each, shared by all connections, alive until 10 s
//! after the last of them left. The registry here hands messages to those tasks without ever waiting.

mod absent;
pub(crate) mod core;
mod cursor;
mod entry;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use proto::{RoomKey, TenantId, subject};
use spine::Spine;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, error::TrySendError};
use voltron_core::{Ids, WallClock};

pub(crate) use self::absent::{Absent, Asked};
pub(crate) use self::core::SubId;
use self::core::WAITING_MAX;
use crate::shared::{Shared, full};
pub(crate) use task::{Asker, Dialect, Joiner, ask_owner, come_again};

/// Messages that may wait for one room's task: a crowd that comes at once fits in. A channel takes memory for what waits
/// alone.
const MAILBOX: usize = WAITING_MAX;

/// What a room's task is told.
pub(crate) enum Ask {
    Join(Box<Joiner>),
    Leave(SubId),
    /// A Brain's heartbeat: where the log of a room that it owns stands.
    Tail {
        epoch: u64,
        term: u64,
        pos: u64,
        node: Arc<str>,
    },
    /// Deliveries may have been lost; of this Brain's rooms alone, if one is named.
    Relink(Option<Arc<str>>),
    /// This Brain is silent.
    Silent(Arc<str>),
    /// A command to the room got no answer, and these Brains were not heard for a while.
    Unanswered(Arc<BTreeSet<String>>),
}

/// The registry.
pub(crate) struct Rooms {
    inner: Mutex<Inner>,
    next_sub: AtomicU64,
    /// A place for each SUB that asks its leave; who waits for one is served in the order of arrival.
    joins: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self::new(4096)
    }
}

#[derive(Default)]
struct Inner {
    rooms: BTreeMap<RoomKey, mpsc::Sender<Ask>>,
    by_hash: BTreeMap<u64, RoomKey>,
    /// How many of the rooms are each tenant's; none that has no room.
    tenants: BTreeMap<TenantId, usize>,
}

impl Inner {
    fn of_tenant(&self, key: &RoomKey) -> usize {
        self.tenants.get(&key.tenant).copied().unwrap_or(0)
    }

    /// A room of the tenant is gone.
    fn left(&mut self, tenant: &TenantId) {
        if let Some(count) = self.tenants.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(tenant);
            }
        }
    }
}

/// The room has more messages waiting than it may, or this Shield follows more rooms than it may.
#[derive(Debug)]
pub(crate) struct Busy;

impl Rooms {
    /// For a Shield that may have so many questions open. SUBs of all rooms ask their leave with half of them: rooms take
    /// turns, as each has few under way, and the other half is for `get`, for opens and for the rooms' own questions.
    pub(crate) fn new(questions: usize) -> Self {
        let joins = Arc::new(Semaphore::new((questions / 2).max(1)));
        Self { inner: Mutex::default(), next_sub: AtomicU64::new(0), joins }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    /// The number of a new subscription.
    pub(crate) fn next_sub(&self) -> SubId {
        self.next_sub.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a joiner to its room; the first one starts it.
    pub(crate) fn join<S: Spine, C: WallClock, I: Ids>(
        &self,
        shared: &Arc<Shared<S, C, I>>,
        mut joiner: Box<Joiner>,
    ) -> Result<(), Busy> {
        let key = joiner.route.key.clone();
        let mut inner = self.lock();
        if let Some(room) = inner.rooms.get(&key) {
            match room.try_send(Ask::Join(joiner)) {
                Ok(()) => return Ok(()),
                // Its task is gone without having said so: it died. A new one takes its place.
                Err(TrySendError::Closed(Ask::Join(back))) => joiner = back,
                Err(_) => return Err(Busy),
            }
        } else {
            let config = &shared.config.shield;
            if inner.rooms.len() >= config.rooms as usize {
                full("rooms", inner.rooms.len());
                return Err(Busy);
            }
            if inner.of_tenant(&key) >= config.tenant_rooms as usize {
                full("tenant's rooms", inner.of_tenant(&key));
                return Err(Busy);
            }
        }
        let (tx, rx) = mpsc::channel(MAILBOX);
        let route = joiner.route.clone();
        tx.try_send(Ask::Join(joiner)).map_err(|_| Busy)?;
        inner.by_hash.insert(subject::room_hash(&key), key.clone());
        if inner.rooms.insert(key.clone(), tx).is_none() {
            *inner.tenants.entry(key.tenant).or_default() += 1;
            shared.meters.rooms.inc();
        }
        voltron_core::tasks::spawn(task::run(shared.clone(), route, rx));
        Ok(())
    }

    /// Tells a room that is followed; others need not know. False if it was not told.
    pub(crate) fn tell(&self, key: &RoomKey, ask: Ask) -> bool {
        self.lock().rooms.get(key).is_some_and(|room| room.try_send(ask).is_ok())
    }

    /// A subscription ends. A full mailbox does not lose this: it is told once there is room.
    pub(crate) fn leave(&self, key: &RoomKey, id: SubId) {
        let inner = self.lock();
        let Some(room) = inner.rooms.get(key) else { return };
        if let Err(TrySendError::Full(ask)) = room.try_send(Ask::Leave(id)) {
            let room = room.clone();
            voltron_core::tasks::spawn(async move {
                // Else the room ended, and with it the subscription.
                let _ = room.send(ask).await;
            });
        }
    }

    /// The room with this hash, if it is followed.
    pub(crate) fn by_hash(&self, hash: u64) -> Option<RoomKey> {
        self.lock().by_hash.get(&hash).cloned()
    }

    /// Every room that is followed, sorted.
    pub(crate) fn all(&self) -> Vec<RoomKey> {
        self.lock().rooms.keys().cloned().collect()
    }

    /// Takes a room out, unless somebody just came. True: the task may end.
    fn retire(&self, key: &RoomKey, rx: &mut mpsc::Receiver<Ask>) -> Result<(), Ask> {
        let mut inner = self.lock();
        match rx.try_recv() {
            Ok(ask) => Err(ask),
            Err(_) => {
                if inner.rooms.remove(key).is_some() {
                    inner.left(&key.tenant);
                }
                inner.by_hash.remove(&subject::room_hash(key));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
