//! What goes in and out of a [`Spine`](crate::Spine): messages, positions, stream specifications, and one error type
//! per operation.

use std::fmt;

use bytes::Bytes;
use proto::{StreamName, Subject};
use tokio::time::Instant;

/// A position in a stream, from 1 on. Valid within one stream only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamSeq(pub u64);

impl StreamSeq {
    /// Before the first message: as an expectation, "this subject does not exist yet".
    pub const NONE: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for StreamSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message as delivered.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was published.
    pub subject: Subject,
    /// Where an answer may go.
    pub reply: Option<Subject>,
    /// The status of a header-only answer, e.g. 503 for no responders.
    pub status: Option<u16>,
    /// Header `Nats-Sequence`: the position in its stream, on republished messages.
    pub stream_seq: Option<StreamSeq>,
    /// The payload.
    pub body: Bytes,
}

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A message.
    Msg(Message),
    /// So many messages were dropped here because the buffer was full.
    Lost(u64),
}

/// A message in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its subject.
    pub subject: Subject,
    /// Its position.
    pub seq: StreamSeq,
    /// Its payload.
    pub body: Bytes,
}

/// Stored messages, ascending by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The messages.
    pub entries: Vec<Stored>,
    /// True if more follow the last of these.
    pub more: bool,
}

/// Which way a read goes. Neither is linearizable (LOG: an outdated leader may answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Direct Get: any replica.
    Direct,
    /// `STREAM.MSG.GET`: the stream's leader.
    Leader,
}

/// Identity of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerId(pub String);

/// The connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connected.
    Connected {
        /// To whom.
        broker: BrokerId,
        /// 1 for the first connection, one more at each reconnect.
        generation: u64,
    },
    /// Not connected.
    Down {
        /// Since when.
        since: Instant,
    },
}

impl Link {
    /// True if connected.
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: gone after a restart of an R1 broker.
    Memory,
}

impl Storage {
    /// For operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "disk",
            Self::Memory => "memory",
        }
    }
}

/// RePublish: each stored message goes out again, with `Nats-Sequence`, `Nats-Last-Sequence` and `Nats-Subject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Republish {
    /// Source filter, e.g. `log.*.t.*.r.*`.
    pub source: String,
    /// Destination with mappings, e.g. `out.t.{{wildcard(2)}}.r.{{wildcard(3)}}`.
    pub destination: String,
}

/// What a stream must be. Always: discard new, no max_age, allow_direct, retention by limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: StreamName,
    /// Which subjects it stores.
    pub subjects: Vec<String>,
    /// Where.
    pub storage: Storage,
    /// 1 or 3.
    pub replicas: usize,
    /// 0: as many as there is room for.
    pub max_msgs_per_subject: u64,
    /// 0: no limit. Full: further appends are refused.
    pub max_bytes: u64,
    /// Single messages cannot be deleted.
    pub deny_delete: bool,
    /// With a limit per subject: the oldest of the subject goes, instead of refusing the new one.
    pub rollover: bool,
    /// Republished elsewhere.
    pub republish: Option<Republish>,
}

impl StreamSpec {
    /// `LOG_index` of `count`.
    pub fn log(index: u32, count: u32, replicas: usize, max_bytes: u64) -> Self {
        let subjects = if count == 1 {
            vec!["log.*.t.*.r.*".into()]
        } else {
            proto::subject::stream_partitions(index, count).map(|p| format!("log.{p}.t.*.r.*")).collect()
        };
        Self {
            name: StreamName::log(index),
            subjects,
            storage: Storage::File,
            replicas,
            max_msgs_per_subject: 0,
            max_bytes,
            deny_delete: true,
            rollover: false,
            republish: Some(Republish {
                source: "log.*.t.*.r.*".into(),
                destination: "out.t.{{wildcard(2)}}.r.{{wildcard(3)}}".into(),
            }),
        }
    }

    /// `SNAP`: the two newest snapshots of each room.
    pub fn snapshots(replicas: usize) -> Self {
        Self::last_values(StreamName::snapshots(), "snap.*.t.*.r.*", Storage::File, replicas, 2)
    }

    /// `GEN_index`: one random number that only this memory holds.
    pub fn generation(index: u32, replicas: usize) -> Self {
        Self::last_values(StreamName::generation(index), &format!("gen.{index}"), Storage::Memory, replicas, 1)
    }

    /// `BAN`: tenant-wide bans.
    pub fn bans(replicas: usize) -> Self {
        Self::last_values(StreamName::bans(), "ban.>", Storage::File, replicas, 1)
    }

    /// Every stream of a deployment with `logs` log streams.
    pub fn all(logs: u32, replicas: usize, log_max_bytes: u64) -> Vec<Self> {
        let mut all = Vec::new();
        for index in 0..logs {
            all.push(Self::log(index, logs, replicas, log_max_bytes));
            all.push(Self::generation(index, replicas));
        }
        all.push(Self::snapshots(replicas));
        all.push(Self::bans(replicas));
        all
    }

