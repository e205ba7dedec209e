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
mod snapshot;
mod sync;

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use proto::internal::LogEntry;
use proto::{Code, MessageId, NodeId, RoomKey, Subject, UserId, v1};
use voltron_core::mark;

use crate::answers;
use crate::chain::Tail;
use crate::decide::Refusal;
use crate::fold::Folded;
use crate::incoming::{self, Command, Incoming, SyncAsk};
use crate::io::{Effect, Input, Note, Now, Token, Why};
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
    /// The log is trimmed below the older snapshot once that one is this old.
    pub trim_age_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { idle_ms: 60_000, snapshot_entries: 1024, snapshot_bytes: 64 * 1024, trim_age_ms: 300_000 }
    }
}

/// What a room is waiting for. One question is open at a time, the snapshot's append aside.
#[derive(Clone, Debug)]
enum Phase {
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
    /// The log is being read for the unresolved entry.
    Resolving,
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

/// A retry to come.
#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    /// When, by the advancing clock; `None`: an answer is awaited.
    at: Option<u64>,
    pause_ms: u64,
}

impl Backoff {
    fn begin(&mut self, mono_ms: u64) {
        self.pause_ms = (self.pause_ms * 2).clamp(RETRY_MIN_MS, RETRY_MAX_MS);
        self.at = Some(mono_ms.saturating_add(self.pause_ms));
    }
}

/// A request that waits for its turn.
#[derive(Clone, Debug)]
enum Waiting {
    Command { reply: Subject, command: Box<Command>, bytes: usize },
    Get { reply: Subject },
    Sync { reply: Subject, ask: Box<SyncAsk>, confirms: u64 },
}

/// What is said once the entry in flight is committed.
#[derive(Clone, Debug)]
enum Said {
    Ack { reply: Subject, user: Option<UserId>, ack: v1::Ack },
    Live(Bytes),
    Get { reply: Subject },
}

