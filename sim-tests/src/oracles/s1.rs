//! S1: a stored snapshot is the fold of the log up to its place, and so is what a client is given: keys with version, value
//! and end, the lock, full lengths of ttls, and the window of repeats.
//!
//! The fold is told here once more, from LOG §2 and ROOMS §2 and without the Brain's code: A8's specification knows calls,
//! not times, and a snapshot is wrong in its times as well. Looks at every stored snapshot, at every snapshot that a client
//! got whole, and at every `get`, where the state at their place is known. A power cut that took a tail makes it unknown
//! until the next snapshot, which is then believed.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, place};

/// A user's last command, if it is no older than this, stands in the window: younger than any rule that drops it.
const REMEMBERED_MS: i64 = 10_000;

/// A place in a room's log: epoch, seq.
type Place = (u64, u64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    ver: u64,
    h: String,
    expires_at: i64,
    ttl_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lock {
    mode: String,
    by: String,
    reason: String,
    until: i64,
    ttl_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    keys: BTreeMap<String, Slot>,
    lock: Option<Lock>,
}

/// An entry, and the state after it once that is known.
struct Entry {
    stood: Stood,
    kind: String,
    did: Vec<Value>,
}

#[derive(Clone)]
struct Stood {
    epoch: u64,
    term: u64,
    seq: u64,
    at: i64,
    state: Rc<State>,
}

#[derive(Default)]
struct Room {
    /// What stood after each entry of the log, by position; empty where it is not known.
    log: BTreeMap<u64, Stood>,
    unknown: bool,
    /// Entries since then.
    waiting: BTreeMap<u64, Entry>,
    /// Whatever stood at a place at any time: an owner that takes over moves the ends of ttls.
    shown: BTreeMap<Place, Vec<Rc<State>>>,
    /// (user, message id) → place and position.
    commands: BTreeMap<(String, String), (Place, u64)>,
    /// Per user: position, time and message id of every command.
    users: BTreeMap<String, Vec<(u64, i64, String)>>,
}

#[derive(Default)]
pub(super) struct Faithful {
    rooms: BTreeMap<String, Room>,
}

fn ttl(end: i64, at: i64) -> u64 {
    if end > 0 { u64::try_from(end.saturating_sub(at)).unwrap_or(0).max(1) } else { 0 }
}

fn after(at: i64, ttl_ms: u64) -> i64 {
    at.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn slot(it: &Value) -> Slot {
    Slot {
        ver: it["ver"].as_u64().unwrap_or(0),
        h: text(&it["h"]),
        expires_at: it["expires_at"].as_i64().unwrap_or(0),
        ttl_ms: it["ttl_ms"].as_u64().unwrap_or(0),
    }
}

fn lock(it: &Value) -> Option<Lock> {
    it.is_object().then(|| Lock {
        mode: text(&it["mode"]),
        by: text(&it["by"]),
        reason: text(&it["reason"]),
        until: it["until"].as_i64().unwrap_or(0),
        ttl_ms: it["ttl_ms"].as_u64().unwrap_or(0),
    })
}

/// A state as the trace writes it.
fn written(state: &Value) -> State {
    let entries = state["entries"].as_array().into_iter().flatten();
    State { keys: entries.map(|it| (text(&it["key"]), slot(it))).collect(), lock: lock(&state["lock"]) }
}

impl State {
    fn renew(&mut self, at: i64) {
        for slot in self.keys.values_mut().filter(|slot| slot.ttl_ms > 0) {
            slot.expires_at = after(at, slot.ttl_ms);
        }
        if let Some(lock) = self.lock.as_mut().filter(|lock| lock.ttl_ms > 0) {
            lock.until = after(at, lock.ttl_ms);
        }
    }

    fn apply(&mut self, did: &Value, at: i64) {
        if let Some(set) = did.get("set") {
            let slot = slot(set);
            self.keys.insert(text(&set["key"]), Slot { ttl_ms: ttl(slot.expires_at, at), ..slot });
        } else if let Some(key) = did.get("deleted") {
            self.keys.remove(key.as_str().unwrap_or_default());
        } else if let Some(locked) = did.get("locked") {
            self.lock = lock(locked).map(|lock| Lock { ttl_ms: ttl(lock.until, at), ..lock });
        } else if did.get("unlocked").is_some() {
            self.lock = None;
        }
    }

    /// What clients are shown: no full lengths.
    fn without_ttls(&self) -> Self {
        let mut shown = self.clone();
        shown.keys.values_mut().for_each(|slot| slot.ttl_ms = 0);
        shown.lock.iter_mut().for_each(|lock| lock.ttl_ms = 0);
        shown
    }

    /// `None` if they are the same; else what differs first.
    fn differs(&self, told: &Self) -> Option<String> {
        for (key, slot) in &self.keys {
            match told.keys.get(key) {
                None => return Some(format!("key {key} is missing")),
                Some(other) if other != slot => return Some(format!("key {key} is {other:?} and not {slot:?}")),
                Some(_) => {}
            }
        }
        if let Some(key) = told.keys.keys().find(|key| !self.keys.contains_key(*key)) {
            return Some(format!("there is no key {key}"));
        }
        (self.lock != told.lock).then(|| format!("the lock is {:?} and not {:?}", told.lock, self.lock))
    }
}

impl Room {
    fn entry(&mut self, pos: u64, entry: Entry) {
        let Entry { stood, kind, did } = &entry;
        // Positions are handed out again after a power cut.
        self.log.split_off(&pos);
        self.waiting.split_off(&pos);
        let last = self.log.last_key_value().map(|(_, stood)| Rc::clone(&stood.state));
        if kind == "deleted" {
            (self.unknown, self.commands, self.users) = (false, BTreeMap::new(), BTreeMap::new());
        }
        for event in did.iter().filter(|event| event["m"] != "") {
            let (user, m) = (text(&event["user"]), text(&event["m"]));
            let seq = event["seq"].as_u64().unwrap_or(0);
            self.commands.insert((user.clone(), m.clone()), ((stood.epoch, seq), pos));
            self.users.entry(user).or_default().push((pos, stood.at, m));
        }
        if self.unknown {
            self.waiting.insert(pos, entry);
            return;
        }
        let mut state = last.unwrap_or_default();
        if kind == "owned" {
            Rc::make_mut(&mut state).renew(stood.at);
        } else if kind == "deleted" {
            state = Rc::default();
        }
        for event in did {
            Rc::make_mut(&mut state).apply(event, stood.at);
        }
        self.stands(pos, Stood { state, ..stood.clone() });
    }

    /// Believes a snapshot of an entry since the power cut, and walks on from there.
    fn believe(&mut self, pos: u64, told: Stood, window: &Value) {
        let stands = self.waiting.get(&pos).map(|entry| (entry.stood.epoch, entry.stood.term));
        if stands != Some((told.epoch, told.term)) {
            return;
        }
        self.unknown = false;
        let later = self.waiting.split_off(&(pos + 1));
        self.waiting.clear();
        self.commands.clear();
        self.users.clear();
        for one in window.as_array().into_iter().flatten() {
            let here = (one[2].as_u64().unwrap_or(0), one[3].as_u64().unwrap_or(0));
            self.commands.insert((text(&one[0]), text(&one[1])), (here, pos));
        }
        self.stands(pos, told);
        for (pos, mut entry) in later {
            if entry.did.is_empty() {
                entry.stood.seq = self.last_seq(pos, entry.stood.epoch);
            }
            self.entry(pos, entry);
        }
    }

    /// The seq before an entry of this epoch.
    fn last_seq(&self, pos: u64, epoch: u64) -> u64 {
        let last = self.log.range(..pos).next_back().map(|(_, stood)| (stood.epoch, stood.seq));
        last.filter(|(before, _)| *before == epoch).map_or(0, |(_, seq)| seq)
    }

    fn stands(&mut self, pos: u64, stood: Stood) {
        let shown = self.shown.entry((stood.epoch, stood.seq)).or_default();
        if !shown.contains(&stood.state) {
            shown.push(Rc::clone(&stood.state));
        }
        self.log.insert(pos, stood);
    }

    /// What is wrong with the window of a snapshot.
    fn window(&self, window: &Value, pos: u64, at: i64) -> Option<String> {
        let mut known = BTreeMap::new();
        for one in window.as_array().into_iter().flatten() {
            let (command, here) = ((text(&one[0]), text(&one[1])), (one[2].as_u64()?, one[3].as_u64()?));
            match self.commands.get(&command) {
                Some((there, entry)) if *there == here && *entry <= pos => {}
                _ => return Some(format!("the log does not hold {} of {} at {}", command.1, command.0, place(here))),
            }
            known.insert(command, ());
        }
        for (user, commands) in &self.users {
            let Some((_, _, m)) = commands.iter().rev().find(|(entry, ..)| *entry <= pos) else { continue };
            let recent = commands
                .iter()
                .any(|(entry, then, id)| *entry <= pos && id == m && at.saturating_sub(*then) <= REMEMBERED_MS);
            if recent && !known.contains_key(&(user.clone(), m.clone())) {
                return Some(format!("{m}, the last command of {user}, is not in the window"));
            }
        }
        None
    }
}

impl Faithful {
    /// A client was given the state at a place.
    fn given(&self, line: &Line, c: &str, room: &str, at: Place, told: &Value, found: &mut Findings) {
        let stood = self.rooms.get(room).and_then(|room| room.shown.get(&at));
        let Some(stood) = stood else { return };
        let told = written(told);
        let wrong: Vec<_> = stood.iter().map(|state| state.without_ttls().differs(&told)).collect();
        found.check("S1", line.n, wrong.iter().any(Option::is_none), || {
            let what = wrong.into_iter().flatten().last().unwrap_or_default();
            format!("{c} was given a state of {room} at {} that the log does not make: {what}", place(at))
        });
    }
}

impl Oracle for Faithful {
    fn name(&self) -> &'static str {
        "S1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::TailLost { .. } => {
                for room in self.rooms.values_mut() {
                    room.log.clear();
                    room.waiting.clear();
                    room.unknown = true;
                }
            }
            Record::Entry { room, epoch, term, pos, at, kind, did, .. } => {
                let it = self.rooms.entry(room.clone()).or_default();
                let seq = did.iter().filter_map(|event| event["seq"].as_u64()).next_back();
                let seq = seq.unwrap_or_else(|| it.last_seq(*pos, *epoch));
                let stood = Stood { epoch: *epoch, term: *term, seq, at: *at, state: Rc::default() };
                it.entry(*pos, Entry { stood, kind: kind.clone(), did: did.clone() });
            }
            Record::Snapshot { room, epoch, term, seq, pos, at, state, .. } => {
                let it = self.rooms.entry(room.clone()).or_default();
                let told = Stood { epoch: *epoch, term: *term, seq: *seq, at: *at, state: Rc::new(written(state)) };
                if it.unknown {
                    return it.believe(*pos, told, &state["window"]);
                }
                let stood = it.log.get(pos);
                let wrong = match stood {
                    None => Some("no entry stands there".to_owned()),
                    Some(stood) if (stood.epoch, stood.term) != (*epoch, *term) => {
                        Some(format!("that is of epoch {} term {}", stood.epoch, stood.term))
                    }
                    Some(stood) if (stood.seq, stood.at) != (*seq, *at) => {
                        Some(format!("that is seq {} at {}, and not seq {seq} at {at}", stood.seq, stood.at))
                    }
                    Some(stood) => stood.state.differs(&told.state),
                };
                let wrong = wrong.or_else(|| it.window(&state["window"], *pos, *at));
                found.check("S1", line.n, wrong.is_none(), || {
                    let what = wrong.unwrap_or_default();
                    format!("the snapshot of {room} at position {pos} is not what the log makes: {what}")
                });
            }
            Record::Snap { c, room, epoch, seq, state: Some(state) }
            | Record::Got { c, room, epoch, seq, state: Some(state), .. } => {
                self.given(line, c, room, (*epoch, *seq), state, found);
            }
            _ => {}
        }
    }
}
