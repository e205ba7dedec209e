//! The JSON of the API: only the fields we use, unknown ones ignored, since newer servers add some.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// JetStream's own error.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl ApiError {
    /// The finer code if there is one.
    pub(super) const fn number(&self) -> u32 {
        if self.err_code != 0 { self.err_code } else { self.code }
    }
}

#[derive(Deserialize)]
struct Failure {
    error: Option<ApiError>,
}

/// An answer, or the error in it. `error` is looked at first: an error's answer also has fields that look like a
/// result, such as `"seq": 0`.
pub(super) fn parse<A: DeserializeOwned>(body: &[u8]) -> Result<Result<A, ApiError>, String> {
    let failure: Failure = serde_json::from_slice(body).map_err(|e| format!("not an answer of JetStream: {e}"))?;
    if let Some(error) = failure.error {
        return Ok(Err(error));
    }
    serde_json::from_slice(body).map(Ok).map_err(|e| format!("not the answer of JetStream that was expected: {e}"))
}

#[derive(Debug, Deserialize)]
pub(super) struct PubAck {
    pub(super) stream: String,
    pub(super) seq: u64,
}

/// Direct Get and `STREAM.MSG.GET`.
#[derive(Debug, Default, Serialize)]
pub(super) struct GetRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_by_subj: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_by_subj: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) multi_last: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_bytes: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GetAnswer {
    pub(super) message: StoredMessage,
}

#[derive(Debug, Deserialize)]
pub(super) struct StoredMessage {
    pub(super) subject: String,
    pub(super) seq: u64,
    /// Base64; absent if the payload is empty.
    #[serde(default)]
    pub(super) data: String,
}

#[derive(Debug, Serialize)]
pub(super) struct PurgeRequest<'a> {
    pub(super) filter: &'a str,
    pub(super) seq: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PurgeAnswer {
    pub(super) success: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Nothing {}

#[derive(Debug, Deserialize)]
pub(super) struct StreamAnswer {
    pub(super) config: StreamConfig,
}

/// The part of a stream's configuration that a `StreamSpec` determines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamConfig {
    pub(super) name: String,
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    pub(super) retention: String,
    pub(super) storage: String,
    pub(super) discard: String,
    #[serde(default)]
    pub(super) discard_new_per_subject: bool,
    pub(super) num_replicas: usize,
    /// Nanoseconds; 0: no limit.
    #[serde(default)]
    pub(super) max_age: u64,
    /// -1: no limit, here and below.
    pub(super) max_msgs: i64,
    pub(super) max_msgs_per_subject: i64,
    pub(super) max_bytes: i64,
    #[serde(default)]
    pub(super) deny_delete: bool,
    #[serde(default)]
    pub(super) allow_direct: bool,
    #[serde(default)]
    pub(super) sealed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) republish: Option<RepublishConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RepublishConfig {
    pub(super) src: String,
    pub(super) dest: String,
}
