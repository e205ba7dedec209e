//! Tests of the trace's records: each reads back, and docs/trace.md names exactly their keys.

use std::collections::BTreeMap;

use super::*;

/// One of each. The match below has no wildcard, so a new record does not compile until it stands here and there.
fn one_of_each() -> Vec<Record> {
    let (c, conn, m, room) = (|| "c1".to_owned(), || "x9".to_owned(), || "0a".repeat(16), || "acme/lobby".to_owned());
    let (subject, h) = (|| "in.t.acme.r.lobby".to_owned(), || Hash16::of(b"bytes"));
    let user = || "ann".to_owned();
    vec![
        Record::Open { c: c(), conn: conn(), shield: "shield-1".into(), tenant: "acme".into(), user: user(), exp: -1 },
        Record::Shut { c: c(), conn: conn(), code: 4102 },
        Record::Send { c: c(), m: m(), room: room(), h: h(), op: serde_json::json!({"say": {"data": "h"}}) },
        Record::Ack { c: c(), m: m(), room: room(), epoch: 1, seq: 2, code: 0, dup: false, ver: 0 },
        Record::Ack { c: c(), m: m(), room: room(), epoch: u64::MAX, seq: 2, code: 0, dup: true, ver: 9 },
        Record::Recv { c: c(), room: room(), epoch: 1, seq: 2, h: h(), term: 3, m: String::new() },
        Record::Recv { c: c(), room: room(), epoch: 1, seq: 0, h: h(), term: 3, m: m() },
        Record::Sub { c: c(), room: room(), since: Some((1, 2)), epoch: 1, seq: 5, recovered: true, replay: 3 },
        Record::Sub { c: c(), room: room(), since: None, epoch: 1, seq: 5, recovered: false, replay: 0 },
        Record::Snap { c: c(), room: room(), epoch: 2, seq: 5, state: Some(serde_json::json!({"entries": []})) },
        Record::Unsub { c: c(), room: room(), code: 5007 },
        Record::Get { c: c(), id: 7, room: room() },
        Record::Got {
            c: c(),
            id: 7,
            room: room(),
            epoch: 1,
            seq: 2,
            h: h(),
            state: Some(serde_json::json!({"entries": []})),
        },
        Record::Gap { c: c(), room: room(), epoch: 1, from: 3, to: 4 },
        Record::Seen { c: c(), room: room(), users: vec![user()] },
        Record::Verdict { conn: conn(), m: m(), v: "allow".into(), policy: String::new(), fuel: 0 },
        Record::Pub { subject: subject(), h: h() },
        Record::Queue { name: "outbox".into(), len: 1, cap: 4096 },
        Record::Drain { phase: "begin".into() },
        Record::Owned { room: room(), epoch: 1, term: 2 },
        Record::Commit {
            room: room(),
            epoch: 1,
            seq: 2,
            m: m(),
            user: user(),
            h: h(),
            op: Some(serde_json::json!({"op": "unlocked"})),
            at: 1_767_225_600_000,
            expires_at: 1_767_225_600_500,
        },
        Record::Fenced { room: room(), term: 2 },
        Record::Answer { m: m(), code: 6001 },
        Record::Merge { writer: "shield-1".into(), to: 9, digest: h() },
        Record::Append { subject: subject(), seq: 3, expect: Some(2), h: h() },
        Record::Refused { subject: subject(), code: 10071 },
        Record::TailLost { from: 3, to: 4 },
        Record::Trim { room: room(), epoch: 1, seq: 2 },
        Record::Fault { id: "f1".into(), kind: "crash".into(), target: "owner".into() },
        Record::Heal { id: "f1".into() },
        Record::Mark { name: "shield.gap \"quoted\" é".into() },
        Record::Crash { host: "brain-1".into() },
        Record::Start { host: "brain-1".into() },
        Record::Bad { c: c(), m: m(), what: "a cut envelope".into(), codes: vec![1004] },
        Record::Told { c: c(), code: 1004 },
        Record::Grant { c: c(), m: "game-*".into(), a: vec!["sub".into()] },
        Record::Want { c: c(), room: room(), id: 4 },
        Record::Leave { c: c(), room: room() },
        Record::Denied { c: c(), id: 7, room: room(), code: 5001 },
        Record::Renew { room: room(), epoch: 1, at: 1_767_225_600_000 },
        Record::Held { name: "tasks".into(), len: 7, rest: 7 },
        Record::Rules { entries: 1024, bytes: 65_536, age_ms: 300_000 },
        Record::Entry {
            room: room(),
            epoch: 1,
            term: 2,
            pos: 3,
            at: 4,
            bytes: 5,
            kind: "events".into(),
            did: vec![serde_json::json!({"seq": 1})],
        },
        Record::Snapshot {
            room: room(),
            epoch: 1,
            term: 2,
            seq: 6,
            pos: 3,
            at: 4,
            bytes: 5,
            state: serde_json::json!({"entries": []}),
        },
        Record::Purged { room: room(), pos: 3 },
        Record::Ended { conn: conn(), code: 4102 },
    ]
}

