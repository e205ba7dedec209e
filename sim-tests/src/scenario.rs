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

mod error;
mod faults;
mod step;
mod traffic;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use error::did_you_mean;
use error::placed;

pub use crate::twin::Twin;
pub use error::ScenarioError;
pub use faults::{Aim, BrokerFault, ClockFault, DelayFault, Fault, FaultKind, Faults, HostFault, LinkFault};
pub use step::{Act, Deed, NthAppend, Step, When};
pub use traffic::{Op, Traffic, Verb};
pub use words::{ANY_CLIENT, Drawn, LinkWords, MarkName, One, OracleName, Shape, Shift, Span, Target, Word};

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
    /// Runs twice and compares what the others saw (T2). Each room then has one writer, and only the one who is not there
    /// in the twin run sends what no client should.
    pub twin: Option<Twin>,
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
    /// How often the broker syncs what it stored, at most 2m: a power cut loses what is younger.
    pub sync: Option<Drawn<Span>>,
    /// How much longer than usual a message between a Brain and the broker takes, one way, until the world ends, at most
    /// 500ms; left out: no longer.
    pub distance: Option<Drawn<Span>>,
    /// A text or a value is longer by up to so many bytes, at most 12,000; left out: all are short.
    pub padding: Option<Drawn<u32>>,
}

/// What the seeds that CI runs must reach, all together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Marks.
    #[serde(default)]
    pub reached: Vec<MarkName>,
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
        self.step.iter().enumerate().try_for_each(|(index, step)| step.check(index))?;
        if self.twin.as_ref().is_some_and(|twin| twin.silence.is_some() == twin.stall.is_some()) {
            return Err(ScenarioError::Meaning("[twin] has exactly one of silence, stall".to_owned()));
        }
        for (oracle, reason) in &self.excuse {
            if reason.trim().is_empty() {
                return Err(ScenarioError::Meaning(format!("[excuse] {} needs a reason", oracle.0)));
            }
        }
        Ok(())
    }
}
