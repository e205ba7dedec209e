//! What clients do: the weights in a scenario, the pinned operations in a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Drawn, One, Span};

/// Weights of what clients do, and how often.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The pause between two operations of one client.
    pub every: Option<Drawn<Span>>,
    /// The last so many clients only listen; left out: none.
    pub listeners: Option<Drawn<u32>>,
    /// Says something.
    pub publish: Option<Drawn<u32>>,
    /// Sets a key.
    pub set: Option<Drawn<u32>>,
    /// Deletes a key.
    pub delete: Option<Drawn<u32>>,
    /// Locks the room; only some users may.
    pub lock: Option<Drawn<u32>>,
    /// Unlocks it.
    pub unlock: Option<Drawn<u32>>,
    /// Reads the room's state, current.
    pub get: Option<Drawn<u32>>,
    /// Says something ephemeral.
    pub whisper: Option<Drawn<u32>>,
    /// Sends a finished command once more, the same bytes: mostly the last one, sometimes one that is long past.
    pub repeat: Option<Drawn<u32>>,
    /// Leaves a room, and comes back at once or at the next such operation.
    pub leave: Option<Drawn<u32>>,
    /// Presents another token on the living connection, one that holds or one that does not.
    pub renew: Option<Drawn<u32>>,
    /// Says more at once than one connection may.
    pub flood: Option<Drawn<u32>>,
    /// Drops its socket and resumes on another Shield.
    pub resume: Option<Drawn<u32>>,
    /// Drops its socket and comes back to the same Shield.
    pub hang_up: Option<Drawn<u32>>,
    /// Reads nothing for 0.2 s to 4 s.
    pub stall: Option<Drawn<u32>>,
    /// Neither reads nor writes for 0.2 s to 8 s.
    pub silence: Option<Drawn<u32>>,
    /// From then on the bytes of this connection move in pieces or in heaps.
    pub pieces: Option<Drawn<u32>>,
    /// Sends what no client should.
    pub bad: Option<Drawn<u32>>,
    /// Somebody knocks with a token that no server should take.
    pub stranger: Option<Drawn<u32>>,
}

/// One operation of one client, in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Virtual time.
    pub at: One<Span>,
    /// Which client, from 1 on.
    pub client: u32,
    /// What.
    pub r#do: Verb,
    /// Which room of the client's tenant, from 1 on.
    pub room: u32,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// `say`.
    Publish,
    /// `set`.
    Set,
    /// `delete`.
    Delete,
    /// `lock`.
    Lock,
    /// `unlock`.
    Unlock,
    /// A current read.
    Get,
    /// An ephemeral `say`.
    Whisper,
    /// A finished command again, the same bytes.
    Repeat,
    /// Leaves the room, or comes back to it.
    Leave,
    /// Presents another token.
    Renew,
    /// Says more at once than it may.
    Flood,
    /// Drops the socket and resumes on the next Shield.
    Resume,
    /// Drops the socket and comes back to the same Shield.
    HangUp,
    /// Reads nothing for a while.
    Stall,
    /// Neither reads nor writes for a while.
    Silence,
    /// Moves bytes in pieces or in heaps.
    Pieces,
    /// Sends what no client should.
    Bad,
    /// Knocks with a token that no server should take.
    Stranger,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::Get => "get",
            Self::Whisper => "whisper",
            Self::Repeat => "repeat",
            Self::Leave => "leave",
            Self::Renew => "renew",
            Self::Flood => "flood",
            Self::Resume => "resume",
            Self::HangUp => "hang_up",
            Self::Stall => "stall",
            Self::Silence => "silence",
            Self::Pieces => "pieces",
            Self::Bad => "bad",
            Self::Stranger => "stranger",
        })
    }
}
