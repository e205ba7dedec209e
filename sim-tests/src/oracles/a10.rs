//! A10: at most one answer per PUB frame; every code that a client is told exists.
//!
//! Looks at every ACK, every end of a subscription and every close.

use std::collections::BTreeMap;

use proto::Code;
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle};

#[derive(Default)]
pub(super) struct OneAnswer {
    /// Per (client, message id): frames sent, answers come.
    frames: BTreeMap<(String, String), (u64, u64)>,
}

/// RFC 6455's codes, and ours.
fn close_code(code: u16) -> bool {
    (1000..=1015).contains(&code) || known(code.into())
}

fn known(code: u32) -> bool {
    code == 0 || u16::try_from(code).is_ok_and(|code| Code::from_u16(code).is_some())
}

impl Oracle for OneAnswer {
    fn name(&self) -> &'static str {
        "A10"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        let told = |found: &mut Findings, c: &str, code: u32, holds: bool| {
            found.check("A10", line.n, holds, || format!("{c} was told code {code}, which does not exist"));
        };
        match &line.record {
            Record::Bad { c, m, .. } | Record::Send { c, m, .. } => {
                self.frames.entry((c.clone(), m.clone())).or_default().0 += 1
            }
            Record::Ack { c, m, code, .. } => {
                told(found, c, *code, known(*code));
                let (sent, answered) = self.frames.entry((c.clone(), m.clone())).or_default();
                *answered += 1;
                found.check("A10", line.n, answered <= sent, || {
                    format!("{c} sent command {m} {sent} times and got {answered} answers")
                });
            }
            Record::Unsub { c, code, .. } => told(found, c, *code, known(*code)),
            Record::Shut { c, code, .. } => told(found, c, (*code).into(), close_code(*code)),
            _ => {}
        }
    }
}
