//! One stream: its messages by position and by subject, its limits, and the part that a power cut would spare.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::config::Config;
use super::mapping::Mapping;
use crate::subject::{covers, has_wildcard, literal_prefix};

/// A message in a stream.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) subject: Bytes,
    /// The header block, or empty.
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
    pub(crate) at_ms: i64,
}

/// Why a message is not stored, in the server's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Messages,
    Bytes,
    PerSubject,
}

impl Full {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Messages => "maximum messages exceeded",
            Self::Bytes => "maximum bytes exceeded",
            Self::PerSubject => "maximum messages per subject exceeded",
        }
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) config: Config,
    pub(crate) mapping: Option<Mapping>,
    pub(crate) created_ms: i64,
    entries: BTreeMap<u64, Entry>,
    by_subject: BTreeMap<Bytes, VecDeque<u64>>,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    last_ms: Option<i64>,
    /// Everything up to here survives a power cut.
    synced_seq: u64,
    synced_at_ms: i64,
    /// `Nats-Msg-Id` → position and time, within the window.
    pub(crate) msg_ids: BTreeMap<Bytes, (u64, i64)>,
    msg_id_order: VecDeque<(i64, Bytes)>,
    pub(crate) last_msg_id: Bytes,
    /// The newest of those that a limit per subject has removed: their removal is in no file yet.
    evicted: BTreeMap<u64, Entry>,
}

/// At most so many evicted messages are remembered a stream, and so many bytes of them; older ones go first.
const EVICTED_MAX: usize = 64;
const EVICTED_BYTES_MAX: usize = 8 << 20;

/// At most so many message ids are remembered a stream; older ones go first.
const MSG_IDS_MAX: usize = 65_536;

/// What a power cut took.
#[derive(Debug)]
pub(crate) struct Lost {
    /// The first position that is gone.
    pub(crate) from: u64,
    /// The last one.
    pub(crate) to: u64,
    /// Position and subject of what still stood there, ascending.
    pub(crate) entries: Vec<(u64, Bytes)>,
}

impl Stream {
    pub(crate) fn new(config: Config, created_ms: i64) -> Self {
        let mapping = config.republish.as_ref().and_then(|republish| Mapping::parse(&republish.src, &republish.dest));
        Self {
            config,
            mapping,
            created_ms,
            entries: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            bytes: 0,
            first_seq: 0,
            last_seq: 0,
            last_ms: None,
            synced_seq: 0,
            synced_at_ms: created_ms,
            msg_ids: BTreeMap::new(),
            msg_id_order: VecDeque::new(),
            last_msg_id: Bytes::new(),
            evicted: BTreeMap::new(),
        }
    }

    pub(crate) fn reconfigure(&mut self, config: Config) {
        self.mapping = config.republish.as_ref().and_then(|republish| Mapping::parse(&republish.src, &republish.dest));
        self.config = config;
        self.enforce();
    }

    pub(crate) fn holds(&self, subject: &[u8]) -> bool {
        self.config.subjects.iter().any(|own| covers(own.as_bytes(), subject))
    }

