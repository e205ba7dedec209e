//! B2: a code that refuses or ends a subscription, or refuses a `get`, has its cause in the trace.
//!
//! | code | cause |
//! | --- | --- |
//! | 1012 | this connection sent an UNSUB, or another SUB, of that room |
//! | 2004 | no grant of `sub` |
//! | 6000, 6001 | a trouble of the servers, at most [`RECENT`] ago, or the world is younger than that |
//! | 4501 | the same, or a queue was seen full at most [`FULL`] ago |
//! | 4502 | this connection asked [`ASKS`] times within a second |
//! | 5001 | the room was not known to exist [`ABSENT`] ago |
//! | 5003 | somebody sent a lock that keeps subscribers out |
//! | 5007 | a trouble of the servers, a lost tail or a trimmed log, each of which explains it [`GAPS`] times to one client |
//!
//! No other code is right: what it would take is not built. Only a world that tells what is left at its end (`held`)
//! tells all of its troubles, too: of any other trace nothing is judged. Looks at every such code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::Code;
use proto::v1::LockMode;
use voltron_core::trace::{Line, Record};

use super::calm::Calm;
use super::{Findings, Oracle, grants};

/// How long a trouble explains a busy or missing owner, microseconds: an answer's time, and several tries to open a room.
const RECENT: u64 = 15_000_000;
/// How long a full table explains a refusal, microseconds: the refusal's way to the client.
const FULL: u64 = 5_000_000;
/// How long a room may be taken for absent after it came into being, microseconds: 5 s, and the way.
const ABSENT: u64 = 6_000_000;
/// How many SUBs, gets and AUTHs of a second are too many: less than the least burst that a scenario sets.
const ASKS: usize = 8;
/// How often one cause explains 5007 to one client in one room: a repair may fail again while the trouble lasts.
const GAPS: u32 = 3;

#[derive(Default)]
pub(super) struct Reasons {
    calm: Calm,
    grants: grants::Grants,
    /// When a queue was seen full last.
    full: Option<u64>,
    rooms: BTreeMap<String, Room>,
    clients: BTreeMap<String, Client>,
    /// Per (client, room): the last cause that was used for 5007, and how often.
    gaps: BTreeMap<(String, String), (u64, u32)>,
    /// Each code, with what is wrong with it.
    codes: Vec<(u64, Option<String>)>,
    /// The trace is a simulated world's.
    complete: bool,
}

#[derive(Default)]
struct Room {
    /// When it was first seen to exist.
    since: Option<u64>,
    /// A lock was sent that keeps subscribers out.
    locked: bool,
    /// The last record by which its log lost or gave away something.
    harmed: Option<u64>,
}

/// What a client did on its connection.
#[derive(Default)]
struct Client {
    asks: VecDeque<u64>,
    wanted: BTreeMap<String, u32>,
    /// Per room: when it asked what is not answered yet, microseconds.
    waits: BTreeMap<String, u64>,
    left: BTreeSet<String>,
}

impl Client {
    fn asks(&mut self, t: u64, room: &str) {
        self.waits.entry(room.to_owned()).or_insert(t);
        self.asks.push_back(t);
        while self.asks.len() > ASKS {
            self.asks.pop_front();
        }
    }
}