/// The entry in flight.
#[derive(Clone, Debug)]
struct Inflight {
    entry: LogEntry,
    events: Vec<v1::Envelope>,
    body: Bytes,
    chain: u64,
    attempts: u32,
    said: Vec<Said>,
    /// What was taken from the queue for it: judged again if the entry must be built anew.
    taken: Vec<Waiting>,
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
            committed: Folded::default(),
            ahead: Folded::default(),
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
                if self.awaits(token) {
                    self.on_read(draw, found);
                }
            }
            Input::GenWritten { token } => {
                if self.awaits(token) {
                    self.retry_now();
                }
            }
            Input::Appended { token, outcome } => {
                if self.awaits(token) {
                    self.on_appended(outcome);
                }
            }
            Input::Subscribed { token, ok } => {
                if self.awaits(token) {
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

    fn on_message(&mut self, reply: Option<Subject>, body: &Bytes) {
        let Some(reply) = reply.filter(Subject::is_shield_inbox) else {
            // Answering elsewhere could turn the answer into a write of the asker's choosing: refused before it is
            // looked at, and not answered.
            mark!("brain.reply-refused");
            self.note(Note::Refused(Code::NotACommand));
            return;
        };
        self.active_ms = self.now.mono_ms;
        let incoming = match incoming::read(body) {
            Ok(incoming) => incoming,
            Err(bad) => {
                self.note(Note::Refused(bad.code));
                let refusal = Refusal { code: bad.code, detail: bad.detail, ver: 0, retry_after_ms: 0 };
                let ack = answers::refused(bad.message_id.as_ref(), &refusal);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
                return;
            }
        };
        if !self.has_room() {
            return self.turn_away(reply, &incoming);
        }
        let waiting = match incoming {
            Incoming::Command(command) => Waiting::Command { reply, command, bytes: body.len() },
            Incoming::Get(_) => Waiting::Get { reply },
            Incoming::Sync(ask) => Waiting::Sync { reply, ask, confirms: self.confirms },
        };
        self.queue_bytes += waiting.bytes();
        self.queue.push_back(waiting);
    }

    /// The queue is full: not applied, and said at once. Silent for a repeat of what still waits, for that one may yet
    /// be applied.
    fn turn_away(&mut self, reply: Subject, incoming: &Incoming) {
        match incoming {
            Incoming::Command(command) => {
                if self.is_waiting(&command.caller.user, &command.id) {
                    return;
                }
                let refusal = Refusal { retry_after_ms: 200, ..Refusal::plain(Code::Busy) };
                let ack = answers::refused(Some(&command.id), &refusal);
                self.answered(Some(command.caller.user.clone()), &ack);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
            }
            Incoming::Get(_) | Incoming::Sync(_) => {
                let body = answers::sync_refused(Code::Busy, &self.committed.tail);
                self.out.push(Effect::Reply { to: reply, body });
            }
        }
    }

    /// True if a command with this id waits, or was judged and may be stored.
    fn is_waiting(&self, user: &UserId, id: &MessageId) -> bool {
        let same = |waiting: &Waiting| matches!(waiting, Waiting::Command { command, .. } if command.id == *id && command.caller.user == *user);
        self.queue.iter().any(same) || self.inflight.as_ref().is_some_and(|entry| entry.taken.iter().any(same))
    }

    fn on_wake(&mut self) {
        if self.retry.at.is_some_and(|at| at <= self.now.mono_ms) {
            self.retry.at = None;
            self.retry_now();
        }
    }

    fn on_stop(&mut self) {
        self.stopping = true;
        if !self.serving && self.inflight.is_none() {
            self.step_down(Why::Stopped, Some(Code::Unavailable));
        }
    }

    /// Moves on as far as nothing is awaited.
    fn pump(&mut self) {
        if self.retry.at.is_some() {
            return;
        }
        // What is committed may be read and told whatever is in flight, as long as that is not unresolved.
        if self.serving && matches!(self.phase, Phase::Appending) && self.proven() && !self.unresolved() {
            self.answer_opens();
            self.answer_syncs();
        }
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        let ended = !self.committed.state.ended(self.room_time()).is_empty();
        let quiet = self.queue.is_empty() && self.held.is_empty() && self.opens.is_empty();
        if quiet && !ended && self.renew_above.is_none() {
            return self.rest();
        }
        if !self.proven() {
            return self.confirm();
        }
        if self.renew_above.is_some() {
            return self.claim(true);
        }
        for said in std::mem::take(&mut self.held) {
            self.say(said);
        }
        self.answer_opens();
        self.answer_syncs();
        match (self.renew_above, self.proven()) {
            (Some(_), _) => self.claim(true),
            (None, false) => self.confirm(),
            (None, true) => self.build(),
        }
        if matches!(self.phase, Phase::Ready) && self.queue.is_empty() && self.retry.at.is_none() {
            self.rest();
        }
    }

    /// Nothing to do: stop if asked to, go dormant if it was quiet for long, write a snapshot if one is due.
    fn rest(&mut self) {
        if self.stopping {
            return self.step_down(Why::Stopped, None);
        }
        self.snapshot_if_due();
        let idle = self.now.mono_ms.saturating_sub(self.active_ms) >= self.rules.idle_ms;
        if idle && self.serving && self.snapshot_for_dormancy() {
            self.step_down(Why::Idle, None);
        }
    }

    /// Ends it. `lost`: the code for what surely was not applied; `None` where nothing waits.
    fn step_down(&mut self, why: Why, lost: Option<Code>) {
        let inflight = self.inflight.take();
        if let Some(code) = lost {
            let taken = inflight.map(|entry| entry.taken).unwrap_or_default();
            let queue = std::mem::take(&mut self.queue);
            for waiting in taken.into_iter().chain(queue) {
                self.tell_lost(waiting, code);
            }
        }
        for (reply, _) in std::mem::take(&mut self.opens) {
            let code = match why {
                Why::Absent => Code::RoomAbsent,
                Why::Refused => Code::LogFull,
                _ => Code::Unavailable,
            };
            let body = answers::opened(&self.me.node, &self.committed.tail, Some(code));
            self.out.push(Effect::Reply { to: reply, body });
        }
        self.held.clear();
        self.serving = false;
        self.phase = Phase::Gone;
        self.retry.at = None;
        self.out.push(Effect::StepDown(why));
    }

    fn tell_lost(&mut self, waiting: Waiting, code: Code) {
        match waiting {
            Waiting::Command { reply, command, .. } => {
                // A repeat of what is stored was not applied *now*; to call it "surely not applied" would mislead.
                let known = self.committed.state.dedupe.judge(&command.caller.user, &command.id, i64::MAX, 0);
                if matches!(known, crate::dedupe::Verdict::Repeat(_)) {
                    return;
                }
                let ack = answers::refused(Some(&command.id), &Refusal::plain(code));
                self.answered(Some(command.caller.user.clone()), &ack);
                self.out.push(Effect::Reply { to: reply, body: ack.encode_to_vec().into() });
            }
            Waiting::Get { reply } | Waiting::Sync { reply, .. } => {
                let body = answers::sync_refused(Code::Unavailable, &self.committed.tail);
                self.out.push(Effect::Reply { to: reply, body });
            }
        }
    }

    /// Says it now if ownership is proven, else after the next confirmation.
    fn say(&mut self, said: Said) {
        if !self.proven() {
            return self.held.push(said);
        }
        let effect = match said {
            Said::Ack { reply, user, ack } => {
                self.answered(user, &ack);
                Effect::Reply { to: reply, body: ack.encode_to_vec().into() }
            }
            Said::Live(body) => Effect::Live { body },
            Said::Get { reply } => {
                let mut answer = answers::sync_head(&self.committed.tail);
                answer.snapshot = answers::snapshot(&self.key, &self.committed);
                Effect::Reply { to: reply, body: answer.encode_to_vec().into() }
            }
        };
        self.out.push(effect);
    }

    fn answered(&mut self, user: Option<UserId>, ack: &v1::Ack) {
        if let Some(message_id) = MessageId::from_slice(&ack.message_id) {
            self.note(Note::Answered { user, message_id, code: ack.code, duplicate: ack.duplicate });
        }
    }

    fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
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

    /// True if this is the answer to the question that is open, and closes it.
    fn awaits(&mut self, token: Token) -> bool {
        let open = self.awaited == Some(token);
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

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Command { bytes, .. } => *bytes,
            Self::Get { .. } | Self::Sync { .. } => 64,
        }
    }
}
