//! A message that waits to be written. Bulk waits as it came, in buffers that others share, and becomes JSON only when it
//! is written: rendered, it is up to twice as long and nobody else's.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::json::{GetResult, render};
use proto::v1::{self, envelope::Payload, event::Body};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::rooms::Dialect;
use crate::route::Route;

/// One message to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// A binary WebSocket message.
    Binary(Bytes),
    /// A text WebSocket message.
    Text(Utf8Bytes),
    /// A WebSocket ping.
    Ping,
    /// A PUB frame that is written as JSON.
    Event(Bytes),
    /// A part of an answer to `get`.
    State(Box<StatePart>),
}

/// A part of an answer to `get`: one snapshot event, as the owner sent it.
#[derive(Clone, Debug)]
pub(crate) struct StatePart {
    pub(crate) dialect: Dialect,
    /// The request's.
    pub(crate) id: u64,
    pub(crate) route: Arc<Route>,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// An encoded Envelope.
    pub(crate) part: Bytes,
}

impl PartialEq for StatePart {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.epoch, self.seq, &self.part) == (other.id, other.epoch, other.seq, &other.part)
    }
}

impl Frame {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Binary(bytes) | Self::Event(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
            Self::Ping => 0,
            Self::State(part) => part.part.len(),
        }
    }

    /// A PUB frame as JSON; `None` for one that holds no event.
    pub(crate) fn json(event: &Bytes) -> Option<Self> {
        let envelope = v1::Envelope::decode(event.slice(1..)).ok()?;
        Some(Self::Text(render::envelope(&envelope)?.to_string().into()))
    }

    /// What the WebSocket layer writes.
    pub(crate) fn into_message(self) -> Option<Message> {
        Some(match self {
            Self::Binary(bytes) => Message::Binary(bytes),
            Self::Text(text) => Message::Text(text),
            Self::Ping => Message::Ping(Bytes::new()),
            Self::Event(event) => return Self::json(&event)?.into_message(),
            Self::State(part) => return part.render().into_message(),
        })
    }
}

impl StatePart {
    fn render(&self) -> Frame {
        let snapshot = match v1::Envelope::decode(self.part.clone()) {
            Ok(v1::Envelope {
                payload: Some(Payload::Event(v1::Event { body: Some(Body::Snapshot(it)), .. })),
                ..
            }) => it,
            // Of a room without any state.
            _ => v1::Snapshot { last: true, ..v1::Snapshot::default() },
        };
        let result = GetResult {
            op: "get".into(),
            id: self.id,
            ok: true,
            room: self.route.key.room.to_string(),
            epoch: Some(self.epoch),
            seq: Some(self.seq),
            state: Some(render::snapshot(&snapshot)),
            ..GetResult::default()
        };
        self.dialect.frame(proto::frame::SUB, &result, &result)
    }
}
