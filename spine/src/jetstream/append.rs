//! The fenced append.

use bytes::Bytes;
use proto::{StreamName, Subject};
use voltron_core::mutant;

use super::{CallError, JetStream, Transport, wire};
use crate::{AppendError, StreamSeq, Unresolved};

const WRONG_LAST_SEQUENCE: u32 = 10071;
const UNDECIDED: u32 = 10164;

impl<T: Transport> JetStream<'_, T> {
    /// See [`Spine::append`](crate::Spine::append).
    pub async fn append(&self, to: &Subject, expect: StreamSeq, body: Bytes) -> Result<StreamSeq, AppendError> {
        let Some(stream) = StreamName::of(to, self.logs) else {
            return Err(before(format!("no stream holds {to}")));
        };
        let fence = if mutant!(ExpectationLeftOut) && to.as_str().starts_with("log.") { None } else { Some(expect) };
        let answer = self.ask(to, fence, body).await.map_err(not_answered)?;
        match answer.status {
            // No interest means that nothing received it: surely not stored.
            Some(503) => {
                let text = format!("nobody takes {to}: {stream} does not exist or has no leader");
                return Err(AppendError::Refused { code: 503, text });
            }
            // Any other bare status is not an answer to this.
            Some(_) => return Err(AppendError::Unresolved(Unresolved::Timeout)),
            None => {}
        }
        match wire::parse::<wire::PubAck>(&answer.body) {
            Ok(Ok(ack)) if ack.stream == stream.as_str() && ack.seq > 0 => Ok(StreamSeq(ack.seq)),
            Ok(Ok(ack)) => {
                tracing::error!(%to, expected = %stream, found = %ack.stream, "an append was stored in another stream");
                Err(AppendError::Unresolved(Unresolved::Timeout))
            }
            Ok(Err(error)) => Err(match error.err_code {
                WRONG_LAST_SEQUENCE => AppendError::Unresolved(Unresolved::WrongLast),
                UNDECIDED => AppendError::Unresolved(Unresolved::Undecided),
                _ => AppendError::Refused { code: error.number(), text: error.description },
            }),
            Err(what) => {
                tracing::error!(%to, what, "an append got an unreadable answer");
                Err(AppendError::Unresolved(Unresolved::Timeout))
            }
        }
    }
}

fn before(text: String) -> AppendError {
    AppendError::Refused { code: 0, text }
}

fn not_answered(error: CallError) -> AppendError {
    match error {
        CallError::Timeout => AppendError::Unresolved(Unresolved::Timeout),
        CallError::Disconnected => AppendError::Unresolved(Unresolved::Disconnected),
        CallError::TooBig => before("the entry is larger than the broker's max_payload".into()),
        CallError::Closed => before("the Spine is closed".into()),
    }
}
