//! Snapshots: when one is due, and what may be trimmed after it. A snapshot only ever shortens a load; the log is the
//! truth, so a failed one is no harm.

use prost::Message as _;
use proto::internal::RoomSnapshot;

use super::{Phase, Room};
use crate::io::{Effect, Outcome, StoredMessage, Token};

/// A stored snapshot.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Where in the room's log it stands.
    log_pos: u64,
    /// The room's time there.
    at: i64,
}

/// What is known of the room's snapshots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    /// Position of the last one in its stream; `None`: not known, so none can be written.
    fence: Option<u64>,
    newest: Option<Known>,
    /// The older of the two that are kept.
    older: Option<Known>,
    trimmed: u64,
    pending: Option<(Token, Known, u64)>,
    entries: u64,
    bytes: u64,
    size: u64,
    /// One must be stored before the room is served.
    pub(super) anchoring: bool,
}

impl Snapshots {
    /// What a load found, ascending.
    pub(super) fn found(&mut self, stored: &[StoredMessage]) {
        let known = |message: &StoredMessage| {
            let snapshot = RoomSnapshot::decode(message.body.clone()).ok()?;
            Some(Known { log_pos: snapshot.pos, at: snapshot.state.as_ref().map_or(0, |state| state.at) })
        };
        *self = Self {
            fence: Some(stored.last().map_or(0, |message| message.pos)),
            newest: stored.last().and_then(known),
            older: stored.len().checked_sub(2).and_then(|i| stored.get(i)).and_then(known),
            size: stored.last().map_or(0, |message| message.body.len() as u64),
            ..Self::default()
        };
    }

    /// The fold begins, from the newest snapshot or from the room's first entry.
    pub(super) fn begin(&mut self, from_newest: bool) {
        self.entries = 0;
        self.bytes = 0;
        if !from_newest {
            self.newest = None;
            self.older = None;
        }
    }

    /// True while one is on its way.
    pub(super) const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The log grew by an entry.
    pub(super) fn grew(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes as u64;
    }
}

impl Room {
    /// Writes one if the log since the last one is long.
    pub(super) fn snapshot_if_due(&mut self) {
        let due = self.snap.entries >= self.rules.snapshot_entries
            || self.snap.bytes > self.rules.snapshot_bytes.max(self.snap.size);
        if due && self.serving && self.proven() && self.snap.pending.is_none() && self.snap.fence.is_some() {
            self.write_snapshot();
        }
    }

    /// True if nothing keeps the room from going dormant; else a snapshot is on its way.
    pub(super) fn snapshot_for_dormancy(&mut self) -> bool {
        if self.snap.pending.is_some() {
            return false;
        }
        if self.snap.fence.is_none() || self.snap.newest.is_some_and(|newest| newest.log_pos == self.committed.tail.pos)
        {
            return true;
        }
        self.write_snapshot();
        false
    }

    pub(super) fn write_snapshot(&mut self) {
        let token = self.next_token();
        let body: bytes::Bytes = self.committed.snapshot().encode_to_vec().into();
        let known = Known { log_pos: self.committed.tail.pos, at: self.committed.tail.at };
        self.snap.pending = Some((token, known, body.len() as u64));
        self.out.push(Effect::WriteSnapshot { token, expect: self.snap.fence.unwrap_or(0), body });
    }

    pub(super) fn on_snapshot_written(&mut self, token: Token, outcome: Outcome) {
        let Some((_, known, size)) = self.snap.pending.take_if(|(pending, ..)| *pending == token) else { return };
        let Outcome::Stored(pos) = outcome else {
            // Perhaps stored, perhaps another owner's turn: nothing is known until the next load.
            self.snap.fence = None;
            if matches!(self.phase, Phase::Anchoring) {
                self.pause();
            }
            return;
        };
        self.snap.fence = Some(pos);
        self.snap.older = self.snap.newest.replace(known);
        self.snap.size = size;
        self.snap.entries = 0;
        self.snap.bytes = 0;
        self.snap.anchoring = false;
        self.trim();
        if matches!(self.phase, Phase::Anchoring) {
            self.begin_serving();
        }
    }

    /// The log below the *older* snapshot may go, once that one is old enough for every reader to have passed it.
    fn trim(&mut self) {
        let Some(older) = self.snap.older else { return };
        let old_enough = self.committed.tail.at.saturating_sub(older.at) >= self.rules.trim_age_ms;
        if old_enough && older.log_pos > self.snap.trimmed {
            self.snap.trimmed = older.log_pos;
            self.out.push(Effect::Trim { keep: older.log_pos });
        }
    }
}
