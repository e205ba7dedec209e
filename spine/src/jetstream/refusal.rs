//! What each of JetStream's refusals means, from nats-server's own code (2.15.1): only what it sends in place of storing
//! the message is a refusal of an append. Every other error leaves the append unresolved.

use crate::{AppendError, EnsureError, ReadError, Refusal, StreamSpec, Unresolved};

const WRONG_LAST_SEQUENCE: u32 = 10_071;
const UNDECIDED: u32 = 10_164;
const STREAM_NOT_FOUND: u32 = 10_059;

/// The store's own words, within 10077: `maximum bytes exceeded`, `maximum messages exceeded`, `maximum messages per
/// subject exceeded`; `message too large`. Any other text there (`store is closed`) may come from one replica alone.
const STORE_FAILED: u32 = 10_077;
const STORE_LIMIT: &str = "maximum ";
const STORE_TOO_LARGE: &str = "message too large";

/// An error in place of a PubAck, or a bare status.
pub(super) fn of_append(code: u32, text: String) -> AppendError {
    let why = match code {
        WRONG_LAST_SEQUENCE => return AppendError::Unresolved(Unresolved::WrongLast),
        UNDECIDED => return AppendError::Unresolved(Unresolved::Undecided),
        STORE_FAILED if text.starts_with(STORE_LIMIT) => Refusal::Full,
        STORE_FAILED if text.starts_with(STORE_TOO_LARGE) => Refusal::TooBig,
        // The account's limit, checked before the message is proposed.
        10_002 => Refusal::Full,
        // Nobody listens: nothing received it. Too many wait: it was not queued. No leader; the server's own limit, upon
        // which the leader steps down; a sealed stream: each checked before the message is proposed.
        503 | 429 | 10_167 | 10_008 | 10_009 | 10_023 | 10_109 => Refusal::Unavailable,
        10_054 | 10_097 => Refusal::TooBig,
        code => return AppendError::Unresolved(Unresolved::Failed(code)),
    };
    AppendError::Refused { why, code, text }
}

/// An error in place of a read's result.
pub(super) fn of_read(code: u32, text: String) -> ReadError {
    match code {
        STREAM_NOT_FOUND => ReadError::NoStream,
        // Not up, not enabled, no leader, no quorum, offline, too many requests.
        503 | 429 | 10_004 | 10_007 | 10_008 | 10_009 | 10_023 | 10_039 | 10_076 | 10_118 | 10_167 => {
            ReadError::Unavailable { code, text }
        }
        code => ReadError::Refused { code, text },
    }
}

/// An error in place of a stream.
pub(super) fn of_ensure(spec: &StreamSpec, code: u32, text: String) -> EnsureError {
    match code {
        // No storage, no memory, no resources, no suitable peers, the account's limits.
        10_047 | 10_028 | 10_023 | 10_005 | 10_002 | 10_122 => EnsureError::NoRoom {
            stream: spec.name.to_string(),
            reserves: spec.max_bytes,
            storage: spec.storage,
            replicas: spec.replicas,
            code,
            text,
        },
        code => of_read(code, text).into(),
    }
}
