//! Taking a room over: load, write `owned`, read the generation again, subscribe, and only then serve.
//!
//! 1. Read the generation (write one if there is none) and the snapshots.
//! 2. Read the log from the newest snapshot that it confirms. Neither confirmed: the log was lost below them, so the
//!    newest state begins a new epoch; unless the log begins with a tombstone, which wins over every snapshot.
//! 3. Write `owned` with term + 1, expecting the log's last message.
//! 4. Read the generation again. Another one than written: the log may have lost its tail in between. Back to 1.
//! 5. Subscribe to `in.…`; then answer who asked.

use prost::Message as _;
use proto::internal::{Kind, LogEntry, Owned, RoomSnapshot};
use proto::{Code, Subject};
use voltron_core::{mark, mutant};

use super::{CLOCK_BEHIND_MS, Phase, Room};
use crate::answers;
use crate::chain::{chain, writer};
use crate::dedupe::Dedupe;
use crate::fold::Folded;
use crate::io::{Effect, Found, Note, StoredMessage, Why};
use crate::state::State;

/// The most that wait for one room to open.
const OPENS_MAX: usize = 256;

/// The entry, if it says that the room was deleted.
fn tombstone(body: &[u8]) -> Option<LogEntry> {
    LogEntry::decode(body).ok().filter(|entry| entry.kind == Kind::Deleted as i32)
}

/// A load in progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// Snapshots that are not ruled out yet, newest first.
    anchors: Vec<RoomSnapshot>,
    /// The newest of all, to begin a new epoch with if the log confirms none.
    newest: Option<RoomSnapshot>,
    /// The fold so far; `None` before the anchor is found.
    folded: Option<Folded>,
    /// Of the newest snapshot that the log does not hold: its tail was lost after that one was written.
    refuted: Option<u64>,
    /// No snapshot is confirmed: the log is walked for its head alone.
    unanchored: bool,
    /// Where to read on.
    from: u64,
    /// Who wrote the last valid entry.
    writer: Option<u64>,
}

impl Room {
    pub(super) fn on_open(&mut self, reply: Subject, create: bool) {
        // Forwarded by another Brain, it is that one's inbox.
        if !reply.is_shield_inbox() && !reply.as_str().starts_with("_INBOX.b.") {
            mark!("brain.reply-refused");
            return;
        }
        if self.opens.len() >= OPENS_MAX {
            let body = answers::opened(&self.me.node, &self.committed.tail, Some(Code::Busy));
            self.out.push(Effect::Reply { to: reply, body });
            return;
        }
        self.active_ms = self.now.mono_ms;
        self.opens.push((reply, create));
        if matches!(self.phase, Phase::New) {
            self.load();
        }
    }

    /// Begins to load, from nothing.
    pub(super) fn load(&mut self) {
        self.steady = true;
        self.proof_ms = None;
        self.phase = Phase::LoadHead;
        let token = self.ask();
        self.out.push(Effect::Read { token, gen_id: true, snapshots: true, log_from: None });
    }

    pub(super) fn on_load_head(&mut self, draw: u64, found: Found) {
        let Some(gen_id) = found.gen_id else {
            // A draw of its own for each attempt: the same number twice would hide a loss.
            self.phase = Phase::LoadGen;
            let token = self.ask();
            self.out.push(Effect::WriteGen { token, value: draw });
            return;
        };
        self.gen_id = gen_id;
        self.snap.found(&found.snapshots);
        let mut anchors: Vec<RoomSnapshot> =
            found.snapshots.iter().rev().filter_map(|stored| RoomSnapshot::decode(stored.body.clone()).ok()).collect();
        anchors.retain(|snapshot| snapshot.pos > 0);
        let load = Load { newest: anchors.first().cloned(), anchors, ..Load::default() };
        self.read_log(load);
    }

    /// Reads where `load` says, or where its next anchor stands.
    pub(super) fn read_log(&mut self, mut load: Load) {
        if load.from == 0 {
            load.from = load.anchors.first().map_or(1, |anchor| anchor.pos);
        }
        let token = self.ask();
        self.out.push(Effect::Read { token, gen_id: false, snapshots: false, log_from: Some(load.from) });
        self.phase = Phase::LoadLog(Box::new(load));
    }

