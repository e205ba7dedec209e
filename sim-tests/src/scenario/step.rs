//! Scripted steps: what one waits for and what it does (CONTRACT §7).

use serde::{Deserialize, Serialize};

use super::{LinkWords, MarkName, One, ScenarioError, Span, Target};

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

impl Step {
    /// Checks step number `index` (from 0 on) as far as that needs no world.
    pub(super) fn check(&self, index: usize) -> Result<(), ScenarioError> {
        let bad = |what: &str| ScenarioError::Meaning(format!("[[step]] number {}: {what}", index + 1));
        let When { spine_append, mark, nth, at } = &self.when;
        let waits = usize::from(spine_append.is_some()) + usize::from(mark.is_some()) + usize::from(at.is_some());
        if waits != 1 {
            return Err(bad("`when` waits for exactly one of spine_append, mark, at"));
        }
        if nth.is_some() && mark.is_none() {
            return Err(bad("`nth` belongs to `mark`, or stands inside spine_append"));
        }
        let Act { crash, restart, hold, cut, heal, reset, room, .. } = &self.r#do;
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
        Ok(())
    }
}
