//! Kinds of faults, and what each strikes.

use serde::{Deserialize, Serialize};

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Messages wait.
    Hold,
    /// Messages are lost both ways.
    Partition,
    /// Messages from the left side are lost.
    OneWay,
    /// Connections are reset.
    Reset,
    /// Messages take longer.
    Delay,
    /// One connection loses everything in silence.
    Silence,
    /// A process dies.
    Crash,
    /// A process hangs.
    Pause,
    /// A process takes leave.
    Drain,
    /// A client reads nothing.
    Stall,
    /// A client reads slowly.
    Trickle,
    /// The broker disconnects a node.
    SlowConsumer,
    /// A wall clock is off.
    Skew,
    /// A wall clock runs away.
    Drift,
    /// The broker's machine loses power.
    PowerCut,
    /// The broker's machine comes back with an empty disk.
    LoseStore,
    /// PubAcks are lost.
    LoseAck,
    /// Republished messages are lost.
    LoseRepublish,
    /// Appends hang, and turn out to be stored.
    Undecided,
    /// Requests are answered 503 though somebody listens.
    NoResponders,
    /// Somebody speaks to the broker in a Shield's name.
    Captured,
}

/// What a kind of fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Links between hosts.
    Links,
    /// Connections between hosts, or those of one client.
    Connections,
    /// A process of the system.
    Process,
    /// A Shield or a Brain.
    Node,
    /// A Shield.
    Shield,
    /// One client.
    Client,
    /// Any host's wall clock.
    Clock,
    /// The broker.
    Broker,
}

impl Aim {
    /// What the target of such a fault must be, for error texts.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Links => "a link such as \"brain-1 | broker\"",
            Self::Connections => "a link such as \"brain-1 | broker\" or \"client-3 | shield-1\"",
            Self::Process => "a Shield, a Brain or the broker",
            Self::Node => "a Shield or a Brain",
            Self::Shield => "a Shield",
            Self::Client => "a client such as \"client-3\"",
            Self::Clock => "a host",
            Self::Broker => "\"broker\"",
        }
    }

    /// True if its target has two sides.
    pub const fn has_sides(self) -> bool {
        matches!(self, Self::Links | Self::Connections)
    }
}

impl FaultKind {
    /// What it strikes.
    pub const fn aim(self) -> Aim {
        match self {
            Self::Hold | Self::Partition | Self::OneWay | Self::Delay => Aim::Links,
            Self::Reset | Self::Silence => Aim::Connections,
            Self::Crash | Self::Pause => Aim::Process,
            Self::Drain | Self::SlowConsumer => Aim::Node,
            Self::Captured => Aim::Shield,
            Self::Stall | Self::Trickle => Aim::Client,
            Self::Skew | Self::Drift => Aim::Clock,
            Self::PowerCut
            | Self::LoseStore
            | Self::LoseAck
            | Self::LoseRepublish
            | Self::Undecided
            | Self::NoResponders => Aim::Broker,
        }
    }

    /// True if it says how much: `by`.
    pub const fn has_measure(self) -> bool {
        matches!(self, Self::Delay | Self::Skew | Self::Drift)
    }

    /// Its name in the trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Reset => "reset",
            Self::Delay => "delay",
            Self::Silence => "silence",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Stall => "stall",
            Self::Trickle => "trickle",
            Self::SlowConsumer => "slow-consumer",
            Self::Skew => "skew",
            Self::Drift => "drift",
            Self::PowerCut => "power-cut",
            Self::LoseStore => "lose-store",
            Self::LoseAck => "lose-ack",
            Self::LoseRepublish => "lose-republish",
            Self::Undecided => "undecided",
            Self::NoResponders => "no-responders",
            Self::Captured => "captured",
        }
    }
}
