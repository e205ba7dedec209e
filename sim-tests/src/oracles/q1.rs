//! Q1: every queue stays within its stated bound. Looks at every `queue` record.

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

#[derive(Default)]
pub(super) struct Bounded;

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "Q1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        if let Record::Queue { name, len, cap } = &line.record {
            found
                .check("Q1", line.n, len <= cap, || format!("{name} of {} holds {len}, its bound is {cap}", line.host));
        }
    }
}
