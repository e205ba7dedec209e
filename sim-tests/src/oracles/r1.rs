//! R1: at rest nothing is left over.
//!
//! Once the clients have gone home and everything that lingers has had its time, each process holds what it holds when it
//! was asked for nothing: reply slots, questions, opens, followed rooms, subscriptions, tasks, sockets. Looks at every
//! `held` record.

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

#[derive(Default)]
pub(super) struct NothingLeft;

impl Oracle for NothingLeft {
    fn name(&self) -> &'static str {
        "R1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        if let Record::Held { name, len, rest } = &line.record {
            found.check("R1", line.n, len <= rest, || {
                format!("{} holds {len} {name} after its last client has gone, and {rest} at rest", line.host)
            });
        }
    }
}
