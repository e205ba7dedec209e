//! Which record follows from which: a message's way through the system, and what the same client or room did before.
//!
//! The trace names commands by their message id and events by their place, so that every arrow is read off the records
//! themselves; nothing is guessed from time alone but the entry that an append carries, which is the room's next one.

use std::collections::BTreeMap;

use serde::Serialize;
use voltron_core::trace::{Line, Record};

/// An arrow into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Index of the record that it comes from.
    pub from: usize,
    /// True: a message went from one to the other. False: the same actor did one after the other.
    pub message: bool,
}

/// A message that never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Index of the record that sent it.
    pub at: usize,
}

/// Everything found in one trace.
#[derive(Debug, Default)]
pub struct Found {
    /// For each record: where it comes from.
    pub causes: Vec<Vec<Cause>>,
    /// Commands that reached no Shield, and answers that reached no client.
    pub lost: Vec<Loss>,
}

/// The most commands that one append is drawn from.
const PENDING_MAX: usize = 256;

type Place = (String, u64, u64);

#[derive(Default)]
struct Known<'a> {
    /// By message id.
    sent: BTreeMap<&'a str, usize>,
    judged: BTreeMap<&'a str, usize>,
    committed_by_id: BTreeMap<&'a str, usize>,
    answered: BTreeMap<&'a str, usize>,
    /// By place.
    committed: BTreeMap<Place, usize>,
    /// By room.
    handed: BTreeMap<String, Vec<usize>>,
    appended: BTreeMap<String, usize>,
    owned: BTreeMap<&'a str, usize>,
    /// By client and room, by client, by host and room.
    client_room: BTreeMap<(&'a str, &'a str), usize>,
    opened: BTreeMap<&'a str, usize>,
    host_room: BTreeMap<(&'a str, &'a str), usize>,
    asked: BTreeMap<(&'a str, u64), usize>,
    verdict_on: BTreeMap<&'a str, usize>,
    faults: BTreeMap<&'a str, usize>,
    down: BTreeMap<&'a str, usize>,
    /// Sent or answered, and not seen again yet.
    under_way: BTreeMap<&'a str, usize>,
    on_the_way_back: BTreeMap<&'a str, usize>,
}

/// Reads a whole trace.
pub fn find(lines: &[Line]) -> Found {
    let mut known = Known::default();
    let mut found = Found::default();
    for (at, line) in lines.iter().enumerate() {
        let mut causes = known.causes(at, line, &mut found.lost);
        causes.sort_unstable_by_key(|cause| (cause.from, !cause.message));
        causes.dedup_by_key(|cause| cause.from);
        found.causes.push(causes);
    }
    found.lost.extend(known.under_way.values().chain(known.on_the_way_back.values()).map(|at| Loss { at: *at }));
    found.lost.sort_unstable_by_key(|loss| loss.at);
    found
}

fn message(from: Option<usize>) -> Option<Cause> {
    from.map(|from| Cause { from, message: true })
}

fn before(from: Option<usize>) -> Option<Cause> {
    from.map(|from| Cause { from, message: false })
}

