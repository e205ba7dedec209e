//! One room's core at one owner: opening it, judging commands, committing them, answering.
//!
//! The rules, each of which answers a scenario that breaks without it:
//! 1. An entry is written expecting the position of the room's last message, and names its predecessor's chain.
//! 2. One entry is in flight at a time. What arrives meanwhile goes out together in the next (group commit).
//! 3. Answers, refusals included, leave after the commit of the entry that they were judged on.
//! 4. An append without a clear outcome is *unresolved*: it is looked for in the log. Mine: committed. A valid other
//!    entry in its place: surely lost. Nothing: undecided, so the same bytes are sent again. Until then nothing is
//!    answered, written or read.
//! 5. After a reconnect, or 2 s without proof, generation and head are read again before anything is written or said.
//! 6. Taking over is a write; the generation is read again after it; only then is the room served.

mod build;
mod commit;
mod confirm;
mod open;
mod parts;
mod requests;
mod snapshot;
mod speak;
mod sync;
mod turn;

use std::collections::VecDeque;

use bytes::Bytes;
use parts::{Backoff, Inflight, Phase, Said, Waiting};
use proto::{NodeId, RoomKey, Subject};

use crate::chain::Tail;
use crate::dedupe::USER_ENTRIES;
use crate::fold::Folded;
use crate::io::{Effect, Input, Now, Token};
use crate::ring::Ring;

/// The most requests that wait in a room.
pub const QUEUE_MAX: usize = 1024;
/// The most bytes of requests that wait in a room.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Without a PubAck or a confirmation for this long, nothing is written or said before a new confirmation.
pub const PROOF_MS: u64 = 2000;
/// First pause before something that failed is tried again; doubles up to [`RETRY_MAX_MS`].
pub const RETRY_MIN_MS: u64 = 10;
/// Longest pause before something that failed is tried again.
pub const RETRY_MAX_MS: u64 = 500;
/// An owner whose clock is further behind the room's than this refuses the room.
pub const CLOCK_BEHIND_MS: i64 = 10_000;

/// Who this owner is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's name.
    pub node: NodeId,
    /// A number that no other process, and no earlier run of this one, has.
    pub incarnation: u64,
    /// Which of this process' cores of any room this is: with it no entry id is used twice.
    pub session: u32,
}

/// Durations and sizes from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Without a request for this long a room becomes dormant.
    pub idle_ms: u64,
    /// A snapshot is written once the log since the last one has this many entries.
    pub snapshot_entries: u64,
    /// ... or this many bytes, and more than the snapshot itself.
    pub snapshot_bytes: u64,
    /// The log is trimmed to the newest snapshot that is this old and not above the older of the two stored ones.
    pub trim_age_ms: i64,
    /// How many commands of each user are remembered to tell a repeat.
    pub dedupe: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            idle_ms: 60_000,
            snapshot_entries: 1024,
            snapshot_bytes: 64 * 1024,
            trim_age_ms: 300_000,
            dedupe: USER_ENTRIES,
        }
    }
}

/// One room's core. Build it, then give it [`Input`]s; it never does anything but return [`Effect`]s.
#[derive(Clone, Debug)]
pub struct Room {
    key: RoomKey,
    me: Identity,
    rules: Rules,
    phase: Phase,
    /// The fold of everything that is known to be stored.
    committed: Folded,
    /// The same with the entry in flight applied: what the next commands are judged on.
    ahead: Folded,
    ring: Ring,
    inflight: Option<Inflight>,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    opens: Vec<(Subject, bool)>,
    /// What must not leave before the next confirmation.
    held: Vec<Said>,
    out: Vec<Effect>,
    now: Now,
    token: u64,
    /// The question that is open.
    awaited: Option<Token>,
    counter: u32,
    /// How many entries were sent.
    sent: u64,
    /// What arrived before the entry of this number was sent came to no other owner: that entry was stored, so nobody
    /// had taken the room by then.
    alone_before: u64,
    retry: Backoff,
    gen_id: u64,
    /// When ownership was last proven.
    proof_ms: Option<u64>,
    /// No reconnect since the confirmation, or load, that the proof goes back to.
    steady: bool,
    /// How many confirmations there were.
    confirms: u64,
    /// The room is served: commands arrive here.
    serving: bool,
    /// An `owned` with a new epoch, above this one, is to be written.
    renew_above: Option<u64>,
    /// Own place when continuity broke: what follows begins a new epoch, unless another owner went on meanwhile.
    broken_at: Option<Tail>,
    live_n: u64,
    active_ms: u64,
    snap: snapshot::Snapshots,
    stopping: bool,
}

