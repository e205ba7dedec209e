//! Reading stored messages: `STREAM.MSG.GET` (JSON) and Direct Get (the message itself, single, batch, multi-last).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::api::ApiError;
use super::stream::{Entry, Stream};
use super::{JetStream, Outgoing};
use crate::wire;

/// As the server: more subjects than this in one `multi_last` are too many.
const MULTI_LAST_MAX: usize = 1024;
/// As the server: a batch's bytes when the request names none, its `max_pending`.
const BATCH_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// The body of a Direct Get. Unknown keys are ignored, as the server does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DirectRequest {
    seq: u64,
    last_by_subj: String,
    next_by_subj: String,
    batch: i64,
    max_bytes: i64,
    multi_last: Option<Vec<String>>,
    up_to_seq: u64,
    up_to_time: Option<String>,
    start_time: Option<String>,
    no_hdr: bool,
}

/// The body of `STREAM.MSG.GET`. Unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LeaderRequest {
    seq: u64,
    last_by_subj: String,
    next_by_subj: String,
    batch: i64,
    max_bytes: i64,
    multi_last: Option<Vec<String>>,
    up_to_seq: u64,
    no_hdr: bool,
}

#[derive(Serialize)]
struct StoredMessage<'a> {
    subject: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hdrs: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    time: String,
}

/// The header block of a stored message without its end: its own headers, then where it lies.
pub(super) fn stored_header(name: &str, entry: &Entry, seq: u64) -> Vec<u8> {
    let mut out = match entry.header.strip_suffix(b"\r\n") {
        Some(own) => own.to_vec(),
        None => wire::HEADER_LINE.to_vec(),
    };
    out.extend_from_slice(b"Nats-Stream: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\nNats-Subject: ");
    out.extend_from_slice(&entry.subject);
    out.extend_from_slice(
        format!("\r\nNats-Sequence: {seq}\r\nNats-Time-Stamp: {}\r\n", wire::rfc3339(entry.at_ms)).as_bytes(),
    );
    out
}

impl JetStream {
    /// `$JS.API.DIRECT.GET.{stream}` and `….{stream}.{subject}`. False: no stream answers there, so no responders.
    pub(super) fn direct_get(&self, target: &str, body: &[u8], reply: Option<&Bytes>, out: &mut Vec<Outgoing>) -> bool {
        let (name, subject) = target.split_once('.').map_or((target, None), |(name, subject)| (name, Some(subject)));
        let Some(stream) = self.streams.get(name).filter(|stream| stream.config.allow_direct) else { return false };
        let Some(reply) = reply else { return true };
        let parsed: Result<DirectRequest, &str> = match (subject, body.is_empty()) {
            (Some(_), _) if !body.is_empty() => Err("NATS/1.0 408 Bad Request\r\n\r\n"),
            (Some(subject), _) => Ok(DirectRequest { last_by_subj: subject.into(), ..DirectRequest::default() }),
            (None, true) => Err("NATS/1.0 408 Empty Request\r\n\r\n"),
            (None, false) => serde_json::from_slice(body).map_err(|_| "NATS/1.0 408 Malformed Request\r\n\r\n"),
        };
        let request = match parsed.and_then(|request| request.checked()) {
            Ok(request) => request,
            Err(status) => {
                out.push(Outgoing::with_header(reply.clone(), status.as_bytes(), b""));
                return true;
            }
        };
        if let Some(filters) = &request.multi_last {
            multi_last(name, stream, &request, filters, reply, out);
        } else {
            single_or_batch(name, stream, &request, reply, out);
        }
        true
    }

    /// `$JS.API.STREAM.MSG.GET.{stream}`.
    pub(super) fn leader_get(&self, name: &str, body: &[u8]) -> Result<String, ApiError> {
        if body.is_empty() {
            return Err(ApiError::bad_request());
        }
        let request: LeaderRequest = serde_json::from_slice(body).map_err(|error| ApiError::json(&error))?;
        let both = !request.last_by_subj.is_empty() && !request.next_by_subj.is_empty();
        let neither = request.seq == 0 && request.last_by_subj.is_empty() && request.next_by_subj.is_empty();
        if both || neither || request.seq > 0 && !request.last_by_subj.is_empty() {
            return Err(ApiError::bad_request());
        }
        if request.batch > 0 || request.max_bytes > 0 || request.multi_last.is_some() || request.up_to_seq > 0 {
            return Err(ApiError::bad_request());
        }
        let Some(stream) = self.streams.get(name) else { return Err(ApiError::stream_not_found()) };
        let found = find(stream, request.seq, &request.last_by_subj, &request.next_by_subj);
        let (seq, entry) = found.ok_or_else(|| ApiError::new(404, 10_037, "no message found"))?;
        let encode = |bytes: &Bytes| (!bytes.is_empty()).then(|| data_encoding::BASE64.encode(bytes));
        let message = StoredMessage {
            subject: std::str::from_utf8(&entry.subject).unwrap_or_default(),
            seq,
            hdrs: encode(&entry.header).filter(|_| !request.no_hdr),
            data: encode(&entry.body),
            time: wire::rfc3339(entry.at_ms),
        };
        let json = wire::go_json(&message);
        Ok(format!(r#""message":{}"#, String::from_utf8_lossy(&json)))
    }
}

impl DirectRequest {
    /// Refuses what makes no sense, with the server's status line.
    fn checked(self) -> Result<Self, &'static str> {
        let multi = self.multi_last.as_ref().is_some_and(|filters| !filters.is_empty());
        let (last, next) = (!self.last_by_subj.is_empty(), !self.next_by_subj.is_empty());
        if self.seq == 0 && !last && !next && !multi && self.start_time.is_none() {
            return Err("NATS/1.0 408 Empty Request\r\n\r\n");
        }
        if last && (next || self.seq > 0 || self.batch != 0 || multi) || self.up_to_time.is_some() {
            return Err("NATS/1.0 408 Bad Request\r\n\r\n");
        }
        Ok(self)
    }
}

fn find<'a>(stream: &'a Stream, seq: u64, last: &str, next: &str) -> Option<(u64, &'a Entry)> {
    if !next.is_empty() {
        return stream.next(next.as_bytes(), seq);
    }
    let seq = if last.is_empty() { seq } else { stream.last_seq_of(last.as_bytes()) };
    stream.get(seq).map(|entry| (seq, entry))
}

