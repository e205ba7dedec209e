//! The bytes of what a room says: acks, replies to sync and get, live events, and the events of its log.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Live, Opened, SyncReply};
use proto::v1::{self, envelope::Payload, event::Body};
use proto::{Code, MessageId, NodeId, RoomKey};

use crate::chain::Tail;
use crate::decide::Refusal;
use crate::fold::Folded;
use crate::incoming::Command;

/// `Live.kind` of ephemeral events.
pub const LIVE_EPHEMERAL: u32 = 1;
/// The most bytes of one SyncReply's events and snapshot.
pub const SYNC_BYTES_MAX: usize = 896 * 1024;

/// Success, at a place.
pub(crate) fn stored(id: &MessageId, epoch: u64, seq: u64, duplicate: bool) -> v1::Ack {
    v1::Ack { message_id: Bytes::copy_from_slice(&id.0), epoch, seq, duplicate, ..v1::Ack::default() }
}

/// A refusal.
pub(crate) fn refused(id: Option<&MessageId>, refusal: &Refusal) -> v1::Ack {
    v1::Ack {
        message_id: id.map(|id| Bytes::copy_from_slice(&id.0)).unwrap_or_default(),
        code: refusal.code.as_u16().into(),
        message: if refusal.detail.is_empty() { refusal.code.message() } else { refusal.detail }.into(),
        retry_after_ms: refusal.retry_after_ms,
        ver: refusal.ver,
        ..v1::Ack::default()
    }
}

/// Where an event stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) seq: u64,
    pub(crate) at: i64,
    pub(crate) prev: u64,
}

/// A command's event.
pub(crate) fn event(key: &RoomKey, place: Place, command: &Command, body: Body) -> v1::Envelope {
    let event = v1::Event {
        user: command.caller.user.as_str().into(),
        cmd: command.raw.clone(),
        key: command.key.clone(),
        redacted_by: command.redacted_by.clone(),
        ..bare(place, body)
    };
    v1::Envelope {
        trace_id: command.trace_id.clone(),
        timestamp: command.timestamp,
        message_id: Bytes::copy_from_slice(&command.id.0),
        signature: command.signature.clone(),
        ..envelope(key, event)
    }
}

/// What the room itself did.
pub(crate) fn own_event(key: &RoomKey, place: Place, body: Body) -> v1::Envelope {
    v1::Envelope { timestamp: place.at, ..envelope(key, bare(place, body)) }
}

fn bare(place: Place, body: Body) -> v1::Event {
    v1::Event {
        epoch: place.epoch,
        seq: place.seq,
        term: place.term,
        at: place.at,
        prev: place.prev,
        body: Some(body),
        ..v1::Event::default()
    }
}

fn envelope(key: &RoomKey, event: v1::Event) -> v1::Envelope {
    v1::Envelope {
        tenant_id: key.tenant.as_str().into(),
        room_id: key.room.as_str().into(),
        payload: Some(Payload::Event(event)),
        ..v1::Envelope::default()
    }
}

/// A refusal of a sync or get.
pub(crate) fn sync_refused(code: Code, tail: &Tail) -> Bytes {
    let reply = SyncReply {
        code: code.as_u16().into(),
        message: code.message().into(),
        epoch: tail.epoch,
        term: tail.term,
        ..SyncReply::default()
    };
    reply.encode_to_vec().into()
}

/// The head alone: what every other reply begins with.
pub(crate) fn sync_head(tail: &Tail) -> SyncReply {
    SyncReply {
        epoch: tail.epoch,
        term: tail.term,
        seq: tail.seq,
        pos: tail.pos,
        chain: tail.chain,
        ..SyncReply::default()
    }
}

/// The state in parts, each an envelope ready for clients.
pub(crate) fn snapshot(key: &RoomKey, room: &Folded) -> Vec<Bytes> {
    let Tail { epoch, term, seq, at, pos, .. } = room.tail;
    let place = Place { epoch, term, seq, at, prev: pos };
    let parts = room.state.parts().into_iter();
    parts.map(|part| own_event(key, place, Body::Snapshot(part)).encode_to_vec().into()).collect()
}

/// A live message.
pub(crate) fn live(tail: &Tail, n: u64, envelopes: Vec<Bytes>) -> Bytes {
    let live = Live { epoch: tail.epoch, term: tail.term, n, kind: LIVE_EPHEMERAL, envelopes };
    live.encode_to_vec().into()
}

/// The answer to an open.
pub(crate) fn opened(node: &NodeId, tail: &Tail, refused: Option<Code>) -> Bytes {
    let opened = Opened {
        code: refused.map_or(0, |code| code.as_u16().into()),
        node: node.as_str().into(),
        epoch: tail.epoch,
        term: tail.term,
        seq: tail.seq,
        pos: tail.pos,
        message: refused.map(Code::message).unwrap_or_default().into(),
    };
    opened.encode_to_vec().into()
}
