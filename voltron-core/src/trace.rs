//! The trace, version 1: one JSON object a line, what the oracles read in the simulator and on a production log alike.
//! Product code says `trace::emit(|| Record::Pub { … })`; without a subscriber for the target [`TARGET`] at TRACE the
//! closure never runs, so the hot path pays one load. Bytes appear as [`Hash16`].

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The `tracing` target of records; never filtered by `RUST_LOG`.
pub const TARGET: &str = "arqon.trace";

/// First 16 hex digits of the SHA-256 of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash16(pub String);

impl Hash16 {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for Hash16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened. `room` is always `tenant/room`; `m` is a message id in hex; `h` the hash of an event's bytes as the
/// subscriber gets them (the Envelope in the entry), or of a command's bytes in `send`. No key of a record may be one of
/// the line's own (`v`, `n`, `t`, `host`, `k`): two fields are renamed for that.
#[rustfmt::skip] // one record a line, as a table
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the table in docs/trace.md describes each field once")]
pub enum Record {
    // Client side: written by the harness or the SDK.
    Grant { c: String, m: String, a: Vec<String> },
    Open { c: String, conn: String, shield: String, tenant: String, user: String, exp: i64 },
    Shut { c: String, conn: String, code: u16 },
    Send { c: String, m: String, room: String, h: Hash16, op: serde_json::Value },
    Ack { c: String, m: String, room: String, epoch: u64, seq: u64, code: u32, dup: bool, #[serde(default, skip_serializing_if = "zero")] ver: u64 },
    Want { c: String, room: String, id: u64 },
    Leave { c: String, room: String },
    Recv { c: String, room: String, epoch: u64, seq: u64, h: Hash16, #[serde(default, skip_serializing_if = "zero")] term: u64, #[serde(default, skip_serializing_if = "String::is_empty")] m: String },
    Sub { c: String, room: String, since: Option<(u64, u64)>, epoch: u64, seq: u64, recovered: bool, replay: u32 },
    Snap { c: String, room: String, epoch: u64, seq: u64, #[serde(default, skip_serializing_if = "Option::is_none")] state: Option<serde_json::Value> },
    Unsub { c: String, room: String, code: u32 },
    Get { c: String, id: u64, room: String },
    Got { c: String, id: u64, room: String, epoch: u64, seq: u64, h: Hash16, #[serde(default, skip_serializing_if = "Option::is_none")] state: Option<serde_json::Value> },
    Denied { c: String, id: u64, room: String, code: u32 },
    Gap { c: String, room: String, epoch: u64, from: u64, to: u64 },
    Seen { c: String, room: String, users: Vec<String> },
    // Shield.
    Ended { conn: String, code: u16 },
    Verdict { conn: String, m: String, #[serde(rename = "verdict")] v: String, policy: String, fuel: u64 },
    Pub { subject: String, h: Hash16 },
    Queue { name: String, len: u64, cap: u64 },
    Drain { phase: String },
    // Brain.
    Owned { room: String, epoch: u64, term: u64 },
    Commit { room: String, epoch: u64, seq: u64, m: String, user: String, h: Hash16, #[serde(default, skip_serializing_if = "Option::is_none")] op: Option<serde_json::Value>, #[serde(default, skip_serializing_if = "zero_time")] at: i64, #[serde(default, skip_serializing_if = "zero_time")] expires_at: i64 },
    Fenced { room: String, term: u64 },
    Answer { m: String, code: u32 },
    Merge { writer: String, to: u64, digest: Hash16 },
    // Broker.
    Append { subject: String, seq: u64, expect: Option<u64>, h: Hash16 },
    Refused { subject: String, code: u32 },
    TailLost { from: u64, to: u64 },
    // Harness.
    Renew { room: String, epoch: u64, at: i64 },
    Held { name: String, len: u64, rest: u64 },
    Trim { room: String, epoch: u64, seq: u64 },
    Fault { id: String, kind: String, target: String },
    Heal { id: String },
    Bad { c: String, m: String, what: String, codes: Vec<u16> },
    Told { c: String, code: u16 },
    Mark { name: String },
    Rules { entries: u64, bytes: u64, age_ms: i64 },
    Entry { room: String, epoch: u64, term: u64, pos: u64, at: i64, bytes: u64, kind: String, did: Vec<serde_json::Value> },
    Snapshot { room: String, epoch: u64, term: u64, seq: u64, pos: u64, at: i64, bytes: u64, state: serde_json::Value },
    Purged { room: String, pos: u64 },
    Crash { #[serde(rename = "target")] host: String },
    Start { #[serde(rename = "target")] host: String },
}

/// Left out where nothing is to say.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn zero(number: &u64) -> bool {
    *number == 0
}

/// Left out where nothing is to say.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn zero_time(ms: &i64) -> bool {
    *ms == 0
}

/// One line of a trace file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Format version: 1.
    pub v: u32,
    /// Position in this trace; total in the simulator, per process elsewhere.
    pub n: u64,
    /// Microseconds since the trace began.
    pub t: u64,
    /// Which host wrote it.
    pub host: String,
    /// What happened.
    #[serde(flatten)]
    pub record: Record,
}

/// One line of a trace file from a record's JSON: `{"v":1,"n":…,"t":…,"host":"…",` and then the record's own keys.
pub fn line_json(n: u64, t: u64, host: &str, record: &str) -> String {
    let host = serde_json::Value::from(host);
    let rest = record.strip_prefix('{').unwrap_or(record);
    format!("{{\"v\":1,\"n\":{n},\"t\":{t},\"host\":{host},{rest}")
}

/// True if something listens to [`TARGET`]: what a record is made of over several messages is kept only then.
#[inline]
pub fn listening() -> bool {
    tracing::enabled!(target: "arqon.trace", tracing::Level::TRACE)
}

/// Emits one record. `make` runs only if somebody listens to [`TARGET`].
#[inline]
pub fn emit(make: impl FnOnce() -> Record) {
    if listening() {
        let record = make();
        if let Ok(json) = serde_json::to_string(&record) {
            tracing::event!(target: "arqon.trace", tracing::Level::TRACE, record = %json);
        }
    }
}

#[cfg(test)]
mod tests;
