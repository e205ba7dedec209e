//! L1: a ttl ends: never early, and nothing stands past a due end.
//!
//! The room's log is folded a second time, from the design's words alone: a `set` or `lock` with a ttl ends at its
//! `expires_at`, by the room's clock (`at`); a take-over (`renew`) has every ttl run its full length from there. An event
//! by which the room itself ends one stands at or after that time. Any other event at or after it finds it ended already.
//! Once the trace is over, what is due for longer than [`LATE_MS`] has ended if a client is in the room: its owner then
//! lives. The real time of that moment is taken from what Brains said of their own commits, at the least.
//!
//! Looks at every such end, at every event in a room that holds a ttl, and at every ttl that stands at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use voltron_core::trace::{Line, Record};

use super::{Findings, LOST_HOST, Oracle, TRIMMED_HOST, is_log};

/// How much later than due an end may be told, ms: a silent owner's room needs a new owner first.
const LATE_MS: i64 = 10_000;

#[derive(Default)]
pub(super) struct Lifetimes {
    rooms: BTreeMap<String, Vec<Step>>,
    /// By message id: what was sent.
    sent: BTreeMap<String, Value>,
    /// (client, room): in it.
    inside: BTreeSet<(String, String)>,
    /// The lowest wall clock, as ms, at the trace's time 0.
    began: Option<i64>,
    last: u64,
}

struct Step {
    n: u64,
    at: i64,
    what: What,
}

enum What {
    Renew,
    /// By message id.
    Event {
        m: String,
        expires_at: i64,
        op: Option<Value>,
    },
}

/// What has a ttl: a key, or the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Lock,
    Key(String),
}

#[derive(Clone, Copy)]
struct Life {
    due: i64,
    ttl_ms: i64,
}

impl Lifetimes {
    fn fold(&self, room: &str, steps: &[Step], found: &mut Findings) {
        let mut lives: BTreeMap<Thing, Life> = BTreeMap::new();
        for step in steps {
            let (m, expires_at, op) = match &step.what {
                What::Renew => {
                    lives.values_mut().for_each(|life| life.due = step.at.saturating_add(life.ttl_ms));
                    continue;
                }
                What::Event { m, expires_at, op } => (m, *expires_at, op.as_ref()),
            };
            if let Some(op) = op {
                let thing = if op["op"] == "unlocked" { Thing::Lock } else { key(op) };
                let life = lives.remove(&thing);
                // What began before the trace, or the log's first entry that it knows, is not judged.
                if let Some(life) = life.filter(|_| op["expired"] == true) {
                    found.check("L1", step.n, step.at >= life.due, || {
                        format!("{} of {room} ended {} ms early", name(&thing), life.due - step.at)
                    });
                }
                continue;
            }
            if let Some((thing, life)) = lives.iter().find(|(_, life)| life.due <= step.at) {
                found.check("L1", step.n, false, || {
                    format!("{} of {room} stands, and was due {} ms before this event", name(thing), step.at - life.due)
                });
                lives.retain(|_, life| life.due > step.at);
            } else if !lives.is_empty() {
                found.check("L1", step.n, true, String::new);
            }
            // Sent by somebody who is not in the trace: it may have been anything.
            let Some(op) = self.sent.get(m) else { return };
            let thing = match op["op"].as_str() {
                Some("set" | "delete") => key(op),
                Some("lock" | "unlock") => Thing::Lock,
                _ => continue,
            };
            lives.remove(&thing);
            if expires_at > 0 {
                lives.insert(thing, Life { due: expires_at, ttl_ms: expires_at.saturating_sub(step.at) });
            }
        }
        let n = steps.last().map_or(0, |step| step.n);
        let served = self.inside.iter().any(|(_, of)| of == room);
        let Some(began) = self.began.filter(|_| served) else { return };
        let now = began.saturating_add(i64::try_from(self.last / 1000).unwrap_or(i64::MAX));
        for (thing, life) in &lives {
            found.check("L1", n, life.due.saturating_add(LATE_MS) > now, || {
                format!("{} of {room} still stands, and was due {} ms before the end", name(thing), now - life.due)
            });
        }
    }
}

fn key(op: &Value) -> Thing {
    Thing::Key(op["key"].as_str().unwrap_or_default().to_owned())
}

fn name(thing: &Thing) -> String {
    match thing {
        Thing::Lock => "the lock".to_owned(),
        Thing::Key(key) => key.clone(),
    }
}

impl Oracle for Lifetimes {
    fn name(&self) -> &'static str {
        "L1"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        let of_log = is_log(line) || line.host == TRIMMED_HOST;
        match &line.record {
            Record::Send { m, op, .. } => drop(self.sent.entry(m.clone()).or_insert_with(|| op.clone())),
            Record::Sub { c, room, .. } => drop(self.inside.insert((c.clone(), room.clone()))),
            Record::Unsub { c, room, .. } => drop(self.inside.remove(&(c.clone(), room.clone()))),
            Record::Open { c, .. } => self.inside.retain(|(other, _)| other != c),
            Record::Shut { .. } => self.last = line.t,
            Record::Renew { room, at, .. } if line.host != LOST_HOST => {
                let step = Step { n: line.n, at: *at, what: What::Renew };
                self.rooms.entry(room.clone()).or_default().push(step);
            }
            Record::Commit { room, m, op, at, expires_at, .. } if of_log && *at > 0 => {
                let what = What::Event { m: m.clone(), expires_at: *expires_at, op: op.clone() };
                self.rooms.entry(room.clone()).or_default().push(Step { n: line.n, at: *at, what });
            }
            Record::Commit { at, .. } if *at > 0 && line.host != LOST_HOST => {
                let began = at.saturating_sub(i64::try_from(line.t / 1000).unwrap_or(i64::MAX));
                self.began = Some(self.began.map_or(began, |least| least.min(began)));
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for (room, steps) in &self.rooms {
            self.fold(room, steps, found);
        }
    }
}
