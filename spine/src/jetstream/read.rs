//! Reading: Direct Get (any replica), `STREAM.MSG.GET` (the leader), and the last value of many subjects.

use std::collections::BTreeMap;

use bytes::Bytes;
use data_encoding::BASE64;
use proto::{Pattern, StreamName, Subject};
use voltron_core::mutant;
use voltron_core::tasks::timeout_at;

use super::wire::{GetAnswer, GetRequest};
use super::{Answers, JetStream, Transport, refused};
use crate::{Batch, ReadError, Stored, StreamSeq, Via};

/// A batch ends after about so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// `multi_last` answers 413 beyond 1,024 subjects; so many are asked for before we walk instead.
const MULTI_LAST_MAX: usize = 1_024;
/// The most messages that [`JetStream::last_of`] walks over.
const WALK_MAX: usize = 65_536;
const WALK_BATCH: u32 = 1_024;
const NO_MESSAGE: u32 = 10_037;
const TOO_MANY_RESULTS: u32 = 413;

impl<T: Transport> JetStream<'_, T> {
    /// See [`Spine::last`](crate::Spine::last).
    pub async fn last(&self, of: &Subject, via: Via) -> Result<Option<Stored>, ReadError> {
        let stream = self.stream_of(of)?;
        match via {
            Via::Direct => {
                let answer = self.ask(&self.subject(&format!("DIRECT.GET.{stream}.{of}"))?, None, Bytes::new()).await?;
                match answer.status {
                    None => stored(answer.subject, answer.seq, answer.body).map(Some),
                    Some(404) => Ok(None),
                    Some(status) => Err(refused(status, &answer.description)),
                }
            }
            Via::Leader => {
                self.get(&stream, &GetRequest { last_by_subj: Some(of.as_str()), ..GetRequest::default() }).await
            }
        }
    }

    /// See [`Spine::read`](crate::Spine::read).
    pub async fn read(&self, of: &Subject, from: StreamSeq, max: u32, via: Via) -> Result<Batch, ReadError> {
        let stream = self.stream_of(of)?;
        if max == 0 {
            return Ok(Batch::default());
        }
        // Positions begin with 1, and 0 would mean something else to the server.
        let from = from.max(StreamSeq(1));
        match via {
            Via::Direct => self.next_by_subject(&stream, of.as_str(), from, max).await,
            Via::Leader => self.read_leader(&stream, of.as_str(), from, max).await,
        }
    }

    /// See [`Spine::last_of`](crate::Spine::last_of).
    pub async fn last_of(&self, of: &Pattern) -> Result<Batch, ReadError> {
        let stream = stream_of_pattern(of, self.logs).ok_or(ReadError::NoStream)?;
        let request = GetRequest { multi_last: Some([of.as_str()]), ..GetRequest::default() };
        match self.batch(&stream, &request, MULTI_LAST_MAX).await {
            Err(ReadError::Refused { code: TOO_MANY_RESULTS, .. }) => self.walk(&stream, of).await,
            answer => answer,
        }
    }

    /// More subjects than one answer holds: every message that matches, in order, keeping the last of each subject.
    async fn walk(&self, stream: &StreamName, of: &Pattern) -> Result<Batch, ReadError> {
        let (mut last, mut from, mut walked) = (BTreeMap::new(), StreamSeq(1), 0);
        loop {
            let batch = self.next_by_subject(stream, of.as_str(), from, WALK_BATCH).await?;
            walked += batch.entries.len();
            if let Some(end) = batch.entries.last() {
                from = end.seq.next();
            }
            let more = batch.more && !batch.entries.is_empty();
            last.extend(batch.entries.into_iter().map(|entry| (entry.subject.clone(), entry)));
            if !more {
                break;
            }
            if walked >= WALK_MAX {
                return Err(refused(413, "more messages match than are read for their last values"));
            }
        }
        let mut entries: Vec<Stored> = last.into_values().collect();
        entries.sort_unstable_by_key(|entry| entry.seq);
        Ok(Batch { entries, more: false })
    }

    async fn next_by_subject(
        &self,
        stream: &StreamName,
        subject: &str,
        from: StreamSeq,
        max: u32,
    ) -> Result<Batch, ReadError> {
        let request = GetRequest {
            seq: Some(from.0),
            next_by_subj: Some(subject),
            batch: Some(max),
            max_bytes: Some(BATCH_BYTES),
            ..GetRequest::default()
        };
        self.batch(stream, &request, max as usize).await
    }

    /// A Direct Get with many answers, the last of them a status.
    async fn batch(&self, stream: &StreamName, request: &GetRequest<'_>, max: usize) -> Result<Batch, ReadError> {
        let to = self.subject(&format!("DIRECT.GET.{stream}"))?;
        let body = serde_json::to_vec(request).expect("our requests are plain structs with text keys");
        let read = async {
            // One more for the end.
            let mut answers = self.transport.call(&to, None, body.into(), max.saturating_add(1)).await?;
            let mut batch = Batch::default();
            loop {
                let answer = answers.next().await?;
                match answer.status {
                    None => {
                        let entry = stored(answer.subject, answer.seq, answer.body)?;
                        if batch.entries.last().is_some_and(|last| last.seq >= entry.seq) {
                            return Err(unreadable("positions that do not ascend"));
                        }
                        batch.entries.push(entry);
                    }
                    Some(204) => {
                        batch.more = answer.pending.unwrap_or(0) > 0;
                        return Ok(batch);
                    }
                    Some(404) => return Ok(batch),
                    Some(status) => return Err(refused(status, &answer.description)),
                }
            }
        };
        timeout_at(self.deadline(), read).await.unwrap_or(Err(ReadError::Timeout))
    }

    async fn read_leader(
        &self,
        stream: &StreamName,
        subject: &str,
        from: StreamSeq,
        max: u32,
    ) -> Result<Batch, ReadError> {
        let deadline = self.deadline();
        let (mut batch, mut from, mut bytes) = (Batch::default(), from, 0);
        loop {
            let request = GetRequest { seq: Some(from.0), next_by_subj: Some(subject), ..GetRequest::default() };
            let got = timeout_at(deadline, self.get(stream, &request)).await.unwrap_or(Err(ReadError::Timeout));
            batch.more = match &got {
                Ok(Some(_)) => batch.entries.len() >= max as usize || bytes >= BATCH_BYTES,
                Ok(None) => false,
                // What was read stays read: the caller goes on behind it, and is told then if the broker is away.
                Err(_) => !batch.entries.is_empty() && !mutant!(PartialReadLost),
            };
            match got {
                Ok(None) => return Ok(batch),
                Ok(Some(entry)) if !batch.more => {
                    from = entry.seq.next();
                    bytes += entry.body.len();
                    batch.entries.push(entry);
                }
                Err(error) if !batch.more => return Err(error),
                Ok(Some(_)) | Err(_) => return Ok(batch),
            }
        }
    }

    /// One `STREAM.MSG.GET`.
    async fn get(&self, stream: &StreamName, request: &GetRequest<'_>) -> Result<Option<Stored>, ReadError> {
        match self.api::<GetAnswer>(&format!("STREAM.MSG.GET.{stream}"), request).await? {
            Ok(GetAnswer { message }) => {
                let body =
                    BASE64.decode(message.data.as_bytes()).map_err(|_| unreadable("a payload that is not base64"))?;
                let subject = Subject::from_wire(message.subject.into()).ok();
                stored(subject, Some(StreamSeq(message.seq)), body.into()).map(Some)
            }
            Err(error) if error.err_code == NO_MESSAGE => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn stream_of(&self, subject: &Subject) -> Result<StreamName, ReadError> {
        StreamName::of(subject, self.logs).ok_or(ReadError::NoStream)
    }
}

fn stored(subject: Option<Subject>, seq: Option<StreamSeq>, body: Bytes) -> Result<Stored, ReadError> {
    match (subject, seq) {
        (Some(subject), Some(seq)) => Ok(Stored { subject, seq, body }),
        _ => Err(unreadable("a message without its subject or position")),
    }
}

fn unreadable(what: &str) -> ReadError {
    ReadError::Refused { code: 0, text: format!("JetStream sent {what}") }
}

/// The one stream that holds all subjects of a pattern, if there is one.
fn stream_of_pattern(of: &Pattern, logs: u32) -> Option<StreamName> {
    let (head, rest) = of.as_str().split_once('.')?;
    match head {
        "ban" => Some(StreamName::bans()),
        "snap" => Some(StreamName::snapshots()),
        "log" if logs == 1 => Some(StreamName::log(0)),
        "log" => {
            let p: u8 = rest.split('.').next()?.parse().ok()?;
            Some(StreamName::log(proto::subject::stream_index(p, logs)))
        }
        "gen" => Some(StreamName::generation(rest.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_its_stream_or_none() {
        let of = |text: &'static str, logs| {
            let pattern = Pattern::from_wire(Bytes::from_static(text.as_bytes())).unwrap();
            stream_of_pattern(&pattern, logs).map(|s| s.to_string())
        };
        assert_eq!(of("ban.t.acme.u.*", 8).as_deref(), Some("BAN"));
        assert_eq!(of("snap.>", 8).as_deref(), Some("SNAP"));
        assert_eq!(of("gen.3", 8).as_deref(), Some("GEN_3"));
        assert_eq!(of("log.255.>", 8).as_deref(), Some("LOG_7"));
        assert_eq!(of("log.*.t.acme.r.*", 1).as_deref(), Some("LOG_0"));
        assert_eq!(of("log.*.t.acme.r.*", 8), None);
        assert_eq!(of("gen.*", 8), None);
        assert_eq!(of("in.t.*.r.*", 1), None);
        assert_eq!(of(">", 1), None);
    }
}
