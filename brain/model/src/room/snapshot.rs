//! Snapshots: when one is due, and up to where the log may be trimmed. A snapshot only ever shortens a load; the log is the
//! truth, so a failed one is no harm.
//!
//! 1. A snapshot is due once the log since the newest one is long. That is looked at whenever nothing is in flight, so
//!    after each commit of a saturated room, too.
//! 2. The log is trimmed to the newest snapshot's place that is old enough and not above the older of the two stored
//!    snapshots. In a busy room that older one is never old enough, so the places of earlier ones are remembered: at most
//!    [`TRIM_POINTS_MAX`], about an eighth of the age apart. Each stored snapshot carries them to the next owner.
//! 3. After an append that failed, SNAP's head is read again, with back-off, before the next one is written.
//!
//! So the log of a served room begins at or above the newest snapshot that is older than 9/8 of the age, or at the older
//! of the two stored ones if that is lower: it holds what is younger than that, and two snapshots' worth of entries. What
//! is in flight or fails meanwhile comes on top: a snapshot is late by up to a minute after the last of its failures.

use std::collections::VecDeque;

use prost::Message as _;
use proto::internal::{RoomSnapshot, TrimPoint};
use voltron_core::{mark, mutant};

use super::{Backoff, Phase, Room};
use crate::io::{Effect, Found, Outcome, StoredMessage, Token};

/// The most trim points that are kept.
const TRIM_POINTS_MAX: usize = 24;
/// Trim points are this part of the age apart.
const TRIM_GAPS: i64 = 8;
/// First pause before SNAP's head is read again after a failed append; doubles up to [`SNAPSHOT_RETRY_MAX_MS`].
const SNAPSHOT_RETRY_MIN_MS: u64 = 1000;
/// Longest pause before SNAP's head is read again.
const SNAPSHOT_RETRY_MAX_MS: u64 = 60_000;

/// A stored snapshot, or one on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Of its writer.
    epoch: u64,
    /// Of its writer.
    term: u64,
    /// Where in the room's log it stands.
    log_pos: u64,
    /// The room's time there.
    at: i64,
}

impl Known {
    fn of(snapshot: &RoomSnapshot) -> Self {
        let at = snapshot.state.as_ref().map_or(0, |state| state.at);
        Self { epoch: snapshot.epoch, term: snapshot.term, log_pos: snapshot.pos, at }
    }

    fn stored(message: &StoredMessage) -> Option<Self> {
        RoomSnapshot::decode(message.body.clone()).ok().as_ref().map(Self::of)
    }
}

/// A snapshot on its way, with what of the log it covers.
#[derive(Clone, Copy, Debug)]
struct Pending {
    token: Token,
    known: Known,
    size: u64,
    entries: u64,
    bytes: u64,
}

/// Earlier snapshots' places that the log may be trimmed to, ascending.
#[derive(Clone, Debug, Default)]
struct TrimPoints(VecDeque<TrimPoint>);

impl TrimPoints {
    /// Those that a snapshot carries, and its own. What no writer of ours could have written is left out.
    fn of(snapshot: &RoomSnapshot, age_ms: i64) -> Self {
        let own = Known::of(snapshot);
        let mut points = Self::default();
        for point in snapshot.trims.iter().filter(|point| point.pos < own.log_pos && point.at <= own.at) {
            points.push(*point, age_ms);
        }
        points.push(TrimPoint { pos: own.log_pos, at: own.at }, age_ms);
        points
    }

    /// Another one. The last gives way to it if the one before the last is close: so any two with one between them are an
    /// eighth of the age apart, and the last one before a pause stays. A full list spans more than the age, so that its
    /// first may go: the second is old enough as well.
    fn push(&mut self, point: TrimPoint, age_ms: i64) {
        if self.0.back().is_some_and(|last| point.pos <= last.pos || point.at < last.at) {
            return;
        }
        let gap = (age_ms / TRIM_GAPS).max(1);
        let before = self.0.len().checked_sub(2).and_then(|i| self.0.get(i));
        if before.is_some_and(|before| point.at.saturating_sub(before.at) < gap) {
            self.0.pop_back();
        } else if self.0.len() >= TRIM_POINTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// Takes the newest that is old enough at the room's time `at` and not above `limit`, and all before it.
    fn take(&mut self, limit: u64, at: i64, age_ms: i64) -> Option<u64> {
        let mut keep = None;
        while let Some(point) = self.0.front().filter(|point| point.pos <= limit && is_old(point.at, at, age_ms)) {
            keep = Some(point.pos);
            self.0.pop_front();
        }
        keep
    }
}

const fn is_old(then: i64, at: i64, age_ms: i64) -> bool {
    at.saturating_sub(then) >= age_ms
}

/// What is known of the room's snapshots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots {
    /// Position of the last one in its stream; `None`: not known, so none can be written.
    fence: Option<u64>,
    newest: Option<Known>,
    /// The older of the two that are kept, if the log surely holds it.
    older: Option<Known>,
    points: TrimPoints,
    /// The log is trimmed up to here, as far as this owner has asked for it.
    trimmed: u64,
    /// ... and is to be asked for again: a trim that failed is told to nobody.
    untold: bool,
    pending: Option<Pending>,
    /// The last one that failed: it may be stored all the same.
    unclear: Option<Pending>,
    /// SNAP's head is being read.
    asked: Option<Token>,
    /// When SNAP's head is read again.
    retry: Backoff,
    entries: u64,
    bytes: u64,
    size: u64,
    /// One must be stored before the room is served.
    pub(super) anchoring: bool,
    /// SNAP's head when the room was loaded.
    loaded: u64,
}

