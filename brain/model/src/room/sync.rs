//! A SUB's question: may this user join, and what does a subscriber need to begin: the events it missed, or the state.

use bytes::Bytes;
use prost::Message as _;
use proto::v1;
use voltron_core::mark;

use super::{Room, Waiting};
use crate::answers::{self, SYNC_BYTES_MAX};
use crate::incoming::SyncAsk;
use crate::io::Effect;

/// The most events of a `history`.
const HISTORY_MAX: usize = 256;

/// No Shield has seen a higher epoch: they are milliseconds since 1970, or a little more. A cursor above it must not
/// drive a room to where no epoch is left.
const EPOCH_MAX: u64 = 1 << 53;

/// What the asking Shield's own cursor says of this log.
enum Cursor {
    /// Nothing against it.
    Fits,
    /// It knows more, or something else, than this log holds.
    Contradicts,
}

impl Room {
    /// Answers every sync that can be answered from the committed state. May find that the epoch must be renewed, or
    /// that a confirmation is needed; the sync then stays.
    pub(super) fn answer_syncs(&mut self) {
        if !self.queue.iter().any(|waiting| matches!(waiting, Waiting::Sync { .. })) {
            return;
        }
        for waiting in std::mem::take(&mut self.queue) {
            match waiting {
                Waiting::Sync { reply, ask, confirms } => {
                    if self.leave(&ask, confirms) {
                        self.queue_bytes -= 64;
                        self.answer_sync(reply, &ask);
                    } else {
                        self.queue.push_back(Waiting::Sync { reply, ask, confirms });
                    }
                }
                other => self.queue.push_back(other),
            }
        }
    }

    /// False if the Shield's cursor, or the client's, must be looked into first.
    fn leave(&mut self, ask: &SyncAsk, confirms: u64) -> bool {
        let plausible = |cursor: &&v1::Cursor| cursor.pos > 0 && cursor.epoch <= EPOCH_MAX;
        let shield = ask.sync.shield.as_ref().filter(plausible);
        let contradicts = shield.filter(|cursor| matches!(self.compare(cursor), Cursor::Contradicts)).copied();
        if contradicts.is_none() && !self.is_ahead(ask) {
            return true;
        }
        if self.inflight.is_some() {
            // It may have seen the entry in flight before this owner heard of it.
            return false;
        }
        if self.confirms == confirms {
            // Not confirmed since it asked: perhaps this owner is the one that is behind.
            self.proof_ms = None;
            return false;
        }
        // A client's word alone begins no epoch: it gets a snapshot.
        let Some(cursor) = contradicts else { return true };
        mark!("brain.new-epoch");
        self.renew_above = Some(self.renew_above.unwrap_or(0).max(cursor.epoch));
        false
    }

    /// True if the client has seen more of the room than is known to be stored.
    fn is_ahead(&self, ask: &SyncAsk) -> bool {
        let tail = &self.committed.tail;
        ask.sync
            .since
            .is_some_and(|since| since.epoch <= EPOCH_MAX && (since.epoch, since.seq) > (tail.epoch, tail.seq))
    }

    fn compare(&self, cursor: &v1::Cursor) -> Cursor {
        let tail = &self.committed.tail;
        if cursor.epoch < tail.epoch {
            return Cursor::Fits;
        }
        if (cursor.epoch, cursor.term) > (tail.epoch, tail.term) || cursor.pos > tail.pos {
            return Cursor::Contradicts;
        }
        match self.ring.chain_at(cursor.pos) {
            None => Cursor::Fits,
            Some(chain) if chain == Some(cursor.chain) => Cursor::Fits,
            Some(_) => Cursor::Contradicts,
        }
    }

    fn answer_sync(&mut self, reply: proto::Subject, ask: &SyncAsk) {
        if let Some(code) = self.barred(&ask.caller) {
            return self.refuse_sync(reply, code);
        }
        let mut answer = answers::sync_head(&self.committed.tail);
        if !ask.sync.leave_only {
            if let Some(events) = ask.sync.since.as_ref().and_then(|since| self.replay(since)) {
                answer.recovered = true;
                answer.events = events;
            } else {
                answer.snapshot = answers::snapshot(&self.key, &self.committed);
                let used: usize = answer.snapshot.iter().map(Bytes::len).sum();
                let count = (ask.sync.history as usize).min(HISTORY_MAX);
                if count > 0 && ask.sync.since.is_none() {
                    let left = SYNC_BYTES_MAX.saturating_sub(used);
                    answer.events = self.ring.newest(self.committed.tail.epoch, count, left);
                }
            }
        }
        self.out.push(Effect::Reply { to: reply, body: answer.encode_to_vec().into() });
    }

    /// Every event after `since`, or none at all: a client never gets a part of what it missed.
    fn replay(&self, since: &v1::Head) -> Option<Vec<Bytes>> {
        let tail = &self.committed.tail;
        if since.epoch != tail.epoch || since.seq > tail.seq {
            return None;
        }
        let events = self.ring.after(tail.epoch, since.seq)?;
        let bytes: usize = events.iter().map(|event| event.len() + 8).sum();
        (bytes <= SYNC_BYTES_MAX).then_some(events)
    }
}