fn single_or_batch(name: &str, stream: &Stream, request: &DirectRequest, reply: &Bytes, out: &mut Vec<Outgoing>) {
    let not_found = || Outgoing::with_header(reply.clone(), b"NATS/1.0 404 Message Not Found\r\n\r\n", b"");
    if request.batch == 0 {
        let from_start = request.start_time.is_some();
        let found = if from_start {
            stream.next(request.next_by_subj.as_bytes(), request.seq)
        } else {
            find(stream, request.seq, &request.last_by_subj, &request.next_by_subj)
        };
        match found {
            Some((_, entry)) if request.no_hdr => out.push(Outgoing::plain(reply, entry.body.clone())),
            Some((seq, entry)) => {
                let mut header = stored_header(name, entry, seq);
                header.extend_from_slice(b"\r\n");
                out.push(Outgoing::with_header(reply.clone(), &header, &entry.body));
            }
            None => out.push(not_found()),
        }
        return;
    }
    let filter = request.next_by_subj.as_bytes();
    let mut pending = stream.count(filter, request.seq);
    if pending == 0 {
        out.push(not_found());
        return;
    }
    let mut batch = Batch::new(name, request, reply, out);
    let mut from = request.seq;
    while let Some((seq, entry)) = stream.next(filter, from) {
        if !batch.put(seq, entry, pending - 1) {
            break;
        }
        pending -= 1;
        from = seq + 1;
    }
    batch.end(pending, None);
}

fn multi_last(
    name: &str,
    stream: &Stream,
    request: &DirectRequest,
    filters: &[String],
    reply: &Bytes,
    out: &mut Vec<Outgoing>,
) {
    let up_to = if request.up_to_seq > 0 { request.up_to_seq } else { stream.last_seq() };
    // A file stream finds nothing if it is asked for more than it has; a memory stream takes that for all.
    let beyond = request.up_to_seq > stream.last_seq() && !stream.config.is_memory();
    let found = if beyond { Vec::new() } else { stream.multi_last(filters, up_to) };
    if found.len() > MULTI_LAST_MAX {
        out.push(Outgoing::with_header(reply.clone(), b"NATS/1.0 413 Too Many Results\r\n\r\n", b""));
        return;
    }
    let wanted: Vec<u64> = found.into_iter().filter(|seq| *seq >= request.seq).collect();
    if wanted.is_empty() {
        out.push(Outgoing::with_header(reply.clone(), b"NATS/1.0 404 No Results\r\n\r\n", b""));
        return;
    }
    let mut pending = wanted.len() as u64;
    let mut batch = Batch::new(name, request, reply, out);
    for seq in wanted {
        let Some(entry) = stream.get(seq) else { continue };
        if !batch.put(seq, entry, pending - 1) {
            break;
        }
        pending -= 1;
    }
    batch.end(pending, Some(up_to));
}

/// The messages of a batch and the end-of-batch status.
struct Batch<'a> {
    name: &'a str,
    reply: &'a Bytes,
    out: &'a mut Vec<Outgoing>,
    left: Option<u64>,
    bytes_left: i64,
    last_sent: u64,
    no_hdr: bool,
}

impl<'a> Batch<'a> {
    fn new(name: &'a str, request: &DirectRequest, reply: &'a Bytes, out: &'a mut Vec<Outgoing>) -> Self {
        Self {
            name,
            reply,
            out,
            // A multi-last request without a batch size wants all of them; a negative one wants none.
            left: if request.batch == 0 { None } else { Some(u64::try_from(request.batch).unwrap_or(0)) },
            bytes_left: if request.max_bytes == 0 { BATCH_BYTES_MAX } else { request.max_bytes },
            last_sent: 0,
            no_hdr: request.no_hdr,
        }
    }

    /// Sends one message unless the batch is full. The first one goes whatever its size.
    fn put(&mut self, seq: u64, entry: &Entry, pending: u64) -> bool {
        if self.left == Some(0) || self.bytes_left <= 0 && self.last_sent > 0 {
            return false;
        }
        if self.no_hdr {
            self.out.push(Outgoing::plain(self.reply, entry.body.clone()));
        } else {
            let mut header = stored_header(self.name, entry, seq);
            header.extend_from_slice(
                format!("Nats-Num-Pending: {pending}\r\nNats-Last-Sequence: {}\r\n\r\n", self.last_sent).as_bytes(),
            );
            self.out.push(Outgoing::with_header(self.reply.clone(), &header, &entry.body));
        }
        self.left = self.left.map(|left| left - 1);
        self.bytes_left -=
            i64::try_from(entry.subject.len() + entry.header.len() + entry.body.len()).unwrap_or(i64::MAX);
        self.last_sent = seq;
        true
    }

    fn end(self, pending: u64, up_to: Option<u64>) {
        let up_to = up_to.map_or(String::new(), |seq| format!("Nats-UpTo-Sequence: {seq}\r\n"));
        let header = format!(
            "NATS/1.0 204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {}\r\n{up_to}\r\n",
            self.last_sent
        );
        self.out.push(Outgoing::with_header(self.reply.clone(), header.as_bytes(), b""));
    }
}
