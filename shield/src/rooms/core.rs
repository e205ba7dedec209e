//! One room as this Shield follows it, as plain data: `step(input)` changes the state and says what to do. It reads no
//! clock and does no I/O.
//!
//! ```text
//! delivery ─▶ cursor: next? ─▶ every subscriber that stands right before it
//!                   gap?  ─▶ read the log from the cursor on, as far as the delivery, fold it in
//!                   epoch? ─▶ sync; every subscriber gets a snapshot at the new place
//! SUB ─▶ sync ─▶ result, replay or snapshot at S ─▶ what came after S (ring, else log) ─▶ live
//! ```

mod head;
mod join;
mod repair;
mod ring;
mod subs;

use std::sync::Arc;

use bytes::Bytes;
use proto::internal::SyncReply;
use proto::{Code, v1};
use voltron_core::mutant;

use super::cursor::{Cursor, Fit};
use super::entry::{Entry, LiveBatch};
use crate::outbox::Class;
pub(crate) use join::WAITING_MAX;
use ring::Ring;
use subs::{Phase, Sub, Subs};

/// A subscription of this room; never used twice.
pub(crate) type SubId = u64;

/// Reads without progress before the owner is asked where the head is.
const READS_MAX: u32 = 6;
/// Questions without progress before the subscribers are sent away.
const RESOLVES_MAX: u32 = 5;

/// For whom a sync is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncFor {
    /// A SUB.
    Sub(SubId),
    /// The room: a new epoch must be announced, so a snapshot is needed.
    Announce,
    /// The room: where is the head?
    Resolve,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Join {
        id: SubId,
        ask: v1::Sync,
        /// The highest (epoch, seq) acknowledged to this client before.
        floor: (u64, u64),
    },
    Leave {
        id: SubId,
    },
    Entry(Entry),
    Live(LiveBatch),
    /// Deliveries were lost, or the connection was made again: the head is not known.
    Lost,
    Synced {
        of: SyncFor,
        reply: Result<SyncReply, (Code, String)>,
    },
    /// Messages of the log from the asked position on; `None`: the read failed.
    Read {
        entries: Option<Vec<Entry>>,
    },
    ReadFor {
        id: SubId,
        entries: Option<Vec<Entry>>,
    },
    /// A Brain's heartbeat: this is where its log stands.
    Tail {
        epoch: u64,
        term: u64,
        pos: u64,
        /// Whose it is: the room's owner.
        node: Arc<str>,
    },
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Ask the owner, after a pause.
    Sync { of: SyncFor, ask: v1::Sync, after_ms: u64 },
    /// Read the log from this position; `attempt` counts those without progress.
    Read { from: u64, attempt: u32 },
    /// The same for one subscriber.
    ReadFor { id: SubId, from: u64, attempt: u32 },
    /// The SUB failed.
    Refuse { id: SubId, code: Code, message: String },
    /// The SUB succeeded: result, then these frames. `replays` events up to `seq` follow the result: `replay`, or those
    /// after a shared snapshot.
    Admit {
        id: SubId,
        epoch: u64,
        seq: u64,
        recovered: bool,
        replays: u64,
        replay: Vec<Bytes>,
        snapshot: Vec<Bytes>,
        members: Bytes,
    },
    /// A new epoch: these frames, unasked.
    Announce { id: SubId, snapshot: Vec<Bytes> },
    /// One event.
    Event { id: SubId, frame: Bytes, class: Class },
    /// The subscription ends, not by the client's wish.
    Remove { id: SubId, code: Code },
    /// For metrics and marks.
    Note(Note),
}

/// What is worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Gap,
    Repaired,
    Unrecoverable,
    Void,
    NewEpoch,
}

#[derive(Clone, Debug)]
struct Repair {
    target: u64,
    attempt: u32,
    /// Deliveries are missing.
    lost: bool,
}

/// A snapshot that several joiners share, and the ring after it.
#[derive(Clone, Debug)]
struct Shared {
    cursor: Cursor,
    parts: Vec<Bytes>,
    /// When it came.
    taken_ms: u64,
    /// It came in this step: who waits for it is served, as who asked for it is, however busy the room.
    new: bool,
}

/// The room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Core {
    cursor: Option<Cursor>,
    ring: Ring,
    subs: Subs,
    /// Questions of SUBs that have no answer yet.
    in_flight: usize,
    /// When the first of the questions failed that no owner has answered since.
    stuck_since: Option<u64>,
    patience_ms: u64,
    /// The time of this step, by a clock that only advances.
    now_ms: u64,
    shared: Option<Shared>,
    repair: Option<Repair>,
    /// Highest position delivered before there was a cursor.
    seen: u64,
    /// How far the owner confirmed that this epoch goes on.
    vouched: u64,
    /// When the cursor gets here, its chain must be this.
    anchor: Option<(u64, u64)>,
    resolves: u32,
    resolving: bool,
    announcing: bool,
    /// Announcements in a row that led nowhere.
    announce_fails: u32,
    /// Deliveries were lost, and the head was not asked for since.
    lost: bool,
    live: (u64, u64, u64),
    /// Who took the room over, and with which term.
    pub(crate) owner: Option<(String, u64)>,
    out: Vec<Effect>,
}

