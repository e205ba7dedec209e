//! Q2: a stalled reader delays nobody.
//!
//! Said of what the trace can show: as long as nothing is wrong in the world but stalled readers, and nothing else has been
//! for [`CALM`], every client that is not stalled and had come up to an event's predecessor has the event within [`BOUND`]
//! of whoever was told first. In the simulator work takes no virtual time, so only waiting for somebody can use that up.
//! Looks at every such client and event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, place};

/// The latest after the first, microseconds: two ways over slow links, and much to spare.
const BOUND: u64 = 500_000;
/// How long other troubles have to be over, microseconds: connections are made again and rooms are opened again meanwhile.
const CALM: u64 = 5_000_000;

/// (client, room)
type Reader = (String, String);

#[derive(Default)]
pub(super) struct NobodyWaits {
    /// What else is wrong.
    others: BTreeSet<String>,
    /// When the last of it ended.
    others_until: Option<u64>,
    /// Stalled clients, by the fault.
    stalls: BTreeMap<String, Vec<String>>,
    /// How far each subscribed client came.
    readers: BTreeMap<Reader, (u64, u64)>,
    /// The furthest event of each room that anybody was told of.
    heads: BTreeMap<String, (u64, u64)>,
    /// Who is expected to be told what, by when.
    due: VecDeque<Due>,
}

struct Due {
    n: u64,
    by: u64,
    reader: Reader,
    place: (u64, u64),
}

impl NobodyWaits {
    fn is_stalled(&self, c: &str) -> bool {
        self.stalls.values().flatten().any(|stalled| stalled == c)
    }

    fn is_calm(&self, t: u64) -> bool {
        self.others.is_empty() && self.others_until.is_none_or(|ended| ended + CALM <= t)
    }

    fn gone(&mut self, of: impl Fn(&Reader) -> bool) {
        self.readers.retain(|reader, _| !of(reader));
        self.due.retain(|due| !of(&due.reader));
    }

    fn overdue(&mut self, t: u64, found: &mut Findings) {
        while let Some(due) = self.due.pop_front_if(|due| due.by < t) {
            let reached = self.readers.get(&due.reader).copied().unwrap_or_default();
            found.check("Q2", due.n, reached >= due.place, || {
                let (c, room) = &due.reader;
                let stalled: Vec<&str> = self.stalls.values().flatten().map(String::as_str).collect();
                format!(
                    "{c} had not got {room} {} {} ms after the first, with nothing wrong but that {} reads nothing",
                    place(due.place),
                    BOUND / 1000,
                    stalled.join(", ")
                )
            });
        }
    }

    /// The first that anybody was told of an event.
    fn first(&mut self, n: u64, t: u64, room: &str, place: (u64, u64)) {
        let head = self.heads.entry(room.to_owned()).or_default();
        if *head >= place {
            return;
        }
        *head = place;
        if self.stalls.is_empty() || !self.is_calm(t) {
            return;
        }
        let before = (place.0, place.1 - 1);
        let expected: Vec<Reader> = self
            .readers
            .iter()
            .filter(|((c, of), reached)| of == room && **reached == before && !self.is_stalled(c))
            .map(|(reader, _)| reader.clone())
            .collect();
        self.due.extend(expected.into_iter().map(|reader| Due { n, by: t + BOUND, reader, place }));
    }
}

impl Oracle for NobodyWaits {
    fn name(&self) -> &'static str {
        "Q2"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        self.overdue(line.t, found);
        match &line.record {
            Record::Fault { id, kind, target } if kind == "stall" || kind == "trickle" => {
                let clients: Vec<String> = target.split(", ").map(str::to_owned).collect();
                self.due.retain(|due| !clients.contains(&due.reader.0));
                self.stalls.insert(id.clone(), clients);
            }
            Record::Fault { id, .. } => {
                self.others.insert(id.clone());
                self.due.clear();
            }
            Record::Heal { id } => {
                if self.others.remove(id) {
                    self.others_until = Some(line.t);
                }
                self.stalls.remove(id);
            }
            Record::Crash { .. } | Record::Start { .. } => {
                self.others_until = Some(line.t);
                self.due.clear();
            }
            Record::Sub { c, room, epoch, seq, recovered, replay, .. } => {
                // What is replayed still has to come.
                let from = if *recovered || *replay > 0 { seq.saturating_sub(u64::from(*replay)) } else { *seq };
                self.readers.insert((c.clone(), room.clone()), (*epoch, from));
            }
            Record::Snap { c, room, epoch, seq, .. } => {
                if let Some(reached) = self.readers.get_mut(&(c.clone(), room.clone())) {
                    *reached = (*epoch, *seq).max(*reached);
                }
            }
            Record::Unsub { c, room, .. } => self.gone(|reader| (&reader.0, &reader.1) == (c, room)),
            Record::Open { c, .. } | Record::Shut { c, .. } => self.gone(|reader| reader.0 == *c),
            Record::Recv { c, room, epoch, seq, .. } if *seq > 0 => {
                let now = (*epoch, *seq);
                self.first(line.n, line.t, room, now);
                if let Some(reached) = self.readers.get_mut(&(c.clone(), room.clone())) {
                    *reached = now.max(*reached);
                }
            }
            _ => {}
        }
    }
}
