//! Questions to a room's owner, in the name of a user: sync and get travel as signals, which clients cannot send.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::internal::SyncReply;
use proto::sender::{self, SenderRef};
use proto::v1::{self, envelope::Payload, system_signal::Ask};
use proto::{Code, Rights, UserId};
use spine::Spine;
use tokio::time::Instant;
use voltron_core::{Ids, WallClock};

use crate::replies::{CallError, OpenOutcome};
use crate::route::Route;
use crate::shared::Shared;

/// In whose name a question is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) user: UserId,
    pub(crate) conn: Arc<str>,
    pub(crate) client: Bytes,
    pub(crate) rights: Rights,
    pub(crate) meta: Bytes,
}

/// Asks the owner, opening the room if nobody serves it. Waits at most the answer timeout.
pub(crate) async fn owner<S: Spine, C: WallClock, I: Ids>(
    shared: &Shared<S, C, I>,
    route: &Route,
    asker: &Asker,
    ask: Ask,
) -> Result<SyncReply, (Code, String)> {
    let limit = Duration::from_millis(shared.config.shield.answer_timeout_ms);
    let deadline = Instant::now() + limit;
    let body = signal(shared, route, asker, ask);
    let refused = |code: Code| (code, code.message().to_owned());
    let mut repeats = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(refused(Code::Unavailable));
        }
        match shared.replies.call(&route.input, body.clone(), left).await {
            Ok(reply) => {
                let reply = SyncReply::decode(reply)
                    .map_err(|_| (Code::Unavailable, "unreadable answer of the owner".to_owned()))?;
                if reply.code == 0 {
                    shared.absent.served(&route.key);
                }
                return Ok(reply);
            }
            Err(CallError::NoResponders) => {}
            Err(CallError::Timeout) => {
                shared.health.unanswered(&route.key);
                return Err((Code::Unavailable, "the room's owner did not answer in time; try again".into()));
            }
            Err(CallError::Unavailable) => return Err(refused(Code::Unavailable)),
            Err(CallError::Busy) => return Err(refused(Code::Busy)),
        }
        repeats += 1;
        if repeats == 1 {
            // Often a hand-over that is over in a moment.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // Reading creates nothing: an absent room stays absent.
        match shared.replies.open(route, false, None, left).await {
            OpenOutcome::Served => tokio::time::sleep(Duration::from_millis(if repeats > 2 { 20 } else { 0 })).await,
            OpenOutcome::Refused(code, text) => return Err((code, text)),
            OpenOutcome::Unavailable => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn signal<S: Spine, C: WallClock, I: Ids>(shared: &Shared<S, C, I>, route: &Route, asker: &Asker, ask: Ask) -> Bytes {
    let mut id = [0; 16];
    shared.ids.fill("ask", &mut id);
    let now_ms = shared.clock.now_ms();
    let envelope = v1::Envelope {
        tenant_id: route.key.tenant.to_string(),
        room_id: route.key.room.to_string(),
        timestamp: now_ms,
        message_id: Bytes::copy_from_slice(&id),
        payload: Some(Payload::Signal(v1::SystemSignal { ask: Some(ask), ..v1::SystemSignal::default() })),
        ..v1::Envelope::default()
    };
    let mut out = BytesMut::with_capacity(envelope.encoded_len() + 256);
    envelope.encode_raw(&mut out);
    sender::append(
        &mut out,
        &SenderRef {
            user: asker.user.as_str(),
            conn: &asker.conn,
            client: &asker.client,
            rights: asker.rights,
            received_at: now_ms,
            meta: &asker.meta,
            ..SenderRef::default()
        },
    );
    out.freeze()
}