impl Core {
    /// A room without subscribers. SUBs are refused once no owner has answered any of them for `patience_ms`.
    pub(crate) fn new(patience_ms: u64) -> Self {
        Self { patience_ms, ..Self::default() }
    }

    /// One step, at `now_ms` of a clock that only advances.
    pub(crate) fn step(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        self.now_ms = now_ms;
        match input {
            Input::Join { id, ask, floor } => self.join(id, ask, floor),
            Input::Leave { id } => {
                self.subs.remove(id);
            }
            Input::Entry(entry) => self.delivered(&entry),
            Input::Live(batch) => self.live_batch(&batch),
            Input::Lost => self.lost(),
            Input::Synced { of, reply } => self.synced(of, reply),
            Input::Read { entries } => self.read(entries),
            Input::ReadFor { id, entries } => self.read_for(id, entries),
            Input::Tail { epoch, term, pos, node } => self.tail(epoch, term, pos, &node),
        }
        self.pump();
        std::mem::take(&mut self.out)
    }

    /// How many SUBs wait for their turn to ask the owner.
    pub(crate) fn waiting(&self) -> usize {
        self.subs.waiting()
    }

    /// True if nobody is subscribed or waits to be.
    pub(crate) fn is_empty(&self) -> bool {
        self.subs.is_empty()
    }

    fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
    }

    /// An entry as the Spine delivered it.
    fn delivered(&mut self, entry: &Entry) {
        let Some(cursor) = self.cursor else {
            self.seen = self.seen.max(entry.pos);
            return;
        };
        match cursor.judge_delivered(entry) {
            Fit::Next => self.accept(entry, Class::Firm),
            Fit::Old | Fit::Void => {}
            Fit::NewEpoch => self.announce(),
            Fit::Gap => self.repair_to(entry.pos),
        }
    }

    /// The next entry of the log: it goes into the ring and to everybody who stands right before it.
    fn accept(&mut self, entry: &Entry, class: Class) {
        let Some(cursor) = &mut self.cursor else { return };
        cursor.advance(entry);
        let cursor = *cursor;
        if let Some(owner) = &entry.owner {
            self.owner = Some((owner.clone(), entry.term));
        }
        self.ring.push(entry);
        let mut torn = Vec::new();
        let first = self.out.len();
        for (id, sub) in self.subs.iter_mut() {
            if !matches!(sub.phase, Phase::Live) || sub.epoch != entry.epoch {
                continue;
            }
            for (seq, frame) in (entry.first_seq..).zip(&entry.events) {
                if seq == sub.seq + 1 || (mutant!(GapIgnored) && seq > sub.seq) {
                    sub.seq = seq;
                    self.out.push(Effect::Event { id, frame: frame.clone(), class });
                } else if seq > sub.seq {
                    torn.push(id);
                    break;
                }
            }
        }
        if mutant!(HashMapOrder) {
            in_hash_order(&mut self.out, first);
        }
        for id in torn {
            // Its own place does not fit the room's: never deliver past it.
            self.subs.remove(id);
            self.out.push(Effect::Remove { id, code: Code::GapUnrecoverable });
        }
        if let Some((pos, chain)) = self.anchor
            && cursor.pos >= pos
        {
            self.anchor = None;
            if cursor.pos == pos && cursor.chain != chain {
                return self.unrecoverable();
            }
        }
        if self.repair.as_ref().is_some_and(|repair| cursor.fence >= repair.target) {
            self.repaired();
        }
    }

    fn live_batch(&mut self, batch: &LiveBatch) {
        let Some(cursor) = self.cursor else { return };
        let place = (batch.epoch, batch.term, batch.n);
        // A stale owner's word is dropped once a higher term was seen, here or in the log.
        if place <= self.live || (batch.epoch, batch.term) < (cursor.epoch, cursor.term) {
            return;
        }
        self.live = place;
        for (id, sub) in self.subs.iter() {
            if matches!(sub.phase, Phase::Live) || mutant!(LiveToAll) {
                let events = batch.events.iter();
                self.out.extend(events.map(|frame| Effect::Event {
                    id,
                    frame: frame.clone(),
                    class: Class::Ephemeral,
                }));
            }
        }
    }
}

/// The planted bug `hash-map-order`: the events from index `first` on leave subscriber by subscriber, in the order in
/// which a `HashMap` happens to hold them.
#[allow(clippy::disallowed_types, reason = "that somebody iterates over one is the planted bug")]
fn in_hash_order(out: &mut Vec<Effect>, first: usize) {
    let mut of_subs: std::collections::HashMap<Option<SubId>, Vec<Effect>> = std::collections::HashMap::new();
    for effect in out.drain(first..) {
        let id = if let Effect::Event { id, .. } = &effect { Some(*id) } else { None };
        of_subs.entry(id).or_default().push(effect);
    }
    out.extend(of_subs.into_values().flatten());
}

#[cfg(test)]
mod tests;
