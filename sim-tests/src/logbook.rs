//! The log itself, as trace records: what is read from the stream when a run is over, simulated or real, so that the
//! oracles can hold what clients were told to what is stored.
//!
//! Which entries count is decided here a second time, from LOG §1 alone and not by the Brain's code: an entry is valid
//! iff `prev` is the position of the room's preceding message, `prev_chain` fits, and (epoch, term) does not fall.

use prost::Message as _;
use proto::internal::{Kind, LogEntry, RoomSnapshot};
use proto::{RoomKey, Subject, v1};
use serde_json::json;
use sha2::{Digest, Sha256};
use spine::{ReadError, Spine, StreamSeq, Via};
use voltron_core::trace::{Hash16, Record};

/// How many entries one read asks for.
const BATCH: u32 = 256;
/// The longest log of one room that is read, in entries.
const ENTRIES_MAX: u64 = 1_000_000;

/// What a room's log holds.
#[derive(Clone, Debug, Default)]
pub struct RoomLog {
    /// `append` for every stored message, followed by `commit` for every event of it, if it is valid.
    pub records: Vec<Record>,
    /// Valid entries.
    pub valid: u64,
    /// Entries that count for nothing.
    pub void: u64,
}

/// Why a log was not read.
#[derive(Debug, thiserror::Error)]
pub enum LogbookError {
    /// The Spine said no.
    #[error("cannot read the log of {room}: {source}")]
    Read {
        /// Which room.
        room: RoomKey,
        /// What it said.
        source: ReadError,
    },
    /// Longer than any test makes it.
    #[error("the log of {0} has more than {ENTRIES_MAX} entries")]
    TooLong(RoomKey),
}

/// Reads a room's whole log through the stream's leader.
pub async fn read<S: Spine>(spine: &S, room: &RoomKey) -> Result<RoomLog, LogbookError> {
    let subject = Subject::log(room);
    let mut walk = Walk::default();
    let mut log = RoomLog::default();
    let mut from = StreamSeq(1);
    loop {
        let batch = spine.read(&subject, from, BATCH, Via::Leader).await;
        let batch = match batch {
            // A broker that came back without its store: what it would hold is gone, and the oracles say what follows.
            Err(ReadError::NoStream) => return Ok(log),
            read => read.map_err(|source| LogbookError::Read { room: room.clone(), source })?,
        };
        for stored in &batch.entries {
            let h = Hash16::of(&stored.body);
            // What an entry was written to follow is in the entry: its fence.
            let expect = LogEntry::decode(stored.body.as_ref()).ok().map(|entry| entry.prev);
            log.records.push(Record::Append { subject: subject.to_string(), seq: stored.seq.0, expect, h });
            match walk.step(stored.seq.0, &stored.body) {
                Some(entry) => {
                    log.valid += 1;
                    log.records.extend(records(room, &entry));
                }
                None => log.void += 1,
            }
            from = stored.seq.next();
        }
        if log.valid + log.void > ENTRIES_MAX {
            return Err(LogbookError::TooLong(room.clone()));
        }
        if !batch.more || batch.entries.is_empty() {
            return Ok(log);
        }
    }
}

/// Where the walk over one room's log stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    started: bool,
    position: u64,
    chain: u64,
    rank: (u64, u64),
}

impl Walk {
    /// The next message; `None` if it is void. A log whose head was trimmed begins with its first message as anchor.
    pub(crate) fn step(&mut self, position: u64, body: &[u8]) -> Option<LogEntry> {
        let preceding = std::mem::replace(&mut self.position, position);
        let first = !std::mem::replace(&mut self.started, true);
        let entry = LogEntry::decode(body).ok()?;
        let anchored = first && entry.prev > 0;
        let fits = entry.prev == preceding && entry.prev_chain == self.chain && (entry.epoch, entry.term) >= self.rank;
        if !fits && !anchored {
            return None;
        }
        let digest = Sha256::digest(body);
        self.chain = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        self.rank = (entry.epoch, entry.term);
        Some(entry)
    }
}

/// What a valid entry says: that its writer took the room over, and its events.
pub(crate) fn records(room: &RoomKey, entry: &LogEntry) -> Vec<Record> {
    let owned = entry.kind == Kind::Owned as i32;
    let renew = owned.then(|| Record::Renew { room: room.to_string(), epoch: entry.epoch, at: entry.at });
    renew.into_iter().chain(entry.envelopes.iter().filter_map(|envelope| commit(room, envelope))).collect()
}

/// What one event of a valid entry says.
fn commit(room: &RoomKey, envelope: &[u8]) -> Option<Record> {
    let decoded = v1::Envelope::decode(envelope).ok()?;
    let Some(v1::envelope::Payload::Event(event)) = decoded.payload else { return None };
    let m = hex(&decoded.message_id);
    let h = Hash16::of(envelope);
    let op = if decoded.message_id.is_empty() { own_doing(&event) } else { None };
    let (at, expires_at) = (event.at, expires_at(&event));
    let (epoch, seq, user) = (event.epoch, event.seq, event.user);
    Some(Record::Commit { room: room.to_string(), epoch, seq, m, user, h, op, at, expires_at })
}

/// When what this event made ends by itself, by the room's clock; 0: never.
fn expires_at(event: &v1::Event) -> i64 {
    match &event.body {
        Some(v1::event::Body::KeySet(it)) => it.expires_at,
        Some(v1::event::Body::Locked(it)) => it.until,
        _ => 0,
    }
}

