//! `get`: a room's state as its owner has it now. Asked in a task of its own, so that the connection goes on meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::json::{GetResult, render};
use proto::v1::{self, envelope::Payload};
use proto::{Code, frame};
use spine::Spine;
use voltron_core::{Ids, WallClock};

use super::Session;
use crate::outbox::Outbox;
use crate::rooms::Dialect;

/// Questions (`get`) that one connection may have open.
const GETS_MAX: usize = 16;

impl<S: Spine, C: WallClock, I: Ids> Session<S, C, I> {
    pub(super) fn on_get(&mut self, id: u64, room: &str, dialect: Dialect) {
        let send = move |outbox: &Outbox, result: &GetResult| outbox.send(dialect.frame(frame::SUB, result, result));
        let refused = move |room: &str, code: Code, text: &str| GetResult {
            op: "get".into(),
            id,
            room: room.into(),
            code: Some(code.as_u16()),
            message: Some(text.into()),
            ..GetResult::default()
        };
        if self.hurried().is_some() {
            return send(&self.outbox, &refused(room, Code::RateLimited, Code::RateLimited.message()));
        }
        let (route, rights) = match self.gate.room(room) {
            Ok(found) => found,
            Err(denied) => return send(&self.outbox, &refused(room, denied.code, &denied.text)),
        };
        if !rights.has(proto::Rights::SUB) {
            return send(&self.outbox, &refused(room, Code::PermissionDenied, Code::PermissionDenied.message()));
        }
        // Each open question holds a clone.
        if Arc::strong_count(&self.gets) > GETS_MAX {
            return send(&self.outbox, &refused(room, Code::Busy, "too many questions of this connection are open"));
        }
        let (shared, outbox, open, asker) =
            (self.shared.clone(), self.outbox.clone(), self.gets.clone(), self.gate.asker(rights));
        voltron_core::tasks::spawn(async move {
            let _open = open;
            let room = route.key.room.as_str();
            let ask = v1::system_signal::Ask::Get(v1::Get {});
            let result = match crate::rooms::ask_owner(&shared, &route, &asker, ask).await {
                Ok(reply) if reply.code == 0 => GetResult {
                    op: "get".into(),
                    id,
                    ok: true,
                    room: room.into(),
                    epoch: Some(reply.epoch),
                    seq: Some(reply.seq),
                    state: Some(render::snapshot(&merge(&reply.snapshot))),
                    ..GetResult::default()
                },
                Ok(reply) => {
                    let code = u16::try_from(reply.code).ok().and_then(Code::from_u16).unwrap_or(Code::Unavailable);
                    refused(room, code, &reply.message)
                }
                Err((code, text)) => refused(room, code, &text),
            };
            send(&outbox, &result);
        });
    }
}

/// One snapshot of its parts.
fn merge(parts: &[Bytes]) -> v1::Snapshot {
    let mut whole = v1::Snapshot::default();
    for part in parts {
        let Ok(v1::Envelope { payload: Some(Payload::Event(event)), .. }) = v1::Envelope::decode(part.clone()) else {
            continue;
        };
        if let Some(v1::event::Body::Snapshot(part)) = event.body {
            let mut part = part;
            whole.entries.append(&mut part.entries);
            whole.playlist.append(&mut part.playlist);
            whole.bans.append(&mut part.bans);
            whole.mutes.append(&mut part.mutes);
            whole.lock = part.lock.or(whole.lock);
            whole.options = part.options.or(whole.options);
            whole.playback = part.playback.or(whole.playback);
            whole.playlist_ver = whole.playlist_ver.max(part.playlist_ver);
            whole.last |= part.last;
        }
    }
    whole
}
