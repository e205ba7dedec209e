//! The subscribers of a room, each in one phase. What the core looks for is indexed: a crowd of n costs n log n, not n².

use std::collections::{BTreeMap, BTreeSet};

use proto::v1;

use super::{Cursor, SubId};

/// Where a subscriber stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Waits for its turn to ask.
    Waiting,
    /// Waits for the answer to its sync.
    Syncing { leave_only: bool },
    /// Has leave, given at this head. Waits for the snapshot that another asked for.
    Granted { epoch: u64, seq: u64 },
    /// Reads from the log what the ring no longer holds.
    Fetching { cursor: Cursor, attempt: u32 },
    /// Gets every event as it comes.
    Live,
    /// Waits for the snapshot of a new epoch.
    Stale,
}

impl Phase {
    /// Its SUB has its result.
    const fn follows(&self) -> bool {
        matches!(self, Self::Fetching { .. } | Self::Live | Self::Stale)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Sub {
    pub(super) ask: v1::Sync,
    /// The highest (epoch, seq) acknowledged to this client before its SUB: an answer below it is outdated.
    pub(super) floor: (u64, u64),
    /// Changed by [`Subs::set`] alone.
    pub(super) phase: Phase,
    /// Questions in a row that no owner answered.
    pub(super) attempt: u32,
    /// When the first of them failed.
    pub(super) failing_since: Option<u64>,
    /// What was delivered last.
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Sub {
    pub(super) const fn new(ask: v1::Sync, floor: (u64, u64)) -> Self {
        Self { ask, floor, phase: Phase::Waiting, attempt: 0, failing_since: None, epoch: 0, seq: 0 }
    }

    /// True if a snapshot that another asked for serves it.
    pub(super) const fn plain(&self) -> bool {
        self.ask.since.is_none() && self.ask.history == 0
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Subs {
    all: BTreeMap<SubId, Sub>,
    waiting: BTreeSet<SubId>,
    /// Those that asked for a snapshot that others may share.
    asking: BTreeSet<SubId>,
    granted: BTreeSet<SubId>,
    stale: BTreeSet<SubId>,
    following: usize,
}

impl Subs {
    pub(super) fn insert(&mut self, id: SubId, sub: Sub) {
        self.remove(id);
        self.all.insert(id, sub);
        self.index(id);
    }

    pub(super) fn remove(&mut self, id: SubId) -> Option<Sub> {
        self.unindex(id);
        self.all.remove(&id)
    }

    /// Changes the phase.
    pub(super) fn set(&mut self, id: SubId, phase: Phase) {
        self.unindex(id);
        if let Some(sub) = self.all.get_mut(&id) {
            sub.phase = phase;
        }
        self.index(id);
    }

    fn unindex(&mut self, id: SubId) {
        let Some(sub) = self.all.get(&id) else { return };
        self.following -= usize::from(sub.phase.follows());
        for set in [&mut self.waiting, &mut self.asking, &mut self.granted, &mut self.stale] {
            set.remove(&id);
        }
    }

    fn index(&mut self, id: SubId) {
        let Some(sub) = self.all.get(&id) else { return };
        self.following += usize::from(sub.phase.follows());
        let set = match &sub.phase {
            Phase::Waiting => &mut self.waiting,
            Phase::Syncing { leave_only: false } if sub.plain() => &mut self.asking,
            Phase::Granted { .. } => &mut self.granted,
            Phase::Stale => &mut self.stale,
            Phase::Syncing { .. } | Phase::Fetching { .. } | Phase::Live => return,
        };
        set.insert(id);
    }

    pub(super) fn get(&self, id: SubId) -> Option<&Sub> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SubId) -> Option<&mut Sub> {
        self.all.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubId, &Sub)> {
        self.all.iter().map(|(id, sub)| (*id, sub))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SubId, &mut Sub)> {
        self.all.iter_mut().map(|(id, sub)| (*id, sub))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// True if an event would reach somebody, now or once the subscriber caught up.
    pub(super) const fn followed(&self) -> bool {
        self.following > 0
    }

    /// How many wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Who is to ask next: the first that came.
    pub(super) fn next_waiting(&self) -> Option<SubId> {
        self.waiting.first().copied()
    }

    /// True if a snapshot is on its way that others may share.
    pub(super) fn asks(&self) -> bool {
        !self.asking.is_empty()
    }

    pub(super) fn has_granted(&self) -> bool {
        !self.granted.is_empty()
    }

    /// Those with leave, and the head at which it was given.
    pub(super) fn granted(&self) -> Vec<(SubId, (u64, u64))> {
        let head = |id: &SubId| match self.all.get(id)?.phase {
            Phase::Granted { epoch, seq } => Some((*id, (epoch, seq))),
            _ => None,
        };
        self.granted.iter().filter_map(head).collect()
    }

    pub(super) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    pub(super) fn stale(&self) -> Vec<SubId> {
        self.stale.iter().copied().collect()
    }

    /// Those whose SUB has no result yet.
    pub(super) fn without_result(&self) -> Vec<SubId> {
        self.iter().filter(|(_, sub)| !sub.phase.follows()).map(|(id, _)| id).collect()
    }

    /// Those whose SUB has its result.
    pub(super) fn followers(&self) -> Vec<SubId> {
        self.iter().filter(|(_, sub)| sub.phase.follows()).map(|(id, _)| id).collect()
    }
}
