//! Rooms with a past: what would take thousands of commands to get to stands in the streams from the beginning.

use std::sync::OnceLock;

use brain_model::chain::{chain, entry_id};
use brain_model::dedupe::{Dedupe, ROOM_BYTES_MAX, USER_ENTRIES};
use brain_model::fake::Streams;
use brain_model::io::StoredMessage;
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{DedupeEntry, DedupeRange, DedupeUser, Kind, LogEntry, Owned, RoomSnapshot, RoomState, Ttl};
use proto::v1::{self, LockMode};

use super::START_MS;
use super::requests::message_id;
use crate::lockstep::ops::Heritage;

const GENERATION: u64 = 0xfeed_0000_0000_0001;
const EPOCH: u64 = START_MS as u64 - 1_000_000;
/// Ids of commands of the past, apart from those of the history.
const PAST: u64 = 1 << 40;

/// The streams of the room as `heritage` left them.
pub(super) fn streams(heritage: Heritage) -> Streams {
    let mut streams = Streams { gen_id: Some(GENERATION), ..Streams::default() };
    let at = START_MS - 1000;
    let state = match heritage {
        Heritage::Empty => return Streams::default(),
        Heritage::Keys => keys(255, 8, at),
        Heritage::Bytes => keys(31, 16_384, at),
        Heritage::Window => full(at),
        Heritage::User => window(1, 256, at),
        Heritage::Ahead => keys(1, 1, START_MS + 60_000),
        _ => keys(3, 3, at),
    };
    let kind = if heritage == Heritage::Tombstone { Kind::Deleted } else { Kind::Owned };
    let (epoch, term) = if heritage == Heritage::End { (u64::MAX, u64::MAX) } else { (EPOCH, 4) };
    let entry = LogEntry {
        epoch,
        term,
        first_seq: 301,
        r#gen: GENERATION,
        at: state.at,
        kind: kind.into(),
        owned: Some(Owned { node: "brain-9".into(), incarnation: 0x9999 }),
        entry_id: entry_id(0x9999, 1),
        ..LogEntry::default()
    };
    let body: Bytes = entry.encode_to_vec().into();
    let seq = if heritage == Heritage::End { u64::MAX } else { 300 };
    let snapshot = RoomSnapshot {
        epoch,
        term,
        seq,
        pos: 1,
        chain: chain(&body),
        r#gen: GENERATION,
        state: Some(state),
        trims: Vec::new(),
    };
    streams.append_any(body);
    match heritage {
        Heritage::Tombstone => return streams,
        Heritage::Refuted => {
            put(&mut streams, &snapshot);
            put(&mut streams, &RoomSnapshot { epoch: epoch + 5, pos: 2, seq: 400, chain: 99, ..snapshot });
        }
        Heritage::Unanchored => {
            put(&mut streams, &RoomSnapshot { chain: 98, ..snapshot.clone() });
            put(&mut streams, &RoomSnapshot { pos: 7, seq: 400, chain: 99, ..snapshot });
        }
        _ => put(&mut streams, &snapshot),
    }
    streams
}

fn put(streams: &mut Streams, snapshot: &RoomSnapshot) {
    streams.next_snap += 1;
    streams.snaps.push(StoredMessage { pos: streams.next_snap, body: snapshot.encode_to_vec().into() });
}

fn keys(count: u64, bytes: usize, at: i64) -> RoomState {
    let set = |n| v1::KeySet {
        key: format!("old{n:03}"),
        value: vec![b'v'; bytes].into(),
        ver: n,
        expires_at: if n == 2 { at + 5000 } else { 0 },
    };
    let lock = v1::Locked { mode: LockMode::Join.into(), reason: "past".into(), until: at + 900, user: "bob".into() };
    RoomState {
        at,
        state: Some(v1::Snapshot {
            last: true,
            entries: (0..count).map(set).collect(),
            lock: Some(lock),
            ..v1::Snapshot::default()
        }),
        dedupe: window(1, 2, at).dedupe,
        ttls: vec![Ttl { key: "old002".into(), ttl_ms: 6000 }],
        lock_ttl_ms: 900,
    }
}

/// No new command fits into the room's window of repeats; one of the past that a user has may still be evicted.
fn full(at: i64) -> RoomState {
    static FULL: OnceLock<RoomState> = OnceLock::new();
    let made = FULL.get_or_init(|| {
        let mut state = window(25, 256, at);
        while Dedupe::decode(&state.dedupe, USER_ENTRIES, at).bytes() > ROOM_BYTES_MAX {
            let shorter = state.dedupe.last_mut().is_some_and(|last| last.entries.pop().is_some());
            assert!(shorter, "the window is over its bound by less than one user");
        }
        state
    });
    RoomState { at, ..made.clone() }
}

fn window(users: u64, each: u64, at: i64) -> RoomState {
    let entry = |user: u64, n: u64| DedupeEntry {
        message_id: message_id(PAST + user * 1000 + n).to_vec().into(),
        seq: n + 1,
        timestamp: at - 60_000 + i64::try_from(n).unwrap_or(0),
        epoch: EPOCH,
        // Of every other one nobody knows what it said.
        fingerprint: n % 2 * (n + 1),
    };
    let user = |u: u64| DedupeUser {
        // The first is one of the history's.
        user: if u == 0 { "ann".into() } else { format!("past{u:03}") },
        floor: if u == 0 { at - 60_000 } else { i64::MIN },
        entries: (0..each).map(|n| entry(u, n)).collect(),
        // As this version writes it, or as one wrote it that knew no ranges.
        ranges: if u % 3 == 1 { vec![DedupeRange { lo: at - 90_000, hi: at - 70_000 }] } else { vec![] },
    };
    RoomState {
        at,
        state: Some(v1::Snapshot::default()),
        dedupe: (0..users).map(user).collect(),
        ..RoomState::default()
    }
}