impl Snapshots {
    /// What a load found, ascending.
    pub(super) fn found(&mut self, stored: &[StoredMessage]) {
        let head = stored.last().map_or(0, |message| message.pos);
        *self = Self {
            fence: Some(head),
            loaded: head,
            newest: stored.last().and_then(Known::stored),
            older: before_last(stored).and_then(Known::stored),
            size: stored.last().map_or(0, |message| message.body.len() as u64),
            ..Self::default()
        };
    }

    /// The fold begins from `anchor`, or from the room's first entry. The log surely holds what the anchor followed in its
    /// own epoch, and nothing else.
    pub(super) fn begin(&mut self, anchor: Option<&RoomSnapshot>, age_ms: i64) {
        self.entries = 0;
        self.bytes = 0;
        let own = anchor.map(Known::of);
        self.newest = self.newest.filter(|newest| Some(*newest) == own);
        self.older = self.older.zip(self.newest).and_then(|(older, newest)| {
            (older.epoch == newest.epoch && older.log_pos < newest.log_pos).then_some(older)
        });
        self.points = anchor.map(|anchor| TrimPoints::of(anchor, age_ms)).unwrap_or_default();
    }

    /// True while one is on its way.
    pub(super) const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// When SNAP's head is to be read again.
    pub(super) const fn retry_at(&self) -> Option<u64> {
        self.retry.at
    }

    /// True if this is the answer to the read of SNAP's head, and closes it.
    pub(super) fn awaits(&mut self, token: Token) -> bool {
        self.asked.take_if(|asked| *asked == token).is_some()
    }

    /// The log grew by an entry.
    pub(super) fn grew(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes as u64;
    }

    /// This one is stored as the newest: the log since it is what grew after it was taken.
    fn stored(&mut self, snapshot: Pending) {
        self.size = snapshot.size;
        self.entries = self.entries.saturating_sub(snapshot.entries);
        self.bytes = self.bytes.saturating_sub(snapshot.bytes);
        self.unclear = None;
        self.retry = Backoff::default();
    }

    /// Remembers the newest's place.
    fn mark_newest(&mut self, age_ms: i64) {
        if let Some(newest) = self.newest {
            self.points.push(TrimPoint { pos: newest.log_pos, at: newest.at }, age_ms);
        }
        self.untold = true;
    }
}

