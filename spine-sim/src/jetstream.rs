//! The JetStream subset that we use, pure: requests and messages in, answers and republished messages out. The JSON
//! is nats-server 2.15.1's, field by field; differential tests hold it there.

pub(crate) mod api;
pub(crate) mod config;
pub(crate) mod file;
mod get;
pub(crate) mod mapping;
mod publish;
pub(crate) mod stream;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::faults::Faults;
use crate::broker::{Witness, Witnessed};
use api::ApiError;
use config::Config;
use file::Journal;
use stream::{Entry, Lost, Stream};

/// A message that JetStream sends.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Bytes,
    pub(crate) header_len: Option<usize>,
    pub(crate) payload: Bytes,
}

impl Outgoing {
    pub(crate) fn plain(subject: &Bytes, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.clone(), header_len: None, payload: payload.into() }
    }

    /// A header block and a body.
    pub(crate) fn with_header(subject: Bytes, header: &[u8], body: &[u8]) -> Self {
        let mut payload = Vec::with_capacity(header.len() + body.len());
        payload.extend_from_slice(header);
        payload.extend_from_slice(body);
        Self { subject, header_len: Some(header.len()), payload: payload.into() }
    }
}

/// What JetStream may hold in all and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The bytes of all streams of one storage together.
    pub(crate) store_bytes_max: u64,
    /// The bytes that all streams of one storage may reserve together.
    pub(crate) reserved_bytes_max: u64,
    /// How many replicas a stream may ask for.
    pub(crate) replicas_max: i64,
    /// A power cut loses what is younger than this; 0: nothing.
    pub(crate) sync_interval_ms: i64,
}

/// Every stream and what is under way.
pub(crate) struct JetStream {
    streams: BTreeMap<String, Stream>,
    limits: Limits,
    /// Appends that a cluster has neither stored nor refused: [`Faults::undecided`].
    undecided: Vec<(String, Entry, Option<Bytes>)>,
    journal: Option<Journal>,
    server: String,
    requests: u64,
    errors: u64,
    witness: Option<Witness>,
    /// The planted bug `republish-reordered`: it leaves after the next one.
    late: Option<Outgoing>,
}

impl std::fmt::Debug for JetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStream").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl JetStream {
    pub(crate) fn new(limits: Limits, server: String, witness: Option<Witness>) -> Self {
        let (streams, undecided) = (BTreeMap::new(), Vec::new());
        Self { streams, limits, undecided, journal: None, server, requests: 0, errors: 0, witness, late: None }
    }

    fn witness(&self, seen: Witnessed<'_>) {
        if let Some(witness) = &self.witness {
            witness(seen);
        }
    }

    /// Loads what the journal holds and writes to it from now on.
    pub(crate) fn attach(&mut self, journal: Journal, streams: BTreeMap<String, Stream>) {
        self.streams = streams;
        self.journal = Some(journal);
    }

    /// A restart of the process: memory streams are gone, with a power cut the tails not yet synced, and with `revive`
    /// evicted messages are back.
    pub(crate) fn crash(&mut self, lose_tail: bool, revive: bool) -> Vec<(u64, u64)> {
        self.undecided.clear();
        self.streams.retain(|_, stream| !stream.config.is_memory());
        let mut lost = Vec::new();
        let mut revived = false;
        for stream in self.streams.values_mut() {
            revived |= revive && stream.revive_evicted();
            if lose_tail && let Some(Lost { from, to, entries: gone }) = stream.lose_tail() {
                lost.push((from, to));
                if let Some(witness) = &self.witness {
                    gone.iter().rev().for_each(|(seq, subject)| witness(Witnessed::Lost { subject, seq: *seq }));
                }
            }
        }
        if (revived || !lost.is_empty())
            && let Some(journal) = &mut self.journal
        {
            journal.rewrite(&self.streams);
        }
        lost
    }

    /// Every stream is gone.
    pub(crate) fn lose_store(&mut self) -> Vec<(u64, u64)> {
        self.undecided.clear();
        let mut lost = Vec::new();
        for mut stream in std::mem::take(&mut self.streams).into_values() {
            if let Some(Lost { from, to, entries: gone }) = stream.lose_all() {
                lost.push((from, to));
                if let Some(witness) = &self.witness {
                    gone.iter().rev().for_each(|(seq, subject)| witness(Witnessed::Lost { subject, seq: *seq }));
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.rewrite(&self.streams);
        }
        lost
    }

    /// Everything stored survives a power cut from now on.
    pub(crate) fn sync(&mut self, now_ms: i64) {
        for stream in self.streams.values_mut() {
            stream.sync(now_ms);
        }
        if let Some(journal) = &mut self.journal {
            journal.sync();
        }
    }

    fn stream_of(&self, subject: &[u8]) -> Option<String> {
        self.streams.iter().find(|(_, stream)| stream.holds(subject)).map(|(name, _)| name.clone())
    }

    fn stored_bytes(&self, memory: bool) -> u64 {
        self.streams.values().filter(|stream| stream.config.is_memory() == memory).map(Stream::bytes).sum()
    }

    /// The bytes that the streams of one storage have reserved, without the one that is made or changed now.
    fn reserved_bytes(&self, memory: bool, without: &str) -> u64 {
        let others = self.streams.values().filter(|stream| stream.config.is_memory() == memory);
        others.map(|stream| &stream.config).filter(|config| config.name != without).map(Config::reserves).sum()
    }

    /// Whether the disk, or the memory, has room for what a stream reserves.
    fn has_room_for(&self, config: &Config) -> Result<(), ApiError> {
        let memory = config.is_memory();
        let left = self.limits.reserved_bytes_max.saturating_sub(self.reserved_bytes(memory, &config.name));
        if config.reserves() <= left {
            return Ok(());
        }
        Err(if memory {
            ApiError::new(500, 10_028, "insufficient memory resources available")
        } else {
            ApiError::new(500, 10_047, "insufficient storage resources available")
        })
    }

    /// The outcome of every undecided append: stored after all, or lost. Returns what goes out for those stored.
    pub(crate) fn settle(&mut self, stored: bool, now_ms: i64, faults: &mut Faults) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for (name, mut entry, reply) in std::mem::take(&mut self.undecided) {
            if stored {
                entry.at_ms = now_ms;
                self.store(&name, entry, None, reply.as_ref(), faults, &mut out);
            }
        }
        out
    }
}