/// The position of a record's kind in [`one_of_each`]'s order; exists to break the build when a kind is added.
fn kind(record: &Record) -> usize {
    use Record::*;
    match record {
        Open { .. } => 0,
        Shut { .. } => 1,
        Send { .. } => 2,
        Ack { .. } => 3,
        Recv { .. } => 4,
        Sub { .. } => 5,
        Snap { .. } => 6,
        Unsub { .. } => 7,
        Get { .. } => 8,
        Got { .. } => 9,
        Gap { .. } => 10,
        Seen { .. } => 11,
        Verdict { .. } => 12,
        Pub { .. } => 13,
        Queue { .. } => 14,
        Drain { .. } => 15,
        Owned { .. } => 16,
        Commit { .. } => 17,
        Fenced { .. } => 18,
        Answer { .. } => 19,
        Merge { .. } => 20,
        Append { .. } => 21,
        Refused { .. } => 22,
        TailLost { .. } => 23,
        Trim { .. } => 24,
        Fault { .. } => 25,
        Heal { .. } => 26,
        Mark { .. } => 27,
        Crash { .. } => 28,
        Start { .. } => 29,
        Bad { .. } => 30,
        Told { .. } => 31,
        Grant { .. } => 32,
        Want { .. } => 33,
        Leave { .. } => 34,
        Denied { .. } => 35,
        Renew { .. } => 36,
        Held { .. } => 37,
        Rules { .. } => 38,
        Entry { .. } => 39,
        Snapshot { .. } => 40,
        Purged { .. } => 41,
        Ended { .. } => 42,
    }
}

const KINDS: usize = 43;

#[test]
fn every_record_reads_back_from_its_line() {
    let records = one_of_each();
    let mut kinds: Vec<usize> = records.iter().map(kind).collect();
    kinds.dedup();
    assert_eq!(kinds, (0..KINDS).collect::<Vec<_>>(), "one of each, in order");
    for (n, record) in (0..).zip(records) {
        let json = serde_json::to_string(&record).expect("a record is JSON");
        let line = line_json(n, 17, "shield \"1\"", &json);
        assert!(!line.contains('\n'));
        let read: Line = serde_json::from_str(&line).expect(&line);
        assert_eq!(read, Line { v: 1, n, t: 17, host: "shield \"1\"".into(), record });
        // A Line writes what line_json writes.
        let again = serde_json::to_value(&read).expect("a line is JSON");
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(&line).expect(&line));
    }
}

#[test]
fn no_record_has_a_key_of_the_line() {
    for record in one_of_each() {
        let value = serde_json::to_value(&record).expect("JSON");
        for key in ["v", "n", "t", "host"] {
            assert!(value.get(key).is_none(), "{record:?} would write {key} twice");
        }
    }
}

#[test]
fn hashes_are_16_digits() {
    assert_eq!(Hash16::of(b"").to_string(), "e3b0c44298fc1c14");
}

/// The rows of docs/trace.md: kind to keys.
fn documented() -> BTreeMap<String, Vec<String>> {
    let page = include_str!("../../../docs/trace.md");
    let rows = page.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `k`"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let kind = cells.next().expect("a kind").trim_matches('`').to_owned();
        let _writer = cells.next();
        let keys = cells.next().expect("keys").split_whitespace().map(|key| key.trim_matches('`').to_owned());
        (kind, keys.collect())
    })
    .collect()
}

#[test]
fn the_page_names_exactly_the_records_and_their_keys() {
    let mut written = BTreeMap::new();
    for record in one_of_each() {
        let serde_json::Value::Object(object) = serde_json::to_value(&record).expect("JSON") else {
            panic!("a record is an object")
        };
        let name = object["k"].as_str().expect("a kind").to_owned();
        let mut keys: Vec<String> = object.keys().filter(|key| *key != "k").cloned().collect();
        keys.sort();
        written.insert(name, keys);
    }
    let mut documented = documented();
    documented.values_mut().for_each(|keys| keys.sort());
    assert_eq!(written, documented);
}
