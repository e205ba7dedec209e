//! NATS subjects as newtypes. Each constructor takes parsed ids, so no subject can be built from unchecked text; the
//! one door for text from the network ([`Subject::from_wire`]) checks the shape NATS demands.
//!
//! | subject | written by | read by |
//! | --- | --- | --- |
//! | `in.t.T.r.R` | Shields | the room's owner |
//! | `log.{p}.t.T.r.R` | the room's owner, fenced | JetStream, which republishes it to `out.t.T.r.R` |
//! | `out.t.T.r.R` | JetStream; the owner (not stored) | Shields |
//! | `snap.{p}.t.T.r.R` | the room's owner, fenced | the next owner |
//! | `gen.{i}` | the first owner of stream `LOG_i` | owners |
//! | `open.t.T` | Shields | one Brain of the queue group `brain` |

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::id::{NodeId, RoomKey, TenantId, UserId};

/// The queue group of `open.t.*`.
pub const OPEN_QUEUE: &str = "brain";
/// How many partitions the log has, for ever.
pub const PARTITIONS: u32 = 256;

/// A concrete subject: no wildcards. Cloning does not allocate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Bytes);

/// A subject that may hold wildcards, for subscriptions. Cloning does not allocate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Bytes);

/// A JetStream stream's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(String);

/// Why a text is no subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a subject: tokens separated by single dots, no spaces, no control characters, no wildcards, at most 512 bytes"
)]
pub struct SubjectError;

/// `Bytes` made from a `Vec` allocates at its *first* clone; take that here, once, so that the hot path never does.
fn promoted(text: String) -> Bytes {
    let bytes = Bytes::from(text.into_bytes());
    drop(bytes.clone());
    bytes
}

/// Partition of a room: the first 8 bits of SHA-256(tenant ‖ 0 ‖ room).
pub fn partition(room: &RoomKey) -> u8 {
    room_digest(room)[0]
}

/// `hash64(tenant, room)` of heartbeats' tails: the first 8 bytes of the same digest, little-endian.
pub fn room_hash(room: &RoomKey) -> u64 {
    let digest = room_digest(room);
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

fn room_digest(room: &RoomKey) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(room.tenant.as_str().as_bytes());
    hash.update([0]);
    hash.update(room.room.as_str().as_bytes());
    hash.finalize().into()
}

/// Which of `count` log streams holds partition `p`: ranges of equal size. `count` is 1..=256.
pub fn stream_index(p: u8, count: u32) -> u32 {
    u32::from(p) * count.clamp(1, PARTITIONS) / PARTITIONS
}

/// The partitions that log stream `index` of `count` holds.
pub fn stream_partitions(index: u32, count: u32) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(move |p| stream_index(*p, count) == index)
}

impl Subject {
    /// Commands to a room.
    pub fn input(room: &RoomKey) -> Self {
        Self(promoted(format!("in.t.{}.r.{}", room.tenant, room.room)))
    }
    /// What a room says: republished entries and live events.
    pub fn output(room: &RoomKey) -> Self {
        Self(promoted(format!("out.t.{}.r.{}", room.tenant, room.room)))
    }
    /// A room's log.
    pub fn log(room: &RoomKey) -> Self {
        Self(promoted(format!("log.{}.t.{}.r.{}", partition(room), room.tenant, room.room)))
    }
    /// A room's snapshots.
    pub fn snapshot(room: &RoomKey) -> Self {
        Self(promoted(format!("snap.{}.t.{}.r.{}", partition(room), room.tenant, room.room)))
    }
    /// The generation of log stream `index`.
    pub fn generation(index: u32) -> Self {
        Self(promoted(format!("gen.{index}")))
    }
    /// Asks for a room to be opened.
    pub fn open(tenant: &TenantId) -> Self {
        Self(promoted(format!("open.t.{tenant}")))
    }
    /// Forwards an open to the node that should take it.
    pub fn open_at(node: &NodeId) -> Self {
        Self(promoted(format!("sys.n.brain.{node}.open")))
    }
    /// A Shield's heartbeat.
    pub fn heartbeat_shield(node: &NodeId) -> Self {
        Self(promoted(format!("sys.n.hb.shield.{node}")))
    }
    /// A Brain's heartbeat.
    pub fn heartbeat_brain(node: &NodeId) -> Self {
        Self(promoted(format!("sys.n.hb.brain.{node}")))
    }
    /// A presence partition's deltas.
    pub fn presence(p: u8) -> Self {
        Self(promoted(format!("pres.{p}")))
    }
    /// A tenant-wide ban, last value.
    pub fn ban(tenant: &TenantId, user: &UserId) -> Self {
        Self(promoted(format!("ban.t.{tenant}.u.{user}")))
    }
    /// A Shield's prebuilt reply slot.
    pub fn reply_slot(shield: &NodeId, slot: u16) -> Self {
        Self(promoted(format!("_INBOX.s.{shield}.{slot}")))
    }
    /// A Brain speaker's inbox.
    pub fn inbox_brain(node: &NodeId, n: u64) -> Self {
        Self(promoted(format!("_INBOX.b.{node}.{n}")))
    }
    /// A Brain writer's inbox.
    pub fn inbox_writer(node: &NodeId, n: u64) -> Self {
        Self(promoted(format!("_INBOX.w.{node}.{n}")))
    }

