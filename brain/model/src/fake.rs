//! The smallest Spine that one room stands on: its log, its snapshots and its generation as plain vectors, as the leader
//! of a stream has them. Every call can be held back, answered wrongly, or stored late by whoever holds this. For tests
//! (feature `fake`).
//!
//! What it leaves out: other rooms of the same stream, so positions have no holes but those of a trim; followers; time.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::LogEntry;
use proto::v1::{self, envelope::Payload};

use crate::fold::Folded;
use crate::io::{Effect, Found, Input, Outcome, StoredMessage};

/// Messages of the log in one read: few, so that paging is tested.
pub const PAGE: usize = 7;
/// Snapshots that the stream keeps.
const SNAPSHOTS_MAX: usize = 2;

/// The room's streams.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// The log.
    pub log: Vec<StoredMessage>,
    /// Position of the newest message that there ever was.
    pub next: u64,
    /// The snapshots.
    pub snaps: Vec<StoredMessage>,
    /// Position of the newest snapshot.
    pub next_snap: u64,
    /// The generation.
    pub gen_id: Option<u64>,
    /// Appends on their way that nobody waits for any more: each may be stored yet.
    pub late: Vec<(u64, Bytes)>,
    /// So many messages of the log in one read, such as over a slow link; `None`: [`PAGE`].
    pub page: Option<usize>,
    /// How every append is refused; `None`: none is.
    pub refuse: Option<Outcome>,
}

impl Streams {
    /// Position of the last message; 0: there is none.
    pub fn head(&self) -> u64 {
        self.log.last().map_or(0, |message| message.pos)
    }

    /// A fenced append.
    pub fn append(&mut self, expect: u64, body: Bytes) -> Outcome {
        if let Some(refusal) = self.refuse {
            return refusal;
        }
        if self.head() != expect {
            return Outcome::WrongLast;
        }
        self.append_any(body);
        Outcome::Stored(self.next)
    }

    /// What is written past the fence by nobody we know.
    pub fn append_any(&mut self, body: Bytes) {
        self.next += 1;
        self.log.push(StoredMessage { pos: self.next, body });
    }

    /// A power cut: the newest messages and what only memory holds are gone; positions are handed out again.
    pub fn lose_tail(&mut self, count: usize) {
        self.log.truncate(self.log.len().saturating_sub(count));
        self.next = self.head();
        self.gen_id = None;
    }

    /// A fenced snapshot.
    pub fn write_snapshot(&mut self, expect: u64, body: Bytes) -> Outcome {
        if let Some(refusal) = self.refuse {
            return refusal;
        }
        if self.snaps.last().map_or(0, |snap| snap.pos) != expect {
            return Outcome::WrongLast;
        }
        self.next_snap += 1;
        self.snaps.push(StoredMessage { pos: self.next_snap, body });
        let excess = self.snaps.len().saturating_sub(SNAPSHOTS_MAX);
        self.snaps.drain(..excess);
        Outcome::Stored(self.next_snap)
    }

    /// Does what an effect asks for; the outcome that its owner would hear, if it would hear one.
    pub fn perform(&mut self, call: Effect, draw: u64) -> Option<Input> {
        Some(match call {
            Effect::Read { token, gen_id, snapshots, log_from } => {
                let from = log_from.unwrap_or(u64::MAX);
                let mut log: Vec<_> = self.log.iter().filter(|message| message.pos >= from).cloned().collect();
                let page = self.page.unwrap_or(PAGE);
                let more = log.len() > page;
                log.truncate(page);
                let found = Found {
                    gen_id: self.gen_id.filter(|_| gen_id),
                    snapshots: if snapshots { self.snaps.clone() } else { Vec::new() },
                    log,
                    more,
                };
                Input::Read { token, draw, found: Some(found) }
            }
            Effect::WriteGen { token, value } => {
                self.gen_id.get_or_insert(value);
                Input::GenWritten { token }
            }
            Effect::Append { token, expect, body } => Input::Appended { token, outcome: self.append(expect, body) },
            Effect::WriteSnapshot { token, expect, body } => {
                Input::SnapshotWritten { token, outcome: self.write_snapshot(expect, body) }
            }
            Effect::Trim { keep } => {
                self.log.retain(|message| message.pos >= keep);
                return None;
            }
            Effect::Subscribe { token } => Input::Subscribed { token, ok: true },
            Effect::Reply { .. } | Effect::Live { .. } | Effect::StepDown(_) | Effect::Note(_) => return None,
        })
    }

    /// Every entry, valid or not, in the log's order.
    pub fn entries(&self) -> Vec<LogEntry> {
        self.log.iter().map(|message| LogEntry::decode(message.body.clone()).unwrap_or_default()).collect()
    }

    /// The whole log folded from nothing, with the valid entries in their order.
    pub fn fold(&self) -> (Folded, Vec<(u64, LogEntry)>) {
        let mut folded = Folded::default();
        let mut valid = Vec::new();
        for message in &self.log {
            if let Ok(applied) = folded.entry(message.pos, &message.body) {
                valid.push((message.pos, applied.entry));
            }
        }
        (folded, valid)
    }

    /// Every valid event in the log's order.
    pub fn events(&self) -> Vec<(v1::Envelope, v1::Event)> {
        let valid = self.fold().1;
        let bytes = valid.into_iter().flat_map(|(_, entry)| entry.envelopes);
        bytes
            .filter_map(|bytes| {
                let envelope = v1::Envelope::decode(bytes).ok()?;
                match envelope.payload.clone() {
                    Some(Payload::Event(event)) => Some((envelope, event)),
                    _ => None,
                }
            })
            .collect()
    }
}
