//! The deduplication window, part of the folded state, so that it survives failover.
//!
//! Per user: message id → (place, timestamp, fingerprint), of the last `limit` commands in the order of arrival. The
//! oldest arrival is evicted first. Of an evicted command its timestamp is kept, in one of at most [`RANGES_MAX`] ranges:
//! a command that is not remembered and whose timestamp lies in a range is refused for good and never applied. Which is
//! why a repeat is either answered with its original place or refused, whatever its age, and why a new command is refused
//! only if its timestamp lies where commands were forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::internal::{DedupeEntry, DedupeRange, DedupeUser};
use proto::{MessageId, UserId};
use ranges::{Range, Ranges};

mod ranges;
pub use ranges::RANGES_MAX;

/// How many commands of one user are remembered where the configuration says nothing.
pub const USER_ENTRIES: usize = 256;
/// The most remembered commands of a room.
pub const ROOM_ENTRIES_MAX: usize = 8192;
/// The most bytes of a room's window, encoded, users' ranges included.
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
    /// Of what the sender said ([`crate::chain::fingerprint`]); 0: not known, so that nothing differs from it.
    pub fingerprint: u64,
}

/// What the window says of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen, and sure of it.
    New,
    /// A command with this id was stored before, there.
    Repeat(Seen),
    /// Impossible to tell: refuse, never apply.
    Expired,
    /// The room's window is full: refuse for now, not applied.
    Full,
}

/// The window of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    users: BTreeMap<UserId, User>,
    by_age: BTreeSet<(i64, UserId)>,
    limit: usize,
    entries: usize,
    bytes: usize,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self::new(USER_ENTRIES)
    }
}

impl Dedupe {
    /// An empty one, for the last `limit` commands of each user.
    pub const fn new(limit: usize) -> Self {
        let limit = if limit == 0 { 1 } else { limit };
        Self { users: BTreeMap::new(), by_age: BTreeSet::new(), limit, entries: 0, bytes: 0 }
    }

    /// How many commands of one user are remembered.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Judges a command at the room's time `at`.
    pub fn judge(&self, user: &UserId, id: &MessageId, timestamp: i64, at: i64) -> Verdict {
        let known = self.users.get(user);
        if let Some(seen) = known.and_then(|user| user.find(id)) {
            return Verdict::Repeat(*seen);
        }
        if timestamp < oldest(at) || known.is_some_and(|user| user.ranges.hold(timestamp)) {
            return Verdict::Expired;
        }
        // A user at its own limit makes room by its own eviction: what leaves is at least as large as a new range.
        let evicts = known.is_some_and(|user| user.seen.len() >= self.limit);
        let fresh = ENTRY_COST_MAX + if known.is_none() { user_cost(user) } else { 0 };
        if (!evicts && self.entries >= ROOM_ENTRIES_MAX) || self.bytes + fresh > ROOM_BYTES_MAX {
            return Verdict::Full;
        }
        Verdict::New
    }

    /// The remembered command of this id.
    pub fn find(&self, user: &UserId, id: &MessageId) -> Option<&Seen> {
        self.users.get(user).and_then(|user| user.find(id))
    }

    /// True if a command of this id is remembered as stored.
    pub fn knows(&self, user: &UserId, id: &MessageId) -> bool {
        self.find(user, id).is_some()
    }

    /// Remembers an applied command, at the room's time `at`.
    pub fn record(&mut self, name: &UserId, seen: Seen, at: i64) {
        self.change(name, |user, limit| {
            user.push(seen);
            user.evict_beyond(limit, at);
        });
    }

    /// Changes one user, who is made if need be, and keeps the sums.
    fn change(&mut self, name: &UserId, change: impl FnOnce(&mut User, usize)) {
        if !self.users.contains_key(name) {
            self.bytes += user_cost(name);
            self.users.insert(name.clone(), User { newest: i64::MIN, ..User::default() });
        }
        let Some(user) = self.users.get_mut(name) else { return };
        let (entries, bytes, newest) = (user.seen.len(), user.bytes, user.newest);
        change(user, self.limit);
        self.entries = self.entries - entries + user.seen.len();
        self.bytes = self.bytes - bytes + user.bytes;
        if user.newest != newest {
            self.by_age.remove(&(newest, name.clone()));
            // Timestamps begin above it: a user without any stays until it has one.
            if user.newest > i64::MIN {
                self.by_age.insert((user.newest, name.clone()));
            }
        }
    }

