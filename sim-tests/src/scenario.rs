//! Scenario files: what a world holds, what its clients do, and what goes wrong.
//!
//! A plain value is pinned, `"a..b"` or a list is drawn from the seed, a field left out is swarmed (drawn from a wide
//! range, or off altogether), an empty `[faults]` means none. Unknown keys are errors. All oracles are always on: a
//! file may excuse one by name, with a reason. A drawn [`Plan`](crate::plan::Plan) is a scenario file, too.
//!
//! ```
//! let text = r#"
//!     about = "Two Shields, one Brain that crashes."
//!     [world]
//!     shields = 2
//!     clients = "4..8"
//!     [faults.crash]
//!     target = "brain"
//!     every  = "5s..10s"
//!     lasts  = "1s"
//! "#;
//! let scenario = sim_tests::scenario::Scenario::parse(text).unwrap();
//! let plan = scenario.plan("example", 7).unwrap();
//! assert_eq!(plan.world.shields, 2);
//! let wrong = sim_tests::scenario::Scenario::parse("about = ''\n[world]\nshilds = 2").unwrap_err();
//! assert_eq!(wrong.to_string(), "line 3, column 1: unknown field `shilds`; did you mean `shields`?");
//! ```

mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use words::{Drawn, LinkWords, MarkName, One, OracleName, Shape, Span, Target, Word};

/// A scenario as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What this is about, for people.
    pub about: String,
    /// The seed of the run, in a plan; a scenario has none.
    pub seed: Option<u64>,
    /// What the world holds.
    #[serde(default)]
    pub world: World,
    /// What clients do.
    #[serde(default)]
    pub traffic: Traffic,
    /// The background nemesis; left out: swarmed.
    pub faults: Option<Faults>,
    /// Scripted steps.
    #[serde(default)]
    pub step: Vec<Step>,
    /// What CI's seeds must reach.
    #[serde(default)]
    pub expect: Expect,
    /// Oracles whose objections do not fail the run, each with the reason.
    #[serde(default)]
    pub excuse: BTreeMap<OracleName, String>,
    /// A piece of `arqon.toml`, for every process of the world: it may shrink durations.
    pub config: Option<toml::Table>,
    /// Pinned operations, in a plan; left out: drawn from `[traffic]`.
    pub op: Option<Vec<Op>>,
    /// Pinned faults, in a plan; left out: drawn from `[faults]`.
    pub fault: Option<Vec<Fault>>,
}

/// What the world holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// 1..=8.
    pub shields: Option<Drawn<u32>>,
    /// 1..=8.
    pub brains: Option<Drawn<u32>>,
    /// 1..=8.
    pub tenants: Option<Drawn<u32>>,
    /// Rooms of each tenant, 1..=64.
    pub rooms: Option<Drawn<u32>>,
    /// 1..=512, farmed into two hosts.
    pub clients: Option<Drawn<u32>>,
    /// How long the phase with faults lasts, at most 10m.
    pub run: Option<Drawn<Span>>,
    /// How long everything has to converge afterwards, at most 5m.
    pub settle: Option<Drawn<Span>>,
}

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

/// A scripted step: waits for an event, then acts, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it waits for.
    pub when: When,
    /// What it does.
    pub r#do: Act,
}

/// What a step waits for: exactly one of `spine_append`, `mark`, `at`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The nth append to the log of a room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spine_append: Option<NthAppend>,
    /// A mark, `nth` time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<MarkName>,
    /// Which one; 1 is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Virtual time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<One<Span>>,
}

/// The nth append to a room's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NthAppend {
    /// From 1 on, over all tenants.
    pub room: u32,
    /// From 1 on.
    pub nth: u64,
}

/// What a step does: exactly one verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Kills a process: a host, or `"owner"` of `room`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<One<Target>>,
    /// Starts it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<One<Target>>,
    /// Holds a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<One<LinkWords>>,
    /// Cuts a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<One<LinkWords>>,
    /// Heals a link that was held or cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal: Option<One<LinkWords>>,
    /// Resets the connections over a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<One<LinkWords>>,
    /// Which room `"owner"` means, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u32>,
    /// Undone after so long; else at the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<One<Span>>,
}

/// What the seeds that CI runs must reach, all together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Marks.
    #[serde(default)]
    pub reached: Vec<MarkName>,
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

/// Why a scenario file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Its text is wrong at one place.
    #[error("line {line}, column {column}: {what}")]
    Text {
        /// From 1 on.
        line: usize,
        /// From 1 on, in characters.
        column: usize,
        /// What is wrong, and what to do.
        what: String,
    },
    /// It contradicts itself.
    #[error("{0}")]
    Meaning(String),
    /// It cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl Scenario {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ScenarioError::Io { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(&text)
    }

    /// Parses and checks a text.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| placed(text, &error))?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        for (index, step) in self.step.iter().enumerate() {
            let bad = |what: &str| ScenarioError::Meaning(format!("[[step]] number {}: {what}", index + 1));
            let When { spine_append, mark, nth, at } = &step.when;
            let waits = usize::from(spine_append.is_some()) + usize::from(mark.is_some()) + usize::from(at.is_some());
            if waits != 1 {
                return Err(bad("`when` waits for exactly one of spine_append, mark, at"));
            }
            if nth.is_some() && mark.is_none() {
                return Err(bad("`nth` belongs to `mark`, or stands inside spine_append"));
            }
            let Act { crash, restart, hold, cut, heal, reset, room, .. } = &step.r#do;
            let hosts = [crash, restart];
            let links = [hold, cut, heal, reset];
            let verbs =
                hosts.iter().filter(|verb| verb.is_some()).count() + links.iter().filter(|verb| verb.is_some()).count();
            if verbs != 1 {
                return Err(bad("`do` has exactly one of crash, restart, hold, cut, heal, reset"));
            }
            let names_owner = hosts.iter().any(|verb| verb.as_ref().is_some_and(|target| target.0.0 == "owner"));
            if names_owner != room.is_some() {
                return Err(bad("`room` says whose \"owner\" is meant: both or neither"));
            }
        }
        for (oracle, reason) in &self.excuse {
            if reason.trim().is_empty() {
                return Err(ScenarioError::Meaning(format!("[excuse] {} needs a reason", oracle.0)));
            }
        }
        Ok(())
    }
}

impl Serialize for One<Target> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.0)
    }
}

impl Serialize for One<LinkWords> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
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

/// A TOML error with its place, and the nearest known key for an unknown one.
fn placed(text: &str, error: &toml::de::Error) -> ScenarioError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message();
    // serde says: unknown field `x`, expected one of `a`, `b` (or: expected `a` or `b`).
    let what = match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((unknown, rest)) => {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let hint = did_you_mean(unknown, known.iter().copied());
            let hint = if hint.is_empty() { format!("; there are {}", known.join(", ")) } else { hint };
            format!("unknown field `{unknown}`{hint}")
        }
        None => message.to_owned(),
    };
    ScenarioError::Text { line, column, what }
}

/// `; did you mean `x`?` if something near is known, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}
