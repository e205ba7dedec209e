//! The registry of stable codes, generated from `errors.toml`: clients act on [`Code::retry`], people read
//! [`Code::help`], and `arq error CODE` prints the row.

include!(concat!(env!("OUT_DIR"), "/errors.rs"));

/// What a client may do about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Repeating changes nothing.
    Never,
    /// Send the same bytes (same `message_id`) again.
    Same,
    /// Wait for `retry_after_ms`, or back off, then repeat.
    Later,
    /// Open a new connection.
    Reconnect,
    /// Fetch a new token first.
    NewToken,
}

/// Where a code appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An ERR frame; the connection lives on.
    Frame,
    /// An ACK.
    Command,
    /// A SUB result, or an UNSUB from the server.
    Room,
    /// A WebSocket close code.
    Close,
    /// A refused handshake.
    Http,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The stable number.
    pub code: Code,
    /// Its name in snake case.
    pub name: &'static str,
    /// What a client may do.
    pub retry: Retry,
    /// Where it appears.
    pub scope: Scope,
    /// One line for people.
    pub message: &'static str,
    /// What to do about it.
    pub help: &'static str,
}

impl Code {
    /// The row of this code.
    pub fn info(self) -> &'static Info {
        let at = REGISTRY.binary_search_by_key(&(self as u16), |row| row.code as u16);
        &REGISTRY[at.expect("the enum and the registry come from one file")]
    }

    /// The code with this number, if there is one.
    pub fn from_u16(number: u16) -> Option<Self> {
        let at = REGISTRY.binary_search_by_key(&number, |row| row.code as u16).ok()?;
        Some(REGISTRY[at].code)
    }

    /// The number on the wire.
    pub const fn as_u16(self) -> u16 {
        self as u16
    }

    /// The name in snake case.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// One line for people.
    pub fn message(self) -> &'static str {
        self.info().message
    }

    /// What to do about it.
    pub fn help(self) -> &'static str {
        self.info().help
    }

    /// What a client may do.
    pub fn retry(self) -> Retry {
        self.info().retry
    }

    /// Where it appears.
    pub fn scope(self) -> Scope {
        self.info().scope
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.as_u16(), self.name())
    }
}

impl std::error::Error for Code {}