    /// Lets users leave whose newest command is out of every window at the room's time `at`.
    pub fn sweep(&mut self, at: i64) {
        let limit = at.saturating_sub(FORGET_MS);
        while self.by_age.first().is_some_and(|(newest, _)| *newest < limit) {
            let Some((_, name)) = self.by_age.pop_first() else { return };
            if let Some(gone) = self.users.remove(&name) {
                self.entries -= gone.seen.len();
                self.bytes -= user_cost(&name) + gone.bytes;
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
            fingerprint: seen.fingerprint,
        };
        self.users
            .iter()
            .map(|(name, user)| DedupeUser {
                user: name.as_str().into(),
                floor: user.ranges.highest().unwrap_or(i64::MIN),
                entries: user.seen.iter().map(entry).collect(),
                ranges: user.ranges.iter().map(|range| DedupeRange { lo: range.lo, hi: range.hi }).collect(),
            })
            .collect()
    }

    /// From messages written at the room's time `at`, for the last `limit` commands of each user. What no writer of ours
    /// could have written is left out; what is beyond the limit is evicted.
    pub fn decode(users: &[DedupeUser], limit: usize, at: i64) -> Self {
        let mut window = Self::new(limit);
        for message in users {
            let Ok(name) = UserId::parse(&message.user) else { continue };
            let entries = message.entries.iter().filter_map(|entry| {
                let id = MessageId::from_slice(&entry.message_id)?;
                let DedupeEntry { seq, timestamp, epoch, fingerprint, .. } = *entry;
                Some(Seen { id, epoch, seq, timestamp, fingerprint })
            });
            let mut entries = entries.peekable();
            if entries.peek().is_none() {
                continue;
            }
            window.change(&name, |user, limit| {
                for range in &message.ranges {
                    user.forget(range.lo, range.hi);
                }
                if message.ranges.is_empty() && message.floor != i64::MIN {
                    // From before there were ranges: everything up to the floor.
                    user.forget(i64::MIN, message.floor);
                }
                entries.for_each(|seen| user.push(seen));
                user.evict_beyond(limit, at);
            });
        }
        window
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    /// Timestamps of what was evicted.
    ranges: Ranges,
    /// In the order of arrival.
    seen: VecDeque<Seen>,
    /// The highest timestamp of both.
    newest: i64,
    /// Upper bound of both encoded.
    bytes: usize,
}

impl User {
    fn find(&self, id: &MessageId) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.id == *id)
    }

    fn push(&mut self, seen: Seen) {
        self.newest = self.newest.max(seen.timestamp);
        self.bytes += entry_cost(&seen);
        self.seen.push_back(seen);
    }

    /// Commands with these timestamps are remembered no longer.
    fn forget(&mut self, lo: i64, hi: i64) {
        if lo <= hi {
            self.newest = self.newest.max(hi);
            self.bytes -= self.ranges.len() * RANGE_COST;
            self.ranges.add(Range { lo, hi });
            self.bytes += self.ranges.len() * RANGE_COST;
        }
    }

    fn evict_beyond(&mut self, limit: usize, at: i64) {
        while self.seen.len() > limit {
            let Some(evicted) = self.seen.pop_front() else { return };
            self.bytes -= entry_cost(&evicted) + self.ranges.len() * RANGE_COST;
            // What the room's clock refuses anyway needs no range.
            let dropped = self.ranges.drop_below(oldest(at));
            let young = evicted.timestamp >= oldest(at);
            if young {
                self.ranges.add(Range { lo: evicted.timestamp, hi: evicted.timestamp });
            }
            self.bytes += self.ranges.len() * RANGE_COST;
            let gone = if young { dropped } else { dropped.max(Some(evicted.timestamp)) };
            if gone.is_some_and(|gone| gone >= self.newest) {
                let left = self.seen.iter().map(|seen| seen.timestamp);
                self.newest = left.chain(self.ranges.highest()).max().unwrap_or(i64::MIN);
            }
        }
    }
}

/// The lowest timestamp that is judged at the room's time `at`.
const fn oldest(at: i64) -> i64 {
    at.saturating_sub(WINDOW_MS)
}

/// Upper bounds of what protobuf makes of it, so that the sum is an upper bound, too, and can be kept by adding.
const ENTRY_COST_MAX: usize = 2 + 18 + 11 + 11 + 11 + 9;
/// No more than the smallest entry: an eviction never makes the window larger.
const RANGE_COST: usize = 2 + 11 + 11;

fn user_cost(user: &UserId) -> usize {
    4 + 3 + user.as_str().len() + 11
}

fn entry_cost(seen: &Seen) -> usize {
    use prost::encoding::encoded_len_varint;
    let signed = |value: i64| encoded_len_varint(u64::from_ne_bytes(value.to_ne_bytes()));
    let fingerprint = if seen.fingerprint == 0 { 0 } else { 9 };
    2 + 18 + 3 + encoded_len_varint(seen.epoch) + encoded_len_varint(seen.seq) + signed(seen.timestamp) + fingerprint
}

#[cfg(test)]
mod tests;