impl Room {
    /// A core that owns nothing yet.
    pub fn new(key: RoomKey, me: Identity, rules: Rules) -> Self {
        Self {
            key,
            me,
            rules,
            phase: Phase::New,
            committed: Folded::new(rules.dedupe),
            ahead: Folded::new(rules.dedupe),
            ring: Ring::default(),
            inflight: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            opens: Vec::new(),
            held: Vec::new(),
            out: Vec::new(),
            now: Now::default(),
            token: 0,
            awaited: None,
            counter: 0,
            sent: 0,
            alone_before: 0,
            retry: Backoff::default(),
            gen_id: 0,
            proof_ms: None,
            steady: false,
            confirms: 0,
            serving: false,
            renew_above: None,
            broken_at: None,
            live_n: 0,
            active_ms: 0,
            snap: snapshot::Snapshots::default(),
            stopping: false,
        }
    }

    /// The room as far as it is known to be stored.
    pub const fn committed(&self) -> &Folded {
        &self.committed
    }

    /// True while commands are taken.
    pub const fn serving(&self) -> bool {
        self.serving
    }

    /// True after [`Effect::StepDown`].
    pub const fn gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// True if more requests may be given to the room now; else they would be refused as `busy`.
    pub fn has_room(&self) -> bool {
        self.queue.len() < QUEUE_MAX && self.queue_bytes < QUEUE_BYTES_MAX
    }

    /// When the room wants [`Input::Wake`], by the advancing clock.
    pub fn wake_at(&self) -> Option<u64> {
        if self.gone() {
            return None;
        }
        let mut at = self.retry.at;
        let mut sooner = |candidate: u64| at = Some(at.map_or(candidate, |at| at.min(candidate)));
        if let Some(retry_at) = self.snap.retry_at() {
            sooner(retry_at);
        }
        if matches!(self.phase, Phase::Ready) && self.serving && self.retry.at.is_none() {
            if !self.snap.is_pending() {
                sooner(self.active_ms.saturating_add(self.rules.idle_ms));
            }
            if let Some(end) = self.committed.state.next_end() {
                let left = end.saturating_sub(self.now.wall_ms.max(self.committed.tail.at));
                sooner(self.now.mono_ms.saturating_add(u64::try_from(left).unwrap_or(0)));
            }
        }
        at
    }

    /// One step: the effects of `input` at `now`, in their order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.gone() {
            return Vec::new();
        }
        self.now = Now { mono_ms: self.now.mono_ms.max(now.mono_ms), wall_ms: now.wall_ms };
        match input {
            Input::Open { reply, create } => self.on_open(reply, create),
            Input::Message { reply, body } => self.on_message(reply, &body),
            Input::SnapshotWritten { token, outcome } => self.on_snapshot_written(token, outcome),
            Input::Read { token, draw, found } => {
                if self.snap.awaits(token) {
                    self.on_snapshots_read(found);
                } else if self.awaits(token, Phase::reads) {
                    self.on_read(draw, found);
                }
            }
            Input::GenWritten { token } => {
                if self.awaits(token, Phase::writes_gen) {
                    self.retry_now();
                }
            }
            Input::Appended { token, outcome } => {
                if self.awaits(token, Phase::appends) {
                    self.on_appended(outcome);
                }
            }
            Input::Subscribed { token, ok } => {
                if self.awaits(token, Phase::subscribes) {
                    self.on_subscribed(ok);
                }
            }
            Input::Reconnected => self.steady = false,
            Input::Wake => self.on_wake(),
            Input::Stop => self.on_stop(),
        }
        self.pump();
        std::mem::take(&mut self.out)
    }

    /// True if ownership was proven lately enough to write and to speak.
    fn proven(&self) -> bool {
        self.steady && self.proof_ms.is_some_and(|at| self.now.mono_ms.saturating_sub(at) <= PROOF_MS)
    }

    fn unresolved(&self) -> bool {
        self.inflight.as_ref().is_some_and(|entry| entry.attempts > 1)
    }

    /// The room's clock now: never behind what the log says.
    fn room_time(&self) -> i64 {
        self.now.wall_ms.max(self.ahead.tail.at)
    }

    fn next_token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    /// Opens a question; the one before it is closed.
    fn ask(&mut self) -> Token {
        let token = self.next_token();
        self.awaited = Some(token);
        self.retry.at = None;
        token
    }

    /// True if this is the answer to the question that is open, and closes it. What answers a question of another kind is
    /// no answer, whatever its token.
    fn awaits(&mut self, token: Token, asked: fn(&Phase) -> bool) -> bool {
        let open = self.awaited == Some(token) && asked(&self.phase);
        if open {
            self.awaited = None;
        }
        open
    }

    /// Tries the present phase again, after a pause.
    fn pause(&mut self) {
        self.retry.begin(self.now.mono_ms);
    }

    fn next_entry_id(&mut self) -> Bytes {
        self.counter += 1;
        crate::chain::entry_id(self.me.incarnation, u64::from(self.me.session) << 32 | u64::from(self.counter))
    }
}
