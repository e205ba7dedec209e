//! What scripted steps can wait for or aim at, as the trace tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use voltron_core::trace::{Line, Record};

use crate::plan::WorldPlan;
use crate::scenario::{NthAppend, One, When};

#[derive(Debug, Default)]
pub(super) struct Watch {
    owners: BTreeMap<String, String>,
    appends: BTreeMap<String, u64>,
    marks: BTreeMap<String, u64>,
}

impl Watch {
    pub(super) fn note(&mut self, line: &Line) {
        match &line.record {
            Record::Owned { room, .. } => {
                self.owners.insert(room.clone(), line.host.clone());
            }
            Record::Append { subject, .. } => {
                if let Some(room) = log_room(subject) {
                    *self.appends.entry(room).or_default() += 1;
                }
            }
            Record::Mark { name } => *self.marks.entry(name.clone()).or_default() += 1,
            _ => {}
        }
    }

    /// Who owned the room last.
    pub(super) fn owner(&self, room: &str) -> Option<&str> {
        self.owners.get(room).map(String::as_str)
    }

    pub(super) fn has(&self, when: &When, now: Duration, world: &WorldPlan) -> bool {
        match when {
            When { at: Some(One(at)), .. } => at.0 <= now,
            When { spine_append: Some(NthAppend { room, nth }), .. } => {
                self.appends.get(&world.room(*room)).is_some_and(|appends| appends >= nth)
            }
            When { mark: Some(mark), nth, .. } => {
                self.marks.get(&mark.0).is_some_and(|reached| *reached >= nth.unwrap_or(1))
            }
            _ => false,
        }
    }
}

/// `tenant/room` of a log subject.
fn log_room(subject: &str) -> Option<String> {
    let (tenant, room) = subject.strip_prefix("log.")?.split_once(".t.")?.1.split_once(".r.")?;
    Some(format!("{tenant}/{room}"))
}
