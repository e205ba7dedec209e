//! A1: an acknowledged command is in the room's log exactly once, at the acknowledged place.
//!
//! Looks at every ACK with code 0 and a seq above 0 (ephemeral commands are not stored), once the log is known. What is not
//! in the log in the end was there, as the copy of everything stored says, and is gone for one of two reasons:
//!
//! 1. it was trimmed below a snapshot that contains it, or below the room's tombstone;
//! 2. a power cut lost it, and nothing was ever seen again at its place or above it in its epoch: whoever heard of the
//!    room afterwards heard of a new epoch first.

use std::collections::BTreeMap;

use voltron_core::trace::{Hash16, Line, Record};

use super::{Findings, LOST_HOST, Oracle, TRIMMED_HOST, is_log, place as at_place};

/// A command: message ids are unique per user.
type Command = (String, String, String);

type Place = (u64, u64);

#[derive(Default)]
pub(super) struct Acked {
    users: BTreeMap<String, String>,
    acks: Vec<Ack>,
    log: BTreeMap<Command, Vec<Place>>,
    trimmed: BTreeMap<Command, Place>,
    /// Per room: everything up to there is in a snapshot, or deleted.
    covered: BTreeMap<String, Place>,
    /// Per room and epoch.
    lost: BTreeMap<(String, u64), Lost>,
    /// The record that tells when a place was lost, the last time.
    lost_at: BTreeMap<(String, Place), u64>,
}

struct Ack {
    n: u64,
    command: Command,
    place: Place,
}

/// What a power cut took of one epoch: everything from its lowest seq on.
#[derive(Default)]
struct Lost {
    events: BTreeMap<u64, (Hash16, Command)>,
    /// Records that show other bytes at one of its places, or above them, in the same epoch, and the seq of each.
    reused: Vec<(u64, u64)>,
}

impl Acked {
    fn command(room: &str, user: &str, m: &str) -> Command {
        let tenant = room.split_once('/').map_or("", |(tenant, _)| tenant);
        (room.to_owned(), format!("{tenant}/{user}"), m.to_owned())
    }

    /// Somebody saw an event.
    fn shown(&mut self, n: u64, room: &str, (epoch, seq): Place, h: &Hash16) {
        let Some(lost) = self.lost.get_mut(&(room.to_owned(), epoch)) else { return };
        let from = lost.events.keys().next().copied().unwrap_or(u64::MAX);
        // What was on its way when the power went may still arrive.
        if seq >= from && lost.events.get(&seq).is_none_or(|(bytes, _)| bytes != h) {
            lost.reused.push((n, seq));
        }
    }

    /// What is wrong with one ACK, if anything is.
    fn objection(&self, Ack { command, place, .. }: &Ack) -> Option<String> {
        let (room, user, m) = command;
        let stored = self.log.get(command).map_or(&[][..], Vec::as_slice);
        let said = || format!("command {m} of {user} was acknowledged at {}", at(room, *place));
        match stored {
            [one] if one == place => return None,
            [] | [_] => {}
            many => {
                let places: Vec<_> = many.iter().map(|place| at(room, *place)).collect();
                return Some(format!("{}, but the log holds it {} times: {}", said(), many.len(), places.join(", ")));
            }
        }
        if stored.is_empty() && self.trimmed.get(command) == Some(place) {
            let covered = self.covered.get(room).copied().unwrap_or_default();
            let what = || format!("{}, but the log was trimmed beyond what a snapshot holds", said());
            return (*place > covered).then(what);
        }
        let lost = self.lost.get(&(room.clone(), place.0));
        if let Some(lost) = lost.filter(|lost| lost.events.get(&place.1).is_some_and(|(_, lost)| lost == command)) {
            let since = self.lost_at.get(&(room.clone(), *place)).copied().unwrap_or_default();
            let reused = lost.reused.iter().find(|(n, seq)| *n > since && *seq >= place.1);
            return reused
                .map(|(n, _)| format!("{} and lost in a power cut, but record {n} goes on in the same epoch", said()));
        }
        Some(match stored {
            [other] => format!("{}, but the log holds it at {}", said(), at(room, *other)),
            _ => format!("{}, but the log does not hold it", said()),
        })
    }
}

impl Oracle for Acked {
    fn name(&self) -> &'static str {
        "A1"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, user, .. } => {
                self.users.insert(c.clone(), format!("{tenant}/{user}"));
            }
            Record::Ack { c, m, room, epoch, seq, code: 0, .. } if *seq > 0 => {
                let user = self.users.get(c).cloned().unwrap_or_default();
                let command = (room.clone(), user, m.clone());
                self.acks.push(Ack { n: line.n, command, place: (*epoch, *seq) });
            }
            Record::Recv { room, epoch, seq, h, .. } if *seq > 0 => self.shown(line.n, room, (*epoch, *seq), h),
            Record::Trim { room, epoch, seq } => {
                let covered = self.covered.entry(room.clone()).or_default();
                *covered = (*covered).max((*epoch, *seq));
            }
            Record::Commit { room, epoch, seq, m, user, h, .. } => {
                let (command, place) = (Self::command(room, user, m), (*epoch, *seq));
                if line.host == LOST_HOST {
                    let lost = self.lost.entry((room.clone(), *epoch)).or_default();
                    lost.events.insert(*seq, (h.clone(), command));
                    self.lost_at.insert((room.clone(), (*epoch, *seq)), line.n);
                } else if line.host == TRIMMED_HOST {
                    self.trimmed.insert(command, place);
                } else {
                    self.shown(line.n, room, place, h);
                    if is_log(line) && !m.is_empty() {
                        self.log.entry(command).or_default().push(place);
                    }
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for ack in &self.acks {
            let objection = self.objection(ack);
            found.check("A1", ack.n, objection.is_none(), || objection.unwrap_or_default());
        }
    }
}

fn at(room: &str, place: Place) -> String {
    format!("{room} {}", at_place(place))
}
