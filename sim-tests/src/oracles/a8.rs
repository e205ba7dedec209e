//! A8: the operations on one room (set and expect, delete, lock, unlock, say, get) are linearizable against a sequential
//! specification written from ROOMS alone (`spec`).
//!
//! Each room is judged by itself when the trace is over. Where the log was read, its order is the one to hold everything
//! to (`order`: exact and cheap); where it was not and some outcome is unknown, an order is searched (`search`), bounded
//! in states. What was sent and never answered stays open to the end: it may take effect at any later time, or never.
//! A new epoch begins a room's history anew, for continuity was lost or could not be proven.

use voltron_core::trace::Line;

use super::{Findings, Oracle};

mod history;
mod order;
mod search;
mod spec;
#[cfg(test)]
mod tests;

use history::{Builder, History, Outcome};
use search::Found;

#[derive(Default)]
pub(super) struct Linearizable {
    builder: Builder,
}

impl Oracle for Linearizable {
    fn name(&self) -> &'static str {
        "A8"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        self.builder.see(line);
    }

    fn end(&mut self, found: &mut Findings) {
        let (histories, contradictions) = std::mem::take(&mut self.builder).end();
        found.violations.extend(contradictions);
        for (room, history) in histories {
            judge(&room, history, found);
        }
    }
}

/// Judges one room's history.
fn judge(room: &str, mut history: History, found: &mut Findings) {
    let open = history.operations.iter().any(|operation| operation.outcome == Outcome::Open);
    if history.logged || !open {
        return order::check(room, &history, found);
    }
    if history.strangers || epochs(&history) > 1 {
        // What stands at a place that nobody named is not known, and forgotten is what was known before it.
        history.lossy = true;
        return order::check(room, &history, found);
    }
    match search::search(&history) {
        Found::Order => found.checks += history.operations.len() as u64,
        Found::Unknown => found.unknown += history.operations.len() as u64,
        Found::None(index) => {
            let stuck = &history.operations[index];
            found.check("A8", stuck.n, false, || {
                let (name, outcome) = (&stuck.name, &stuck.outcome);
                format!("no order of the operations on {room} explains {name} with {outcome:?}, and those before it")
            });
        }
    }
}

fn epochs(history: &History) -> usize {
    let places = history.operations.iter().filter_map(|operation| match operation.outcome {
        Outcome::Stored(at) | Outcome::Read { at, .. } => Some(at.0),
        _ => None,
    });
    places.collect::<std::collections::BTreeSet<u64>>().len()
}
