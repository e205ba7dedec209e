//! From a trace to the operations on each room: who asked what, from when to when, and what came of it.
//!
//! A command is sent in frames, each answered at most once. A frame that was refused is an operation of its own, which
//! changed nothing at some moment between its sending and its answer. What the frames of a command did together is one
//! operation more: stored at a place, or open, if one of them may have been, or may yet be, applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use voltron_core::trace::{Line, Record};

use super::spec::{self, Call, Mode, Op, Place, Reading, Rights};
use crate::oracles::{Violation, is_log};

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// `n` of the record that began it; 0: the room's own.
    pub(super) invoked: u64,
    /// `n` of the record that told its end to the one who asked; a place without it is known from the log.
    pub(super) responded: Option<u64>,
    /// `n` of the record to point at.
    pub(super) n: u64,
    pub(super) call: Call,
    pub(super) outcome: Outcome,
    /// For people.
    pub(super) name: String,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has this place.
    Stored(Place),
    /// It changed nothing, for this reason.
    Refused { code: u32, ver: u64 },
    /// An ephemeral `say` that was let through.
    Passed,
    /// A `get` showed the state here; `None`: the trace does not say what.
    Read { at: Place, shown: Option<Reading> },
    /// Nobody knows: it takes effect at any later time, or never.
    Open,
}

/// All operations on one room.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) operations: Vec<Operation>,
    /// True if the room was made while the trace ran: its first epoch began empty.
    pub(super) fresh: bool,
    /// True if the log was read: what is not in it did not happen, or was lost.
    pub(super) logged: bool,
    /// True if the log holds what nobody in this trace sent.
    pub(super) strangers: bool,
    /// True if what a room stored last may be gone.
    pub(super) lossy: bool,
    /// Epochs that an owner began: each is a head of its own, also if nothing was stored in it.
    pub(super) epochs: BTreeSet<u64>,
}

/// Reads records one by one.
#[derive(Default)]
pub(super) struct Builder {
    clients: BTreeMap<String, Client>,
    /// Per (room, user, message id).
    commands: BTreeMap<(String, String, String), Command>,
    gets: BTreeMap<(String, u64), (u64, String)>,
    rooms: BTreeMap<String, Room>,
    lossy: bool,
    log: BTreeMap<(String, Place), Stored>,
}

#[derive(Default)]
struct Client {
    user: String,
    grants: Option<Vec<(String, Vec<String>)>>,
    /// Room and message id of what was sent on the connection that is open.
    sent: BTreeSet<(String, String)>,
}

#[derive(Default)]
struct Room {
    fresh: bool,
    logged: bool,
    strangers: bool,
    epochs: BTreeSet<u64>,
    operations: Vec<Operation>,
}

struct Stored {
    n: u64,
    user: String,
    m: String,
    op: Option<Value>,
}

struct Command {
    c: String,
    call: Call,
    ephemeral: bool,
    /// From here on it can have taken effect; `None`: every frame so far is known not to have been applied.
    since: Option<u64>,
    /// Unanswered frames of the open connection, by `n`.
    frames: Vec<u64>,
    /// Some frame's fate will never be told.
    unsure: bool,
    /// The last answer.
    answered: u64,
    stored: Option<(u64, Place)>,
}