    pub(crate) const fn last_seq(&self) -> u64 {
        self.last_seq
    }
    pub(crate) const fn first_seq(&self) -> u64 {
        self.first_seq
    }
    pub(crate) const fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }
    pub(crate) fn first_ms(&self) -> Option<i64> {
        self.entries.values().next().map(|entry| entry.at_ms)
    }
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
    pub(crate) fn subjects(&self) -> impl Iterator<Item = (&Bytes, u64)> {
        self.by_subject.iter().map(|(subject, seqs)| (subject, seqs.len() as u64))
    }

    /// Positions between the first and the last that are gone.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = u64> {
        let range = if self.entries.is_empty() { 1..1 } else { self.first_seq..self.last_seq + 1 };
        range.filter(|seq| !self.entries.contains_key(seq))
    }
    pub(crate) fn deleted_count(&self) -> u64 {
        if self.entries.is_empty() { 0 } else { (self.last_seq + 1 - self.first_seq).saturating_sub(self.len()) }
    }

    /// What the server counts for one message, by storage.
    pub(crate) fn cost(&self, entry: &Entry) -> u64 {
        let content = entry.subject.len() + entry.header.len() + entry.body.len();
        let around = match (self.config.is_memory(), entry.header.is_empty()) {
            (true, _) => 16,
            (false, true) => 30,
            (false, false) => 34,
        };
        (content + around) as u64
    }

    /// The position of a subject's last message, 0 if there is none. Patterns: the highest of their matches.
    pub(crate) fn last_seq_of(&self, filter: &[u8]) -> u64 {
        if has_wildcard(filter) {
            self.matching(filter).filter_map(|(_, seqs)| seqs.back().copied()).max().unwrap_or(0)
        } else {
            self.by_subject.get(filter).and_then(|seqs| seqs.back().copied()).unwrap_or(0)
        }
    }

    /// Subjects that a pattern covers, with their positions.
    pub(crate) fn matching<'a>(&'a self, filter: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a VecDeque<u64>)> {
        let prefix = literal_prefix(filter);
        self.by_subject
            .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(move |(subject, _)| subject.starts_with(prefix))
            .filter(move |(subject, _)| covers(filter, subject))
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// The first message at `from` or later that the filter (empty: everything) covers.
    pub(crate) fn next(&self, filter: &[u8], from: u64) -> Option<(u64, &Entry)> {
        if filter.is_empty() || filter == b">" {
            return self.entries.range(from..).next().map(|(seq, entry)| (*seq, entry));
        }
        let seq = self
            .matching(filter)
            .filter_map(|(_, seqs)| seqs.get(seqs.partition_point(|seq| *seq < from)).copied())
            .min()?;
        self.entries.get(&seq).map(|entry| (seq, entry))
    }

    /// How many messages at `from` or later the filter covers.
    pub(crate) fn count(&self, filter: &[u8], from: u64) -> u64 {
        if filter.is_empty() || filter == b">" {
            return self.entries.range(from..).count() as u64;
        }
        self.matching(filter).map(|(_, seqs)| (seqs.len() - seqs.partition_point(|seq| *seq < from)) as u64).sum()
    }

    /// The last message of each subject that some filter covers, at or below `up_to`, ascending by position.
    pub(crate) fn multi_last(&self, filters: &[String], up_to: u64) -> Vec<u64> {
        let mut found = std::collections::BTreeSet::new();
        for filter in filters {
            for (_, seqs) in self.matching(filter.as_bytes()) {
                let at = seqs.partition_point(|seq| *seq <= up_to);
                if let Some(seq) = at.checked_sub(1).and_then(|at| seqs.get(at)) {
                    found.insert(*seq);
                }
            }
        }
        found.into_iter().collect()
    }

    /// Stores a message if the limits allow it. Returns its position and the subject's previous one.
    pub(crate) fn append(&mut self, entry: Entry) -> Result<(u64, u64), Full> {
        let cost = self.cost(&entry);
        let previous = self.last_seq_of(&entry.subject);
        if self.config.discard == "new" {
            let of_subject = self.by_subject.get(&entry.subject).map_or(0, VecDeque::len) as u64;
            let full_subject = Config::limit(self.config.max_msgs_per_subject).is_some_and(|limit| of_subject >= limit);
            if full_subject && self.config.discard_new_per_subject {
                return Err(Full::PerSubject);
            }
            // A message that pushes out its own subject's oldest one takes its place, if it is not larger.
            if !full_subject && Config::limit(self.config.max_msgs).is_some_and(|limit| self.len() >= limit) {
                return Err(Full::Messages);
            }
            let oldest = self.by_subject.get(&entry.subject).and_then(VecDeque::front).filter(|_| full_subject);
            let room_made = oldest.and_then(|seq| self.entries.get(seq)).map_or(0, |oldest| self.cost(oldest));
            if Config::limit(self.config.max_bytes).is_some_and(|limit| self.bytes + cost > limit) && room_made < cost {
                return Err(Full::Bytes);
            }
        }
        let seq = self.last_seq + 1;
        self.restore(seq, entry);
        self.enforce();
        Ok((seq, previous))
    }

    /// Puts a message back from a file, where the limits had let it in.
    pub(crate) fn replay(&mut self, seq: u64, entry: Entry) {
        self.restore(seq, entry);
        self.enforce();
    }

    /// Puts a message at a position above all others.
    fn restore(&mut self, seq: u64, entry: Entry) {
        self.bytes += self.cost(&entry);
        self.last_seq = seq;
        self.last_ms = Some(entry.at_ms);
        if self.entries.is_empty() {
            self.first_seq = seq;
        }
        self.by_subject.entry(entry.subject.clone()).or_default().push_back(seq);
        self.entries.insert(seq, entry);
    }

    /// Sets the last position handed out, for a replayed file whose newest messages were removed.
    pub(crate) fn replay_last(&mut self, seq: u64) {
        if seq > self.last_seq {
            self.last_seq = seq;
            if self.entries.is_empty() {
                self.first_seq = seq + 1;
            }
        }
    }

    fn enforce(&mut self) {
        if let Some(limit) = Config::limit(self.config.max_msgs_per_subject) {
            // Only the subject just written can be over its limit, but a changed configuration may lower it for all.
            let over: Vec<u64> = match self.entries.get(&self.last_seq).map(|entry| entry.subject.clone()) {
                Some(subject) => self.by_subject.get(&subject).map_or(Vec::new(), |seqs| {
                    seqs.iter()
                        .take(seqs.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX)))
                        .copied()
                        .collect()
                }),
                None => Vec::new(),
            };
            for seq in over {
                if let Some(entry) = self.entries.get(&seq).filter(|_| !self.config.is_memory()) {
                    self.evicted.insert(seq, entry.clone());
                }
                self.remove(seq);
            }
            let mut bytes: usize = self.evicted.values().map(|entry| entry.body.len()).sum();
            while self.evicted.len() > EVICTED_MAX || bytes > EVICTED_BYTES_MAX {
                bytes -= self.evicted.pop_first().map_or(bytes, |(_, entry)| entry.body.len());
            }
        }
        let messages = Config::limit(self.config.max_msgs);
        let bytes = Config::limit(self.config.max_bytes);
        if self.config.discard == "old" {
            while messages.is_some_and(|limit| self.len() > limit) || bytes.is_some_and(|limit| self.bytes > limit) {
                let Some(oldest) = self.entries.keys().next().copied() else { break };
                self.remove(oldest);
            }
        }
    }

    /// Removes one message.
    pub(crate) fn remove(&mut self, seq: u64) -> bool {
        let Some(entry) = self.entries.remove(&seq) else { return false };
        self.bytes -= self.cost(&entry);
        if let Some(seqs) = self.by_subject.get_mut(&entry.subject) {
            if seqs.front() == Some(&seq) {
                seqs.pop_front();
            } else if let Ok(at) = seqs.binary_search(&seq) {
                seqs.remove(at);
            }
            if seqs.is_empty() {
                self.by_subject.remove(&entry.subject);
            }
        }
        if seq == self.first_seq || self.entries.is_empty() {
            self.first_seq = self.entries.keys().next().copied().unwrap_or(self.last_seq + 1);
        }
        true
    }

    /// Purges: of the subjects that `filter` covers, everything below `below` (0: everything) but the newest `keep`.
    /// Returns what was removed.
    pub(crate) fn purge(&mut self, filter: &str, below: u64, keep: u64) -> Vec<(u64, Bytes)> {
        let filter = if filter.is_empty() { ">" } else { filter };
        let mut gone: Vec<(u64, Bytes)> = self
            .matching(filter.as_bytes())
            .flat_map(|(subject, seqs)| seqs.iter().map(|seq| (*seq, subject.clone())))
            .collect();
        gone.sort_unstable();
        if keep > 0 {
            gone.truncate(gone.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
        }
        if below > 0 {
            gone.retain(|(seq, _)| *seq < below);
        }
        for (seq, _) in &gone {
            self.remove(*seq);
        }
        // A stream that never held anything counts from its first position on, too.
        if filter == ">" && below == 0 && keep == 0 {
            self.first_seq = self.last_seq + 1;
        }
        // Of a whole stream, beyond its end: the positions up to there are spent, too.
        if filter == ">" && below > self.last_seq + 1 {
            self.last_seq = below - 1;
            self.first_seq = below;
        }
        gone
    }

    /// Remembers a message id for the window; forgets expired ones.
    pub(crate) fn remember_id(&mut self, id: Bytes, seq: u64, now_ms: i64) {
        let window_ms = self.config.duplicate_window / 1_000_000;
        while let Some((at, _)) = self.msg_id_order.front() {
            if *at + window_ms > now_ms && self.msg_id_order.len() < MSG_IDS_MAX {
                break;
            }
            if let Some((at, old)) = self.msg_id_order.pop_front()
                && self.msg_ids.get(&old).is_some_and(|(_, known)| *known == at)
            {
                self.msg_ids.remove(&old);
            }
        }
        self.msg_id_order.push_back((now_ms, id.clone()));
        self.msg_ids.insert(id.clone(), (seq, now_ms));
        self.last_msg_id = id;
    }

    /// The position stored under a message id, if it is within the window.
    pub(crate) fn seq_of_id(&self, id: &[u8], now_ms: i64) -> Option<u64> {
        let (seq, at) = self.msg_ids.get(id)?;
        (at + self.config.duplicate_window / 1_000_000 > now_ms).then_some(*seq)
    }

    /// Everything stored so far survives a power cut from now on.
    pub(crate) fn sync(&mut self, now_ms: i64) {
        self.synced_seq = self.last_seq;
        self.synced_at_ms = now_ms;
    }

    /// Syncs if the interval has passed since the last time.
    pub(crate) fn sync_if_due(&mut self, now_ms: i64, interval_ms: i64) {
        if now_ms - self.synced_at_ms >= interval_ms {
            self.sync(now_ms);
        }
    }

    /// Puts evicted messages back, the newest first, where their subject has fewer than it may have. True if any is back.
    pub(crate) fn revive_evicted(&mut self) -> bool {
        let limit = Config::limit(self.config.max_msgs_per_subject).unwrap_or(0);
        let before = self.entries.len();
        for (seq, entry) in std::mem::take(&mut self.evicted).into_iter().rev() {
            let seqs = self.by_subject.entry(entry.subject.clone()).or_default();
            if seqs.len() as u64 >= limit {
                continue;
            }
            let at = seqs.partition_point(|other| *other < seq);
            seqs.insert(at, seq);
            self.bytes += self.cost(&entry);
            self.entries.insert(seq, entry);
        }
        self.by_subject.retain(|_, seqs| !seqs.is_empty());
        self.first_seq = self.entries.keys().next().copied().unwrap_or(self.first_seq);
        self.entries.len() > before
    }

    /// The disk is gone. Returns what is lost.
    pub(crate) fn lose_all(&mut self) -> Option<Lost> {
        self.synced_seq = 0;
        self.lose_tail()
    }

    /// A power cut: what was not synced is gone, and its positions will be handed out again. Returns what is lost.
    pub(crate) fn lose_tail(&mut self) -> Option<Lost> {
        let (from, to) = (self.synced_seq + 1, self.last_seq);
        if from > to {
            return None;
        }
        let lost: Vec<(u64, Bytes)> =
            self.entries.range(from..).map(|(seq, entry)| (*seq, entry.subject.clone())).collect();
        for (seq, _) in &lost {
            self.remove(*seq);
        }
        self.last_seq = self.synced_seq;
        self.first_seq =
            self.entries.keys().next().copied().unwrap_or(if self.last_seq == 0 { 0 } else { self.last_seq + 1 });
        self.last_ms = self.entries.values().next_back().map(|entry| entry.at_ms).filter(|_| self.last_seq > 0);
        self.msg_ids.retain(|_, (seq, _)| *seq < from);
        Some(Lost { from, to, entries: lost })
    }
}
