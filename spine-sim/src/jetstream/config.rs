//! Stream configurations: what the server accepts, the defaults it fills in, the text it refuses with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api::ApiError;
use super::mapping::Mapping;
use crate::subject;

/// The JSON of a stream's configuration, in the server's field order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) subjects: Vec<String>,
    #[serde(default = "limits")]
    pub(crate) retention: String,
    #[serde(default)]
    pub(crate) max_consumers: i64,
    #[serde(default)]
    pub(crate) max_msgs: i64,
    #[serde(default)]
    pub(crate) max_bytes: i64,
    #[serde(default)]
    pub(crate) max_age: i64,
    #[serde(default)]
    pub(crate) max_msgs_per_subject: i64,
    #[serde(default)]
    pub(crate) max_msg_size: i64,
    #[serde(default = "old")]
    pub(crate) discard: String,
    #[serde(default = "file")]
    pub(crate) storage: String,
    #[serde(default)]
    pub(crate) num_replicas: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) no_ack: bool,
    #[serde(default)]
    pub(crate) duplicate_window: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placement: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mirror: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sources: Option<serde_json::Value>,
    #[serde(default = "none")]
    compression: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject_transform: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) republish: Option<Republish>,
    #[serde(default)]
    pub(crate) allow_direct: bool,
    #[serde(default)]
    mirror_direct: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) discard_new_per_subject: bool,
    #[serde(default)]
    sealed: bool,
    #[serde(default)]
    pub(crate) deny_delete: bool,
    #[serde(default)]
    pub(crate) deny_purge: bool,
    #[serde(default)]
    allow_rollup_hdrs: bool,
    #[serde(default)]
    consumer_limits: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    allow_msg_ttl: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_atomic: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_msg_counter: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_msg_schedules: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    allow_batched: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persist_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject_delete_marker_ttl: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template_owner: Option<String>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// RePublish as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Republish {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) src: String,
    pub(crate) dest: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) headers_only: bool,
}

/// Nanoseconds in which a repeated `Nats-Msg-Id` is recognised by default.
pub(crate) const DUPLICATE_WINDOW_NS: i64 = 120_000_000_000;

fn limits() -> String {
    "limits".into()
}
fn old() -> String {
    "old".into()
}
fn file() -> String {
    "file".into()
}
fn none() -> String {
    "none".into()
}
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Config {
    /// Fills in the server's defaults and refuses what it refuses, and what this broker does not model.
    pub(crate) fn checked(mut self, replicas_max: i64) -> Result<Self, ApiError> {
        if self.name.is_empty() || self.name.contains(['.', '*', '>', ' ', '\t', '\r', '\n', '/', '\\']) {
            return Err(ApiError::invalid_config("stream name is required and can not contain '.', '*', '>'"));
        }
        if self.subjects.is_empty() {
            self.subjects.push(self.name.clone());
        }
        for limit in [
            &mut self.max_consumers,
            &mut self.max_msgs,
            &mut self.max_bytes,
            &mut self.max_msgs_per_subject,
            &mut self.max_msg_size,
        ] {
            if *limit <= 0 {
                *limit = -1;
            }
        }
        if self.num_replicas == 0 {
            self.num_replicas = 1;
        }
        if self.duplicate_window == 0 {
            self.duplicate_window = DUPLICATE_WINDOW_NS;
        }
        self.metadata.retain(|key, _| !key.starts_with("_nats."));
        for (key, value) in [("_nats.level", "5"), ("_nats.req.level", "0"), ("_nats.ver", crate::SERVER_VERSION)] {
            self.metadata.insert(key.into(), value.into());
        }
        if self.num_replicas > replicas_max {
            return Err(ApiError::new(500, 10_074, "replicas > 1 not supported in non-clustered mode"));
        }
        for (at, text) in self.subjects.iter().enumerate() {
            if !subject::is_valid(text.as_bytes()) {
                return Err(ApiError::invalid_config("invalid subject"));
            }
            if let Some(other) =
                self.subjects[..at].iter().find(|other| subject::overlap(other.as_bytes(), text.as_bytes()))
            {
                return Err(ApiError::invalid_config(&format!("subject {text:?} overlaps with {other:?}")));
            }
            if subject::overlap(text.as_bytes(), b"$JS.API.>") {
                return Err(ApiError::invalid_config(
                    "subjects that overlap with jetstream api require no-ack to be true",
                ));
            }
        }
        if let Some(republish) = &mut self.republish {
            if republish.src.is_empty() {
                republish.src = ">".into();
            }
            let mapping = Mapping::parse(&republish.src, &republish.dest).ok_or_else(|| {
                ApiError::invalid_config(&format!(
                    "stream configuration for republish with transform from '{}' to '{}' not valid",
                    republish.src, republish.dest
                ))
            })?;
            let target = mapping.target_pattern();
            if self.subjects.iter().any(|own| subject::overlap(own.as_bytes(), target.as_bytes())) {
                return Err(ApiError::invalid_config("stream configuration for republish destination forms a cycle"));
            }
        }
        self.modelled()?;
        Ok(self)
    }

    fn modelled(&self) -> Result<(), ApiError> {
        let not = |what: &str| Err(ApiError::invalid_config(&format!("{what} is not modelled by this broker")));
        if !matches!(self.storage.as_str(), "file" | "memory") {
            return Err(ApiError::invalid_config("storage must be file or memory"));
        }
        if !matches!(self.discard.as_str(), "new" | "old") {
            return Err(ApiError::invalid_config("discard must be new or old"));
        }
        if self.discard_new_per_subject && (self.discard != "new" || self.max_msgs_per_subject < 1) {
            return Err(ApiError::invalid_config("discard new per subject requires discard new policy to be set"));
        }
        if self.retention != "limits" {
            return not("retention other than limits");
        }
        if self.max_age != 0 {
            return not("max_age");
        }
        if self.compression != "none" && self.compression != "s2" {
            return not("this compression");
        }
        if self.mirror.is_some() || self.sources.is_some() || self.subject_transform.is_some() {
            return not("mirror, sources or subject_transform");
        }
        if self.first_seq.unwrap_or(0) > 1 || self.sealed || self.allow_rollup_hdrs || self.allow_msg_ttl {
            return not("first_seq, sealed, rollup or message ttl");
        }
        if self.allow_atomic || self.allow_msg_counter || self.allow_msg_schedules || self.allow_batched {
            return not("batches, counters or schedules");
        }
        Ok(())
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.storage == "memory"
    }

    /// The bytes that the server reserves for it when it is made.
    pub(crate) fn reserves(&self) -> u64 {
        Self::limit(self.max_bytes).unwrap_or(1)
    }

    /// A positive limit, or none.
    pub(crate) fn limit(value: i64) -> Option<u64> {
        u64::try_from(value).ok().filter(|limit| *limit > 0)
    }
}