impl Builder {
    pub(super) fn see(&mut self, line: &Line) {
        let n = line.n;
        match &line.record {
            Record::Grant { c, m, a } => {
                let client = self.clients.entry(c.clone()).or_default();
                client.grants.get_or_insert_default().push((m.clone(), a.clone()));
            }
            Record::Open { c, user, .. } => {
                self.clients.entry(c.clone()).or_default().user.clone_from(user);
            }
            Record::Shut { c, .. } => self.shut(c),
            Record::Send { c, m, room, op, .. } => self.send(n, c, m, room, op),
            Record::Ack { c, m, epoch, seq, code, ver, .. } => self.ack(n, c, m, (*epoch, *seq), *code, *ver),
            Record::Get { c, id, room } => drop(self.gets.insert((c.clone(), *id), (n, room.clone()))),
            Record::Got { c, id, room, epoch, seq, state, .. } => {
                let Some((invoked, asked)) = self.gets.remove(&(c.clone(), *id)) else { return };
                if asked == *room {
                    let shown = state.as_ref().and_then(reading);
                    let user = self.user(c);
                    self.rooms.entry(asked).or_default().operations.push(Operation {
                        invoked,
                        responded: Some(n),
                        n,
                        call: Call { op: Op::Other, if_head: None, user, rights: None },
                        outcome: Outcome::Read { at: (*epoch, *seq), shown },
                        name: format!("the get of {c}"),
                    });
                }
            }
            Record::Append { subject, expect: Some(0), .. } => {
                if let Some((_, rest)) = subject.strip_prefix("log.").and_then(|rest| rest.split_once(".t."))
                    && let Some((tenant, room)) = rest.split_once(".r.")
                {
                    self.rooms.entry(format!("{tenant}/{room}")).or_default().fresh = true;
                }
            }
            Record::Owned { room, epoch, .. } => {
                self.rooms.entry(room.clone()).or_default().epochs.insert(*epoch);
            }
            Record::TailLost { .. } => self.lossy = true,
            Record::Commit { room, epoch, seq, m, user, op, .. } if is_log(line) => {
                let stored = Stored { n, user: user.clone(), m: m.clone(), op: op.clone() };
                self.log.insert((room.clone(), (*epoch, *seq)), stored);
            }
            _ => {}
        }
    }

    fn user(&self, c: &str) -> String {
        self.clients.get(c).map(|client| client.user.clone()).unwrap_or_default()
    }

    /// What was sent on this connection and not answered will never be told of.
    fn shut(&mut self, c: &str) {
        let Some(client) = self.clients.get_mut(c) else { return };
        for (room, m) in std::mem::take(&mut client.sent) {
            if let Some(command) = self.commands.get_mut(&(room, client.user.clone(), m)) {
                command.unsure |= !command.frames.is_empty();
                command.frames.clear();
            }
        }
    }

    fn send(&mut self, n: u64, c: &str, m: &str, room: &str, op: &Value) {
        let client = self.clients.entry(c.to_owned()).or_default();
        client.sent.insert((room.to_owned(), m.to_owned()));
        let user = client.user.clone();
        let rights = client.rights(room);
        let command = self.commands.entry((room.to_owned(), user.clone(), m.to_owned())).or_insert_with(|| Command {
            c: c.to_owned(),
            call: call(op, user, rights),
            ephemeral: op["ephemeral"] == true,
            since: None,
            frames: Vec::new(),
            unsure: false,
            answered: 0,
            stored: None,
        });
        command.since = command.since.or(Some(n));
        command.frames.push(n);
    }

    fn ack(&mut self, n: u64, c: &str, m: &str, place: Place, code: u32, ver: u64) {
        let Some(client) = self.clients.get(c) else { return };
        let Some((room, _)) = client.sent.iter().find(|(_, sent)| sent == m) else { return };
        let key = (room.clone(), client.user.clone(), m.to_owned());
        let Some(command) = self.commands.get_mut(&key) else { return };
        let first = if command.frames.is_empty() { command.since.unwrap_or(n) } else { command.frames.remove(0) };
        command.answered = n;
        let outcome = match code {
            0 if place.1 > 0 => {
                command.stored = command.stored.or(Some((n, place)));
                return;
            }
            0 if command.ephemeral => Outcome::Passed,
            0 => return,
            code => {
                command.unsure |= spec::leaves_open(code);
                if command.frames.is_empty() && !command.unsure && command.stored.is_none() {
                    command.since = None;
                }
                if !spec::is_rooms_word(code) {
                    return;
                }
                Outcome::Refused { code, ver }
            }
        };
        let name = format!("command {m} of {c}");
        let call = command.call.clone();
        let refused = Operation { invoked: first, responded: Some(n), n, call, outcome, name };
        self.rooms.entry(key.0).or_default().operations.push(refused);
    }

