//! What goes wrong: the background nemesis of a scenario, the pinned faults of a plan.

use serde::{Deserialize, Serialize};

use super::{Drawn, LinkWords, One, Shape, Span, Target};

/// The background nemesis.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Messages wait on the link and are all delivered at its end.
    pub hold: Option<LinkFault>,
    /// Messages are lost; at its end the connections that crossed it are reset.
    pub partition: Option<LinkFault>,
    /// Connections are reset at once.
    pub reset: Option<LinkFault>,
    /// A process dies and starts again.
    pub crash: Option<HostFault>,
    /// The broker stores, and every other PubAck is lost.
    pub lose_ack: Option<BrokerFault>,
    /// The broker stores, and every third message is not republished.
    pub lose_republish: Option<BrokerFault>,
    /// The broker neither stores nor refuses every third append, as a cluster without a majority; at the end it turns out
    /// to be stored.
    pub undecided: Option<BrokerFault>,
}

/// A fault of the broker itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerFault {
    /// The pause between two of them.
    pub every: Option<Drawn<Span>>,
    /// How long.
    pub lasts: Option<Drawn<Span>>,
}

/// A fault of links.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFault {
    /// Which.
    pub between: Option<Drawn<LinkWords>>,
    /// The pause between two of them.
    pub every: Option<Drawn<Span>>,
    /// How long.
    pub lasts: Option<Drawn<Span>>,
    /// How much of the link.
    pub shape: Option<Drawn<Shape>>,
}

/// A fault of processes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFault {
    /// A group (one of it is drawn) or a host.
    pub target: Option<Drawn<Target>>,
    /// The pause between two of them.
    pub every: Option<Drawn<Span>>,
    /// How long.
    pub lasts: Option<Drawn<Span>>,
}

/// One fault, in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its name in the trace.
    pub id: String,
    /// What.
    pub kind: FaultKind,
    /// A host, or the two sides of a link, all by name.
    pub target: String,
    /// Virtual time.
    pub at: One<Span>,
    /// How long.
    pub lasts: One<Span>,
}

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
    /// A process dies.
    Crash,
    /// PubAcks are lost.
    LoseAck,
    /// Republished messages are lost.
    LoseRepublish,
    /// Appends hang, and turn out to be stored.
    Undecided,
}

impl FaultKind {
    /// True if it strikes a link and not a host.
    pub const fn of_links(self) -> bool {
        matches!(self, Self::Hold | Self::Partition | Self::OneWay | Self::Reset)
    }

    /// Its name in the trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Reset => "reset",
            Self::Crash => "crash",
            Self::LoseAck => "lose-ack",
            Self::LoseRepublish => "lose-republish",
            Self::Undecided => "undecided",
        }
    }
}
