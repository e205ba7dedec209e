//! What a client asks for and what it is told: plain values, shared by the protocol core and the socket.

use std::time::Duration;

use bytes::Bytes;
use proto::json::{AuthResult, Hello, Presence, Since};
use proto::{Code, MessageId, RoomId, v1};

/// What a subscription wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubOptions {
    /// Where to resume. Later, the client's own cursor takes its place.
    pub since: Option<Since>,
    /// The last n events, at most 256; only without `since`.
    pub history: u32,
    /// Presence of the room.
    pub presence: Presence,
    /// Ask again, with back-off, when the answer is a code that may change (an absent room, a busy server).
    pub persist: bool,
}

/// One answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Which command.
    pub message_id: MessageId,
    /// Its room, while the client still remembers sending it.
    pub room: Option<RoomId>,
    /// 0: stored at (epoch, seq); else the number of a [`Code`].
    pub code: u32,
    /// Where the event stands.
    pub epoch: u64,
    /// Where the event stands; 0 for an ephemeral one.
    pub seq: u64,
    /// True if this answers an earlier send of the same bytes.
    pub duplicate: bool,
    /// For people.
    pub message: String,
    /// How long to wait before a repeat, ms; 0: not said.
    pub retry_after_ms: u32,
    /// The key's current version, with `version_conflict`.
    pub ver: u64,
    /// True if the client repeats the command by itself: another answer will follow.
    pub repeating: bool,
}

/// One event of a room, as it was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// Which room.
    pub room: RoomId,
    /// The life of the room's log.
    pub epoch: u64,
    /// Its place there; 0: ephemeral.
    pub seq: u64,
    /// The envelope's bytes: the same for every subscriber.
    pub bytes: Bytes,
    /// The envelope, decoded; its payload is this event.
    pub envelope: Box<v1::Envelope>,
}

impl Delivered {
    /// The event itself.
    pub fn event(&self) -> &v1::Event {
        match &self.envelope.payload {
            Some(v1::envelope::Payload::Event(event)) => event,
            _ => unreachable!("a Delivered is only made from an envelope with an event"),
        }
    }
}

/// What happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// Connected: the first frame of every connection.
    Hello(Box<Hello>),
    /// A command was answered.
    Ack(Acked),
    /// No answer came, and the policy allows no further repeat: the outcome is unknown to this client.
    Unanswered {
        /// Which command.
        message_id: MessageId,
        /// Its room.
        room: RoomId,
    },
    /// An event of a room.
    Event(Delivered),
    /// Events are missing between the cursor and what just came: the server broke its promise. The event follows.
    Gap {
        /// Which room.
        room: RoomId,
        /// In this epoch …
        epoch: u64,
        /// … the first missing seq …
        from: u64,
        /// … and the last.
        to: u64,
    },
    /// A subscription stands.
    Subscribed {
        /// Which room.
        room: RoomId,
        /// The room's epoch.
        epoch: u64,
        /// Everything up to here is replayed or in the snapshot; live events follow.
        seq: u64,
        /// True if `since` was honoured: nothing is missing.
        recovered: bool,
        /// How many events are replayed first.
        replay: u64,
    },
    /// A subscription was refused.
    SubRefused {
        /// Which room.
        room: RoomId,
        /// Why.
        code: u32,
        /// For people.
        message: String,
        /// True if the client asks again by itself.
        repeating: bool,
    },
    /// A subscription ended, asked for (code 0) or not.
    Unsubscribed {
        /// Which room.
        room: RoomId,
        /// Why; 0: as asked.
        code: u32,
        /// For people.
        message: String,
        /// True if the client subscribes again by itself.
        repeating: bool,
    },
    /// The state of a room, current when it was asked for.
    Got {
        /// The number that `get` returned.
        id: u64,
        /// Which room.
        room: RoomId,
        /// 0, or why not.
        code: u32,
        /// The room's epoch.
        epoch: u64,
        /// Its head.
        seq: u64,
        /// The state as JSON, as the server renders it.
        state: Option<serde_json::Value>,
        /// For people.
        message: String,
    },
    /// A new token was judged, or the server asks for one.
    Auth(AuthResult),
    /// A signal from the server (drain, stale, …).
    Signal(v1::SystemSignal),
    /// An error that belongs to no command.
    Err {
        /// A [`Code`]'s number.
        code: u16,
        /// For people.
        text: String,
    },
    /// A SUB or `get` was answered whose number this client has not given yet: one that was sent as raw bytes.
    Stray {
        /// The request's own number.
        id: u64,
        /// Why it was refused; 0: it was not.
        code: u32,
    },
    /// The server sent what this client does not understand; it is ignored. At most the first 64 bytes.
    Unknown {
        /// What came.
        head: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The connection is over.
    Closed {
        /// The WebSocket close code: ours (4000–4399), or 1006 when the stream just ended.
        code: u16,
        /// For people.
        reason: String,
    },
}

/// What a close code obliges a client to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    /// Reconnecting will not help.
    Stop,
    /// Reconnect, with back-off.
    BackOff,
    /// Reconnect at once.
    AtOnce,
    /// Fetch a new token first.
    NewToken,
}

impl AfterClose {
    /// Of this close code (PROTOCOL §8).
    pub const fn of(code: u16) -> Self {
        match code {
            4000..=4099 | 1002 | 1003 | 1007 | 1008 | 1009 => Self::Stop,
            4200..=4299 => Self::AtOnce,
            4300..=4399 => Self::NewToken,
            _ => Self::BackOff,
        }
    }
}

/// When a command is repeated by itself, with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// How often a command is sent in all; 1: never repeated, not even after a reconnect.
    pub sends: u32,
    /// The pause before the first repeat; it doubles.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How long one send waits for its answer before it counts as lost.
    pub answer: Duration,
}

impl Repeat {
    /// Each command is sent once; what becomes of it is the caller's business.
    pub const OFF: Self =
        Self { sends: 1, pause: Duration::ZERO, pause_max: Duration::ZERO, answer: Duration::from_secs(10) };

    /// True if a command with this code may, and should, be sent again as it is.
    pub fn allows(code: u32) -> bool {
        let known = u16::try_from(code).ok().and_then(Code::from_u16);
        matches!(
            known,
            Some(Code::Unavailable | Code::OutcomeUnknown | Code::NotApplied | Code::Busy | Code::RateLimited)
        )
    }
}

impl Default for Repeat {
    /// Eight sends, 50 ms doubling to 2 s, 5 s for an answer: about 30 s in all, well inside the 120 s for which a
    /// room can tell a repeat.
    fn default() -> Self {
        Self {
            sends: 8,
            pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            answer: Duration::from_secs(5),
        }
    }
}