    pub(super) fn on_load_log(&mut self, mut load: Load, found: &Found) {
        let mut messages = found.log.as_slice();
        if load.folded.is_none() {
            match load.anchors.first() {
                Some(anchor) => match messages.split_first() {
                    Some((first, rest)) if first.pos == anchor.pos && chain(&first.body) == anchor.chain => {
                        load.folded = Some(Folded::restore(anchor, self.rules.dedupe));
                        load.writer = LogEntry::decode(first.body.clone()).ok().as_ref().and_then(writer);
                        self.begin_fold(Some(anchor));
                        messages = rest;
                    }
                    _ => {
                        let refuted = load.anchors.remove(0);
                        load.refuted = load.refuted.max(Some(refuted.epoch));
                        load.unanchored = load.anchors.is_empty();
                        load.from = 0;
                        return self.read_log(load);
                    }
                },
                None => match found.log.first().and_then(|first| tombstone(&first.body)) {
                    // From there on the log is complete. It wins over every snapshot: a stream with a limit per subject
                    // may bring purged ones back after a crash.
                    Some(entry) => {
                        let mut start = Folded::new(self.rules.dedupe);
                        (start.tail.fence, start.tail.chain) = (entry.prev, entry.prev_chain);
                        load.folded = Some(start);
                        load.unanchored = false;
                        load.refuted = load.refuted.filter(|epoch| *epoch > entry.epoch);
                        self.begin_fold(None);
                    }
                    None => {
                        let newest = load.newest.as_ref().map(|newest| Folded::restore(newest, self.rules.dedupe));
                        let mut start = newest.unwrap_or_else(|| Folded::new(self.rules.dedupe));
                        (start.tail.pos, start.tail.fence, start.tail.chain) = (0, 0, 0);
                        load.folded = Some(start);
                        self.begin_fold(None);
                    }
                },
            }
        }
        for message in messages {
            self.load_message(&mut load, message);
        }
        if let Some(last) = found.log.last().filter(|_| found.more) {
            load.from = last.pos.saturating_add(1);
            return self.read_log(load);
        }
        self.loaded(load);
    }

    fn begin_fold(&mut self, anchor: Option<&RoomSnapshot>) {
        self.ring.clear();
        self.snap.begin(anchor, self.rules.trim_age_ms);
    }

    fn load_message(&mut self, load: &mut Load, message: &StoredMessage) {
        let Some(folded) = load.folded.as_mut() else { return };
        if load.unanchored {
            // Not to be folded: only the head counts, and what a new epoch must rise above.
            folded.tail.fence = message.pos;
            folded.tail.pos = message.pos;
            folded.tail.chain = chain(&message.body);
            if let Ok(entry) = LogEntry::decode(message.body.clone()) {
                folded.tail.epoch = folded.tail.epoch.max(entry.epoch);
                folded.tail.term = folded.tail.term.max(entry.term);
                folded.tail.at = folded.tail.at.max(entry.at);
                folded.tail.deleted = entry.kind == Kind::Deleted as i32;
                if folded.tail.deleted {
                    folded.state = State::new(self.rules.dedupe);
                }
                load.writer = writer(&entry);
            }
            return;
        }
        match folded.entry(message.pos, &message.body) {
            Ok(applied) => {
                load.writer = writer(&applied.entry);
                self.ring.push(message.pos, applied.chain, &applied.entry);
                self.snap.grew(message.body.len());
            }
            Err(_) => self.note(Note::Void { pos: message.pos }),
        }
    }

