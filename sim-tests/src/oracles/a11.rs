//! A11: commands of one connection to one room apply in order while every answer is code 0.
//!
//! Compared are commands that were sent once, on this connection, and acknowledged with code 0 before anything else was
//! said; a repeat or another code ends the stretch, for then later ones in flight may have come first. Looks at every
//! pair of neighbours.

use std::collections::BTreeMap;

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, place};

#[derive(Default)]
pub(super) struct InOrder {
    /// Per (client, room): the stretch that is going on.
    stretches: BTreeMap<(String, String), Stretch>,
    /// Every message id that a client ever sent: a second time it is a repeat.
    known: BTreeMap<(String, String), ()>,
}

#[derive(Default)]
struct Stretch {
    /// Message ids in the order of their sending.
    sent: Vec<String>,
    places: BTreeMap<String, (u64, (u64, u64))>,
}

impl Stretch {
    /// Judges what was answered, and begins anew.
    fn close(&mut self, c: &str, room: &str, found: &mut Findings) {
        let Self { sent, places } = std::mem::take(self);
        let answered: Vec<_> = sent.iter().filter_map(|m| places.get(m).map(|at| (m, *at))).collect();
        for pair in answered.windows(2) {
            let [(first, (_, before)), (second, (n, after))] = pair else { continue };
            found.check("A11", *n, before < after, || {
                format!(
                    "{c} sent {first} before {second} to {room}, but they stand at {} and {}",
                    place(*before),
                    place(*after)
                )
            });
        }
    }
}

impl InOrder {
    fn close_all(&mut self, client: &str, found: &mut Findings) {
        for ((c, room), stretch) in self.stretches.iter_mut().filter(|((c, _), _)| c == client) {
            stretch.close(c, room, found);
        }
    }
}

impl Oracle for InOrder {
    fn name(&self) -> &'static str {
        "A11"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Send { c, m, room, op, .. } => {
                let stretch = self.stretches.entry((c.clone(), room.clone())).or_default();
                if self.known.insert((c.clone(), m.clone()), ()).is_some() {
                    stretch.close(c, room, found);
                } else if op["ephemeral"] != true {
                    stretch.sent.push(m.clone());
                }
            }
            Record::Ack { c, m, room, epoch, seq, code, dup, .. } => {
                let stretch = self.stretches.entry((c.clone(), room.clone())).or_default();
                if *code != 0 {
                    stretch.close(c, room, found);
                } else if *seq > 0 && !dup {
                    stretch.places.insert(m.clone(), (line.n, (*epoch, *seq)));
                }
            }
            Record::Open { c, .. } | Record::Shut { c, .. } => self.close_all(c, found),
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for ((c, room), stretch) in &mut self.stretches {
            stretch.close(c, room, found);
        }
    }
}
