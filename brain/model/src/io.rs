//! What goes into a room's core and what comes out: plain data, one value a message, so that the same core can be driven
//! by a shell, a property test, or another language's twin.

use bytes::Bytes;
use proto::{Code, MessageId, Subject, UserId};

/// Both clocks of the host, read once per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, ms since 1970. May step.
    pub wall_ms: i64,
    /// A clock that only ever advances, ms. Deadlines are measured on it.
    pub mono_ms: u64,
}

/// Ties an answer to its question: an outcome whose token is not the one waited for is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its position.
    pub pos: u64,
    /// Its bytes.
    pub body: Bytes,
}

/// What a [`Effect::Read`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The generation, if it was asked for and is there.
    pub gen_id: Option<u64>,
    /// Up to two snapshots of the room, ascending.
    pub snapshots: Vec<StoredMessage>,
    /// Messages of the room's log from the asked position on, ascending, without holes.
    pub log: Vec<StoredMessage>,
    /// True if the log has more.
    pub more: bool,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored there.
    Stored(u64),
    /// Another position is last (err_code 10071). Perhaps this very entry, sent before.
    WrongLast,
    /// No answer, no connection, or undecided in the cluster.
    Unresolved,
    /// Surely not stored by this attempt: the stream has no room left.
    Full,
    /// Surely not stored by this attempt: nobody takes it now (no leader, the server's own limit). The same bytes may pass
    /// later.
    Unavailable,
    /// Surely not stored by this attempt, nor by another one: it is larger than the broker takes.
    TooBig,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants the room to be served, and is told at `reply`.
    Open {
        /// Where the answer goes.
        reply: Subject,
        /// An absent room may be made.
        create: bool,
    },
    /// A message on `in.…`.
    Message {
        /// Where it asks to be answered.
        reply: Option<Subject>,
        /// An envelope.
        body: Bytes,
    },
    /// A read ended; `None`: it failed.
    Read {
        /// Of the [`Effect::Read`].
        token: Token,
        /// A fresh random number, for a generation that must be written.
        draw: u64,
        /// What it found.
        found: Option<Found>,
    },
    /// The attempt to write a generation ended, one way or another.
    GenWritten {
        /// Of the [`Effect::WriteGen`].
        token: Token,
    },
    /// An append ended.
    Appended {
        /// Of the [`Effect::Append`].
        token: Token,
        /// How.
        outcome: Outcome,
    },
    /// A snapshot's append ended.
    SnapshotWritten {
        /// Of the [`Effect::WriteSnapshot`].
        token: Token,
        /// How.
        outcome: Outcome,
    },
    /// The attempt to subscribe to `in.…` ended.
    Subscribed {
        /// Of the [`Effect::Subscribe`].
        token: Token,
        /// True: confirmed by the broker.
        ok: bool,
    },
    /// The connection to the Spine was lost or made again: nothing is proven any more.
    Reconnected,
    /// The deadline that [`Room::wake_at`](crate::Room::wake_at) named has passed.
    Wake,
    /// Finish what is in flight, answer, stop.
    Stop,
}

/// What to do. The order within one step counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read, from the streams' leaders, in this order: generation, snapshots, log.
    Read {
        /// To come back with.
        token: Token,
        /// The generation of the room's log stream.
        gen_id: bool,
        /// The room's snapshots.
        snapshots: bool,
        /// The room's log from this position on.
        log_from: Option<u64>,
    },
    /// Write the log stream's generation, expecting that there is none.
    WriteGen {
        /// To come back with.
        token: Token,
        /// The number.
        value: u64,
    },
    /// Append to the room's log.
    Append {
        /// To come back with.
        token: Token,
        /// Position of the room's last message there.
        expect: u64,
        /// A `LogEntry`.
        body: Bytes,
    },
    /// Append to the room's snapshots.
    WriteSnapshot {
        /// To come back with.
        token: Token,
        /// Position of the room's last snapshot.
        expect: u64,
        /// A `RoomSnapshot`.
        body: Bytes,
    },
    /// Delete the room's log below this position.
    Trim {
        /// The first position that stays.
        keep: u64,
    },
    /// Subscribe to `in.…`, confirmed.
    Subscribe {
        /// To come back with.
        token: Token,
    },
    /// Answer a Shield.
    Reply {
        /// Its inbox.
        to: Subject,
        /// `Ack`, `SyncReply` or `Opened`.
        body: Bytes,
    },
    /// Publish a `Live` on `out.…`.
    Live {
        /// The message.
        body: Bytes,
    },
    /// Serve the room no longer. The last effect of a room.
    StepDown(Why),
    /// For the trace and the metrics; changes nothing.
    Note(Note),
}

/// Why a room is served no longer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another owner's entry was found: stay away from the room for a while.
    Fenced,
    /// The room is absent and nobody may make it.
    Absent,
    /// This host's clock is too far behind the room's.
    ClockBehind,
    /// The log has no room left to take the room over.
    Refused,
    /// Nothing happened for long.
    Idle,
    /// Asked to stop.
    Stopped,
}

/// What is worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// This core owns the room now.
    Owned {
        /// Since.
        epoch: u64,
        /// Since.
        term: u64,
        /// Position of the `owned` entry.
        pos: u64,
    },
    /// An event was committed.
    Committed {
        /// Place.
        epoch: u64,
        /// Place.
        seq: u64,
        /// `None`: the room's own.
        message_id: Option<MessageId>,
        /// Empty: the room's own.
        user: String,
        /// The event's envelope as subscribers get it.
        envelope: Bytes,
    },
    /// An entry was committed: the head of the room.
    Head {
        /// Of the entry.
        epoch: u64,
        /// Of the entry.
        term: u64,
        /// Its position.
        pos: u64,
        /// How many events it has.
        events: u32,
    },
    /// A command was answered.
    Answered {
        /// Whose.
        user: Option<UserId>,
        /// Which.
        message_id: MessageId,
        /// 0: applied.
        code: u32,
        /// From the window.
        duplicate: bool,
    },
    /// Another owner took the room.
    Fenced {
        /// The term that was lost.
        term: u64,
    },
    /// An append's outcome is unknown.
    Unresolved,
    /// A void entry was skipped.
    Void {
        /// Its position.
        pos: u64,
    },
    /// A request was refused before it came to the room.
    Refused(Code),
}
