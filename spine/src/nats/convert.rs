//! Between async-nats' types and ours, without copying what need not be copied.

use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SEQUENCE, NATS_SUBJECT};
use bytes::Bytes;
use proto::Subject;

use crate::jetstream::Answer;
use crate::{Message, StreamSeq};

/// A subject for the client. Does not allocate: it is the same buffer.
pub(super) fn subject(bytes: &Bytes) -> async_nats::Subject {
    async_nats::Subject::from_utf8(bytes.clone()).expect("subjects and patterns were checked when they were built")
}

/// A message for our side. `None` for a subject that we would never build: nobody here subscribes to such.
pub(super) fn message(from: async_nats::Message) -> Option<Message> {
    let stream_seq = from.headers.as_ref().and_then(|headers| number(headers, NATS_SEQUENCE.as_ref())).map(StreamSeq);
    Some(Message {
        subject: parsed(from.subject)?,
        reply: from.reply.and_then(parsed),
        status: from.status.map(|status| status.as_u16()),
        stream_seq,
        body: from.payload,
    })
}

/// An answer of JetStream's API.
pub(super) fn answer(from: async_nats::Message) -> Answer {
    let headers = from.headers.as_ref();
    Answer {
        status: from.status.map(|status| status.as_u16()),
        description: from.description.unwrap_or_default(),
        subject: headers
            .and_then(|headers| headers.get(NATS_SUBJECT))
            .and_then(|subject| Subject::from_wire(Bytes::copy_from_slice(subject.as_str().as_bytes())).ok()),
        seq: headers.and_then(|headers| number(headers, NATS_SEQUENCE.as_ref())).map(StreamSeq),
        pending: headers.and_then(|headers| number(headers, "Nats-Num-Pending")),
        body: from.payload,
    }
}

/// The fence, and no other header: above all no `Nats-Msg-Id`, which would let JetStream swallow another room's entry.
pub(super) fn fence(expect: StreamSeq) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expect.to_string());
    headers
}

fn parsed(subject: async_nats::Subject) -> Option<Subject> {
    Subject::from_wire(Bytes::from(subject.into_string())).ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