fn before_last(stored: &[StoredMessage]) -> Option<&StoredMessage> {
    stored.len().checked_sub(2).and_then(|i| stored.get(i))
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
        let mut snapshot = self.committed.snapshot();
        snapshot.trims = self.snap.points.0.iter().copied().collect();
        let body: bytes::Bytes = snapshot.encode_to_vec().into();
        self.snap.pending = Some(Pending {
            token,
            known: Known::of(&snapshot),
            size: body.len() as u64,
            entries: self.snap.entries,
            bytes: self.snap.bytes,
        });
        self.out.push(Effect::WriteSnapshot { token, expect: self.snap.fence.unwrap_or(0), body });
    }

    pub(super) fn on_snapshot_written(&mut self, token: Token, outcome: Outcome) {
        let Some(snapshot) = self.snap.pending.take_if(|pending| pending.token == token) else { return };
        let Outcome::Stored(pos) = outcome else {
            // Perhaps stored, perhaps another owner's turn.
            self.snap.fence = None;
            self.snap.unclear = Some(snapshot);
            return self.read_snapshots_later();
        };
        self.snap.fence = Some(pos);
        self.snap.older = self.snap.newest.replace(snapshot.known);
        self.snap.stored(snapshot);
        self.snap.mark_newest(self.rules.trim_age_ms);
        self.anchored();
    }

    /// The state that a new epoch begins with is stored: the room may be served.
    fn anchored(&mut self) {
        self.snap.anchoring = false;
        if matches!(self.phase, Phase::Anchoring) {
            self.begin_serving();
        }
    }

    /// A room that is not served yet cannot wait for long.
    fn read_snapshots_later(&mut self) {
        if matches!(self.phase, Phase::Anchoring) {
            self.pause();
        } else if !mutant!(SnapshotGivenUp) {
            self.snap.retry.begin_between(self.now.mono_ms, SNAPSHOT_RETRY_MIN_MS, SNAPSHOT_RETRY_MAX_MS);
        }
    }

    /// Reads SNAP's head again if it is time to.
    pub(super) fn read_snapshots_if_due(&mut self) {
        if self.snap.retry.at.is_some_and(|at| at <= self.now.mono_ms) {
            self.snap.retry.at = None;
            self.read_snapshots();
        }
    }

    /// Reads SNAP's head again, beside whatever else is awaited.
    pub(super) fn read_snapshots(&mut self) {
        let token = self.next_token();
        self.snap.asked = Some(token);
        self.out.push(Effect::Read { token, gen_id: false, snapshots: true, log_from: None });
    }

    /// SNAP's head after an append that failed.
    pub(super) fn on_snapshots_read(&mut self, found: Option<Found>) {
        let Some(Found { snapshots, .. }) = found else { return self.read_snapshots_later() };
        let tail = self.committed.tail;
        let mine = (tail.epoch, tail.term);
        let newest = snapshots.last().and_then(Known::stored);
        let head = snapshots.last().map_or(0, |message| message.pos);
        if matches!(self.phase, Phase::Anchoring) && self.is_overtaken(head, newest) {
            mark!("brain.anchor-overtaken");
            self.broken_at = Some(tail);
            return self.load();
        }
        if newest.is_some_and(|newest| (newest.epoch, newest.term) > mine) {
            // Another owner's: its place is not this one's to take, and the log will say so, too.
            return self.read_snapshots_later();
        }
        mark!("brain.snapshot-repeated");
        let snap = &mut self.snap;
        snap.fence = Some(head);
        // Of what stands there, what this owner wrote or knew.
        let (known, unclear) = ([snap.newest, snap.older], snap.unclear.take());
        let sure = |stored: &Known| {
            let written = (stored.epoch, stored.term) == mine && stored.log_pos <= tail.pos;
            written || known.contains(&Some(*stored)) || unclear.is_some_and(|unclear| unclear.known == *stored)
        };
        snap.newest = newest.filter(sure);
        snap.older = snap.newest.and(before_last(&snapshots).and_then(Known::stored)).filter(sure);
        snap.mark_newest(self.rules.trim_age_ms);
        if let Some(unclear) = unclear.filter(|unclear| snap.newest == Some(unclear.known)) {
            snap.stored(unclear);
            return self.anchored();
        }
        if matches!(self.phase, Phase::Anchoring) {
            self.write_snapshot();
        }
    }

    /// True if another owner stored a snapshot since the load. While no snapshot is confirmed, the log is walked for its
    /// head alone: what that owner committed on top of its own snapshot is not in this one's state, and is lost if this
    /// one's snapshot takes the place.
    fn is_overtaken(&self, head: u64, newest: Option<Known>) -> bool {
        let mine = self.snap.unclear.map(|unclear| unclear.known);
        head != self.snap.loaded && newest != mine && !mutant!(AnchorOvertakes)
    }

    /// Trims the log to the newest place that is old enough for every reader to have passed it.
    pub(super) fn trim(&mut self) {
        let Some(older) = self.snap.older else { return };
        let (at, age_ms) = (self.committed.tail.at, self.rules.trim_age_ms);
        let older_is_old = is_old(older.at, at, age_ms);
        if mutant!(TrimLooksAtTheOlder) && !older_is_old {
            return;
        }
        let point = self.snap.points.take(older.log_pos, at, age_ms);
        let keep = if older_is_old { older.log_pos } else { point.unwrap_or(0) };
        if keep > self.snap.trimmed {
            (self.snap.trimmed, self.snap.untold) = (keep, true);
        }
        if self.snap.trimmed > 0 && std::mem::take(&mut self.snap.untold) {
            mark!("brain.trimmed");
            self.out.push(Effect::Trim { keep: self.snap.trimmed });
        }
    }
}
