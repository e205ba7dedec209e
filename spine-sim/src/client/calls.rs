//! Calls with answers: requests, and JetStream's API through [`spine::jetstream`], the same code as in production.

use std::sync::Arc;

use bytes::Bytes;
use proto::Subject;
use spine::jetstream::{Answer, Answers, CallError, JetStream, Transport};
use spine::{PublishError, StreamSeq};
use tokio::sync::mpsc;
use voltron_core::Net;

use super::SimSpine;
use super::parser::Delivered;
use super::shared::{Shared, Ticket};
use crate::wire;

/// The answers of one call. Dropping it withdraws the call.
#[derive(Debug)]
pub struct Call {
    answers: mpsc::Receiver<Delivered>,
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Call {
    pub(super) fn open(shared: &Arc<Shared>, most: usize, append: bool) -> Self {
        let (tell, answers) = mpsc::channel(most.max(1));
        let ticket = shared.expect(tell, append);
        Self { answers, shared: shared.clone(), ticket }
    }

    pub(super) fn reply(&self) -> Bytes {
        self.ticket.reply.clone()
    }

    /// The next answer as it came.
    pub(super) async fn delivered(&mut self) -> Result<Delivered, CallError> {
        match self.answers.recv().await {
            Some(answer) => Ok(answer),
            None if self.shared.is_closing() => Err(CallError::Closed),
            None => Err(CallError::Disconnected),
        }
    }
}

impl Answers for Call {
    async fn next(&mut self) -> Result<Answer, CallError> {
        let answer = self.delivered().await?;
        let header = &answer.header;
        let status = wire::status(header);
        let number = |name| wire::header(header, name).and_then(wire::number);
        Ok(Answer {
            status: status.map(|(code, _)| code),
            description: status.map(|(_, text)| text.to_owned()).unwrap_or_default(),
            subject: wire::header(header, "Nats-Subject")
                .and_then(|subject| Subject::from_wire(Bytes::copy_from_slice(subject)).ok()),
            seq: number("Nats-Sequence").map(StreamSeq),
            pending: number("Nats-Num-Pending"),
            body: answer.body,
        })
    }
}

impl<N: Net> Transport for SimSpine<N> {
    type Answers = Call;

    async fn call(&self, to: &Subject, expect: Option<StreamSeq>, body: Bytes, most: usize) -> Result<Call, CallError> {
        let call = Call::open(&self.shared, most, expect.is_some());
        // An append belongs to the connection that stood when it was asked for: none, and nothing is sent.
        let fence = match expect {
            Some(_) if self.shared.is_closing() => return Err(CallError::Closed),
            Some(expect) => Some((expect.0, self.shared.generation().ok_or(CallError::Disconnected)?)),
            None => None,
        };
        self.queue(to, Some(call.reply()), fence, body, self.publish_deadline()).await.map_err(
            |error| match error {
                PublishError::Timeout => CallError::Timeout,
                PublishError::TooBig { .. } => CallError::TooBig,
                PublishError::Closed => CallError::Closed,
            },
        )?;
        Ok(call)
    }
}

impl<N: Net> SimSpine<N> {
    pub(super) fn jetstream(&self) -> JetStream<'_, Self> {
        JetStream::new(self, &self.shared.options)
    }
}
