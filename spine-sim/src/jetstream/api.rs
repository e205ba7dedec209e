//! The JSON API, `$JS.API.…`: which request it is, the answer's type, success or error.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::config::Config;
use super::stream::Stream;
use super::{JetStream, Outgoing};
use crate::broker::Witnessed;
use crate::subject;
use crate::wire::{go_json, rfc3339};

/// Where every request begins.
pub(crate) const PREFIX: &str = "$JS.API.";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ApiError {
    code: u32,
    pub(crate) err_code: u32,
    description: String,
}

impl ApiError {
    pub(crate) fn new(code: u32, err_code: u32, description: &str) -> Self {
        Self { code, err_code, description: description.into() }
    }
    pub(crate) fn stream_not_found() -> Self {
        Self::new(404, 10_059, "stream not found")
    }
    pub(crate) fn bad_request() -> Self {
        Self::new(400, 10_003, "bad request")
    }
    pub(crate) fn invalid_config(description: &str) -> Self {
        Self::new(500, 10_052, description)
    }
    pub(crate) fn wrong_last(last: u64) -> Self {
        Self::new(400, 10_071, &format!("wrong last sequence: {last}"))
    }
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let said = unknown.map_or(text.clone(), |(field, _)| format!("json: unknown field {field:?}"));
        Self::new(400, 10_025, &format!("invalid JSON: {said}"))
    }

    /// As a PubAck carries it: the position 0 stands there too, so look at `error` first.
    pub(crate) fn pub_ack(&self, stream: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Refused<'a> {
            error: &'a ApiError,
            stream: &'a str,
            seq: u64,
        }
        go_json(&Refused { error: self, stream, seq: 0 })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PurgeRequest {
    filter: String,
    seq: u64,
    keep: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InfoRequest {
    subjects_filter: String,
    deleted_details: bool,
    offset: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DeleteMessageRequest {
    seq: u64,
    no_erase: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListRequest {
    offset: usize,
    subject: String,
}

/// As the server: how many subjects an INFO names at most.
const SUBJECTS_MAX: u64 = 100_000;

#[derive(Serialize)]
struct State {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    first_ts: String,
    last_seq: u64,
    last_ts: String,
    #[serde(skip_serializing_if = "is_zero")]
    num_subjects: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subjects: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    num_deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<u64>,
    consumer_count: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[derive(Serialize)]
struct Described<'a> {
    config: &'a Config,
    created: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Value>,
    ts: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    did_create: bool,
}

/// An answer's own fields, written after `type` (and after the error, which stands between).
type Answer = Result<String, (ApiError, &'static str)>;

impl JetStream {
    /// Answers a request on `$JS.API.…`. False: nobody answers there.
    pub(crate) fn request(
        &mut self,
        subject: &str,
        body: &[u8],
        reply: Option<&Bytes>,
        now_ms: i64,
        out: &mut Vec<Outgoing>,
    ) -> bool {
        let Some(call) = subject.strip_prefix(PREFIX) else { return false };
        if let Some(target) = call.strip_prefix("DIRECT.GET.") {
            return self.direct_get(target, body, reply, out);
        }
        let verb = |prefix: &str| call.strip_prefix(prefix).filter(|name| !name.is_empty() && !name.contains('.'));
        let (kind, answer): (&str, Answer) = if call == "INFO" {
            ("account_info", Ok(self.account_info()))
        } else if call == "STREAM.NAMES" {
            ("stream_names", self.names(body))
        } else if call == "STREAM.LIST" {
            ("stream_list", self.list(body, now_ms))
        } else if let Some(name) = verb("STREAM.CREATE.") {
            ("stream_create", self.create(name, body, now_ms))
        } else if let Some(name) = verb("STREAM.UPDATE.") {
            ("stream_update", self.update(name, body, now_ms))
        } else if let Some(name) = verb("STREAM.INFO.") {
            ("stream_info", self.info(name, body, now_ms))
        } else if let Some(name) = verb("STREAM.DELETE.") {
            ("stream_delete", self.delete(name, body))
        } else if let Some(name) = verb("STREAM.PURGE.") {
            ("stream_purge", self.purge(name, body))
        } else if let Some(name) = verb("STREAM.MSG.DELETE.") {
            ("stream_msg_delete", self.delete_message(name, body))
        } else if let Some(name) = verb("STREAM.MSG.GET.") {
            ("stream_msg_get", self.leader_get(name, body).map_err(|error| (error, "")))
        } else if let Some(rest) = call.strip_prefix("CONSUMER.") {
            let kind = match rest.split('.').next() {
                Some("INFO") => "consumer_info",
                Some("NAMES") => "consumer_names",
                Some("LIST") => "consumer_list",
                Some("DELETE") => "consumer_delete",
                _ => "consumer_create",
            };
            (
                kind,
                Err((ApiError::new(501, 10_003, "consumers are not modelled by this broker: read by Direct Get"), "")),
            )
        } else {
            // The server swallows what it does not know, without a 503.
            return true;
        };
        let Some(reply) = reply else { return true };
        self.requests += 1;
        let mut text = format!(r#"{{"type":"io.nats.jetstream.api.v1.{kind}_response""#);
        match answer {
            Ok(fields) => {
                text.push(',');
                text.push_str(&fields);
            }
            Err((error, rest)) => {
                self.errors += 1;
                text.push_str(r#","error":"#);
                text.push_str(&go_text(&error));
                text.push_str(rest);
            }
        }
        text.push('}');
        out.push(Outgoing::plain(reply, text));
        true
    }

    fn account_info(&self) -> String {
        format!(
            r#""memory":{},"storage":{},"reserved_memory":0,"reserved_storage":0,"streams":{},"consumers":0,"limits":{{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,"max_bytes_required":false}},"api":{{"level":5,"total":{},"errors":{}}}"#,
            self.stored_bytes(true),
            self.stored_bytes(false),
            self.streams.len(),
            self.requests,
            self.errors
        )
    }

    fn parse_config(&self, name: &str, body: &[u8]) -> Result<Config, ApiError> {
        let mismatch = || ApiError::new(400, 10_056, "stream name in subject does not match request");
        if body.is_empty() {
            return Err(mismatch());
        }
        let config: Config = go_parsed(body)?;
        if config.name != name {
            return Err(mismatch());
        }
        config.checked(self.limits.replicas_max)
    }

    fn overlaps(&self, config: &Config) -> bool {
        self.streams.values().filter(|stream| stream.config.name != config.name).any(|stream| {
            let theirs = &stream.config.subjects;
            theirs
                .iter()
                .any(|their| config.subjects.iter().any(|our| subject::overlap(their.as_bytes(), our.as_bytes())))
        })
    }

    fn create(&mut self, name: &str, body: &[u8], now_ms: i64) -> Answer {
        let config = self.parse_config(name, body).map_err(|error| (error, ""))?;
        match self.streams.get(name) {
            Some(stream) if stream.config == config => {}
            Some(_) => {
                let text = "stream name already in use with a different configuration";
                return Err((ApiError::new(400, 10_058, text), ""));
            }
            None if self.overlaps(&config) => {
                return Err((ApiError::new(400, 10_065, "subjects overlap with an existing stream"), ""));
            }
            None => {
                self.has_room_for(&config).map_err(|error| (error, ""))?;
                self.streams.insert(name.into(), Stream::new(config, now_ms));
                self.save(name);
            }
        }
        Ok(self.describe(name, now_ms, false, true))
    }

    fn update(&mut self, name: &str, body: &[u8], now_ms: i64) -> Answer {
        let config = self.parse_config(name, body).map_err(|error| (error, ""))?;
        let Some(stream) = self.streams.get(name) else { return Err((ApiError::stream_not_found(), "")) };
        if stream.config.storage != config.storage {
            let text = "stream configuration update can not change storage type";
            return Err((ApiError::invalid_config(text), ""));
        }
        if self.overlaps(&config) {
            return Err((ApiError::new(400, 10_065, "subjects overlap with an existing stream"), ""));
        }
        self.has_room_for(&config).map_err(|error| (error, ""))?;
        if let Some(stream) = self.streams.get_mut(name) {
            stream.reconfigure(config);
        }
        self.save(name);
        Ok(self.describe(name, now_ms, false, false))
    }

    fn info(&self, name: &str, body: &[u8], now_ms: i64) -> Answer {
        const REST: &str = r#","total":0,"offset":0,"limit":0"#;
        let request: InfoRequest = optional(body).map_err(|error| (error, REST))?;
        let Some(stream) = self.streams.get(name) else { return Err((ApiError::stream_not_found(), REST)) };
        let filter = request.subjects_filter.as_bytes();
        let mut subjects = BTreeMap::new();
        let mut total = 0;
        if !filter.is_empty() {
            for (text, count) in stream.subjects().filter(|(text, _)| subject::covers(filter, text)) {
                total += 1;
                if total > request.offset && subjects.len() < usize::try_from(SUBJECTS_MAX).unwrap_or(usize::MAX) {
                    subjects.insert(String::from_utf8_lossy(text).into_owned(), count);
                }
            }
        }
        let limit = if total > 0 { SUBJECTS_MAX } else { 0 };
        let described = self.described(stream, now_ms, true, false, subjects, request.deleted_details);
        Ok(format!(r#""total":{total},"offset":{},"limit":{limit},{}"#, request.offset, inner(&described)))
    }

    fn describe(&self, name: &str, now_ms: i64, cluster: bool, did_create: bool) -> String {
        let stream = self.streams.get(name).expect("its caller has just stored or found it");
        inner(&self.described(stream, now_ms, cluster, did_create, BTreeMap::new(), false))
    }

    fn described<'a>(
        &self,
        stream: &'a Stream,
        now_ms: i64,
        cluster: bool,
        did_create: bool,
        subjects: BTreeMap<String, u64>,
        deleted: bool,
    ) -> Described<'a> {
        let time = |at: Option<i64>| at.map_or_else(|| "0001-01-01T00:00:00Z".into(), rfc3339);
        Described {
            config: &stream.config,
            created: rfc3339(stream.created_ms),
            state: State {
                messages: stream.len(),
                bytes: stream.bytes(),
                first_seq: stream.first_seq(),
                first_ts: time(stream.first_ms()),
                last_seq: stream.last_seq(),
                last_ts: time(stream.last_ms()),
                num_subjects: stream.subjects().count() as u64,
                subjects,
                num_deleted: stream.deleted_count(),
                deleted: if deleted { stream.deleted().collect() } else { Vec::new() },
                consumer_count: 0,
            },
            cluster: cluster.then(|| json!({ "leader": self.server })),
            ts: rfc3339(now_ms),
            did_create,
        }
    }

    fn delete(&mut self, name: &str, body: &[u8]) -> Answer {
        if !is_empty_request(body) {
            return Err((ApiError::new(400, 10_038, "expected an empty request payload"), ""));
        }
        if self.streams.remove(name).is_none() {
            return Err((ApiError::stream_not_found(), ""));
        }
        self.undecided.retain(|(stream, ..)| stream != name);
        if let Some(journal) = &mut self.journal {
            journal.deleted(name);
        }
        Ok(r#""success":true"#.into())
    }

    fn purge(&mut self, name: &str, body: &[u8]) -> Answer {
        const REST: &str = r#","purged":0"#;
        let request: PurgeRequest = optional(body).map_err(|error| (error, REST))?;
        if request.seq > 0 && request.keep > 0 {
            return Err((ApiError::bad_request(), REST));
        }
        let Some(stream) = self.streams.get_mut(name) else { return Err((ApiError::stream_not_found(), REST)) };
        if stream.config.deny_purge {
            return Err((ApiError::new(500, 10_110, "stream purge not permitted"), REST));
        }
        let gone = stream.purge(&request.filter, request.seq, request.keep);
        if let Some(journal) = &mut self.journal {
            let seqs: Vec<u64> = gone.iter().map(|(seq, _)| *seq).collect();
            journal.removed(name, &seqs);
            journal.last(name, stream.last_seq());
        }
        for (seq, subject) in &gone {
            self.witness(Witnessed::Purged { subject, seq: *seq });
        }
        Ok(format!(r#""success":true,"purged":{}"#, gone.len()))
    }

    fn delete_message(&mut self, name: &str, body: &[u8]) -> Answer {
        if is_empty_request(body) {
            return Err((ApiError::bad_request(), ""));
        }
        let request: DeleteMessageRequest = go_parsed(body).map_err(|error| (error, ""))?;
        let _ = request.no_erase;
        let Some(stream) = self.streams.get_mut(name) else { return Err((ApiError::stream_not_found(), "")) };
        if stream.config.deny_delete {
            return Err((ApiError::new(500, 10_057, "message delete not permitted"), ""));
        }
        if request.seq > stream.last_seq() && !stream.config.is_memory() {
            return Err((ApiError::new(500, 10_057, "stream store EOF"), ""));
        }
        if !stream.remove(request.seq) {
            return Err((ApiError::new(400, 10_043, &format!("sequence {} not found", request.seq)), ""));
        }
        if let Some(journal) = &mut self.journal {
            journal.removed(name, &[request.seq]);
        }
        Ok(r#""success":true"#.into())
    }

    fn names(&self, body: &[u8]) -> Answer {
        let request: ListRequest =
            optional(body).map_err(|error| (error, r#","total":0,"offset":0,"limit":0,"streams":null"#))?;
        let all: Vec<&String> = self.selected(&request).map(|(name, _)| name).collect();
        let page: Vec<&&String> = all.iter().skip(request.offset).take(1024).collect();
        let streams = if page.is_empty() { "null".into() } else { go_text(&page) };
        Ok(format!(r#""total":{},"offset":{},"limit":1024,"streams":{streams}"#, all.len(), request.offset))
    }

    fn list(&self, body: &[u8], now_ms: i64) -> Answer {
        let request: ListRequest =
            optional(body).map_err(|error| (error, r#","total":0,"offset":0,"limit":0,"streams":null"#))?;
        let all: Vec<&Stream> = self.selected(&request).map(|(_, stream)| stream).collect();
        let mut page = Vec::new();
        for stream in all.iter().skip(request.offset).take(256) {
            // The server leaves its own marks out of this list, but for one.
            let mut config = stream.config.clone();
            config.metadata.retain(|key, _| !matches!(key.as_str(), "_nats.level" | "_nats.ver"));
            let mut described = self.described(stream, now_ms, false, false, BTreeMap::new(), false);
            described.config = &config;
            page.push(go_text(&described));
        }
        Ok(format!(r#""total":{},"offset":{},"limit":256,"streams":[{}]"#, all.len(), request.offset, page.join(",")))
    }

    fn selected<'a>(&'a self, request: &'a ListRequest) -> impl Iterator<Item = (&'a String, &'a Stream)> {
        self.streams.iter().filter(|(_, stream)| {
            let filter = request.subject.as_bytes();
            filter.is_empty() || stream.config.subjects.iter().any(|own| subject::overlap(own.as_bytes(), filter))
        })
    }

    fn save(&mut self, name: &str) {
        if let (Some(journal), Some(stream)) = (&mut self.journal, self.streams.get(name)) {
            journal.created(stream);
        }
    }
}

/// As the server: a body that does not begin as a JSON object or array stands for all defaults, whatever it says.
fn optional<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    match body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        Some(b'{' | b'[') => go_parsed(body),
        _ => Ok(T::default()),
    }
}

/// Nothing, or an object without fields.
fn is_empty_request(body: &[u8]) -> bool {
    let object: Result<serde_json::Map<String, Value>, _> = serde_json::from_slice(body);
    body.is_empty() || object.is_ok_and(|fields| fields.is_empty())
}

/// Parses an object as the server does: `null` leaves the default, in the place of a field as of the whole, and so does
/// white space; of several objects later fields prevail.
fn go_parsed<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    let mut fields = serde_json::Map::new();
    for object in serde_json::Deserializer::from_slice(body).into_iter::<Option<serde_json::Map<String, Value>>>() {
        let object = object.map_err(|error| ApiError::json(&error))?.unwrap_or_default();
        fields.extend(object.into_iter().filter(|(_, value)| !value.is_null()));
    }
    serde_json::from_value(fields.into()).map_err(|error| ApiError::json(&error))
}

fn go_text(value: &impl Serialize) -> String {
    String::from_utf8(go_json(value)).expect("JSON is UTF-8")
}

/// The fields of an object without its braces.
fn inner(value: &impl Serialize) -> String {
    let text = go_text(value);
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(&text).to_string()
}
