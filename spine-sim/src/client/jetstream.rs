//! JetStream as [`SimSpine`] uses it: PubAcks, Direct Get, `STREAM.MSG.GET`, purge, stream creation.

use bytes::Bytes;
use proto::{Pattern, StreamName, Subject};
use serde::Deserialize;
use serde_json::{Value, json};
use spine::{
    AppendError, Batch, EnsureError, ReadError, RequestError, Storage, Stored, StreamSeq, StreamSpec, Unresolved, Via,
};
use voltron_core::Net;

use super::shared::{Answer, Pending};
use super::{SimSpine, is_no_responders};
use crate::wire;

/// Bytes asked for in one batch.
const BATCH_BYTES: u32 = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    err_code: u32,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AckBody {
    error: Option<ErrorBody>,
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct MessageBody {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
}

impl From<ErrorBody> for ReadError {
    fn from(error: ErrorBody) -> Self {
        Self::Refused { code: error.err_code, text: error.description }
    }
}

/// What a PubAck says. It carries `"seq":0` beside an error: the error counts.
pub(super) fn pub_ack(answer: &Answer) -> Result<StreamSeq, AppendError> {
    if is_no_responders(answer) {
        return Err(AppendError::Refused { code: 503, text: "no stream holds this subject".into() });
    }
    let Ok(ack) = serde_json::from_slice::<AckBody>(&answer.body) else {
        return Err(AppendError::Unresolved(Unresolved::Timeout));
    };
    match ack.error {
        None => Ok(StreamSeq(ack.seq)),
        Some(ErrorBody { err_code: 10_071, .. }) => Err(AppendError::Unresolved(Unresolved::WrongLast)),
        Some(ErrorBody { err_code: 10_164, .. }) => Err(AppendError::Unresolved(Unresolved::Undecided)),
        Some(ErrorBody { err_code, description }) => Err(AppendError::Refused { code: err_code, text: description }),
    }
}

fn read_error(error: RequestError) -> ReadError {
    match error {
        RequestError::NoResponders => ReadError::NoStream,
        RequestError::Timeout => ReadError::Timeout,
        RequestError::Closed => ReadError::Closed,
        RequestError::TooBig => ReadError::Refused { code: 0, text: error.to_string() },
    }
}

/// A stored message as Direct Get sends it.
fn stored(answer: Answer) -> Option<Stored> {
    let subject = wire::header(&answer.header, "Nats-Subject")?;
    Some(Stored {
        subject: Subject::from_wire(answer.header.slice_ref(subject)).ok()?,
        seq: StreamSeq(wire::number(wire::header(&answer.header, "Nats-Sequence")?)?),
        body: answer.body,
    })
}

fn malformed() -> ReadError {
    ReadError::Refused { code: 0, text: "the broker's answer makes no sense".into() }
}

impl<N: Net> SimSpine<N> {
    fn stream_of(&self, subject: &Subject) -> Result<StreamName, ReadError> {
        StreamName::of(subject, self.shared.options.logs).ok_or(ReadError::NoStream)
    }

    /// A JSON request; the answer's `error` becomes the error.
    async fn api(&self, call: &str, body: &Value) -> Result<Value, ReadError> {
        let to = api_subject(call)?;
        let body = Bytes::from(body.to_string());
        let limit = self.shared.options.publish_timeout;
        let answer = self.ask(&to, body, limit, Pending::One).await.map_err(read_error)?;
        if is_no_responders(&answer) {
            return Err(ReadError::NoStream);
        }
        let mut value: Value = serde_json::from_slice(&answer.body).map_err(|_| malformed())?;
        match value.get_mut("error").map(Value::take) {
            Some(error) => Err(serde_json::from_value::<ErrorBody>(error).unwrap_or_default().into()),
            None => Ok(value),
        }
    }

    /// A Direct Get that ends with one message.
    async fn direct(&self, stream: &StreamName, body: &Value) -> Result<Option<Stored>, ReadError> {
        let to = api_subject(&format!("DIRECT.GET.{stream}"))?;
        let limit = self.shared.options.publish_timeout;
        let answer = self.ask(&to, Bytes::from(body.to_string()), limit, Pending::One).await.map_err(read_error)?;
        match wire::status(&answer.header) {
            None => stored(answer).map(Some).ok_or_else(malformed),
            Some((404, _)) => Ok(None),
            Some((503, _)) => Err(ReadError::NoStream),
            Some((code, text)) => Err(ReadError::Refused { code: code.into(), text: text.into() }),
        }
    }

    /// A Direct Get that ends with a status.
    async fn direct_many(&self, stream: &StreamName, body: &Value) -> Result<Batch, ReadError> {
        let to = api_subject(&format!("DIRECT.GET.{stream}"))?;
        let limit = self.shared.options.publish_timeout;
        let collect = |tell| Pending::Many(Vec::new(), tell);
        let mut answers = self.ask(&to, Bytes::from(body.to_string()), limit, collect).await.map_err(read_error)?;
        let end = answers.pop().ok_or_else(malformed)?;
        match wire::status(&end.header) {
            Some((204, _)) => {}
            Some((404, _)) => return Ok(Batch::default()),
            Some((503, _)) => return Err(ReadError::NoStream),
            Some((code, text)) => return Err(ReadError::Refused { code: code.into(), text: text.into() }),
            // More than we ever ask for.
            None => return Err(malformed()),
        }
        let pending = wire::header(&end.header, "Nats-Num-Pending").and_then(wire::number).unwrap_or(0);
        let entries = answers.into_iter().map(stored).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
        Ok(Batch { entries, more: pending > 0 })
    }

    /// `STREAM.MSG.GET`.
    async fn leader(&self, stream: &StreamName, body: &Value) -> Result<Option<Stored>, ReadError> {
        match self.api(&format!("STREAM.MSG.GET.{stream}"), body).await {
            Ok(mut value) => {
                let message = value.get_mut("message").map(Value::take).ok_or_else(malformed)?;
                let message: MessageBody = serde_json::from_value(message).map_err(|_| malformed())?;
                let body = data_encoding::BASE64.decode(message.data.as_bytes()).map_err(|_| malformed())?;
                let subject = Subject::from_wire(Bytes::from(message.subject)).map_err(|_| malformed())?;
                Ok(Some(Stored { subject, seq: StreamSeq(message.seq), body: body.into() }))
            }
            Err(ReadError::Refused { code: 10_037, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read_last(&self, of: &Subject, via: Via) -> Result<Option<Stored>, ReadError> {
        let stream = self.stream_of(of)?;
        let body = json!({ "last_by_subj": of.as_str() });
        match via {
            Via::Direct => self.direct(&stream, &body).await,
            Via::Leader => self.leader(&stream, &body).await,
        }
    }

    pub(super) async fn read_from(
        &self,
        of: &Subject,
        from: StreamSeq,
        max: u32,
        via: Via,
    ) -> Result<Batch, ReadError> {
        let stream = self.stream_of(of)?;
        let from = from.0.max(1);
        if via == Via::Direct && max > 0 {
            let body = json!({ "seq": from, "next_by_subj": of.as_str(), "batch": max, "max_bytes": BATCH_BYTES });
            return self.direct_many(&stream, &body).await;
        }
        let mut batch = Batch::default();
        let (mut next, mut bytes) = (from, 0);
        loop {
            let body = json!({ "seq": next, "next_by_subj": of.as_str() });
            let Some(entry) = self.leader(&stream, &body).await? else { return Ok(batch) };
            if batch.entries.len() >= max as usize || bytes >= BATCH_BYTES as usize {
                batch.more = true;
                return Ok(batch);
            }
            next = entry.seq.0 + 1;
            bytes += entry.body.len();
            batch.entries.push(entry);
        }
    }

    pub(super) async fn read_last_of(&self, of: &Pattern) -> Result<Batch, ReadError> {
        if self.shared.is_closing() {
            return Err(ReadError::Closed);
        }
        let stream = stream_of_pattern(of, self.shared.options.logs).ok_or(ReadError::NoStream)?;
        self.direct_many(&stream, &json!({ "multi_last": [of.as_str()] })).await
    }

    pub(super) async fn purge(&self, of: &Subject, keep: StreamSeq) -> Result<(), ReadError> {
        let stream = self.stream_of(of)?;
        // Position 0 would purge everything: nothing lies below 1.
        if keep.0 <= 1 {
            return if self.shared.is_closing() { Err(ReadError::Closed) } else { Ok(()) };
        }
        let body = json!({ "filter": of.as_str(), "seq": keep.0 });
        self.api(&format!("STREAM.PURGE.{stream}"), &body).await.map(drop)
    }

    pub(super) async fn ensure_stream(&self, spec: &StreamSpec) -> Result<(), EnsureError> {
        let wanted = config(spec);
        match self.api(&format!("STREAM.CREATE.{}", spec.name), &wanted).await {
            Ok(value) => verify(spec, &wanted, &value["config"]),
            Err(ReadError::Refused { code: 10_058, .. }) => {
                let found = self.api(&format!("STREAM.INFO.{}", spec.name), &json!({})).await?;
                verify(spec, &wanted, &found["config"])
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn api_subject(call: &str) -> Result<Subject, ReadError> {
    Subject::from_wire(Bytes::from(format!("$JS.API.{call}"))).map_err(|_| malformed())
}

/// The stream of a pattern whose first tokens say which one it is.
fn stream_of_pattern(of: &Pattern, logs: u32) -> Option<StreamName> {
    if logs == 1 && of.as_str().starts_with("log.") {
        return Some(StreamName::log(0));
    }
    // `ban.>` and `snap.*.…` name their stream by the first token alone: any subject below it will do.
    let concrete: Vec<&str> =
        of.as_str().split('.').map(|token| if matches!(token, "*" | ">") { "x" } else { token }).collect();
    StreamName::of(&Subject::from_wire(Bytes::from(concrete.join("."))).ok()?, logs)
}

fn config(spec: &StreamSpec) -> Value {
    let limit = |value: u64| if value == 0 { -1 } else { i64::try_from(value).unwrap_or(i64::MAX) };
    let mut config = json!({
        "name": spec.name.as_str(),
        "subjects": spec.subjects,
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": limit(spec.max_bytes),
        "max_age": 0,
        "max_msgs_per_subject": limit(spec.max_msgs_per_subject),
        "max_msg_size": -1,
        "discard": "new",
        "storage": match spec.storage { Storage::File => "file", Storage::Memory => "memory" },
        "num_replicas": spec.replicas,
        "allow_direct": true,
        "deny_delete": spec.deny_delete,
    });
    if spec.max_msgs_per_subject > 0 && !spec.rollover {
        config["discard_new_per_subject"] = true.into();
    }
    if let Some(republish) = &spec.republish {
        config["republish"] = json!({ "src": republish.source, "dest": republish.destination });
    }
    config
}

/// Compares what matters to us, property by property, so that the difference can be named.
fn verify(spec: &StreamSpec, wanted: &Value, found: &Value) -> Result<(), EnsureError> {
    for what in [
        "subjects",
        "retention",
        "max_msgs",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "discard",
        "storage",
        "num_replicas",
        "allow_direct",
        "deny_delete",
        "discard_new_per_subject",
        "republish",
    ] {
        // Absent and off are the same.
        let of = |config: &Value| config.get(what).filter(|value| **value != Value::Bool(false)).cloned();
        let (found, expected) = (of(found), of(wanted));
        if found != expected {
            let text = |value: Option<Value>| value.map_or_else(|| "none".into(), |value| value.to_string());
            return Err(EnsureError::Differs {
                stream: spec.name.to_string(),
                what: what.into(),
                found: text(found),
                expected: text(expected),
            });
        }
    }
    Ok(())
}
