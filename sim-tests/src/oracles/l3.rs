//! L3: a room's log is bounded by its snapshots' rule, at every step (LOG §5). Looks at every entry that is stored, and at
//! every one that is trimmed.
//!
//! 1. A snapshot is due once the log since the newest one has so many entries, or more bytes than the rule says and than the
//!    snapshot has. It is stored within [`PATIENCE`].
//! 2. The log begins at or above the newest snapshot that is older than 9/8 of the age, or at the older of the two stored
//!    ones if that is lower. It does within [`PATIENCE`].
//! 3. Nothing is trimmed that is younger than the age, or stands at or above the older of the two stored ones.
//!
//! The slack: while a fault is open, and for [`PATIENCE`] after it, nothing is demanded. A snapshot may be late by as long
//! again as none could be stored, at most a minute: that is the owner's back-off. A trim that a fault may have swallowed is
//! asked for again when the next snapshot is stored. An owner of another term counts as a fault: of what was stored
//! shortly before it took over it may not know.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

/// What is due is done within this, microseconds: an append and its confirmation, each with its timeout.
const PATIENCE: u64 = 5_000_000;
/// The longest pause before an owner tries again, microseconds.
const BACK_OFF: u64 = 60_000_000;
/// What was stored so shortly before a take-over the new owner may not have read, microseconds.
const OVERLAP: u64 = 10_000_000;

#[derive(Default)]
pub(super) struct Bounded {
    rules: Option<Rules>,
    rooms: BTreeMap<String, Room>,
    /// Faults that are open.
    open: BTreeSet<String>,
    /// When the last of them ended, or a process died or came, microseconds.
    trouble: u64,
}

#[derive(Clone, Copy)]
struct Rules {
    entries: u64,
    bytes: u64,
    age_ms: i64,
}

#[derive(Default)]
struct Room {
    /// The log: position → bytes and time of the entry.
    log: BTreeMap<u64, (u64, i64)>,
    /// Of the last entry.
    rank: (u64, u64),
    at: i64,
    snapshots: Vec<Snapshot>,
    size: u64,
    /// Since the newest snapshot.
    entries: u64,
    bytes: u64,
    /// Since when a snapshot is due.
    due: Option<u64>,
    /// Where the log should begin, and since when.
    owed: Option<(u64, u64)>,
    /// When a snapshot was stored last.
    stored: u64,
    trouble: u64,
    deleted: bool,
}

struct Snapshot {
    epoch: u64,
    pos: u64,
    at: i64,
    t: u64,
    /// Its owner wrote the head, and whoever wrote later had read it.
    sure: bool,
}

impl Room {
    /// The two that the stream keeps.
    fn kept(&self) -> Option<[&Snapshot; 2]> {
        let [.., older, newest] = self.snapshots.as_slice() else { return None };
        Some([older, newest])
    }

    /// Where the log must begin.
    fn floor(&self, age_ms: i64) -> Option<u64> {
        let sure = |snapshot: &&Snapshot| snapshot.sure && snapshot.epoch == self.rank.0;
        let kept = self.kept()?;
        if !kept.iter().all(sure) {
            return None;
        }
        let cut = self.at - age_ms - (age_ms / 8).max(1);
        let old = self.snapshots.iter().rev().filter(sure).find(|snapshot| snapshot.at <= cut)?;
        Some(old.pos.min(kept[0].pos).min(kept[1].pos))
    }

    fn since_newest(&mut self) {
        let newest = self.snapshots.last().map_or(0, |snapshot| snapshot.pos);
        let since = self.log.range(newest + 1..);
        (self.entries, self.bytes) = since.fold((0, 0), |(entries, all), (_, (bytes, _))| (entries + 1, all + bytes));
    }
}

