//! A subscriber in a room's task: whose it is and in which forms it is spoken to.

use std::sync::Arc;

use proto::json::{SubResult, Unsubbed};
use proto::{Code, frame, v1};
use spine::Spine;
use voltron_core::{Ids, WallClock};

use super::Asker;
use crate::outbox::{Frame, Outbox, Ticket};
use crate::rooms::{Asked, SubId};
use crate::route::Route;
use crate::shared::Shared;

/// A connection that wants to subscribe.
pub(crate) struct Joiner {
    pub(crate) id: SubId,
    pub(crate) route: Arc<Route>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) ticket: Arc<Ticket>,
    /// The SUB's own id.
    pub(crate) request: u64,
    pub(crate) dialect: Dialect,
    pub(crate) sync: v1::Sync,
    pub(crate) asker: Asker,
    /// What was known of the room when it was asked for.
    pub(crate) asked: Asked,
}

/// In which forms a subscriber is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Results as JSON with an `op`, instead of frames.
    pub(crate) text: bool,
    /// Frames travel as binary messages.
    pub(crate) binary_frames: bool,
    /// Events as JSON.
    pub(crate) json_events: bool,
}

impl Dialect {
    /// A result in this dialect; `plain` has no `op`, `tagged` has.
    pub(crate) fn frame<T: serde::Serialize>(self, opcode: u8, plain: &T, tagged: &T) -> Frame {
        if self.text {
            Frame::Text(proto::json::to_string(tagged).into())
        } else if self.binary_frames {
            Frame::Binary(frame::binary(opcode, plain))
        } else {
            Frame::Text(frame::text(opcode, plain).into())
        }
    }

    pub(crate) fn sub(self, result: &SubResult) -> Frame {
        self.frame(frame::SUB, result, &SubResult { op: Some("sub".into()), ..result.clone() })
    }

    pub(crate) fn unsub(self, result: &Unsubbed) -> Frame {
        self.frame(frame::UNSUB, result, &Unsubbed { op: Some("unsub".into()), ..result.clone() })
    }
}

/// The least pause after which a SUB that was refused for the moment comes again, and over how long a crowd of them is
/// spread, in ms.
const AGAIN_MS: u64 = 500;
const AGAIN_SPREAD_MS: u64 = 1500;
/// When to look again for a room that does not exist, in ms: asking costs nothing while that is remembered.
const ABSENT_MS: u32 = 1000;

/// When who got this refusal should come again, in ms; `None`: it is for good.
pub(crate) fn come_again<S: Spine, C: WallClock, I: Ids>(shared: &Shared<S, C, I>, code: Code) -> Option<u32> {
    match code {
        Code::RoomAbsent => Some(ABSENT_MS),
        Code::Busy | Code::Unavailable => {
            Some(u32::try_from(AGAIN_MS + shared.below("sub-again", AGAIN_SPREAD_MS)).unwrap_or(u32::MAX))
        }
        _ => None,
    }
}

/// The refusal of a SUB.
pub(super) fn refuse(seat: &Joiner, code: Code, text: &str, retry_after_ms: Option<u32>) {
    let room = seat.route.key.room.as_str();
    let result = SubResult { retry_after_ms, ..SubResult::refused(seat.request, Some(room), code, Some(text)) };
    seat.outbox.refuse(seat.dialect.sub(&result), &seat.ticket);
    // The next SUB of that connection may wait for this.
    seat.outbox.nudge();
}