impl<'a> Known<'a> {
    fn causes(&mut self, at: usize, line: &'a Line, lost: &mut Vec<Loss>) -> Vec<Cause> {
        let host = line.host.as_str();
        let mut causes: Vec<Option<Cause>> = Vec::new();
        match &line.record {
            Record::Open { c, .. } => causes.push(before(self.opened.insert(c, at))),
            Record::Shut { c, .. } => causes.push(before(self.opened.get(c.as_str()).copied())),
            Record::Send { c, m, room, .. } => {
                causes.extend([self.client(c, room, at), before(self.sent.insert(m, at))]);
                // Sent once more: the one before did not get through, or its answer did not.
                lost.extend(self.under_way.insert(m, at).map(|at| Loss { at }));
            }
            Record::Verdict { m, .. } => {
                self.under_way.remove(m.as_str());
                causes.push(message(self.sent.get(m.as_str()).copied()));
                self.judged.insert(m, at);
                self.verdict_on.insert(host, at);
            }
            Record::Pub { subject, .. } => {
                causes.push(before(self.verdict_on.get(host).copied()));
                if let Some(room) = in_room(subject) {
                    let handed = self.handed.entry(room).or_default();
                    if handed.len() < PENDING_MAX {
                        handed.push(at);
                    }
                }
            }
            Record::Append { subject, .. } => {
                if let Some(room) = log_room(subject) {
                    let handed = self.handed.remove(&room).unwrap_or_default();
                    causes.extend(handed.into_iter().map(|from| message(Some(from))));
                    causes.push(before(self.appended.insert(room, at)));
                }
            }
            Record::Owned { room, .. } => {
                causes.push(message(self.appended.get(room).copied()));
                causes.push(self.brain(host, room, at));
                self.owned.insert(room, at);
            }
            Record::Commit { room, epoch, seq, m, .. } => {
                causes.push(message(self.appended.get(room).copied()));
                causes.push(message(self.judged.get(m.as_str()).copied()));
                causes.push(self.brain(host, room, at));
                self.committed_by_id.insert(m, at);
                self.committed.entry((room.clone(), *epoch, *seq)).or_insert(at);
            }
            Record::Fenced { room, .. } => {
                causes.push(message(self.appended.get(room).copied()));
                causes.push(self.brain(host, room, at));
            }
            Record::Answer { m, .. } => {
                causes.push(before(self.committed_by_id.get(m.as_str()).copied()));
                causes.push(message(self.judged.get(m.as_str()).copied()));
                self.answered.insert(m, at);
                self.on_the_way_back.insert(m, at);
            }
            Record::Ack { c, m, room, .. } => {
                self.on_the_way_back.remove(m.as_str());
                self.under_way.remove(m.as_str());
                causes.push(message(self.answered.get(m.as_str()).copied()));
                causes.push(before(self.sent.get(m.as_str()).copied()));
                causes.push(self.client(c, room, at));
            }
            Record::Recv { c, room, epoch, seq, .. } => {
                causes.push(message(self.committed.get(&(room.clone(), *epoch, *seq)).copied()));
                causes.push(self.client(c, room, at));
            }
            Record::Sub { c, room, .. } => {
                causes.push(message(self.owned.get(room.as_str()).copied()));
                causes.push(self.client(c, room, at));
            }
            Record::Unsub { c, room, .. }
            | Record::Snap { c, room, .. }
            | Record::Gap { c, room, .. }
            | Record::Want { c, room, .. }
            | Record::Leave { c, room }
            | Record::Seen { c, room, .. } => {
                causes.push(self.client(c, room, at));
            }
            Record::Get { c, id, room } => {
                causes.push(self.client(c, room, at));
                self.asked.insert((c, *id), at);
            }
            Record::Got { c, id, room, .. } | Record::Denied { c, id, room, .. } => {
                causes.push(before(self.asked.get(&(c.as_str(), *id)).copied()));
                causes.push(message(self.appended.get(room).copied()));
                causes.push(self.client(c, room, at));
            }
            Record::Fault { id, .. } => drop(self.faults.insert(id, at)),
            Record::Heal { id } => causes.push(before(self.faults.get(id.as_str()).copied())),
            Record::Crash { host } => {
                // The fault that names it is the harness' last one.
                causes.push(before(self.faults.values().max().copied()));
                self.down.insert(host, at);
            }
            Record::Start { host } => causes.push(before(self.down.remove(host.as_str()))),
            _ => {}
        }
        causes.into_iter().flatten().filter(|cause| cause.from < at).collect()
    }

    /// What this client did in this room before, else its connection.
    fn client(&mut self, c: &'a str, room: &'a str, at: usize) -> Option<Cause> {
        let earlier = self.client_room.insert((c, room), at);
        before(earlier.max(self.opened.get(c).copied()))
    }

    /// What this host did in this room before.
    fn brain(&mut self, host: &'a str, room: &'a str, at: usize) -> Option<Cause> {
        before(self.host_room.insert((host, room), at))
    }
}

/// `tenant/room` of `in.t.T.r.R`.
fn in_room(subject: &str) -> Option<String> {
    let (tenant, room) = subject.strip_prefix("in.t.")?.split_once(".r.")?;
    Some(format!("{tenant}/{room}"))
}

/// `tenant/room` of `log.P.t.T.r.R`.
fn log_room(subject: &str) -> Option<String> {
    let (tenant, room) = subject.strip_prefix("log.")?.split_once(".t.")?.1.split_once(".r.")?;
    Some(format!("{tenant}/{room}"))
}