    /// A subject as it came from the broker. Refused unless NATS itself would publish to it.
    pub fn from_wire(bytes: Bytes) -> Result<Self, SubjectError> {
        if tokens_ok(&bytes, false) { Ok(Self(bytes)) } else { Err(SubjectError) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was built")
    }
    /// The bytes; cloning them does not allocate.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
    /// The slot number, if this is a reply slot of `shield`.
    pub fn slot_of(&self, shield: &NodeId) -> Option<u16> {
        self.as_str().strip_prefix("_INBOX.s.")?.strip_prefix(shield.as_str())?.strip_prefix('.').and_then(number)
    }
    /// The room in `in.…`, `out.…`, `log.…` or `snap.…`.
    pub fn room(&self) -> Option<RoomKey> {
        let text = self.as_str();
        let rest = match text.split_once('.')? {
            ("in" | "out", rest) => rest,
            ("log" | "snap", rest) => {
                let (p, rest) = rest.split_once('.')?;
                number::<u8>(p)?;
                rest
            }
            _ => return None,
        };
        let (tenant, room) = rest.strip_prefix("t.")?.split_once(".r.")?;
        Some(RoomKey::new(tenant.parse().ok()?, room.parse().ok()?))
    }
    /// True for replies a Brain may answer to on `in.…` and `open.…`: `_INBOX.s.{shield}.{slot}`, or
    /// `_INBOX.s.{shield}.{inbox}.{token}` of a single request. Anything else could turn the Brain's answer into a
    /// write of the asker's choosing.
    pub fn is_shield_inbox(&self) -> bool {
        let Some((node, rest)) = self.as_str().strip_prefix("_INBOX.s.").and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        let token = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric());
        node.parse::<NodeId>().is_ok() && rest.split('.').count() <= 2 && rest.split('.').all(token)
    }
}

impl Pattern {
    /// Exactly one subject.
    pub fn exact(subject: &Subject) -> Self {
        Self(subject.0.clone())
    }
    /// Commands to every room: `in.t.*.r.*`.
    pub fn all_input() -> Self {
        Self(Bytes::from_static(b"in.t.*.r.*"))
    }
    /// Opens of every tenant: `open.t.*`.
    pub fn all_opens() -> Self {
        Self(Bytes::from_static(b"open.t.*"))
    }
    /// Control signals of every tenant: `sys.t.*.*`.
    pub fn all_tenant_signals() -> Self {
        Self(Bytes::from_static(b"sys.t.*.*"))
    }
    /// Heartbeats of all nodes: `sys.n.hb.>`.
    pub fn all_heartbeats() -> Self {
        Self(Bytes::from_static(b"sys.n.hb.>"))
    }
    /// Everything addressed to this Brain: `sys.n.brain.{node}.>`.
    pub fn to_brain(node: &NodeId) -> Self {
        Self(promoted(format!("sys.n.brain.{node}.>")))
    }
    /// All reply slots of a Shield.
    pub fn reply_slots(shield: &NodeId) -> Self {
        Self(promoted(format!("_INBOX.s.{shield}.*")))
    }
    /// All inboxes of a Brain's speaker.
    pub fn inboxes_brain(node: &NodeId) -> Self {
        Self(promoted(format!("_INBOX.b.{node}.*")))
    }
    /// Tenant bans of one tenant.
    pub fn bans(tenant: &TenantId) -> Self {
        Self(promoted(format!("ban.t.{tenant}.u.*")))
    }
    /// A pattern from a test, a tool or the broker: the shape NATS demands, wildcards allowed.
    pub fn from_wire(bytes: Bytes) -> Result<Self, SubjectError> {
        if tokens_ok(&bytes, true) { Ok(Self(bytes)) } else { Err(SubjectError) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was built")
    }
    /// The bytes; cloning them does not allocate.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl StreamName {
    /// `LOG_i`.
    pub fn log(index: u32) -> Self {
        Self(format!("LOG_{index}"))
    }
    /// `GEN_i`.
    pub fn generation(index: u32) -> Self {
        Self(format!("GEN_{index}"))
    }
    /// `SNAP`.
    pub fn snapshots() -> Self {
        Self("SNAP".into())
    }
    /// `BAN`.
    pub fn bans() -> Self {
        Self("BAN".into())
    }
    /// The stream that stores `subject` when there are `logs` log streams; `None` for what is not stored.
    pub fn of(subject: &Subject, logs: u32) -> Option<Self> {
        let (head, rest) = subject.as_str().split_once('.')?;
        match head {
            "log" => {
                let p: u8 = number(rest.split_once('.')?.0)?;
                Some(Self::log(stream_index(p, logs)))
            }
            "snap" => Some(Self::snapshots()),
            "gen" => Some(Self::generation(number(rest)?)),
            "ban" => Some(Self::bans()),
            _ => None,
        }
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A number as we write it into a token: digits without sign or leading zero.
fn number<N: std::str::FromStr>(token: &str) -> Option<N> {
    let plain = token.bytes().all(|b| b.is_ascii_digit()) && (token.len() == 1 || !token.starts_with('0'));
    if plain { token.parse().ok() } else { None }
}

/// NATS' rules, and ours: tokens parted by single dots, no white space or control bytes, UTF-8, at most 512 bytes.
fn tokens_ok(bytes: &[u8], wildcards: bool) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if text.is_empty() || text.len() > 512 || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return false;
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let ok = match token {
            "" => false,
            "*" => wildcards,
            ">" => wildcards && tokens.peek().is_none(),
            _ => true,
        };
        if !ok {
            return false;
        }
    }
    true
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
text!(Subject);
text!(Pattern);
text!(StreamName);