    fn last_values(name: StreamName, subjects: &str, storage: Storage, replicas: usize, keep: u64) -> Self {
        Self {
            name,
            subjects: vec![subjects.into()],
            storage,
            replicas,
            max_msgs_per_subject: keep,
            max_bytes: 0,
            deny_delete: false,
            rollover: true,
            republish: None,
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The deadline passed with the queue still full (disconnected for long).
    #[error("not queued within the deadline: the broker is away or too slow")]
    Timeout,
    /// Over the broker's `max_payload`.
    #[error("{size} B is more than the broker's max_payload of {limit} B")]
    TooBig {
        /// What was given.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The Spine was closed.
    #[error("the Spine is closed")]
    Closed,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens there: surely not delivered.
    #[error("nobody listens there")]
    NoResponders,
    /// No answer in time: it may have been delivered.
    #[error("no answer in time")]
    Timeout,
    /// The Spine was closed.
    #[error("the Spine is closed")]
    Closed,
    /// Over the broker's `max_payload`: nothing was sent.
    #[error("the request is larger than the broker's max_payload")]
    TooBig,
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The broker did not confirm it in time.
    #[error("the broker did not confirm the subscription in time")]
    Timeout,
    /// This user may not subscribe there.
    #[error("the broker's permissions forbid it: {0}")]
    Denied(String),
    /// The Spine was closed.
    #[error("the Spine is closed")]
    Closed,
}

/// Why an append is not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It may be stored, now or later: read from the room's log to find out (LOG §2).
    #[error("unknown whether it was stored: {0}")]
    Unresolved(Unresolved),
    /// This attempt is surely not stored.
    #[error("refused, {why} (err_code {code}): {text}")]
    Refused {
        /// What it means for the caller.
        why: Refusal,
        /// JetStream's err_code, the status if the answer is a status alone, 0 if nothing was sent.
        code: u32,
        /// What it said.
        text: String,
    },
}

/// What stood between an append and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No PubAck in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection was lost, or there is none.
    #[error("the connection was lost")]
    Disconnected,
    /// err_code 10071: another position is last; perhaps my own earlier attempt.
    #[error("wrong last sequence (10071)")]
    WrongLast,
    /// err_code 10164: an earlier write to this subject is still undecided in the cluster.
    #[error("undecided in the cluster (10164)")]
    Undecided,
    /// Another error, of which it is not proven that the server sends it only for messages that it does not store.
    #[error("JetStream answered with err_code {0}, which decides nothing")]
    Failed(u32),
}

/// The meaning of a refusal. Each has its own retry class; a client is told the code that has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The stream or the account has no room left (10077 with a limit's text, 10002): an operator must act.
    #[error("full")]
    Full,
    /// Not now (503, 429, 10008, 10009, 10023, 10167 …): no leader, or the server's own limit. The same bytes may pass
    /// later.
    #[error("unavailable")]
    Unavailable,
    /// Over the broker's or the stream's limit: the same bytes never pass.
    #[error("too big")]
    TooBig,
    /// No stream of the deployment holds this subject.
    #[error("no stream")]
    NoStream,
    /// The Spine was closed before anything was sent.
    #[error("closed")]
    Closed,
}

/// Why a read has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No answer in time, or no connection.
    #[error("no answer in time")]
    Timeout,
    /// Not now (503, 10008, 10009, 10023 …): JetStream is not up, or the stream has no leader. By Direct Get a stream that
    /// does not exist looks the same.
    #[error("unavailable (err_code {code}): {text}")]
    Unavailable {
        /// Its err_code, or the status.
        code: u32,
        /// What it said.
        text: String,
    },
    /// JetStream answered with another error.
    #[error("JetStream refused with err_code {code}: {text}")]
    Refused {
        /// Its err_code.
        code: u32,
        /// What it said.
        text: String,
    },
    /// No stream holds this subject: by its name, or because the server does not have the stream (10059).
    #[error("no stream holds this subject")]
    NoStream,
    /// The Spine was closed.
    #[error("the Spine is closed")]
    Closed,
}

/// Why a purge failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct PurgeError(#[from] pub ReadError);

/// Why a stream is not as specified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnsureError {
    /// It exists and differs.
    #[error(
        "stream {stream} exists with another {what}: {found}, expected {expected}; change it with the nats tool or choose another account"
    )]
    Differs {
        /// Its name.
        stream: String,
        /// Which property.
        what: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The broker has not the room for it (10047, 10028, 10023, 10005, 10002, 10122): a stream's `max_bytes` is reserved
    /// when it is made, on each of its replicas. Waiting does not help.
    #[error(
        "stream {stream} cannot be made: it reserves {} of {} on each of {replicas} server(s), and the broker refuses \
         with err_code {code}: {text}; lower [nats] log_max_bytes or logs, or give JetStream more room",
        bytes(*.reserves), .storage.name()
    )]
    NoRoom {
        /// Its name.
        stream: String,
        /// The bytes that it reserves; 0: none in advance.
        reserves: u64,
        /// Where.
        storage: Storage,
        /// On how many servers.
        replicas: usize,
        /// The err_code.
        code: u32,
        /// What the broker said.
        text: String,
    },
    /// The call itself failed.
    #[error(transparent)]
    Call(#[from] ReadError),
}

/// A size for operators: in GiB or MiB where that is exact enough to compare with a disk.
pub fn bytes(n: u64) -> String {
    const GIB: u64 = 1 << 30;
    match n {
        GIB.. => format!("{:.1} GiB", n as f64 / GIB as f64),
        0x10_0000.. => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        _ => format!("{n} B"),
    }
}
