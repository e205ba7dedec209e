//! Identifiers as newtypes. Parsing is the only way in, so nothing that reaches a subject can hold `.`, `*`, `>`,
//! a space or a line break.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be [A-Za-z0-9][A-Za-z0-9_-]{{0,{}}}", max - 1)]
pub struct IdError {
    what: &'static str,
    max: usize,
}

/// True for `[A-Za-z0-9][A-Za-z0-9_-]{0,max-1}`.
pub fn is_id(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.first(), Some(first) if first.is_ascii_alphanumeric())
        && bytes.len() <= max
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest accepted text, in bytes.
            pub const MAX: usize = $max;

            /// Checks `text` and takes a copy of it.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if is_id(text, Self::MAX) { Ok(Self(text.into())) } else { Err(IdError { what: $what, max: Self::MAX }) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(/// A customer: the outermost wall of isolation. At most 64 bytes.
    TenantId, "a tenant id", 64);
id!(/// A room's name within its tenant. At most 128 bytes.
    RoomId, "a room id", 128);
id!(/// A user's name within its tenant. At most 128 bytes.
    UserId, "a user id", 128);
id!(/// The name of one of our own processes. At most 64 bytes.
    NodeId, "a node id", 64);

/// A room anywhere: tenant and room.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey {
    /// Whose room it is.
    pub tenant: TenantId,
    /// Its name there.
    pub room: RoomId,
}

impl RoomKey {
    /// From parts that were parsed before.
    pub const fn new(tenant: TenantId, room: RoomId) -> Self {
        Self { tenant, room }
    }
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.room)
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A command's idempotency key: 16 bytes, unique per user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// From exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
