//! What goes wrong: the background nemesis of a scenario, the pinned faults of a plan.

mod kind;

use serde::{Deserialize, Serialize};

use super::{Drawn, LinkWords, One, Shape, Shift, Span, Target};
pub use kind::{Aim, FaultKind};

/// The background nemesis. Each kind has draws of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Messages wait on the link and are all delivered at its end.
    pub hold: Option<LinkFault>,
    /// Messages are lost; at its end the connections that crossed it are reset.
    pub partition: Option<LinkFault>,
    /// Connections are reset at once.
    pub reset: Option<LinkFault>,
    /// Every message takes longer.
    pub delay: Option<DelayFault>,
    /// One connection loses everything, and neither end is told; at the end of the fault it is reset.
    pub silence: Option<LinkFault>,
    /// A process dies and starts again.
    pub crash: Option<HostFault>,
    /// A process hangs, its sockets stay open.
    pub pause: Option<HostFault>,
    /// A process is told to stop and takes leave; it starts again at the end of the fault, killed if it is still there.
    pub drain: Option<HostFault>,
    /// A client reads nothing.
    pub stall: Option<HostFault>,
    /// A client reads slowly, but all the time.
    pub trickle: Option<HostFault>,
    /// The broker disconnects a node as a slow consumer.
    pub slow_consumer: Option<HostFault>,
    /// A host's wall clock is off.
    pub skew: Option<ClockFault>,
    /// A host's wall clock runs away little by little, and is set right at the end.
    pub drift: Option<ClockFault>,
    /// The broker's machine loses power: what was stored and not synced is gone.
    pub power_cut: Option<BrokerFault>,
    /// The broker's machine comes back with an empty disk.
    pub lose_store: Option<BrokerFault>,
    /// The broker stores, and every other PubAck is lost.
    pub lose_ack: Option<BrokerFault>,
    /// The broker stores, and every third message is not republished.
    pub lose_republish: Option<BrokerFault>,
    /// The broker neither stores nor refuses every third append, as a cluster without a majority; at the end it turns out
    /// to be stored.
    pub undecided: Option<BrokerFault>,
    /// The broker answers every third request 503 though somebody listens, as interest lags in a cluster.
    pub no_responders: Option<BrokerFault>,
    /// Somebody who has a Shield's name and password speaks to the broker as that Shield.
    pub captured: Option<HostFault>,
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

/// Slow links.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayFault {
    /// Which.
    pub between: Option<Drawn<LinkWords>>,
    /// The pause between two of them.
    pub every: Option<Drawn<Span>>,
    /// How long.
    pub lasts: Option<Drawn<Span>>,
    /// How much of the link.
    pub shape: Option<Drawn<Shape>>,
    /// How much longer each message takes, one way.
    pub by: Option<Drawn<Shift>>,
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

/// A wrong wall clock.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockFault {
    /// A group (one of it is drawn) or a host.
    pub target: Option<Drawn<Target>>,
    /// The pause between two of them.
    pub every: Option<Drawn<Span>>,
    /// How long; then the clock is right again, by one more step.
    pub lasts: Option<Drawn<Span>>,
    /// How far it is off, at once or in the end.
    pub by: Option<Drawn<Shift>>,
}

/// One fault, in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its name in the trace.
    pub id: String,
    /// What.
    pub kind: FaultKind,
    /// A host, a client, or the two sides of a link, all by name.
    pub target: String,
    /// Virtual time.
    pub at: One<Span>,
    /// How long.
    pub lasts: One<Span>,
    /// How much, where the kind asks for it: `delay`, `skew`, `drift`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<One<Shift>>,
}