/// A stored entry, with what each of its events does to the state.
pub(crate) fn entry(room: &RoomKey, pos: u64, entry: &LogEntry, bytes: usize) -> Record {
    let kind = match entry.kind() {
        Kind::Unknown => "unknown",
        Kind::Owned => "owned",
        Kind::Events => "events",
        Kind::Tick => "tick",
        Kind::Deleted => "deleted",
    };
    Record::Entry {
        room: room.to_string(),
        epoch: entry.epoch,
        term: entry.term,
        pos,
        at: entry.at,
        bytes: bytes as u64,
        kind: kind.to_owned(),
        did: entry.envelopes.iter().filter_map(|envelope| did(envelope)).collect(),
    }
}

fn did(envelope: &[u8]) -> Option<serde_json::Value> {
    let decoded = v1::Envelope::decode(envelope).ok()?;
    let Some(v1::envelope::Payload::Event(event)) = &decoded.payload else { return None };
    let mut did = match &event.body {
        Some(v1::event::Body::KeySet(it)) => json!({ "set": slot(it) }),
        Some(v1::event::Body::KeyDeleted(it)) => json!({ "deleted": it.key }),
        Some(v1::event::Body::Locked(it)) => json!({ "locked": lock(it) }),
        Some(v1::event::Body::Unlocked(_)) => json!({ "unlocked": true }),
        _ => json!({}),
    };
    did["seq"] = event.seq.into();
    did["m"] = hex(&decoded.message_id).into();
    did["user"] = event.user.as_str().into();
    Some(did)
}

/// A stored snapshot, with everything that it says of the room's state.
pub(crate) fn snapshot(room: &RoomKey, it: &RoomSnapshot, bytes: usize) -> Record {
    let state = it.state.clone().unwrap_or_default();
    let shown = state.state.unwrap_or_default();
    let mut entries: Vec<_> = shown.entries.iter().map(slot).collect();
    for (entry, set) in entries.iter_mut().zip(&shown.entries) {
        let ttl = state.ttls.iter().find(|ttl| ttl.key == set.key);
        entry["ttl_ms"] = ttl.map_or(0, |ttl| ttl.ttl_ms).into();
    }
    let locked = shown.lock.as_ref().map(|it| {
        let mut lock = lock(it);
        lock["ttl_ms"] = state.lock_ttl_ms.into();
        lock
    });
    let window = state
        .dedupe
        .iter()
        .flat_map(|user| user.entries.iter().map(|one| json!([user.user, hex(&one.message_id), one.epoch, one.seq])));
    Record::Snapshot {
        room: room.to_string(),
        epoch: it.epoch,
        term: it.term,
        seq: it.seq,
        pos: it.pos,
        at: state.at,
        bytes: bytes as u64,
        state: json!({ "entries": entries, "lock": locked, "window": window.collect::<Vec<_>>() }),
    }
}

fn slot(it: &v1::KeySet) -> serde_json::Value {
    json!({ "key": it.key, "ver": it.ver, "h": Hash16::of(&it.value), "expires_at": it.expires_at })
}

fn lock(it: &v1::Locked) -> serde_json::Value {
    let mode = match it.mode() {
        v1::LockMode::None => "none",
        v1::LockMode::Join => "join",
        v1::LockMode::Write => "write",
        v1::LockMode::All => "all",
    };
    json!({ "mode": mode, "by": it.user, "reason": it.reason, "until": it.until })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a room did by itself, which no command in the trace says.
fn own_doing(event: &v1::Event) -> Option<serde_json::Value> {
    match event.body.as_ref()? {
        v1::event::Body::KeyDeleted(it) => Some(json!({ "op": "key_deleted", "key": it.key, "expired": it.expired })),
        v1::event::Body::Unlocked(it) => Some(json!({ "op": "unlocked", "expired": it.expired })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(prev: u64, chain: u64, epoch: u64, term: u64) -> Vec<u8> {
        LogEntry { prev, prev_chain: chain, epoch, term, ..LogEntry::default() }.encode_to_vec()
    }

    fn chain_of(body: &[u8]) -> u64 {
        u64::from_le_bytes(Sha256::digest(body)[..8].try_into().unwrap())
    }

    #[test]
    fn entries_follow_each_other_by_position_chain_and_term() {
        let mut walk = Walk::default();
        let first = entry(0, 0, 5, 1);
        assert!(walk.step(10, &first).is_some());
        // A stale owner's write: right position, wrong chain. It is void, but it moves the position.
        assert!(walk.step(12, &entry(10, 99, 5, 1)).is_none());
        assert!(walk.step(13, &entry(10, chain_of(&first), 5, 1)).is_none(), "it skips the void message");
        let second = entry(13, chain_of(&first), 5, 2);
        assert!(walk.step(14, &second).is_some());
        assert!(walk.step(15, &entry(14, chain_of(&second), 5, 1)).is_none(), "the term falls");
        assert!(walk.step(16, &entry(15, chain_of(&second), 6, 1)).is_some(), "a new epoch");
    }

    #[test]
    fn a_trimmed_log_begins_at_its_first_message() {
        let mut walk = Walk::default();
        assert!(walk.step(100, &entry(90, 7, 5, 1)).is_some());
        assert!(walk.step(101, b"\xff\xff").is_none(), "unreadable");
    }
}