    /// The histories of all rooms, and what contradicts itself already.
    pub(super) fn end(self) -> (BTreeMap<String, History>, Vec<Violation>) {
        let Self { commands, mut rooms, lossy, log, .. } = self;
        let mut violations = Vec::new();
        let mut in_log: BTreeMap<(String, String, String), (u64, Place)> = BTreeMap::new();
        for ((room, place), Stored { n, user, m, op }) in log {
            let found = rooms.entry(room.clone()).or_default();
            found.logged = true;
            if !m.is_empty() {
                in_log.insert((room, user, m), (n, place));
                continue;
            }
            let Some(op) = op else {
                found.strangers = true;
                continue;
            };
            let call = Call { op: ended(&op), if_head: None, user: String::new(), rights: None };
            let (outcome, name) = (Outcome::Stored(place), "what ended by itself".to_owned());
            found.operations.push(Operation { invoked: 0, responded: None, n, call, outcome, name });
        }
        for ((room, user, m), command) in commands {
            let Command { c, call, ephemeral, since, answered, stored, .. } = command;
            let name = format!("command {m} of {c}");
            let logged = in_log.remove(&(room.clone(), user, m));
            let found = rooms.entry(room).or_default();
            let (responded, place, n) = match (stored, logged) {
                (Some((n, place)), _) => (Some(n), Some(place), n),
                (None, Some((n, place))) => (None, Some(place), n),
                (None, None) => (None, None, since.unwrap_or(0)),
            };
            match (place, since) {
                (Some((epoch, seq)), None) => {
                    let what = format!(
                        "every answer said that {name} was not applied, and the log holds it at epoch {epoch} seq {seq}"
                    );
                    violations.push(Violation { oracle: "A8".to_owned(), n: answered, what });
                }
                (None, None) => {}
                (None, Some(_)) if ephemeral => {}
                (place, Some(invoked)) => {
                    let outcome = place.map_or(Outcome::Open, Outcome::Stored);
                    found.operations.push(Operation { invoked, responded, n, call, outcome, name });
                }
            }
        }
        for (room, _, _) in in_log.into_keys() {
            rooms.entry(room).or_default().strangers = true;
        }
        let histories = rooms.into_iter().map(|(room, Room { fresh, logged, strangers, epochs, operations })| {
            (room, History { operations, fresh, logged, strangers, lossy, epochs })
        });
        (histories.collect(), violations)
    }
}

impl Client {
    /// What this client's token grants in `tenant/room`.
    fn rights(&self, room: &str) -> Option<Rights> {
        let grants = self.grants.as_ref()?;
        let room = room.split_once('/').map_or(room, |(_, room)| room);
        let fits = |m: &str| m.strip_suffix('*').map_or(m == room, |prefix| room.starts_with(prefix));
        let has = |action: &str| grants.iter().any(|(m, a)| fits(m) && a.iter().any(|granted| granted == action));
        Some(Rights { say: has("pub"), state: has("state"), moderate: has("mod") })
    }
}

/// A command as the trace writes it.
fn call(op: &Value, user: String, rights: Option<Rights>) -> Call {
    let text = |key: &str| op[key].as_str().unwrap_or_default().to_owned();
    let ttl = op["ttl_ms"].as_u64().is_some_and(|ttl| ttl > 0);
    let parsed = match op["op"].as_str() {
        Some("say") => Op::Say,
        Some("set") => Op::Set { key: text("key"), h: text("h"), ttl, expect: op["expect"].as_u64() },
        Some("delete") => Op::Delete { key: text("key"), expect: op["expect"].as_u64() },
        Some("lock") => {
            let mode = match op["mode"].as_u64() {
                Some(1) => Some(Mode::Join),
                Some(2) => Some(Mode::Write),
                Some(3) => Some(Mode::All),
                _ => None,
            };
            Op::Lock { mode, ttl }
        }
        Some("unlock") => Op::Unlock { force: op["force"] == true },
        _ => Op::Other,
    };
    let if_head = op["if_head"].as_array().and_then(|head| Some((head.first()?.as_u64()?, head.get(1)?.as_u64()?)));
    Call { op: parsed, if_head, user, rights }
}

/// What a room did by itself.
fn ended(op: &Value) -> Op {
    match op["op"].as_str() {
        Some("key_deleted") => Op::KeyEnded { key: op["key"].as_str().unwrap_or_default().to_owned() },
        Some("unlocked") => Op::LockEnded,
        _ => Op::Other,
    }
}

/// A state as the trace writes it.
fn reading(state: &Value) -> Option<Reading> {
    let mut keys = BTreeMap::new();
    for entry in state["entries"].as_array()? {
        let told = (entry["ver"].as_u64()?, entry["h"].as_str()?.to_owned());
        keys.insert(entry["key"].as_str()?.to_owned(), told);
    }
    let lock = &state["lock"];
    let lock = match lock["mode"].as_str() {
        Some(mode) => Some((Mode::parse(mode)?, lock["by"].as_str()?.to_owned())),
        None => None,
    };
    Some(Reading { keys, lock })
}
