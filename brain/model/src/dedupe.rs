//! The deduplication window, part of the folded state, so that it survives failover.
//!
//! Per user: message id → (place, timestamp). What was evicted is remembered as a `floor`: a command at or below it can
//! no longer be judged, so it is refused for good and never applied. Which is why a repeat is either answered with its
//! original place or refused, whatever its age.

use std::collections::{BTreeMap, BTreeSet};

use proto::internal::{DedupeEntry, DedupeUser};
use proto::{MessageId, UserId};

/// The most remembered commands of one user.
pub const USER_ENTRIES_MAX: usize = 256;
/// The most remembered commands of a room.
pub const ROOM_ENTRIES_MAX: usize = 8192;
/// The most bytes of a room's window, encoded, users' floors included.
pub const ROOM_BYTES_MAX: usize = 256 * 1024;
/// A command older than this, by the room's clock, is refused for good.
pub const WINDOW_MS: i64 = 120_000;
/// A user whose newest command is older than this leaves the window: everything of that age is refused anyway.
pub const FORGET_MS: i64 = 150_000;

/// A remembered command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its idempotency key.
    pub id: MessageId,
    /// Where it was stored.
    pub epoch: u64,
    /// Where it was stored.
    pub seq: u64,
    /// Its sender's clock, ms.
    pub timestamp: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    floor: Option<i64>,
    seen: Vec<Seen>,
    newest: i64,
}

/// What the window says of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen, and young enough to be sure of it.
    New,
    /// Stored before, there.
    Repeat(Seen),
    /// Too old to tell: refuse, never apply.
    Expired,
    /// The room's window is full: refuse for now, not applied.
    Full,
}

/// The window of one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedupe {
    users: BTreeMap<UserId, User>,
    by_age: BTreeSet<(i64, UserId)>,
    entries: usize,
    bytes: usize,
}

impl Dedupe {
    /// Judges a command at the room's time `at`.
    pub fn judge(&self, user: &UserId, id: &MessageId, timestamp: i64, at: i64) -> Verdict {
        let known = self.users.get(user);
        if let Some(seen) = known.and_then(|user| user.seen.iter().find(|seen| seen.id == *id)) {
            return Verdict::Repeat(*seen);
        }
        if timestamp < at.saturating_sub(WINDOW_MS) || known.and_then(|user| user.floor).is_some_and(|f| timestamp <= f)
        {
            return Verdict::Expired;
        }
        // A user at its own limit makes room by its own eviction; the bytes then change by a few at most.
        let evicts = known.is_some_and(|user| user.seen.len() >= USER_ENTRIES_MAX);
        let fresh = ENTRY_COST_MAX + if known.is_none() { user_cost(user) } else { 0 };
        if (!evicts && self.entries >= ROOM_ENTRIES_MAX) || self.bytes + fresh > ROOM_BYTES_MAX {
            return Verdict::Full;
        }
        Verdict::New
    }

    /// True if this command is remembered as stored.
    pub fn knows(&self, user: &UserId, id: &MessageId) -> bool {
        self.users.get(user).is_some_and(|user| user.seen.iter().any(|seen| seen.id == *id))
    }

    /// Remembers an applied command.
    pub fn record(&mut self, user: &UserId, seen: Seen) {
        if !self.users.contains_key(user) {
            self.bytes += user_cost(user);
            self.users.insert(user.clone(), User { newest: i64::MIN, ..User::default() });
        }
        let Some(state) = self.users.get_mut(user) else { return };
        if state.seen.len() >= USER_ENTRIES_MAX {
            // The lowest timestamp goes, so that the floor stays as low as it can: a user with two skewed clocks does
            // not lock itself out.
            if let Some(lowest) = (0..state.seen.len()).min_by_key(|i| state.seen[*i].timestamp) {
                let evicted = state.seen.remove(lowest);
                state.floor = Some(state.floor.map_or(evicted.timestamp, |floor| floor.max(evicted.timestamp)));
                self.entries -= 1;
                self.bytes -= entry_cost(&evicted);
            }
        }
        state.seen.push(seen);
        self.entries += 1;
        self.bytes += entry_cost(&seen);
        if seen.timestamp > state.newest {
            self.by_age.remove(&(state.newest, user.clone()));
            state.newest = seen.timestamp;
            self.by_age.insert((seen.timestamp, user.clone()));
        }
    }

    /// Lets users leave whose newest command is out of every window at the room's time `at`.
    pub fn sweep(&mut self, at: i64) {
        let limit = at.saturating_sub(FORGET_MS);
        while self.by_age.first().is_some_and(|(newest, _)| *newest < limit) {
            let Some((_, user)) = self.by_age.pop_first() else { return };
            if let Some(gone) = self.users.remove(&user) {
                self.entries -= gone.seen.len();
                self.bytes -= user_cost(&user) + gone.seen.iter().map(entry_cost).sum::<usize>();
            }
        }
    }

    /// Upper bound of the encoded window, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many commands are remembered.
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// True if nothing is remembered.
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// As messages, ascending by user.
    pub fn encode(&self) -> Vec<DedupeUser> {
        let entry = |seen: &Seen| DedupeEntry {
            message_id: seen.id.0.to_vec().into(),
            seq: seen.seq,
            timestamp: seen.timestamp,
            epoch: seen.epoch,
        };
        self.users
            .iter()
            .map(|(user, state)| DedupeUser {
                user: user.as_str().into(),
                floor: state.floor.unwrap_or(i64::MIN),
                entries: state.seen.iter().map(entry).collect(),
            })
            .collect()
    }

    /// From messages. What no writer of ours could have written is left out.
    pub fn decode(users: &[DedupeUser]) -> Self {
        let mut window = Self::default();
        for user in users {
            let Ok(name) = UserId::parse(&user.user) else { continue };
            for entry in user.entries.iter().take(USER_ENTRIES_MAX) {
                let Some(id) = MessageId::from_slice(&entry.message_id) else { continue };
                window.record(&name, Seen { id, epoch: entry.epoch, seq: entry.seq, timestamp: entry.timestamp });
            }
            if let Some(state) = window.users.get_mut(&name) {
                state.floor = (user.floor != i64::MIN).then_some(user.floor);
            }
        }
        window
    }
}

/// Upper bounds of what protobuf makes of it, so that the sum is an upper bound, too, and can be kept by adding.
const ENTRY_COST_MAX: usize = 2 + 18 + 11 + 11 + 11;

fn user_cost(user: &UserId) -> usize {
    4 + 3 + user.as_str().len() + 11
}

fn entry_cost(seen: &Seen) -> usize {
    use prost::encoding::encoded_len_varint;
    let signed = |value: i64| encoded_len_varint(u64::from_ne_bytes(value.to_ne_bytes()));
    2 + 18 + 3 + encoded_len_varint(seen.epoch) + encoded_len_varint(seen.seq) + signed(seen.timestamp)
}

#[cfg(test)]
mod tests;