impl Bounded {
    fn entry(&mut self, line: &Line, room: &str, found: &mut Findings) {
        let Some(rules) = self.rules else { return };
        let calm = self.open.is_empty();
        let trouble = self.trouble;
        let Some(it) = self.rooms.get_mut(room) else { return };
        let trouble = trouble.max(it.trouble);
        // 1: a snapshot in time.
        let due = it.entries >= rules.entries || it.bytes > rules.bytes.max(it.size);
        it.due = due.then(|| it.due.unwrap_or(line.t));
        if let Some(since) = it.due.filter(|_| calm) {
            let again = trouble + trouble.saturating_sub(it.stored).min(BACK_OFF);
            let (entries, bytes) = (it.entries, it.bytes);
            found.check("L3", line.n, line.t <= since.max(again) + PATIENCE, || {
                let late = (line.t - since) / 1000;
                format!("{room} has {entries} entries ({bytes} B) since its newest snapshot: one is due for {late} ms")
            });
        } else {
            found.checks += 1;
        }
        // 2: trimmed in time.
        let begins = it.log.keys().next().copied().unwrap_or(0);
        it.owed = it.owed.filter(|(floor, _)| begins < *floor);
        if it.owed.is_none() {
            it.owed = it.floor(rules.age_ms).filter(|floor| begins < *floor).map(|floor| (floor, line.t));
        }
        if let Some((floor, since)) = it.owed.filter(|(_, since)| calm && trouble < *since) {
            let entries = it.log.range(..floor).count();
            found.check("L3", line.n, line.t <= since + PATIENCE, || {
                let late = (line.t - since) / 1000;
                format!(
                    "the log of {room} begins at {begins}, {entries} entries below {floor}, where it must for {late} ms"
                )
            });
        }
    }

    fn purged(&mut self, line: &Line, room: &str, pos: u64, found: &mut Findings) {
        let Some(rules) = self.rules else { return };
        let Some(it) = self.rooms.get_mut(room) else { return };
        let Some((_, at)) = it.log.remove(&pos) else { return };
        if it.deleted {
            return;
        }
        // 3: nothing too early.
        let young = it.at - at < rules.age_ms;
        found.check("L3", line.n, !young, || {
            format!("position {pos} of {room} was trimmed {} ms after it was stored", it.at - at)
        });
        if let Some(kept) = it.kept() {
            let lowest = kept[0].pos.min(kept[1].pos);
            found.check("L3", line.n, pos < lowest, || {
                format!("position {pos} of {room} was trimmed, and the older of its two snapshots stands at {lowest}")
            });
        }
    }
}

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "L3"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Rules { entries, bytes, age_ms } => {
                self.rules = Some(Rules { entries: *entries, bytes: *bytes, age_ms: *age_ms });
            }
            Record::Fault { id, .. } => {
                self.open.insert(id.clone());
                self.trouble = line.t;
            }
            Record::Heal { id } => {
                self.open.remove(id);
                self.trouble = line.t;
            }
            Record::Crash { .. } | Record::Start { .. } => self.trouble = line.t,
            Record::TailLost { .. } => {
                self.trouble = line.t;
                for room in self.rooms.values_mut() {
                    room.snapshots.clear();
                    (room.entries, room.bytes, room.due, room.owed) = (0, 0, None, None);
                }
            }
            Record::Entry { room, epoch, term, pos, at, bytes, kind, .. } => {
                let it = self.rooms.entry(room.clone()).or_default();
                if it.log.is_empty() {
                    it.stored = line.t;
                }
                // Positions are handed out again after a power cut.
                it.log.split_off(pos);
                it.log.insert(*pos, (*bytes, *at));
                (it.rank, it.at, it.deleted) = ((*epoch, *term), *at, kind == "deleted");
                (it.entries, it.bytes) = (it.entries + 1, it.bytes + bytes);
                if kind == "owned" {
                    it.trouble = line.t;
                    it.snapshots.iter_mut().filter(|one| one.t + OVERLAP >= line.t).for_each(|one| one.sure = false);
                }
                if it.deleted {
                    it.snapshots.clear();
                }
                self.entry(line, room, found);
            }
            Record::Snapshot { room, epoch, term, pos, at, bytes, .. } => {
                let calm = self.open.is_empty();
                let it = self.rooms.entry(room.clone()).or_default();
                let sure = it.rank == (*epoch, *term);
                it.snapshots.push(Snapshot { epoch: *epoch, pos: *pos, at: *at, t: line.t, sure });
                (it.size, it.stored, it.due) = (*bytes, line.t, None);
                it.since_newest();
                let trouble = self.trouble.max(it.trouble);
                if let Some((_, since)) = it.owed.as_mut().filter(|(_, since)| calm && trouble >= *since) {
                    *since = line.t;
                }
            }
            Record::Purged { room, pos } => self.purged(line, room, *pos, found),
            _ => {}
        }
    }
}
