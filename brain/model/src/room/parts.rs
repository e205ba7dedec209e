//! What a room's core is made of: its phase, what waits in it, what is in flight, and what is said after.

use bytes::Bytes;
use proto::internal::LogEntry;
use proto::{Subject, UserId, v1};

use super::{RETRY_MAX_MS, RETRY_MIN_MS, confirm, open};
use crate::chain::Tail;
use crate::incoming::{Caller, Command, SyncAsk};

/// What a room is waiting for. One question is open at a time, the snapshot's append aside.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nobody has asked for the room yet.
    New,
    /// Generation and snapshots are being read.
    LoadHead,
    /// No generation was there: one is being written.
    LoadGen,
    /// The log is being read.
    LoadLog(Box<open::Load>),
    /// An entry was sent.
    Appending,
    /// The log is being read for the unresolved entry: from its predecessor on, or from behind what was walked.
    Resolving(Option<Tail>),
    /// The generation is being read again after `owned`.
    Recheck,
    /// The state that a new epoch begins with is being written, for the log alone does not yield it.
    Anchoring,
    /// `in.…` is being subscribed to.
    Subscribing,
    /// Nothing is in flight.
    Ready,
    /// Generation and head are being confirmed.
    Confirming(confirm::Confirm),
    /// A generation vanished while the room was served: a new one is being written.
    ConfirmGen,
    /// Served no longer.
    Gone,
}

impl Phase {
    /// True while a read is awaited.
    pub(super) const fn reads(&self) -> bool {
        matches!(self, Self::LoadHead | Self::LoadLog(_) | Self::Resolving(_) | Self::Recheck | Self::Confirming(_))
    }
    /// True while a generation is being written.
    pub(super) const fn writes_gen(&self) -> bool {
        matches!(self, Self::LoadGen | Self::ConfirmGen)
    }
    /// True while an entry is on its way.
    pub(super) const fn appends(&self) -> bool {
        matches!(self, Self::Appending)
    }
    /// True while the subscription is.
    pub(super) const fn subscribes(&self) -> bool {
        matches!(self, Self::Subscribing)
    }
}

/// A retry to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    /// When, by the advancing clock; `None`: an answer is awaited.
    pub(super) at: Option<u64>,
    pub(super) pause_ms: u64,
}

impl Backoff {
    pub(super) fn begin(&mut self, mono_ms: u64) {
        self.begin_between(mono_ms, RETRY_MIN_MS, RETRY_MAX_MS);
    }

    /// Between these two pauses.
    pub(super) fn begin_between(&mut self, mono_ms: u64, min_ms: u64, max_ms: u64) {
        self.pause_ms = (self.pause_ms * 2).clamp(min_ms, max_ms);
        self.at = Some(mono_ms.saturating_add(self.pause_ms));
    }
}

/// A request that waits for its turn.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Command {
        reply: Subject,
        command: Box<Command>,
        bytes: usize,
        /// How many entries had been sent when it arrived.
        arrived: u64,
    },
    Get {
        reply: Subject,
        caller: Caller,
    },
    Sync {
        reply: Subject,
        ask: Box<SyncAsk>,
        confirms: u64,
    },
}

/// What is said once the entry in flight is committed.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Ack { reply: Subject, user: Option<UserId>, ack: v1::Ack },
    Live(Bytes),
    Get { reply: Subject, caller: Caller },
}

/// The entry in flight.
#[derive(Clone, Debug)]
pub(super) struct Inflight {
    pub(super) entry: LogEntry,
    pub(super) events: Vec<v1::Envelope>,
    pub(super) body: Bytes,
    pub(super) chain: u64,
    pub(super) attempts: u32,
    pub(super) said: Vec<Said>,
    /// What was taken from the queue for it: judged again if the entry must be built anew.
    pub(super) taken: Vec<Waiting>,
}

impl Waiting {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Command { bytes, .. } => *bytes,
            Self::Get { .. } | Self::Sync { .. } => 64,
        }
    }
}
