//! What arrives on `out.…` and what the log holds, decoded once for all subscribers: each event is a slice of one
//! buffer, its opcode already before it.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::frame;
use proto::internal::{Live, LogEntry};
use sha2::{Digest, Sha256};

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pos: u64,
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) prev: u64,
    pub(crate) prev_chain: u64,
    /// Of this entry.
    pub(crate) chain: u64,
    pub(crate) first_seq: u64,
    /// PUB frames, ready to be written.
    pub(crate) events: Vec<Bytes>,
    /// Who took the room over with this entry.
    pub(crate) owner: Option<String>,
}

/// What is not stored: ephemeral events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveBatch {
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) n: u64,
    pub(crate) events: Vec<Bytes>,
}

/// First 8 bytes of SHA-256, little-endian: what the next entry names as its predecessor.
pub(crate) fn chain(body: &[u8]) -> u64 {
    let digest = Sha256::digest(body);
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

impl Entry {
    /// From the bytes at `pos`; an unreadable one is an entry that fits nowhere.
    pub(crate) fn decode(pos: u64, body: &Bytes) -> Self {
        let chain = chain(body);
        let entry = LogEntry::decode(body.clone()).unwrap_or_default();
        Self {
            pos,
            epoch: entry.epoch,
            term: entry.term,
            prev: entry.prev,
            prev_chain: entry.prev_chain,
            chain,
            first_seq: entry.first_seq,
            events: pubs(&entry.envelopes),
            owner: entry.owned.map(|owned| owned.node),
        }
    }

    pub(crate) fn last_seq(&self) -> u64 {
        (self.first_seq + self.events.len() as u64).saturating_sub(1)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(Bytes::len).sum()
    }
}

impl LiveBatch {
    pub(crate) fn decode(body: &Bytes) -> Option<Self> {
        let live = Live::decode(body.clone()).ok()?;
        Some(Self { epoch: live.epoch, term: live.term, n: live.n, events: pubs(&live.envelopes) })
    }
}

/// PUB frames of these envelopes, in one buffer.
pub(crate) fn pubs(envelopes: &[Bytes]) -> Vec<Bytes> {
    let mut buffer = BytesMut::with_capacity(envelopes.iter().map(|envelope| 1 + envelope.len()).sum());
    for envelope in envelopes {
        frame::put_pub(&mut buffer, envelope);
    }
    let buffer = buffer.freeze();
    let mut at = 0;
    envelopes
        .iter()
        .map(|envelope| {
            let from = at;
            at += 1 + envelope.len();
            buffer.slice(from..at)
        })
        .collect()
}
