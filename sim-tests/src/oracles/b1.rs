//! B1: what no client should send meets its code, and nobody is told a code for nothing.
//!
//! Looks at every ERR and at every answer to a bad command, and, when a connection or the trace is over, at what went
//! unanswered for longer than any trouble of a link lasts, since it was sent and since the client was last silent or stalled
//! by itself. The rate limit comes first: a client that was told 4502 on its connection may be told so for a bad command,
//! too, or nothing if what it sent has no message id.

use std::collections::{BTreeMap, BTreeSet};

use proto::Code;
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

/// How long an answer may be on its way while the connection stands, in microseconds: longer than a link is ever held.
const PATIENCE_US: u64 = 15_000_000;

#[derive(Default)]
pub(super) struct MeetsItsCode {
    /// Per client, in the order of sending.
    waiting: BTreeMap<String, Vec<Waiting>>,
    /// Who was told 4502 on its connection.
    hurried: BTreeSet<String>,
    /// Per client: what is wrong with it alone. One trouble may begin before the last is over.
    troubles: BTreeMap<String, BTreeSet<String>>,
    /// Per client: when the last of that was over.
    well_since: BTreeMap<String, u64>,
    last: u64,
}

struct Waiting {
    n: u64,
    t: u64,
    m: String,
    what: String,
    codes: Vec<u16>,
}

impl MeetsItsCode {
    fn over(&mut self, c: &str, t: u64, found: &mut Findings) {
        let troubled = self.troubles.get(c).is_some_and(|troubles| !troubles.is_empty());
        let well_since = if troubled { t } else { self.well_since.get(c).copied().unwrap_or(0) };
        let hurried = self.hurried.remove(c);
        for Waiting { n, t: sent, m, what, codes } in self.waiting.remove(c).unwrap_or_default() {
            if hurried && m.is_empty() {
                continue;
            }
            found.check("B1", n, t.saturating_sub(sent.max(well_since)) < PATIENCE_US, || {
                format!("{c} sent {what} and was never told any of {codes:?}")
            });
        }
    }
}

impl Oracle for MeetsItsCode {
    fn name(&self) -> &'static str {
        "B1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        self.last = line.t;
        match &line.record {
            Record::Bad { c, m, what, codes } => {
                let (m, what, codes) = (m.clone(), what.clone(), codes.clone());
                self.waiting.entry(c.clone()).or_default().push(Waiting { n: line.n, t: line.t, m, what, codes });
            }
            Record::Told { c, code } => {
                let waiting = self.waiting.entry(c.clone()).or_default();
                if self.hurried.contains(c) {
                    let mine = waiting.iter().position(|waiting| waiting.m.is_empty() && waiting.codes.contains(code));
                    let mut nth = 0;
                    // What came before it was over the limit.
                    waiting.retain(|waiting| {
                        nth += 1;
                        !waiting.m.is_empty() || mine.is_none_or(|mine| nth > mine)
                    });
                }
                let first = waiting.iter().position(|waiting| waiting.m.is_empty()).map(|at| waiting.remove(at));
                let right = first.as_ref().is_some_and(|first| first.codes.contains(code));
                found.check("B1", line.n, right, || match first {
                    Some(first) => format!("{c} sent {} and was told {code}, not {:?}", first.what, first.codes),
                    None => format!("{c} was told {code}, and had sent nothing that explains it"),
                });
            }
            Record::Ack { c, m, code, .. } => {
                let limited = *code == u32::from(Code::RateLimited.as_u16());
                if limited {
                    self.hurried.insert(c.clone());
                }
                let Some(waiting) = self.waiting.get_mut(c) else { return };
                let Some(at) = waiting.iter().position(|waiting| waiting.m == *m) else { return };
                let Waiting { what, codes, .. } = waiting.remove(at);
                let right = limited || u16::try_from(*code).is_ok_and(|code| codes.contains(&code));
                found.check("B1", line.n, right, || format!("{c} sent {what} and was told {code}, not {codes:?}"));
            }
            Record::Fault { id, target, .. } if id.starts_with(&format!("{target}-")) => {
                self.troubles.entry(target.clone()).or_default().insert(id.clone());
            }
            Record::Heal { id } => {
                for (c, troubles) in &mut self.troubles {
                    if troubles.remove(id) {
                        self.well_since.insert(c.clone(), line.t);
                    }
                }
            }
            Record::Open { c, .. } | Record::Shut { c, .. } if !c.contains(".stranger-") => {
                self.over(c, line.t, found);
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for c in self.waiting.keys().cloned().collect::<Vec<_>>() {
            self.over(&c, self.last, found);
        }
    }
}
