//! A10: at most one answer per PUB frame; every code that a client is told exists; and what was surely not applied is not:
//! a command whose every frame was refused with 6002 or 6003 is not in the log, and one whose earlier frames all were is
//! no repeat.
//!
//! Looks at every ACK, every end of a subscription, every close, and every commit of the log.

use std::collections::BTreeMap;

use proto::Code;
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log};

#[derive(Default)]
pub(super) struct OneAnswer {
    /// By (message id, client).
    frames: BTreeMap<(String, String), Frames>,
}

#[derive(Default)]
struct Frames {
    sent: u64,
    answered: u64,
    /// Refused as surely not applied.
    denied: u64,
    /// The last answer's record.
    n: u64,
}

/// RFC 6455's codes, and ours.
fn close_code(code: u16) -> bool {
    (1000..=1015).contains(&code) || known(code.into())
}

fn known(code: u32) -> bool {
    code == 0 || u16::try_from(code).is_ok_and(|code| Code::from_u16(code).is_some())
}

fn surely_not(code: u32) -> bool {
    [Code::NotApplied, Code::LogFull].iter().any(|one| u32::from(one.as_u16()) == code)
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
                self.frames.entry((m.clone(), c.clone())).or_default().sent += 1;
            }
            Record::Ack { c, m, code, dup, .. } => {
                told(found, c, *code, known(*code));
                let frames = self.frames.entry((m.clone(), c.clone())).or_default();
                let earlier = frames.answered;
                frames.answered += 1;
                frames.n = line.n;
                let Frames { sent, answered, denied, .. } = *frames;
                found.check("A10", line.n, answered <= sent, || {
                    format!("{c} sent command {m} {sent} times and got {answered} answers")
                });
                let repeats = *dup && *code == 0;
                // Something may have applied it: a frame that is open still, or one that was not surely refused.
                let applied = earlier == 0 || denied < earlier || sent > answered;
                found.check("A10", line.n, !repeats || applied, || {
                    format!("{c} was told that command {m} repeats what was {denied} times surely not applied")
                });
                frames.denied += u64::from(surely_not(*code));
            }
            Record::Unsub { c, code, .. } => told(found, c, *code, known(*code)),
            Record::Shut { c, code, .. } => told(found, c, (*code).into(), close_code(*code)),
            Record::Commit { room, m, .. } if is_log(line) && !m.is_empty() => {
                let from = (m.clone(), String::new());
                for ((_, c), frames) in self.frames.range(from..).take_while(|((other, _), _)| other == m) {
                    found.check("A10", frames.n, frames.denied < frames.sent, || {
                        format!("{c} was told that command {m} is surely not applied, but the log of {room} holds it")
                    });
                }
            }
            _ => {}
        }
    }
}
