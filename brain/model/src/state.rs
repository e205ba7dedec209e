//! A room's state: what the fold makes of events, and its encoding in snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use proto::internal::{RoomState, Ttl};
use proto::v1::{self, event::Body};
use proto::{MessageId, UserId};
use voltron_core::mutant;

use crate::chain::fingerprint;
use crate::dedupe::{Dedupe, Seen};

/// The most keys of a room.
pub const KEYS_MAX: usize = 256;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of a room's state, encoded, without the deduplication window.
pub const STATE_BYTES_MAX: usize = 512 * 1024;
/// The most bytes of one part of a snapshot.
pub const PART_BYTES_MAX: usize = 64 * 1024;

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What was set.
    pub value: Bytes,
    /// The seq that last touched it.
    pub ver: u64,
    /// When it ends by the room's clock, ms; 0: never.
    pub expires_at: i64,
    /// Its full length, ms: a take-over begins it anew.
    pub ttl_ms: u64,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockState {
    /// What it forbids to everyone but moderators.
    pub mode: v1::LockMode,
    /// Why, for people.
    pub reason: String,
    /// When it ends by the room's clock, ms; 0: never.
    pub until: i64,
    /// Its full length, ms.
    pub ttl_ms: u64,
    /// Who locked.
    pub user: String,
}

impl LockState {
    /// True if it keeps new subscribers out.
    pub fn bars_join(&self) -> bool {
        matches!(self.mode, v1::LockMode::Join | v1::LockMode::All)
    }
    /// True if it keeps commands out.
    pub fn bars_write(&self) -> bool {
        matches!(self.mode, v1::LockMode::Write | v1::LockMode::All)
    }
}

/// What ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A key's ttl.
    Key(String),
    /// The lock's ttl.
    Lock,
}

/// A room's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    keys: BTreeMap<String, Slot>,
    lock: Option<LockState>,
    bytes: usize,
    /// The deduplication window.
    pub dedupe: Dedupe,
}

/// Upper bound of what one key costs encoded, its ttl's record included.
pub fn slot_cost(key: &str, value_len: usize) -> usize {
    (4 + 3 + key.len() + 4 + value_len + 11 + 11) + (4 + 3 + key.len() + 11)
}

