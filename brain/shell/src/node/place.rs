//! Who should serve a room, asked in order until one answers.

use std::sync::Arc;

use brain_model::placement::Living;
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{LogEntry, Open, Opened};
use proto::{Code, NodeId, RoomKey, Subject};
use spine::{Spine, Via};
use voltron_core::{Ids, WallClock};

use super::{FORWARD_LIMIT, Placed};
use crate::room::Context;

pub(super) fn unavailable(node: &NodeId) -> Bytes {
    let code = Code::Unavailable;
    let refused = Opened {
        code: code.as_u16().into(),
        node: node.as_str().into(),
        message: code.message().into(),
        ..Opened::default()
    };
    refused.encode_to_vec().into()
}

/// Finds who should serve `room`: the writer of its last entry while that lives, else by rendezvous; a node that stays
/// silent is passed over. Relays the answer of another node.
pub(super) async fn place<S: Spine, C: WallClock, I: Ids>(
    context: Arc<Context<S, C, I>>,
    room: RoomKey,
    reply: Subject,
    open: Open,
    living: Vec<Living>,
) -> Placed {
    let last = match context.writer.last(&Subject::log(&room), Via::Leader).await {
        Ok(last) => last.and_then(|stored| LogEntry::decode(stored.body).ok()),
        Err(error) => {
            tracing::debug!(%error, %room, "the room's last entry could not be read; the Shield asks again");
            return Placed(None);
        }
    };
    let forward = Open { tenant: room.tenant.as_str().into(), ..open.clone() };
    let body: Bytes = forward.encode_to_vec().into();
    let last_writer = last.as_ref().and_then(brain_model::chain::writer);
    for one in context.cores.ranked(&room, last_writer, living) {
        if one.node == context.node {
            return Placed(Some((room, reply, open.create)));
        }
        if let Ok(answer) = context.speaker.request(&Subject::open_at(&one.node), body.clone(), FORWARD_LIMIT).await {
            context.tell(&reply, answer.body).await;
            return Placed(None);
        }
    }
    context.tell(&reply, unavailable(&context.node)).await;
    Placed(None)
}
