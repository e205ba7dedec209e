//! The judge of every message, as a trait: the Shield knows only this. The Wasm host that implements it in production
//! lives behind the `policy` folder.

use proto::{Rights, RoomId, TenantId, UserId};

/// What is judged: the identity that the Shield verified, and the raw envelope.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// From the token.
    pub tenant: &'a TenantId,
    /// From the token.
    pub user: &'a UserId,
    /// From the envelope, parsed.
    pub room: &'a RoomId,
    /// Granted for this room.
    pub rights: Rights,
    /// The Shield's wall clock, ms.
    pub now_ms: i64,
    /// True if the envelope carries a signature that verified.
    pub signed: bool,
    /// The canonical envelope as received.
    pub envelope: &'a [u8],
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on unchanged.
    Allow,
    /// Refused; `reason` is the policy's own number.
    Deny {
        /// The policy's own number.
        reason: u16,
    },
    /// `out` holds a new command (field 20's bytes); the signature is emptied.
    Redact,
    /// Refused for now.
    RateLimited {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// Neither goes on nor is answered.
    Drop,
    /// The policy itself failed: refused (fail closed).
    Fault,
}

/// Judges messages. Called on the hot path: must not block and must not allocate for an ordinary verdict.
pub trait Overseer: Send + Sync + 'static {
    /// One verdict. `out` is empty on entry and read only after [`Verdict::Redact`].
    fn judge(&self, input: &Judged<'_>, out: &mut Vec<u8>) -> Verdict;
    /// First 8 bytes of the sha256 of the policy in force; empty for none.
    fn version(&self) -> &[u8] {
        &[]
    }
}

/// `[policy] default = "none"`: everything passes. It must be written out in the configuration and is logged at start.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Overseer for AllowAll {
    fn judge(&self, _input: &Judged<'_>, _out: &mut Vec<u8>) -> Verdict {
        Verdict::Allow
    }
}
