//! The fenced append.

use bytes::Bytes;
use proto::{StreamName, Subject};
use voltron_core::mutant;
use voltron_core::tasks::timeout_at;

use super::{Answers, CallError, JetStream, Transport, refusal, wire};
use crate::{AppendError, Refusal, StreamSeq, Unresolved};

/// No answer that could be read, in time.
const UNKNOWN: AppendError = AppendError::Unresolved(Unresolved::Timeout);

impl<T: Transport> JetStream<'_, T> {
    /// See [`Spine::append`](crate::Spine::append).
    pub async fn append(&self, to: &Subject, expect: StreamSeq, body: Bytes) -> Result<StreamSeq, AppendError> {
        let Some(stream) = StreamName::of(to, self.logs) else {
            return Err(before(Refusal::NoStream, format!("no stream holds {to}")));
        };
        let fence = if mutant!(ExpectationLeftOut) && to.as_str().starts_with("log.") { None } else { Some(expect) };
        let asked = async {
            let mut answers = self.transport.call(to, fence, body, 1).await.map_err(not_sent)?;
            answers.next().await.map_err(not_answered)
        };
        let answer = timeout_at(self.deadline(), asked).await.unwrap_or(Err(UNKNOWN))?;
        match answer.status {
            // No interest means that nothing received it.
            Some(503) => {
                let text = format!("nobody takes {to}: {stream} does not exist or has no leader");
                return Err(refusal::of_append(503, text));
            }
            Some(429) => return Err(refusal::of_append(429, answer.description)),
            // Any other bare status is not an answer to this.
            Some(_) => return Err(UNKNOWN),
            None => {}
        }
        match wire::parse::<wire::PubAck>(&answer.body) {
            Ok(Ok(ack)) if ack.stream == stream.as_str() && ack.seq > 0 => Ok(StreamSeq(ack.seq)),
            Ok(Ok(ack)) => {
                tracing::error!(%to, expected = %stream, found = %ack.stream, "an append was stored in another stream");
                Err(UNKNOWN)
            }
            Ok(Err(error)) => Err(refusal::of_append(error.number(), error.description)),
            Err(what) => {
                tracing::error!(%to, what, "an append got an unreadable answer");
                Err(UNKNOWN)
            }
        }
    }
}

fn before(why: Refusal, text: String) -> AppendError {
    AppendError::Refused { why, code: 0, text }
}

/// The call failed before it was sent.
fn not_sent(error: CallError) -> AppendError {
    match error {
        CallError::TooBig => before(Refusal::TooBig, "the entry is larger than the broker's max_payload".into()),
        CallError::Closed => before(Refusal::Closed, "the Spine is closed".into()),
        CallError::Timeout | CallError::Disconnected => not_answered(error),
    }
}

/// The call was sent: whatever ended it, the broker may have stored the entry.
fn not_answered(error: CallError) -> AppendError {
    AppendError::Unresolved(match error {
        CallError::Timeout | CallError::TooBig => Unresolved::Timeout,
        CallError::Disconnected | CallError::Closed => Unresolved::Disconnected,
    })
}
