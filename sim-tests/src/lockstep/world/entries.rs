//! What others write into a room's log: other owners, owners of long ago, and what is no entry at all.

use brain_model::chain::{Tail, entry_id};
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Deleted, Kind, LogEntry, Owned};
use proto::v1::{self, envelope::Payload, event::Body};

use crate::lockstep::ops::Foreign;

/// Nobody of the history.
const STRANGER: u64 = 0xdead_beef_0000_0001;

/// An entry after `tail`, as the message that follows position `head`.
pub(super) fn foreign(kind: Foreign, tail: &Tail, head: u64) -> Bytes {
    let next = LogEntry {
        epoch: tail.epoch,
        term: tail.term,
        first_seq: tail.seq.saturating_add(1),
        prev: head,
        prev_chain: tail.chain,
        r#gen: tail.gen_id,
        at: tail.at,
        kind: Kind::Tick.into(),
        entry_id: entry_id(STRANGER, head),
        ..LogEntry::default()
    };
    let term = tail.term.saturating_add(1);
    let entry = match kind {
        Foreign::TakeOver => LogEntry {
            term,
            kind: Kind::Owned.into(),
            owned: Some(Owned { node: "stranger".into(), incarnation: STRANGER }),
            ..next
        },
        Foreign::SameTerm => {
            let envelopes = vec![event(tail, tail.seq.saturating_add(1)), Bytes::from_static(b"\xff no envelope")];
            LogEntry { kind: Kind::Events.into(), envelopes, ..next }
        }
        Foreign::Tombstone => LogEntry { term, kind: Kind::Deleted.into(), deleted: Some(Deleted::default()), ..next },
        Foreign::End => LogEntry {
            term: u64::MAX,
            first_seq: u64::MAX,
            at: i64::MIN,
            kind: Kind::Events.into(),
            envelopes: vec![event(tail, u64::MAX)],
            ..next
        },
        Foreign::LowerTerm => LogEntry { term: tail.term.saturating_sub(1), ..next },
        Foreign::WrongChain => LogEntry { prev_chain: tail.chain ^ 1, ..next },
        Foreign::WrongPrev => LogEntry { prev: head.wrapping_sub(1), ..next },
        Foreign::UnknownKind => LogEntry { kind: 77, entry_id: Bytes::from_static(b"short"), ..next },
        Foreign::Garbage => return Bytes::from_static(b"\x01 no entry"),
        Foreign::Empty => return Bytes::new(),
    };
    entry.encode_to_vec().into()
}

fn event(tail: &Tail, seq: u64) -> Bytes {
    let body = Body::KeySet(v1::KeySet { key: "k1".into(), value: "theirs".into(), ver: seq, expires_at: -7 });
    let event = v1::Event {
        epoch: tail.epoch,
        seq,
        user: "eve".into(),
        term: tail.term,
        body: Some(body),
        ..v1::Event::default()
    };
    let envelope = v1::Envelope {
        timestamp: i64::MIN,
        message_id: vec![3; 16].into(),
        payload: Some(Payload::Event(event)),
        ..v1::Envelope::default()
    };
    envelope.encode_to_vec().into()
}
