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
    /// Says something.
    pub publish: Option<Drawn<u32>>,
    /// Sets a key.
    pub set: Option<Drawn<u32>>,
    /// Sends its last finished command once more, the same bytes.
    pub repeat: Option<Drawn<u32>>,
    /// Drops its socket and resumes on another Shield.
    pub resume: Option<Drawn<u32>>,
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
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// `say`.
    Publish,
    /// `set`.
    Set,
    /// The last finished command again, the same bytes.
    Repeat,
    /// Drops the socket and resumes on the next Shield.
    Resume,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Set => "set",
            Self::Repeat => "repeat",
            Self::Resume => "resume",
        })
    }
}
