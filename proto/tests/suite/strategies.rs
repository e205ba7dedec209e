//! Arbitrary ids, commands and envelopes, as an honest client would build them.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use proto::v1::command::Op;
use proto::v1::envelope::Payload;
use proto::v1::{self, Command, Envelope};

pub(crate) fn tenant_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
}

pub(crate) fn room_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
}

pub(crate) fn node_id() -> impl Strategy<Value = String> {
    tenant_id()
}

pub(crate) fn blob(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn item() -> impl Strategy<Value = v1::PlaylistItem> {
    (text(), blob(24)).prop_map(|(id, data)| v1::PlaylistItem { id, data })
}

fn op() -> impl Strategy<Value = Op> {
    let pos = || option::of(any::<u64>());
    prop_oneof![
        (blob(300), text()).prop_map(|(data, r#type)| Op::Say(v1::Say { data, r#type })),
        (text(), blob(64), any::<u64>(), pos()).prop_map(|(key, value, ttl_ms, expect)| Op::Set(v1::Set {
            key,
            value,
            ttl_ms,
            expect
        })),
        (text(), pos()).prop_map(|(key, expect)| Op::Delete(v1::Delete { key, expect })),
        (0..4_i32, text(), any::<u64>()).prop_map(|(mode, reason, ttl_ms)| Op::Lock(v1::Lock { mode, reason, ttl_ms })),
        any::<bool>().prop_map(|force| Op::Unlock(v1::Unlock { force })),
        (option::of(text()), vec(item(), 0..4), pos())
            .prop_map(|(after, items, expect)| Op::PlInsert(v1::PlaylistInsert { after, items, expect })),
        (text(), pos()).prop_map(|(id, expect)| Op::PlRemove(v1::PlaylistRemove { id, expect })),
        (text(), option::of(text()), pos()).prop_map(|(id, after, expect)| Op::PlMove(v1::PlaylistMove {
            id,
            after,
            expect
        })),
        pos().prop_map(|expect| Op::PlClear(v1::PlaylistClear { expect })),
        text().prop_map(|id| Op::PlSelect(v1::PlaylistSelect { id })),
        pos().prop_map(|pos_ms| Op::Play(v1::Play { pos_ms })),
        pos().prop_map(|pos_ms| Op::Pause(v1::Pause { pos_ms })),
        any::<u64>().prop_map(|pos_ms| Op::Seek(v1::Seek { pos_ms })),
        (text(), text()).prop_map(|(user, reason)| Op::Kick(v1::Kick { user, reason })),
        (text(), any::<i64>(), text()).prop_map(|(user, until, reason)| Op::Ban(v1::Ban { user, until, reason })),
        text().prop_map(|user| Op::Unban(v1::Unban { user })),
        (text(), any::<i64>(), text()).prop_map(|(user, until, reason)| Op::Mute(v1::Mute { user, until, reason })),
        text().prop_map(|user| Op::Unmute(v1::Unmute { user })),
        option::of((any::<u32>(), any::<u32>())).prop_map(|options| {
            let options = options.map(|(slow_mode_ms, presence)| v1::RoomOptions { slow_mode_ms, presence });
            Op::Configure(v1::Configure { options })
        }),
        text().prop_map(|reason| Op::Close(v1::Close { reason })),
    ]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let head = (any::<u64>(), any::<u64>()).prop_map(|(epoch, seq)| v1::Head { epoch, seq });
    (any::<bool>(), option::of(head), option::of(op())).prop_map(|(ephemeral, if_head, op)| Command {
        ephemeral,
        if_head,
        op,
    })
}

/// What [`EnvelopeView::client`](proto::view::EnvelopeView::client) must accept.
pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let trace = prop_oneof![Just(String::new()), "[0-9a-f-]{55}"];
    let signature = prop_oneof![Just(Bytes::new()), any::<[u8; 64]>().prop_map(|s| Bytes::copy_from_slice(&s))];
    let timestamp = any::<i64>().prop_filter("0 means absent", |t| *t != 0);
    (trace, option::of(tenant_id()), room_id(), timestamp, any::<[u8; 16]>(), any::<bool>(), signature, command())
        .prop_map(|(trace_id, tenant, room_id, timestamp, id, ack_requested, signature, cmd)| Envelope {
            trace_id,
            tenant_id: tenant.unwrap_or_default(),
            room_id,
            timestamp,
            message_id: Bytes::copy_from_slice(&id),
            ack_requested,
            signature,
            sender: None,
            payload: Some(Payload::Cmd(cmd)),
        })
}

pub(crate) fn encoded() -> impl Strategy<Value = Vec<u8>> {
    envelope().prop_map(|envelope| envelope.encode_to_vec())
}

/// Unknown fields as a newer client might send them, ascending.
pub(crate) fn unknown() -> impl Strategy<Value = Vec<u8>> {
    vec((32..=999_u32, any::<u64>(), 0..4_u32), 1..=20).prop_map(|mut fields| {
        fields.sort_by_key(|(number, ..)| *number);
        let write = |wire: crate::wire::Wire, (number, n, shape): (u32, u64, u32)| match shape {
            0 => wire.number(number, n),
            1 => wire.fixed64(number, n),
            2 => wire.fixed32(number, n as u32),
            _ => wire.bytes(number, n.to_le_bytes()),
        };
        fields.into_iter().fold(crate::wire::Wire::new(), write).0
    })
}
