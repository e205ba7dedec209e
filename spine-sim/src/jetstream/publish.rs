//! A message that arrives on a stream's subject: the checks of its headers, the append, RePublish, the PubAck.

use bytes::Bytes;
use voltron_core::mutant;
use voltron_core::trace::{self, Hash16, Record};

use super::api::ApiError;
use super::config::Config;
use super::stream::Entry;
use super::{JetStream, Outgoing};
use crate::broker::Witnessed;
use crate::broker::faults::Faults;
use crate::parser::Publish;
use crate::wire;

/// The sequence of an expectation header as the server parses it: anything but digits equals nothing.
fn expected(header: &[u8], name: &str) -> Option<u64> {
    wire::header(header, name).map(|value| wire::number(value).unwrap_or(u64::MAX))
}

impl JetStream {
    /// Takes a published message if a stream holds its subject. Returns false if none does.
    pub(crate) fn ingest(
        &mut self,
        message: &Publish,
        now_ms: i64,
        faults: &mut Faults,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        let Some(name) = self.stream_of(&message.subject) else { return false };
        if message.reply.is_none() && faults.drop_ingest.strikes() {
            return true;
        }
        let header = &message.payload[..message.header_len.unwrap_or(0)];
        let refusal = match self.check(&name, message, header, now_ms, faults) {
            Checked::Ok => None,
            Checked::Duplicate(seq) => {
                self.acknowledge(
                    message,
                    faults,
                    out,
                    format!(r#"{{"stream":"{name}","seq":{seq},"duplicate": true}}"#),
                );
                return true;
            }
            Checked::Refused(error) => Some(error),
        };
        if let Some(error) = refusal {
            self.refuse(&name, message, &error, out);
            return true;
        }
        // Copies: a slice would pin the whole read buffer for as long as the message is stored.
        let entry = Entry {
            subject: Bytes::copy_from_slice(&message.subject),
            header: Bytes::copy_from_slice(header),
            body: Bytes::copy_from_slice(&message.payload[header.len()..]),
            at_ms: now_ms,
        };
        let expect = expected(header, "Nats-Expected-Last-Subject-Sequence");
        if faults.undecided.strikes() {
            self.undecided.push((name, entry, message.reply.clone()));
            return true;
        }
        self.store(&name, entry, expect, message.reply.as_ref(), faults, out);
        true
    }

    fn check(&self, name: &str, message: &Publish, header: &[u8], now_ms: i64, faults: &Faults) -> Checked {
        let subject = &message.subject[..];
        let Some(stream) = self.streams.get(name) else { return Checked::Refused(ApiError::stream_not_found()) };
        if self.undecided.iter().any(|(other, entry, _)| other == name && entry.subject == subject)
            && expected(header, "Nats-Expected-Last-Subject-Sequence").is_some()
        {
            return Checked::Refused(ApiError::new(400, 10_164, "wrong last sequence"));
        }
        if Config::limit(stream.config.max_msg_size).is_some_and(|limit| message.payload.len() as u64 > limit) {
            return Checked::Refused(ApiError::new(400, 10_054, "message size exceeds maximum allowed"));
        }
        if header.is_empty() {
            return Checked::Ok;
        }
        if wire::header(header, "Nats-Expected-Stream").is_some_and(|wanted| wanted != name.as_bytes()) {
            return Checked::Refused(ApiError::new(400, 10_060, "expected stream does not match"));
        }
        let duplicate = wire::header(header, "Nats-Msg-Id").and_then(|id| stream.seq_of_id(id, now_ms));
        if let Some(seq) = duplicate.filter(|_| faults.dedupe_before_fence) {
            return Checked::Duplicate(seq);
        }
        if let Some(wanted) = expected(header, "Nats-Expected-Last-Subject-Sequence") {
            let filter = wire::header(header, "Nats-Expected-Last-Subject-Sequence-Subject").unwrap_or(subject);
            let last = stream.last_seq_of(filter);
            if last != wanted {
                return Checked::Refused(ApiError::wrong_last(last));
            }
        }
        if let Some(seq) = duplicate {
            return Checked::Duplicate(seq);
        }
        if expected(header, "Nats-Expected-Last-Sequence").is_some_and(|wanted| wanted != stream.last_seq()) {
            return Checked::Refused(ApiError::wrong_last(stream.last_seq()));
        }
        if wire::header(header, "Nats-Expected-Last-Msg-Id").is_some_and(|wanted| wanted != stream.last_msg_id) {
            let last = String::from_utf8_lossy(&stream.last_msg_id);
            return Checked::Refused(ApiError::new(400, 10_070, &format!("wrong last msg ID: {last}")));
        }
        if wire::header(header, "Nats-Rollup").is_some() {
            return Checked::Refused(ApiError::new(500, 10_111, "rollup not permitted"));
        }
        Checked::Ok
    }

    /// Appends what passed the checks; republishes and acknowledges it, or says why it could not be stored.
    pub(super) fn store(
        &mut self,
        name: &str,
        entry: Entry,
        expect: Option<u64>,
        reply: Option<&Bytes>,
        faults: &mut Faults,
        out: &mut Vec<Outgoing>,
    ) {
        let memory = self.streams.get(name).is_some_and(|stream| stream.config.is_memory());
        let used = self.stored_bytes(memory);
        let Some(stream) = self.streams.get_mut(name) else { return };
        let (subject, kept, now_ms) = (entry.subject.clone(), entry.clone(), entry.at_ms);
        // As the server: the limit is noticed once it is passed.
        let stored = if used > self.limits.store_bytes_max {
            Err(ApiError::new(503, 10_023, "insufficient resources"))
        } else {
            stream.append(entry).map_err(|full| ApiError::new(503, 10_077, full.text()))
        };
        let stored = stored.and_then(|(seq, previous)| {
            let written = self.journal.as_mut().is_none_or(|journal| journal.appended(name, stream, seq));
            if written {
                return Ok((seq, previous));
            }
            stream.remove(seq);
            Err(ApiError::new(503, 10_077, "the store directory cannot be written"))
        });
        let (seq, previous) = match stored {
            Ok(stored) => stored,
            Err(error) => {
                trace::emit(|| Record::Refused { subject: lossy(&subject), code: error.err_code });
                if let Some(reply) = reply {
                    out.push(Outgoing::plain(reply, error.pub_ack(name)));
                }
                return;
            }
        };
        trace::emit(|| Record::Append { subject: lossy(&subject), seq, expect, h: Hash16::of(&kept.body) });
        if let Some(witness) = &self.witness {
            witness(Witnessed::Stored { subject: &subject, seq, body: &kept.body });
        }
        stream.sync_if_due(now_ms, self.limits.sync_interval_ms);
        if let Some(id) = wire::header(&kept.header, "Nats-Msg-Id") {
            stream.remember_id(Bytes::copy_from_slice(id), seq, now_ms);
        }
        if let Some(target) = stream.mapping.as_ref().and_then(|mapping| mapping.apply(&subject))
            && !faults.drop_republish.strikes()
        {
            let headers_only = stream.config.republish.as_ref().is_some_and(|republish| republish.headers_only);
            let message = republished(name, target, &kept, seq, previous, headers_only);
            if mutant!(RepublishReordered) && seq.is_multiple_of(8) && self.late.is_none() {
                self.late = Some(message);
            } else {
                out.push(message);
                out.extend(self.late.take());
            }
        }
        if let Some(reply) = reply
            && !stream.config.no_ack
            && !faults.lose_ack.strikes()
        {
            out.push(Outgoing::plain(reply, format!(r#"{{"stream":"{name}","seq":{seq}}}"#)));
        }
    }

    fn acknowledge(&self, message: &Publish, faults: &mut Faults, out: &mut Vec<Outgoing>, json: String) {
        if let Some(reply) = &message.reply
            && !faults.lose_ack.strikes()
        {
            out.push(Outgoing::plain(reply, json));
        }
    }

    fn refuse(&self, name: &str, message: &Publish, error: &ApiError, out: &mut Vec<Outgoing>) {
        trace::emit(|| Record::Refused { subject: lossy(&message.subject), code: error.err_code });
        if let Some(reply) = &message.reply {
            out.push(Outgoing::plain(reply, error.pub_ack(name)));
        }
    }
}

enum Checked {
    Ok,
    Duplicate(u64),
    Refused(ApiError),
}

/// The stored message under its new subject, with the headers the server adds.
fn republished(name: &str, target: Bytes, entry: &Entry, seq: u64, previous: u64, headers_only: bool) -> Outgoing {
    let mut header = super::get::stored_header(name, entry, seq);
    header.extend_from_slice(format!("Nats-Last-Sequence: {previous}\r\n").as_bytes());
    if headers_only {
        header.extend_from_slice(format!("Nats-Msg-Size: {}\r\n", entry.body.len()).as_bytes());
    }
    header.extend_from_slice(b"\r\n");
    Outgoing::with_header(target, &header, if headers_only { b"" } else { &entry.body })
}

fn lossy(subject: &[u8]) -> String {
    String::from_utf8_lossy(subject).into_owned()
}
