//! T2, the twin run: the same plan twice, once with one tenant silent or one reader stalled. What all the others saw must be
//! the same: per room and per client the list of (seq, user, message id, body). Pure: it reads two traces.
//!
//! Two runs can be compared because nothing in one shifts with the traffic of the other: ids, tokens and the latencies of
//! links are drawn by (seed, purpose, who, when), and in such a scenario each room has one writer. What a room shares with
//! all others is when its cluster's first room was opened, and two Brains may open one room at once: a command that finds
//! it changing hands is answered 6000 to 6002, and its sender gives it again when it hears so. Where that befell a room in
//! either run, its order hangs on time, and the room is not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use voltron_core::trace::{Line, Record};

use crate::oracles::LOG_HOST;

/// What the twin does without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twin {
    /// This tenant's clients stay at home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<String>,
    /// This client reads nothing while the run lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<String>,
}

/// Lists by the name of a room, or of a client in a room.
pub type Lists = BTreeMap<String, Vec<String>>;

/// Instead of the list of a room whose commands were not all decided at once.
const UNSURE: &str = "?";

/// Codes that say: ask again.
const AGAIN: RangeInclusive<u32> = 6000..=6002;

/// A place that every client saw alike: room, epoch, seq.
type At<'a> = (&'a str, u64, u64);

/// What everybody but the subject of the twin saw. `tenant_of` names the tenant of a client's name.
pub fn lists(lines: &[Line], twin: &Twin) -> Lists {
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    let mut tenants: BTreeMap<&str, &str> = BTreeMap::new();
    // Rooms that the stalled client writes to have another history without its being answered in time.
    let mut its_rooms: BTreeSet<&str> = BTreeSet::new();
    let mut unsure: BTreeSet<&str> = BTreeSet::new();
    let mut events: BTreeMap<At<'_>, String> = BTreeMap::new();
    for line in lines {
        match &line.record {
            Record::Send { c, m, room, h, .. } => {
                bodies.insert(m, &h.0);
                if twin.stall.as_ref() == Some(c) {
                    its_rooms.insert(room);
                }
            }
            Record::Ack { room, code, .. } if AGAIN.contains(code) => drop(unsure.insert(room)),
            Record::Open { c, tenant, .. } => drop(tenants.insert(c, tenant)),
            Record::Commit { room, epoch, seq, m, user, .. } if line.host == LOG_HOST => {
                let body = bodies.get(m.as_str()).copied().unwrap_or("?");
                events.insert((room, *epoch, *seq), format!("{seq} {user} {m} {body}"));
            }
            _ => {}
        }
    }
    let of_subject = |room: &str| {
        let tenant = room.split_once('/').map(|(tenant, _)| tenant);
        (twin.silence.is_some() && twin.silence.as_deref() == tenant) || its_rooms.contains(room)
    };
    let mut lists = Lists::new();
    for ((room, ..), event) in &events {
        if !of_subject(room) {
            lists.entry((*room).to_owned()).or_default().push(event.clone());
        }
    }
    let mut last: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for line in lines {
        // Whether the first events of a room come one by one or in a snapshot hangs on when a client came in.
        let (c, room, epoch, seq) = match &line.record {
            Record::Recv { c, room, epoch, seq, .. } => (c, room, epoch, *seq),
            Record::Sub { c, room, epoch, seq, replay, recovered: false, .. } => {
                (c, room, epoch, seq.saturating_sub(u64::from(*replay)))
            }
            _ => continue,
        };
        let silent = twin.silence.as_deref().is_some_and(|tenant| tenants.get(c.as_str()) == Some(&tenant));
        if seq == 0 || of_subject(room) || silent || twin.stall.as_ref() == Some(c) {
            continue;
        }
        // What comes again after a reconnect was seen before.
        let reached = last.entry((c, room)).or_default();
        if (*epoch, seq) > *reached {
            let list = lists.entry(format!("{c} in {room}")).or_default();
            match line.record {
                Record::Recv { .. } => {
                    let event = events.get(&(room, *epoch, seq)).cloned();
                    list.push(event.unwrap_or_else(|| format!("{seq} not in the log")));
                }
                _ => {
                    let shown = (room.as_str(), reached.0, reached.1 + 1)..=(room.as_str(), *epoch, seq);
                    list.extend(events.range(shown).map(|(_, event)| event.clone()));
                }
            }
            *reached = (*epoch, seq);
        }
    }
    for room in unsure.into_iter().filter(|room| !of_subject(room)) {
        lists.insert(room.to_owned(), vec![UNSURE.to_owned()]);
    }
    lists
}

/// The first difference, for people.
pub fn difference(run: &Lists, twin: &Lists) -> Option<String> {
    let names: BTreeSet<&String> = run.keys().chain(twin.keys()).collect();
    let unsure = |name: &str| {
        let room = name.split_once(" in ").map_or(name, |(_, room)| room);
        [run, twin].iter().any(|lists| lists.get(room).is_some_and(|list| list.first().is_some_and(|at| at == UNSURE)))
    };
    names.into_iter().filter(|name| !unsure(name)).find_map(|name| {
        let (a, b) = (run.get(name).map_or(&[][..], Vec::as_slice), twin.get(name).map_or(&[][..], Vec::as_slice));
        let at = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at))?;
        let told = |list: &[String]| list.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
        Some(format!("{name}: number {} was `{}`, and `{}` in the twin run", at + 1, told(a), told(b)))
    })
}

