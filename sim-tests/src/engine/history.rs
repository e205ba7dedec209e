//! The harness's own copy of everything that was ever stored in a room's log: it tells the trace what a power cut lost and
//! what was trimmed away, so that an oracle can say whether that may be missing in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use proto::internal::{Kind, RoomSnapshot};
use proto::{RoomId, RoomKey, TenantId};
use spine_sim::{Witness, Witnessed};
use voltron_core::trace::Record;

use crate::logbook::{self, Walk};
use crate::oracles::{LOST_HOST, STORED_HOST, TRIMMED_HOST};
use crate::trace::Trace;

/// How many snapshots of a room are stored at most.
const SNAPSHOTS: usize = 2;

/// A place in a room.
type Place = (u64, u64);

/// What became of every log.
struct History {
    trace: Trace,
    /// By subject.
    logs: BTreeMap<Vec<u8>, Log>,
    /// Places that stored snapshots stand at, by room; oldest first, with their positions.
    snapshots: BTreeMap<String, Vec<(u64, Place)>>,
    /// What the trace was told last, by room.
    covered: BTreeMap<String, Place>,
}

struct Log {
    room: RoomKey,
    /// Ascending by position.
    kept: Vec<Kept>,
}

/// A message of a log.
struct Kept {
    seq: u64,
    /// As far as this one.
    walk: Walk,
    /// Its events, if it is valid.
    events: Vec<Record>,
    /// It is the room's tombstone and stands there.
    tombstone: Option<Place>,
}

/// A witness that writes into the trace.
pub fn witness(trace: &Trace) -> Witness {
    let history =
        History { trace: trace.clone(), logs: BTreeMap::new(), snapshots: BTreeMap::new(), covered: BTreeMap::new() };
    let history = Arc::new(Mutex::new(history));
    Arc::new(move |seen| history.lock().expect("no panic happens while it is held").see(seen))
}

impl History {
    fn see(&mut self, seen: Witnessed<'_>) {
        match seen {
            Witnessed::Stored { subject, seq, body } => match parse(subject) {
                Some((true, room)) => self.logged(subject, room, seq, body),
                Some((false, room)) => {
                    let Ok(snapshot) = RoomSnapshot::decode(body.as_ref()) else { return };
                    self.trace.push(STORED_HOST, logbook::snapshot(&room, &snapshot, body.len()));
                    let stored = self.snapshots.entry(room.to_string()).or_default();
                    stored.push((seq, (snapshot.epoch, snapshot.seq)));
                    if stored.len() > SNAPSHOTS {
                        stored.remove(0);
                    }
                }
                None => {}
            },
            Witnessed::Lost { subject, seq } => self.lost(subject, seq),
            Witnessed::Purged { subject, seq } => self.purged(subject, seq),
        }
    }

    fn logged(&mut self, subject: &[u8], room: RoomKey, seq: u64, body: &[u8]) {
        let log = self.logs.entry(subject.to_owned()).or_insert_with(|| Log { room, kept: Vec::new() });
        let mut walk = log.kept.last().map(|last| last.walk.clone()).unwrap_or_default();
        let entry = walk.step(seq, body);
        let events = entry.as_ref().map(|entry| logbook::records(&log.room, entry)).unwrap_or_default();
        if let Some(entry) = &entry {
            self.trace.push(STORED_HOST, logbook::entry(&log.room, seq, entry, body.len()));
        }
        let tombstone = entry.filter(|entry| entry.kind == Kind::Deleted as i32).map(|entry| (entry.epoch, u64::MAX));
        log.kept.push(Kept { seq, walk, events, tombstone });
    }

    fn lost(&mut self, subject: &[u8], seq: u64) {
        if let Some((false, room)) = parse(subject)
            && let Some(stored) = self.snapshots.get_mut(&room.to_string())
        {
            stored.retain(|(position, _)| *position != seq);
        }
        let Some(log) = self.logs.get_mut(subject) else { return };
        if let Some(gone) = log.kept.pop_if(|last| last.seq == seq) {
            gone.events.into_iter().for_each(|event| self.trace.push(LOST_HOST, event));
        }
    }

    fn purged(&mut self, subject: &[u8], seq: u64) {
        let Some(log) = self.logs.get_mut(subject) else { return };
        let room = log.room.to_string();
        let snapshot = self.snapshots.get(&room).and_then(|stored| stored.last()).map(|(_, place)| *place);
        let tombstone = log.kept.iter().rev().find_map(|kept| kept.tombstone);
        let Some(kept) = log.kept.iter_mut().find(|kept| kept.seq == seq) else { return };
        if let Some((epoch, seq)) = snapshot.max(tombstone)
            && self.covered.insert(room.clone(), (epoch, seq)) != Some((epoch, seq))
        {
            self.trace.push(TRIMMED_HOST, Record::Trim { room, epoch, seq });
        }
        std::mem::take(&mut kept.events).into_iter().for_each(|event| self.trace.push(TRIMMED_HOST, event));
        self.trace.push(STORED_HOST, Record::Purged { room: log.room.to_string(), pos: seq });
    }
}

/// Whether a subject is a room's log (or its snapshots), and whose.
fn parse(subject: &[u8]) -> Option<(bool, RoomKey)> {
    let subject = std::str::from_utf8(subject).ok()?;
    let (is_log, rest) = match subject.strip_prefix("log.") {
        Some(rest) => (true, rest),
        None => (false, subject.strip_prefix("snap.")?),
    };
    let (tenant, room) = rest.split_once(".t.")?.1.split_once(".r.")?;
    Some((is_log, RoomKey::new(TenantId::parse(tenant).ok()?, RoomId::parse(room).ok()?)))
}
