//! What a history is made of: abstract operations, resolved against the model's state when they are played, so that any
//! of them can be left out and the rest still means something.

mod draw;

pub use draw::history;

/// One history.
#[derive(Clone, Debug)]
pub struct History {
    /// The world it begins in.
    pub setup: Setup,
    /// What happens.
    pub ops: Vec<Op>,
}

/// The world a history begins in.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Nodes that may own rooms.
    pub nodes: u8,
    /// Rooms.
    pub rooms: u8,
    /// Which durations and sizes.
    pub rules: u8,
    /// What the first room's streams hold already.
    pub heritage: Heritage,
    /// The first room is served by the first node when it begins.
    pub served: bool,
}

/// What stands in a room's streams before the first owner comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heritage {
    /// Nothing.
    Empty,
    /// A snapshot with as many keys as a room may have, but one.
    Keys,
    /// A snapshot with nearly as many bytes as a room may have.
    Bytes,
    /// A snapshot whose window of repeats is nearly full.
    Window,
    /// A snapshot of which one user has as many commands in the window as a user may have.
    User,
    /// A tombstone.
    Tombstone,
    /// An owner whose clock was a minute ahead.
    Ahead,
    /// Numbers at their end.
    End,
    /// A newest snapshot that the log does not hold, and an older one that it does.
    Refuted,
    /// Two snapshots, and the log holds neither.
    Unanchored,
}

/// A core: on which node, of which room. Both modulo as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The node.
    pub node: u8,
    /// The room.
    pub room: u8,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Op {
    /// An owner's oldest calls are done and answered, this many.
    Call { at: At, times: u8 },
    /// Everything that is to be called is, until nobody has anything to call.
    Settle,
    /// A request.
    Send { at: At, user: u8, rights: u8, ask: Ask, head: HeadIs, clock: Clock, dress: Dress, to: To, both: bool },
    /// One of every command, alike in everything else.
    Mixed { at: At, rights: u8, head: HeadIs, clock: Clock, known: bool },
    /// The bytes of an earlier request again; `altered`: another command under its id.
    Repeat { at: At, which: u16, altered: bool, both: bool },
    /// An earlier request's bytes, damaged.
    Bad { at: At, which: u16, damage: Damage },
    /// Somebody asks this node to serve the room.
    Open { at: At, create: bool, to: To },
    /// Many requests at once.
    Flood { at: At, of: Many },
    /// An owner's oldest call does not end as it should.
    Lose { at: At, how: Loss },
    /// An append that nobody waits for any more arrives.
    Late { room: u8 },
    /// Something is in the log that this owner did not write.
    Foreign { at: At, entry: Foreign },
    /// The newest messages and all in memory are gone, connections too.
    PowerCut { lost: u8 },
    /// The log stream's generation is gone.
    ForgetGen { room: u8 },
    /// The connection is made again.
    Reconnect { node: u8 },
    /// Time passes, and who wanted to be woken is.
    Pass { ms: u32 },
    /// Time passes until the next that wants to be woken is.
    Rest { times: u8 },
    /// A wake without need.
    Wake { at: At },
    /// A node's wall clock steps.
    Jump { node: u8, ms: i32 },
    /// A process dies; what it has sent may still arrive.
    Crash { node: u8 },
    /// A core is asked to stop.
    Stop { at: At },
    /// The streams are full, or no longer.
    Full { room: u8, full: bool },
    /// An answer to a question that nobody asked, or that is closed.
    Stray { at: At, token: u8 },
    /// The last owner is deposed while some wait behind what it stored since they came.
    Deposed { at: At },
    /// Commands of each kind that fit no entry.
    Huge { at: At },
    /// One of every command by who may not write, while the room is locked.
    Locked { at: At },
    /// One of every command to a core that is asked to stop before it serves.
    Stopped { at: At },
    /// Bytes seen in this history, damaged, through the codecs.
    Code { which: u16, name: u8, damage: Damage },
    /// Bytes seen in this history, damaged, through the gate of what Shields forward.
    Forward { which: u16, damage: Damage },
    /// A heartbeat.
    Beat { node: u8, from: u8, incarnation: u8, kind: u8, draining: bool, cut: u8 },
    /// Who should serve a room?
    Rank { node: u8, room: u8, last: Option<u8> },
}

/// What is asked of a room.
#[derive(Clone, Debug)]
pub enum Ask {
    Say {
        bytes: u32,
        word: u8,
    },
    Shout {
        bytes: u32,
        word: u8,
    },
    Set {
        key: u8,
        bytes: u32,
        ttl_ms: u64,
        expect: Expect,
        shout: bool,
    },
    Delete {
        key: u8,
        expect: Expect,
        shout: bool,
    },
    Lock {
        mode: u8,
        reason: u16,
        ttl_ms: u64,
    },
    Unlock {
        force: bool,
    },
    /// What this version does not offer yet, by number.
    Later(u8),
    /// A command without an operation.
    Nothing,
    Get,
    Sync {
        since: Since,
        history: u16,
        cursor: CursorIs,
        leave_only: bool,
    },
    /// A signal that asks nothing.
    Silence,
}

/// The version that a command expects.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Any,
    Absent,
    Right,
    Wrong,
}

/// `if_head`.
#[derive(Clone, Copy, Debug)]
pub enum HeadIs {
    Any,
    Right,
    Wrong,
}

/// A command's timestamp, from the world's clock.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// So many ms off.
    Off(i32),
    /// Too old to judge.
    Old,
    First,
    Last,
}

/// What else an envelope carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    Plain,
    /// A trace, a signature, a key, a redaction.
    Full,
    /// Fields of a later version.
    Foreign,
    /// One of them larger than an entry.
    Huge,
}

/// Where an answer is asked for.
#[derive(Clone, Copy, Debug)]
pub enum To {
    Slot,
    Single,
    Brain,
    Log,
    Nowhere,
    Odd(u8),
}

/// Where a SUB resumes.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    Never,
    /// So many events ago.
    Back(u8),
    Ahead,
    OtherEpoch,
}

/// The asking Shield's own cursor.
#[derive(Clone, Copy, Debug)]
pub enum CursorIs {
    Absent,
    Right,
    Ahead,
    OtherChain,
    OlderEpoch,
    Beyond,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    None,
    Cut(u16),
    Flip {
        at: u16,
        mask: u8,
    },
    Insert {
        at: u16,
        byte: u8,
    },
    Double,
    /// A field of this number at the end.
    Field(u16),
    /// Many unknown fields at the end.
    Many(u8),
    /// Named faults of an envelope.
    Fault(u8),
}

/// A flood.
#[derive(Clone, Copy, Debug)]
pub enum Many {
    Gets,
    Opens,
    Says(u16),
    Big(u8),
}

/// How a call ends badly.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Done, and the answer lost.
    Unheard,
    /// Not done.
    Never,
    /// Not done yet.
    Later,
    /// Not done, and called beaten.
    Beaten,
    /// Done, and called beaten.
    BeatenByItself,
    /// Surely not done: no room left.
    Full,
    /// Surely not done: not now.
    Unavailable,
    /// Surely not done: larger than is taken.
    TooBig,
    /// Read from a leader that is behind.
    Stale(u8),
}

/// What others write into a room's log.
#[derive(Clone, Copy, Debug)]
pub enum Foreign {
    TakeOver,
    SameTerm,
    Tombstone,
    End,
    LowerTerm,
    WrongChain,
    WrongPrev,
    UnknownKind,
    Garbage,
    Empty,
}