    fn loaded(&mut self, mut load: Load) {
        let folded = load.folded.take().unwrap_or_else(|| Folded::new(self.rules.dedupe));
        let tail = folded.tail;
        if self.broken_at.is_some_and(|mine| (tail.epoch, tail.term) > (mine.epoch, mine.term)) {
            mark!("brain.fenced");
            self.note(Note::Fenced { term: tail.term });
            return self.step_down(Why::Fenced, None);
        }
        let absent = tail.deleted || (tail.epoch == 0 && tail.fence == 0);
        if absent && !self.opens.iter().any(|(_, create)| *create) && self.broken_at.is_none() {
            return self.step_down(Why::Absent, None);
        }
        if self.now.wall_ms < tail.at.saturating_sub(CLOCK_BEHIND_MS) {
            mark!("brain.clock-behind");
            return self.step_down(Why::ClockBehind, None);
        }
        if load.writer.is_some_and(|writer| writer != self.me.incarnation) {
            mark!("brain.take-over");
        }
        if let Some(epoch) = load.refuted {
            self.renew_above = Some(self.renew_above.unwrap_or(0).max(epoch));
        }
        let renewed = tail.gen_id != self.gen_id && !mutant!(TermReissued);
        let lost = renewed || self.broken_at.is_some() || load.refuted.is_some();
        if lost && tail.epoch > 0 {
            mark!("brain.new-epoch");
        }
        self.snap.anchoring = load.unanchored;
        self.committed = folded;
        if mutant!(DedupeLostInFailover) {
            self.committed.state.dedupe = Dedupe::new(self.rules.dedupe);
        }
        self.claim(absent || lost || tail.epoch == 0);
    }

    /// Writes `owned`: term + 1, and a new epoch if continuity was lost or cannot be proven.
    pub(super) fn claim(&mut self, new_epoch: bool) {
        let mut tail = self.committed.tail;
        if new_epoch {
            let known = self.renew_above.take().unwrap_or(0).max(self.broken_at.map_or(0, |mine| mine.epoch));
            tail.epoch = tail.epoch.max(known);
            tail.epoch = tail.next_epoch(self.now.wall_ms);
            tail.seq = 0;
        }
        let entry = LogEntry {
            epoch: tail.epoch,
            term: tail.term.saturating_add(1),
            first_seq: tail.seq.saturating_add(1),
            prev: tail.fence,
            prev_chain: tail.chain,
            r#gen: self.gen_id,
            at: self.now.wall_ms.max(tail.at),
            kind: Kind::Owned.into(),
            owned: Some(Owned { node: self.me.node.as_str().into(), incarnation: self.me.incarnation }),
            entry_id: self.next_entry_id(),
            ..LogEntry::default()
        };
        self.ahead = self.committed.clone();
        self.ahead.begin(&entry);
        self.live_n = 0;
        self.append(entry, Vec::new(), Vec::new(), Vec::new());
    }

    /// `owned` is stored: was the log the same all the while?
    pub(super) fn recheck(&mut self) {
        self.phase = Phase::Recheck;
        let token = self.ask();
        self.out.push(Effect::Read { token, gen_id: true, snapshots: false, log_from: None });
    }

    pub(super) fn on_recheck(&mut self, found: &Found) {
        if found.gen_id != Some(self.gen_id) && !mutant!(GenerationNotReread) {
            mark!("brain.generation-changed");
            self.broken_at = Some(self.committed.tail);
            return self.load();
        }
        self.broken_at = None;
        if self.snap.anchoring {
            self.phase = Phase::Anchoring;
            return self.write_snapshot();
        }
        self.begin_serving();
    }

    pub(super) fn begin_serving(&mut self) {
        let tail = self.committed.tail;
        self.note(Note::Owned { epoch: tail.epoch, term: tail.term, pos: tail.pos });
        if self.serving {
            self.phase = Phase::Ready;
        } else {
            self.subscribe();
        }
    }

    pub(super) fn subscribe(&mut self) {
        self.phase = Phase::Subscribing;
        let token = self.ask();
        self.out.push(Effect::Subscribe { token });
    }

    pub(super) fn on_subscribed(&mut self, ok: bool) {
        if !ok {
            return self.pause();
        }
        self.retry = super::Backoff::default();
        self.serving = true;
        self.active_ms = self.now.mono_ms;
        self.phase = Phase::Ready;
    }

    pub(super) fn answer_opens(&mut self) {
        for (reply, _) in std::mem::take(&mut self.opens) {
            let body = answers::opened(&self.me.node, &self.committed.tail, None);
            self.out.push(Effect::Reply { to: reply, body });
        }
    }
}