#[cfg(test)]
mod tests {
    use voltron_core::trace::Hash16;

    use super::*;

    /// Two tenants with a room each; `t1`'s clients saw `seen`.
    fn run(seen: &[u64], body: &str) -> Vec<Line> {
        let h = |text: &str| Hash16(text.to_owned());
        let mut records = Vec::new();
        for (c, tenant) in [("client-1", "t1"), ("client-2", "t2"), ("client-3", "t1")] {
            let open = Record::Open {
                c: c.into(),
                conn: c.into(),
                shield: "shield-1".into(),
                tenant: tenant.into(),
                user: c.into(),
                exp: 0,
            };
            records.push(("clients-1", open));
        }
        for seq in 1..=3 {
            let (c, m, room) = ("client-1".to_owned(), format!("m{seq}"), "t1/r".to_owned());
            let op = serde_json::Value::Null;
            records.push(("clients-1", Record::Send { c, m: m.clone(), room: room.clone(), h: h(body), op }));
            let commit =
                Record::Commit { room, epoch: 7, seq, m, user: "u1".into(), h: h("e"), op: None, at: 0, expires_at: 0 };
            records.push(("log", commit));
        }
        for seq in seen {
            let (c, room) = ("client-3".to_owned(), "t1/r".to_owned());
            records.push((
                "clients-1",
                Record::Recv { c, room, epoch: 7, seq: *seq, h: h("e"), term: 1, m: String::new() },
            ));
        }
        let lines = records.into_iter().enumerate();
        lines.map(|(n, (host, record))| Line { v: 1, n: n as u64, t: 0, host: host.into(), record }).collect()
    }

    fn silenced() -> Twin {
        Twin { silence: Some("t2".into()), stall: None }
    }

    #[test]
    fn what_the_others_saw_is_compared() {
        let twin = silenced();
        let base = lists(&run(&[1, 2, 3], "b"), &twin);
        assert_eq!(base.keys().collect::<Vec<_>>(), ["client-3 in t1/r", "t1/r"]);
        assert_eq!(difference(&base, &lists(&run(&[1, 2, 2, 1, 3], "b"), &twin)), None, "a replay shows nothing new");
        let less = difference(&base, &lists(&run(&[1, 2], "b"), &twin)).expect("one is missing");
        assert!(less.starts_with("client-3 in t1/r: number 3 was `3 u1 m3 b`, and `nothing`"), "{less}");
        let other = difference(&base, &lists(&run(&[1, 2, 3], "c"), &twin)).expect("another body");
        assert!(other.contains("`1 u1 m1 b`, and `1 u1 m1 c`"), "{other}");
    }

    #[test]
    fn a_snapshot_shows_what_led_to_it() {
        let twin = silenced();
        let base = lists(&run(&[1, 2, 3], "b"), &twin);
        let mut late = run(&[3], "b");
        let (c, room) = ("client-3".to_owned(), "t1/r".to_owned());
        let record = Record::Sub { c, room, since: None, epoch: 7, seq: 2, recovered: false, replay: 0 };
        late.insert(3, Line { v: 1, n: 99, t: 0, host: "clients-1".into(), record });
        assert_eq!(difference(&base, &lists(&late, &twin)), None);
    }

    #[test]
    fn a_room_whose_command_was_sent_again_is_not() {
        let twin = silenced();
        let base = lists(&run(&[1, 2, 3], "b"), &twin);
        let mut again = run(&[2, 1, 3], "c");
        let (c, m, room) = ("client-1".to_owned(), "m1".to_owned(), "t1/r".to_owned());
        let ack = |code| Record::Ack {
            c: c.clone(),
            m: m.clone(),
            room: room.clone(),
            epoch: 0,
            seq: 0,
            code,
            dup: false,
            ver: 0,
        };
        again.push(Line { v: 1, n: 99, t: 0, host: "clients-1".into(), record: ack(4001) });
        assert!(difference(&base, &lists(&again, &twin)).is_some(), "a refusal is an answer like another");
        again.push(Line { v: 1, n: 100, t: 0, host: "clients-1".into(), record: ack(6001) });
        assert_eq!(difference(&base, &lists(&again, &twin)), None);
        assert_eq!(difference(&lists(&again, &twin), &base), None);
    }

    #[test]
    fn the_subject_itself_is_not() {
        let of_t1 = Twin { silence: Some("t1".into()), stall: None };
        assert_eq!(lists(&run(&[1, 2, 3], "b"), &of_t1), Lists::new());
        let reader = Twin { silence: None, stall: Some("client-3".into()) };
        assert_eq!(lists(&run(&[1, 2, 3], "b"), &reader).keys().collect::<Vec<_>>(), ["t1/r"]);
        let writer = Twin { silence: None, stall: Some("client-1".into()) };
        assert_eq!(lists(&run(&[1, 2, 3], "b"), &writer), Lists::new());
    }
}
