//! Answers on their way to a client: the Brain's own bytes, or one of the Shield's.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use proto::{Code, MessageId, frame, v1};

use super::table::{Form, Pending};
use crate::outbox::Frame;

/// What a client is told about its command.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The Brain's Ack, as it came.
    Forward(Bytes),
    /// The Shield's own.
    Own { code: Code, text: String, retry_after_ms: u32 },
}

impl Answer {
    pub(crate) fn of(code: Code) -> Self {
        Self::Own { code, text: code.message().into(), retry_after_ms: 0 }
    }

    pub(crate) fn later(self, retry_after_ms: u32) -> Self {
        match self {
            Self::Own { code, text, .. } => Self::Own { code, text, retry_after_ms },
            forward => forward,
        }
    }

    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Forward(body) => brief(body).map_or(u16::MAX, |brief| u16::try_from(brief.code).unwrap_or(u16::MAX)),
            Self::Own { code, .. } => code.as_u16(),
        }
    }
}

/// What the Shield itself must know of an Ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brief {
    pub(super) message_id: MessageId,
    pub(super) code: u32,
    /// (epoch, seq).
    pub(super) head: (u64, u64),
}

/// Reads fields 1 to 4, which a Brain writes first; nothing else is looked at and nothing is allocated.
pub(super) fn brief(body: &[u8]) -> Option<Brief> {
    let rest = body.strip_prefix(&[0x0a, 16])?;
    let (id, mut rest) = rest.split_first_chunk::<16>()?;
    let mut field = |number: u8| match rest.split_first() {
        Some((tag, mut value)) if *tag == number << 3 => {
            let number = prost::encoding::decode_varint(&mut value).ok()?;
            rest = value;
            Some(number)
        }
        _ => Some(0),
    };
    let (code, epoch, seq) = (field(2)?, field(3)?, field(4)?);
    Some(Brief { message_id: MessageId(*id), code: u32::try_from(code).ok()?, head: (epoch, seq) })
}

/// Puts the answer into the outbox of the connection that waits for it.
pub(super) fn push(pending: &Pending, answer: &Answer) {
    let ack = || match answer {
        Answer::Forward(body) => v1::Ack::decode(body.clone()).unwrap_or_default(),
        Answer::Own { code, text, retry_after_ms } => v1::Ack {
            message_id: Bytes::copy_from_slice(&pending.message_id.0),
            code: u32::from(code.as_u16()),
            message: text.clone(),
            retry_after_ms: *retry_after_ms,
            ..v1::Ack::default()
        },
    };
    let out = match (&pending.form, answer) {
        (Form::Text { id }, _) => Frame::Text(proto::json::render::ack(&ack(), *id).to_string().into()),
        (Form::Binary, Answer::Forward(body)) => {
            let mut out = BytesMut::with_capacity(1 + body.len());
            out.put_u8(frame::ACK);
            out.put_slice(body);
            Frame::Binary(out.freeze())
        }
        (Form::Binary, Answer::Own { .. }) => Frame::Binary(frame::ack(&ack())),
    };
    pending.outbox.push(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_agrees_with_the_decoder_and_refuses_the_rest() {
        let ack = v1::Ack {
            message_id: Bytes::from_static(&[9; 16]),
            code: 6002,
            epoch: 1 << 40,
            seq: 300,
            ..v1::Ack::default()
        };
        let body = ack.encode_to_vec();
        assert_eq!(brief(&body), Some(Brief { message_id: MessageId([9; 16]), code: 6002, head: (1 << 40, 300) }));
        let good = v1::Ack { code: 0, ..ack };
        let good = brief(&good.encode_to_vec()).map(|brief| (brief.code, brief.head));
        assert_eq!(good, Some((0, (1 << 40, 300))));
        assert_eq!(brief(&body[..10]), None);
        assert_eq!(brief(b""), None);
        assert_eq!(brief(&body[..19]), None, "a cut varint");
    }
}
