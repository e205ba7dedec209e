//! JetStream's API as the Spine needs it, over anything that can make a [`Transport::call`]: the same code runs over
//! async-nats in production and over the simulated connection.
//!
//! Requests are plain JSON on `$JS.API.…`, or wherever a user's account imports that (the shapes are those of NATS' ADR-31 for Direct Get and of its JetStream
//! API reference), so a user needs no more permissions than the subjects it uses.

mod append;
mod read;
mod refusal;
mod stream;
mod wire;

use std::future::Future;

use bytes::Bytes;
use proto::Subject;
use tokio::time::{Duration, Instant};
use voltron_core::tasks::timeout_at;

use crate::{ReadError, SpineOptions, StreamSeq};

/// How an API call is made and answered.
pub trait Transport: Sync {
    /// The answers to one call.
    type Answers: Answers;

    /// Publishes with a reply subject of its own, to which at most `most` answers are kept. With `expect`, the header
    /// `Nats-Expected-Last-Subject-Sequence` goes with it and nothing else.
    fn call(
        &self,
        to: &Subject,
        expect: Option<StreamSeq>,
        body: Bytes,
        most: usize,
    ) -> impl Future<Output = Result<Self::Answers, CallError>> + Send;
}

/// Answers to a call, one after the other.
pub trait Answers: Send {
    /// The next one. Pends for ever if there is none: the caller holds the deadline.
    fn next(&mut self) -> impl Future<Output = Result<Answer, CallError>> + Send;
}

/// An answer: a JSON body, a message with its place in the headers, or a status alone.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status, if it is one: 204 end of batch, 404, 408, 413, 503.
    pub status: Option<u16>,
    /// The text after the status.
    pub description: String,
    /// Header `Nats-Subject`.
    pub subject: Option<Subject>,
    /// Header `Nats-Sequence`.
    pub seq: Option<StreamSeq>,
    /// Header `Nats-Num-Pending`: how many messages follow this one.
    pub pending: Option<u64>,
    /// The payload.
    pub body: Bytes,
}

/// Why a call has no (further) answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The deadline passed.
    Timeout,
    /// There is no connection, or it was lost since the call.
    Disconnected,
    /// Over `max_payload`: nothing was sent.
    TooBig,
    /// The Spine was closed.
    Closed,
}

/// JetStream over a transport.
#[derive(Clone, Copy, Debug)]
pub struct JetStream<'a, T> {
    transport: &'a T,
    // Where the API begins.
    api: &'a str,
    // How many log streams there are.
    logs: u32,
    limit: Duration,
}

impl<'a, T: Transport> JetStream<'a, T> {
    /// With the options' `api` and `logs`; one call waits for all its answers at most their `publish_timeout`.
    pub fn new(transport: &'a T, options: &'a SpineOptions) -> Self {
        Self { transport, api: &options.api, logs: options.logs, limit: options.publish_timeout }
    }

    /// One call with one answer.
    async fn ask(&self, to: &Subject, expect: Option<StreamSeq>, body: Bytes) -> Result<Answer, CallError> {
        let asked = async {
            let mut answers = self.transport.call(to, expect, body, 1).await?;
            answers.next().await
        };
        timeout_at(self.deadline(), asked).await.unwrap_or(Err(CallError::Timeout))
    }

    /// One API call with a JSON answer.
    async fn api<A: serde::de::DeserializeOwned>(
        &self,
        to: &str,
        request: &impl serde::Serialize,
    ) -> Result<Result<A, wire::ApiError>, ReadError> {
        let body = serde_json::to_vec(request).expect("our requests are plain structs with text keys");
        let answer = self.ask(&self.subject(to)?, None, body.into()).await?;
        if let Some(status) = answer.status {
            return Err(refused(status, &answer.description));
        }
        wire::parse(&answer.body).map_err(|what| ReadError::Refused { code: 0, text: what })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// The API's beginning and the rest, which holds stream names and subjects that were parsed before.
    fn subject(&self, rest: &str) -> Result<Subject, ReadError> {
        Subject::from_wire(Bytes::from(format!("{}.{rest}", self.api))).map_err(|_| ReadError::NoStream)
    }
}

/// A bare status where a result was expected.
fn refused(status: u16, description: &str) -> ReadError {
    let text = match status {
        503 => "nobody answers there: JetStream is not up, or the stream has no leader or does not exist",
        _ if description.is_empty() => "no reason given",
        _ => description,
    };
    refusal::of_read(u32::from(status), text.to_owned())
}

impl From<wire::ApiError> for ReadError {
    fn from(error: wire::ApiError) -> Self {
        refusal::of_read(error.number(), error.description)
    }
}

impl From<CallError> for ReadError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Timeout | CallError::Disconnected => Self::Timeout,
            CallError::TooBig => Self::Refused { code: 0, text: "the request is larger than max_payload".into() },
            CallError::Closed => Self::Closed,
        }
    }
}