impl Reasons {
    /// Why this code has no cause; `None` if it has one.
    fn objection(&mut self, line: &Line, c: &str, room: &str, code: Code) -> Option<String> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let client = self.clients.entry(c.to_owned()).or_default();
        match code {
            Code::NotSubscribed => {
                let overtaken = client.left.contains(room) || client.wanted.get(room).is_some_and(|times| *times > 1);
                (!overtaken).then(|| "it had sent neither an UNSUB nor another SUB".to_owned())
            }
            Code::PermissionDenied => {
                let granted = self.grants.has(c, room, "sub") == Some(true);
                granted.then(|| "its token grants that".to_owned())
            }
            Code::Busy if self.full.is_some_and(|at| at + FULL >= line.t) => None,
            Code::Busy | Code::Unavailable | Code::OutcomeUnknown => {
                let calm = line.t >= RECENT && self.calm.servers(line.t, RECENT);
                calm.then(|| format!("nothing had been wrong with a server for {} s", RECENT / 1_000_000))
            }
            Code::RateLimited => {
                let first = client.asks.front().filter(|_| client.asks.len() == ASKS);
                let hurried = first.is_some_and(|first| first + 1_000_000 >= line.t);
                (!hurried).then(|| format!("it had not asked {ASKS} times within a second"))
            }
            Code::RoomAbsent => {
                // The answer is older than the moment at which a client reads it.
                let asked = client.waits.get(room).copied().unwrap_or(line.t);
                let since = known.since.filter(|since| since + ABSENT < asked && known.harmed.is_none());
                since.map(|since| format!("the room had existed for {} ms", (asked - since) / 1000))
            }
            Code::RoomLocked => (!known.locked).then(|| "nobody had sent such a lock".to_owned()),
            Code::GapUnrecoverable => {
                let Some(cause) = self.calm.cause.max(known.harmed) else {
                    return Some("nothing was ever lost, trimmed or troubled".to_owned());
                };
                let (last, times) = self.gaps.entry((c.to_owned(), room.to_owned())).or_default();
                if *last < cause {
                    (*last, *times) = (cause, 0);
                }
                *times += 1;
                (*times > GAPS).then(|| format!("record {cause} explains it {GAPS} times, and this is time {times}"))
            }
            _ => Some("nothing of this build brings it about".to_owned()),
        }
    }

    fn answered(&mut self, c: &str, room: &str) {
        if let Some(client) = self.clients.get_mut(c) {
            client.waits.remove(room);
        }
    }

    fn told(&mut self, line: &Line, c: &str, room: &str, code: u32) {
        let known = u16::try_from(code).ok().and_then(Code::from_u16);
        // That every code exists is A10's.
        let Some(code) = known else { return };
        let objection = self.objection(line, c, room, code);
        let objection = objection.map(|why| format!("{c} was told {} in {room}, and {why}", code.as_u16()));
        self.codes.push((line.n, objection));
    }
}

impl Oracle for Reasons {
    fn name(&self) -> &'static str {
        "B2"
    }

    fn see(&mut self, line: &Line, _found: &mut Findings) {
        self.calm.see(line);
        self.grants.see(&line.record);
        match &line.record {
            Record::Open { c, .. } => drop(self.clients.insert(c.clone(), Client::default())),
            Record::Want { c, room, .. } => {
                let client = self.clients.entry(c.clone()).or_default();
                client.asks(line.t, room);
                *client.wanted.entry(room.clone()).or_default() += 1;
            }
            Record::Get { c, room, .. } => self.clients.entry(c.clone()).or_default().asks(line.t, room),
            Record::Leave { c, room } => {
                self.clients.entry(c.clone()).or_default().left.insert(room.clone());
            }
            Record::Send { room, op, .. } if op["op"] == "lock" => {
                let bars = |mode: LockMode| op["mode"] == i32::from(mode);
                if bars(LockMode::Join) || bars(LockMode::All) {
                    self.rooms.entry(room.clone()).or_default().locked = true;
                }
            }
            Record::Queue { len, cap, .. } if len >= cap => self.full = Some(line.t),
            // A power cut may take a whole room.
            Record::TailLost { .. } => self.rooms.values_mut().for_each(|room| room.harmed = Some(line.n)),
            Record::Trim { room, .. } => self.rooms.entry(room.clone()).or_default().harmed = Some(line.n),
            Record::Owned { room, .. } | Record::Commit { room, .. } => {
                self.rooms.entry(room.clone()).or_default().since.get_or_insert(line.t);
            }
            Record::Unsub { c, room, code } | Record::Denied { c, room, code, .. } if *code != 0 => {
                self.told(line, c, room, *code);
                self.answered(c, room);
            }
            Record::Sub { c, room, .. } | Record::Got { c, room, .. } => self.answered(c, room),
            Record::Held { .. } => self.complete = true,
            _ => {}
        }
    }

    fn end(&mut self, found: &mut Findings) {
        for (n, objection) in self.codes.iter().filter(|_| self.complete) {
            found.check("B2", *n, objection.is_none(), || objection.clone().unwrap_or_default());
        }
    }
}
