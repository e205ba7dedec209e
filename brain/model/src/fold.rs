//! A room's state is a pure fold over its log: [`Folded::entry`] is the fold's step, the same for the owner that wrote an
//! entry, for the one that takes over, and for a test that checks both.

use prost::Message as _;
use proto::internal::{Kind, LogEntry, RoomSnapshot};
use proto::v1::{self, envelope::Payload};

use crate::chain::{Tail, Void, chain};
use crate::state::State;

/// A room after some of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Where its log stands.
    pub tail: Tail,
    /// What its events made.
    pub state: State,
}

/// An entry that was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The decoded entry.
    pub entry: LogEntry,
    /// Its chain.
    pub chain: u64,
}

impl Folded {
    /// A room without an entry, whose window remembers the last `dedupe` commands of each user.
    pub fn new(dedupe: usize) -> Self {
        Self { tail: Tail::default(), state: State::new(dedupe) }
    }

    /// Applies the room's next message, stored at `pos`. A void one moves the fence and nothing else.
    pub fn entry(&mut self, pos: u64, bytes: &[u8]) -> Result<Applied, Void> {
        let judged = match LogEntry::decode(bytes) {
            Ok(entry) if entry.kind != Kind::Unknown as i32 => self.tail.accepts(&entry).map(|()| entry),
            _ => Err(Void::Unreadable),
        };
        let entry = match judged {
            Ok(entry) => entry,
            Err(void) => {
                self.tail.fence = pos;
                return Err(void);
            }
        };
        let events: Vec<v1::Envelope> =
            entry.envelopes.iter().filter_map(|bytes| v1::Envelope::decode(bytes.clone()).ok()).collect();
        let chain = chain(bytes);
        self.stored(&entry, &events, pos, chain);
        Ok(Applied { entry, chain })
    }

    /// Applies a valid entry whose events are decoded already.
    pub fn stored(&mut self, entry: &LogEntry, events: &[v1::Envelope], pos: u64, chain: u64) {
        self.begin(entry);
        for envelope in events {
            self.event(envelope);
        }
        self.tail.pos = pos;
        self.tail.fence = pos;
        self.tail.chain = chain;
    }

    /// What an entry does before its events: clock, term, epoch, and the take-over or deletion it stands for.
    pub fn begin(&mut self, entry: &LogEntry) {
        if entry.epoch > self.tail.epoch {
            self.tail.seq = 0;
        }
        self.tail.epoch = entry.epoch;
        self.tail.term = entry.term;
        self.tail.gen_id = entry.r#gen;
        self.tail.at = self.tail.at.max(entry.at);
        self.tail.deleted = entry.kind == Kind::Deleted as i32;
        self.state.dedupe.sweep(self.tail.at);
        match Kind::try_from(entry.kind) {
            Ok(Kind::Owned) => self.state.renew(self.tail.at),
            Ok(Kind::Deleted) => self.state = State::new(self.state.dedupe.limit()),
            _ => {}
        }
    }

    /// One event of the entry begun.
    pub fn event(&mut self, envelope: &v1::Envelope) {
        if let Some(Payload::Event(event)) = &envelope.payload {
            self.state.apply(envelope, event);
            self.tail.seq = self.tail.seq.max(event.seq);
        }
    }

    /// As a snapshot.
    pub fn snapshot(&self) -> RoomSnapshot {
        RoomSnapshot {
            epoch: self.tail.epoch,
            term: self.tail.term,
            seq: self.tail.seq,
            pos: self.tail.pos,
            chain: self.tail.chain,
            r#gen: self.tail.gen_id,
            state: Some(self.state.encode(self.tail.at)),
            trims: Vec::new(),
        }
    }

    /// From a snapshot: the room as it was right after the entry at `pos`, with a window of the last `dedupe` commands of
    /// each user.
    pub fn restore(snapshot: &RoomSnapshot, dedupe: usize) -> Self {
        let room = snapshot.state.as_ref();
        Self {
            tail: Tail {
                epoch: snapshot.epoch,
                term: snapshot.term,
                seq: snapshot.seq,
                pos: snapshot.pos,
                chain: snapshot.chain,
                fence: snapshot.pos,
                gen_id: snapshot.r#gen,
                at: room.map_or(0, |room| room.at),
                deleted: false,
            },
            state: room.map_or_else(|| State::new(dedupe), |room| State::decode(room, dedupe)),
        }
    }
}
