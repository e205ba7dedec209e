//! `get`: a room's state as its owner has it now. One get of a connection is under way at a time, in a task of its own,
//! and the others wait for it and for what it brought to be read. The answer goes out as the owner sent it, part by part
//! (each at most 64 KiB before it is rendered), as bulk: it never counts as slowness.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use proto::json::GetResult;
use proto::v1;
use proto::{Code, frame};
use spine::Spine;
use voltron_core::{Ids, WallClock};

use super::Session;
use crate::outbox::{Frame, Outbox, StatePart};
use crate::rooms::{Asker, Dialect};
use crate::route::Route;

/// Questions (`get`) of one connection that may wait for their turn.
const GETS_MAX: usize = 16;

/// The questions of one connection.
#[derive(Default)]
pub(super) struct Gets {
    waiting: VecDeque<Question>,
    /// The one under way holds a clone.
    under_way: Arc<()>,
}

struct Question {
    id: u64,
    dialect: Dialect,
    route: Arc<Route>,
    asker: Asker,
}

impl Gets {
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// 0 or 1.
    pub(super) fn under_way(&self) -> usize {
        Arc::strong_count(&self.under_way) - 1
    }
}

/// Tells the connection that the next may begin, however this one ended.
struct UnderWay(Option<Arc<()>>, Arc<Outbox>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0 = None;
        self.1.nudge();
    }
}

impl<S: Spine, C: WallClock, I: Ids> Session<S, C, I> {
    pub(super) fn on_get(&mut self, id: u64, room: &str, dialect: Dialect) {
        let refuse = |outbox: &Outbox, code: Code, text: &str| outbox.send(refused(dialect, id, room, code, text));
        if self.hurried().is_some() {
            return refuse(&self.outbox, Code::RateLimited, Code::RateLimited.message());
        }
        let (route, rights) = match self.gate.room(room) {
            Ok(found) => found,
            Err(denied) => return refuse(&self.outbox, denied.code, &denied.text),
        };
        if !rights.has(proto::Rights::SUB) {
            return refuse(&self.outbox, Code::PermissionDenied, Code::PermissionDenied.message());
        }
        if self.gets.waiting.len() >= GETS_MAX {
            return refuse(&self.outbox, Code::Busy, "too many questions of this connection wait");
        }
        let asker = self.gate.asker(rights);
        self.gets.waiting.push_back(Question { id, dialect, route, asker });
        self.begin();
    }

    pub(super) fn can_begin_get(&self) -> bool {
        self.gets.waits()
            && self.gets.under_way() == 0
            && self.outbox.may_begin()
            && !(self.is_narrow() && self.subs_under_way() > 0)
    }

    pub(super) fn begin_get(&mut self) {
        let Some(Question { id, dialect, route, asker }) = self.gets.waiting.pop_front() else { return };
        let (shared, outbox) = (self.shared.clone(), self.outbox.clone());
        let under_way = UnderWay(Some(self.gets.under_way.clone()), outbox.clone());
        voltron_core::tasks::spawn(async move {
            let _under_way = under_way;
            let room = route.key.room.as_str();
            let ask = v1::system_signal::Ask::Get(v1::Get {});
            let (code, text) = match crate::rooms::ask_owner(&shared, &route, &asker, ask).await {
                Ok(reply) if reply.code == 0 => {
                    let (epoch, seq) = (reply.epoch, reply.seq);
                    let parts = if reply.snapshot.is_empty() { vec![Bytes::new()] } else { reply.snapshot };
                    for part in parts {
                        let route = route.clone();
                        outbox.push_bulk(Frame::State(Box::new(StatePart { dialect, id, route, epoch, seq, part })));
                    }
                    return;
                }
                Ok(reply) => {
                    let code = u16::try_from(reply.code).ok().and_then(Code::from_u16).unwrap_or(Code::Unavailable);
                    (code, reply.message)
                }
                Err(refusal) => refusal,
            };
            outbox.send(refused(dialect, id, room, code, &text));
        });
    }
}

fn refused(dialect: Dialect, id: u64, room: &str, code: Code, text: &str) -> Frame {
    let result = GetResult {
        op: "get".into(),
        id,
        room: room.into(),
        code: Some(code.as_u16()),
        message: Some(text.into()),
        ..GetResult::default()
    };
    dialect.frame(frame::SUB, &result, &result)
}
