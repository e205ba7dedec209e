//! Scripted steps: what one waits for and what it does (CONTRACT §7).

use serde::{Deserialize, Serialize};

use super::{FaultKind, LinkWords, MarkName, One, ScenarioError, Shift, Span, Target};

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
    /// Kills a process: a host, or `"owner"` or `"standby"` of `room`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<One<Target>>,
    /// Starts it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<One<Target>>,
    /// Lets a process hang.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<One<Target>>,
    /// Lets what was paused or stalled go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<One<Target>>,
    /// Tells a process to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<One<Target>>,
    /// Holds a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<One<LinkWords>>,
    /// Cuts a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<One<LinkWords>>,
    /// Heals a link that was held, cut, slowed down or silenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal: Option<One<LinkWords>>,
    /// Slows a link down, `by` so much one way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<One<LinkWords>>,
    /// Resets the connections over a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<One<LinkWords>>,
    /// Lets the oldest connection over a link lose everything in silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<One<LinkWords>>,
    /// Lets a client read nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<One<Target>>,
    /// Sets a host's wall clock off `by` so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew: Option<One<Target>>,
    /// Cuts the broker's power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cut: Option<One<Target>>,
    /// Lets the broker's machine come back with an empty disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lose_store: Option<One<Target>>,
    /// Which room `"owner"` or `"standby"` means, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u32>,
    /// How much: for `delay` and `skew`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<One<Shift>>,
    /// Undone after so long; else at the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<One<Span>>,
}

/// An [`Act`]'s one verb with its object.
#[derive(Clone, Copy, Debug)]
pub enum Deed<'a> {
    /// A fault of hosts or clients begins.
    Hosts(FaultKind, &'a Target),
    /// A fault of links begins.
    Links(FaultKind, &'a LinkWords),
    /// A process starts again.
    Restart(&'a Target),
    /// What was paused or stalled goes on.
    Resume(&'a Target),
    /// A link heals.
    Heal(&'a LinkWords),
}

/// Every verb, for error texts.
const VERBS: &str =
    "crash, restart, pause, resume, drain, hold, cut, heal, delay, reset, silence, stall, skew, power_cut, lose_store";

impl Act {
    /// What it does; `None` unless there is exactly one verb.
    pub fn deed(&self) -> Option<Deed<'_>> {
        fn host(kind: FaultKind, target: &Option<One<Target>>) -> Option<Deed<'_>> {
            target.as_ref().map(|One(target)| Deed::Hosts(kind, target))
        }
        fn links(kind: FaultKind, link: &Option<One<LinkWords>>) -> Option<Deed<'_>> {
            link.as_ref().map(|One(link)| Deed::Links(kind, link))
        }
        let mut found = [
            host(FaultKind::Crash, &self.crash),
            self.restart.as_ref().map(|One(target)| Deed::Restart(target)),
            host(FaultKind::Pause, &self.pause),
            self.resume.as_ref().map(|One(target)| Deed::Resume(target)),
            host(FaultKind::Drain, &self.drain),
            links(FaultKind::Hold, &self.hold),
            links(FaultKind::Partition, &self.cut),
            self.heal.as_ref().map(|One(link)| Deed::Heal(link)),
            links(FaultKind::Delay, &self.delay),
            links(FaultKind::Reset, &self.reset),
            links(FaultKind::Silence, &self.silence),
            host(FaultKind::Stall, &self.stall),
            host(FaultKind::Skew, &self.skew),
            host(FaultKind::PowerCut, &self.power_cut),
            host(FaultKind::LoseStore, &self.lose_store),
        ]
        .into_iter()
        .flatten();
        found.next().filter(|_| found.next().is_none())
    }

    /// Every target that it names alone, not as the side of a link.
    pub(crate) fn targets_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        let hosts = [
            &mut self.crash,
            &mut self.restart,
            &mut self.pause,
            &mut self.resume,
            &mut self.drain,
            &mut self.stall,
            &mut self.skew,
            &mut self.power_cut,
            &mut self.lose_store,
        ];
        hosts.into_iter().flatten().map(|One(target)| target)
    }

    /// Every link that it names.
    pub(crate) fn links_mut(&mut self) -> impl Iterator<Item = &mut LinkWords> {
        let links =
            [&mut self.hold, &mut self.cut, &mut self.heal, &mut self.delay, &mut self.reset, &mut self.silence];
        links.into_iter().flatten().map(|One(link)| link)
    }
}

impl Step {
    /// Checks step number `index` (from 0 on) as far as that needs no world.
    pub(super) fn check(&self, index: usize) -> Result<(), ScenarioError> {
        let bad = |what: &str| Err(ScenarioError::Meaning(format!("[[step]] number {}: {what}", index + 1)));
        let When { spine_append, mark, nth, at } = &self.when;
        let waits = usize::from(spine_append.is_some()) + usize::from(mark.is_some()) + usize::from(at.is_some());
        if waits != 1 {
            return bad("`when` waits for exactly one of spine_append, mark, at");
        }
        if nth.is_some() && mark.is_none() {
            return bad("`nth` belongs to `mark`, or stands inside spine_append");
        }
        let Some(deed) = self.r#do.deed() else {
            return bad(&format!("`do` has exactly one of {VERBS}"));
        };
        let role = match deed {
            Deed::Hosts(_, target) | Deed::Restart(target) | Deed::Resume(target) => target.is_role(),
            Deed::Links(_, link) | Deed::Heal(link) => link.left.iter().chain(&link.right).any(Target::is_role),
        };
        if role != self.r#do.room.is_some() {
            return bad("`room` says whose \"owner\" or \"standby\" is meant: both or neither");
        }
        let measured = match deed {
            Deed::Hosts(kind, _) | Deed::Links(kind, _) => kind.has_measure(),
            _ => false,
        };
        if measured != self.r#do.by.is_some() {
            return bad("`by` says how much to delay or skew: it belongs to these two, and they need it");
        }
        Ok(())
    }
}