impl State {
    /// An empty one whose window remembers the last `dedupe` commands of each user.
    pub fn new(dedupe: usize) -> Self {
        Self { dedupe: Dedupe::new(dedupe), ..Self::default() }
    }
    /// A key's value.
    pub fn get(&self, key: &str) -> Option<&Slot> {
        self.keys.get(key)
    }
    /// Every key, ascending.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Slot)> {
        self.keys.iter().map(|(key, slot)| (key.as_str(), slot))
    }
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
    /// The lock, if any.
    pub const fn lock(&self) -> Option<&LockState> {
        self.lock.as_ref()
    }
    /// Upper bound of the encoded state without the window, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies one event. Total: an event of a later version changes nothing here but the window.
    pub fn apply(&mut self, envelope: &v1::Envelope, event: &v1::Event) {
        match &event.body {
            Some(Body::KeySet(set)) => {
                let ttl_ms = if set.expires_at > 0 { duration(set.expires_at, event.at) } else { 0 };
                let slot = Slot { value: set.value.clone(), ver: set.ver, expires_at: set.expires_at.max(0), ttl_ms };
                self.insert(set.key.clone(), slot);
            }
            Some(Body::KeyDeleted(deleted)) => self.remove(&deleted.key),
            Some(Body::Locked(locked)) => self.set_lock(Some(lock_of(locked, duration(locked.until, event.at)))),
            Some(Body::Unlocked(_)) => self.set_lock(None),
            _ => {}
        }
        let command = (UserId::parse(&event.user).ok(), MessageId::from_slice(&envelope.message_id));
        if let (Some(user), Some(id)) = command {
            let timestamp = envelope.timestamp;
            // What a policy rewrote is not what its sender said: it is known by its id alone.
            let fingerprint = if event.redacted_by.is_empty() { fingerprint(timestamp, &event.cmd) } else { 0 };
            let seen = Seen { id, epoch: event.epoch, seq: event.seq, timestamp, fingerprint };
            self.dedupe.record(&user, seen, event.at);
        }
    }

    /// A take-over at the room's time `at`: every ttl runs its full length from here, for the new owner cannot know
    /// how much of it passed while nobody could renew anything.
    pub fn renew(&mut self, at: i64) {
        for slot in self.keys.values_mut().filter(|slot| slot.ttl_ms > 0) {
            slot.expires_at = after(at, slot.ttl_ms);
        }
        if let Some(lock) = self.lock.as_mut().filter(|lock| lock.ttl_ms > 0) {
            lock.until = after(at, lock.ttl_ms);
        }
    }

    /// What has ended at the room's time `at`: the lock first, then keys, ascending.
    pub fn ended(&self, at: i64) -> Vec<Ended> {
        let lock = self.lock.iter().filter(|lock| lock.until > 0 && lock.until <= at).map(|_| Ended::Lock);
        let keys = self.keys.iter().filter(|(_, slot)| slot.expires_at > 0 && slot.expires_at <= at);
        lock.chain(keys.map(|(key, _)| Ended::Key(key.clone()))).collect()
    }

    /// When something ends next, by the room's clock.
    pub fn next_end(&self) -> Option<i64> {
        let keys = self.keys.values().map(|slot| slot.expires_at);
        keys.chain(self.lock.iter().map(|lock| lock.until)).filter(|end| *end > 0).min()
    }

    /// As a message, with the room's time `at`.
    pub fn encode(&self, at: i64) -> RoomState {
        let ttls = self.keys.iter().filter(|(_, slot)| slot.ttl_ms > 0 && !mutant!(SnapshotWithoutTtls));
        RoomState {
            at,
            state: Some(v1::Snapshot {
                part: 0,
                last: true,
                entries: self.keys.iter().map(key_set).collect(),
                lock: self.lock.as_ref().map(locked),
                ..v1::Snapshot::default()
            }),
            dedupe: self.dedupe.encode(),
            ttls: ttls.map(|(key, slot)| Ttl { key: key.clone(), ttl_ms: slot.ttl_ms }).collect(),
            lock_ttl_ms: self.lock.as_ref().map_or(0, |lock| lock.ttl_ms),
        }
    }

    /// From a message, with a window of the last `dedupe` commands of each user. Total: what no writer of ours could have
    /// written is left out.
    pub fn decode(message: &RoomState, dedupe: usize) -> Self {
        let mut state = Self { dedupe: Dedupe::decode(&message.dedupe, dedupe, message.at), ..Self::default() };
        if let Some(snapshot) = &message.state {
            for set in &snapshot.entries {
                let expires_at = set.expires_at.max(0);
                state.insert(set.key.clone(), Slot { value: set.value.clone(), ver: set.ver, expires_at, ttl_ms: 0 });
            }
            state.set_lock(snapshot.lock.as_ref().map(|lock| lock_of(lock, message.lock_ttl_ms)));
        }
        for ttl in &message.ttls {
            if let Some(slot) = state.keys.get_mut(&ttl.key) {
                slot.ttl_ms = ttl.ttl_ms;
            }
        }
        state
    }

    /// What a subscriber gets: parts of at most [`PART_BYTES_MAX`], at least one, the last one marked.
    pub fn parts(&self) -> Vec<v1::Snapshot> {
        // Room for the envelope around a part, the lock, and one more key.
        const FULL: usize = PART_BYTES_MAX - 2048;
        let mut parts = Vec::new();
        let mut part = v1::Snapshot { lock: self.lock.as_ref().map(locked), ..v1::Snapshot::default() };
        let mut bytes = part.encoded_len();
        for set in self.keys.iter().map(key_set) {
            let cost = set.encoded_len() + 5;
            if bytes + cost > FULL {
                let number = part.part;
                parts.push(std::mem::take(&mut part));
                part.part = number + 1;
                bytes = 0;
            }
            bytes += cost;
            part.entries.push(set);
        }
        part.last = true;
        parts.push(part);
        parts
    }

    fn insert(&mut self, key: String, slot: Slot) {
        self.bytes += slot_cost(&key, slot.value.len());
        let key_len = key.clone();
        if let Some(old) = self.keys.insert(key, slot) {
            self.bytes -= slot_cost(&key_len, old.value.len());
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.keys.remove(key) {
            self.bytes -= slot_cost(key, old.value.len());
        }
    }

    fn set_lock(&mut self, lock: Option<LockState>) {
        let cost = |lock: &Option<LockState>| lock.as_ref().map_or(0, |l| l.reason.len() + l.user.len() + 48);
        self.bytes -= cost(&self.lock);
        self.bytes += cost(&lock);
        self.lock = lock;
    }
}

/// `at + ttl_ms`, never beyond what a clock can say.
pub fn after(at: i64, ttl_ms: u64) -> i64 {
    at.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX))
}

fn duration(until: i64, at: i64) -> u64 {
    if until > 0 { u64::try_from(until.saturating_sub(at)).unwrap_or(0).max(1) } else { 0 }
}

fn key_set((key, slot): (&String, &Slot)) -> v1::KeySet {
    v1::KeySet { key: key.clone(), value: slot.value.clone(), ver: slot.ver, expires_at: slot.expires_at }
}

fn locked(lock: &LockState) -> v1::Locked {
    v1::Locked { mode: lock.mode.into(), reason: lock.reason.clone(), until: lock.until, user: lock.user.clone() }
}

fn lock_of(locked: &v1::Locked, ttl_ms: u64) -> LockState {
    LockState {
        mode: v1::LockMode::try_from(locked.mode).unwrap_or(v1::LockMode::None),
        reason: locked.reason.clone(),
        until: locked.until.max(0),
        ttl_ms,
        user: locked.user.clone(),
    }
}

#[cfg(test)]
mod tests;
