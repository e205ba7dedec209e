//! Each oracle accepts the good trace and rejects bad ones, at the right record. A bad trace is the good one with a line or
//! two that differ, so that what is wrong with it stands in the test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod causes;

use std::path::Path;

use serde_json::{Value, json};
use sim_tests::oracles::{self, Judgement};
use sim_tests::trace;
use voltron_core::trace::Line;

const ROOM: &str = "t1/room-1";

fn good() -> Vec<Line> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/good.jsonl");
    trace::read(&path).unwrap()
}

/// The good trace with keys of one line changed.
fn with(mut lines: Vec<Line>, n: usize, changes: Value) -> Vec<Line> {
    let mut line = serde_json::to_value(&lines[n]).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        line[key] = value.clone();
    }
    lines[n] = serde_json::from_value(line).unwrap();
    lines
}

fn changed(n: usize, changes: Value) -> Vec<Line> {
    with(good(), n, changes)
}

/// The good trace without a line; `n` of the others stay.
fn without(n: u64) -> Vec<Line> {
    good().into_iter().filter(|line| line.n != n).collect()
}

/// The good trace with a line more, before line `n`, numbered 1000.
fn inserted(n: usize, host: &str, record: Value) -> Vec<Line> {
    let mut lines = good();
    let mut line = json!({ "v": 1, "n": 1000, "t": lines[n].t, "host": host });
    line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
    lines.insert(n, serde_json::from_value(line).unwrap());
    lines
}

#[track_caller]
fn rejected(lines: &[Line], oracle: &str, n: u64, says: &str) {
    let judgement = oracles::judge(lines, &[]);
    assert!(!judgement.held(), "accepted");
    let found = judgement.violations.iter().find(|violation| violation.oracle == oracle);
    let found = found.unwrap_or_else(|| panic!("{oracle} does not object: {:?}", judgement.violations));
    assert_eq!(found.n, n, "{found:?}");
    assert!(found.what.contains(says), "{}", found.what);
}

#[test]
fn the_good_trace_is_accepted_and_every_oracle_looked() {
    let judgement = oracles::judge(&good(), &[]);
    assert!(judgement.held(), "{:?}", judgement.violations);
    assert_eq!(judgement.never_looked(), Vec::<&str>::new());
    assert_eq!(judgement.checks.len(), oracles::NAMES.len());
}

#[test]
fn a1_an_acked_command_is_stored_once_at_its_place() {
    rejected(&without(35), "A1", 15, "the log does not hold it");
    rejected(&changed(36, json!({ "m": "m2", "user": "u1" })), "A1", 15, "2 times");
    rejected(&changed(10, json!({ "seq": 2 })), "A1", 10, "holds it at t1/room-1 epoch 7 seq 1");
    rejected(&changed(34, json!({ "user": "u2" })), "A1", 10, "the log does not hold it");
}

/// What of one oracle is objected to, whatever the others say.
fn objections(lines: &[Line], oracle: &str) -> Vec<String> {
    let judgement = oracles::judge(lines, &[]);
    judgement.violations.into_iter().filter(|one| one.oracle == oracle).map(|one| one.what).collect()
}

#[test]
fn a1_what_was_trimmed_stands_in_a_snapshot() {
    let trimmed = |seq: u64| {
        let mut lines = changed(38, json!({ "host": "trimmed" }));
        let trim =
            json!({ "v": 1, "n": 1000, "t": 1, "host": "trimmed", "k": "trim", "room": ROOM, "epoch": 7, "seq": seq });
        lines.insert(38, serde_json::from_value(trim).unwrap());
        lines
    };
    assert_eq!(objections(&trimmed(5), "A1"), [""; 0]);
    rejected(&trimmed(4), "A1", 30, "trimmed beyond what a snapshot holds");
}

#[test]
fn a1_what_a_power_cut_took_is_announced_by_a_new_epoch() {
    let lost = || changed(38, json!({ "host": "lost" }));
    assert_eq!(objections(&lost(), "A1"), [""; 0]);
    let mut late = lost();
    let after = |epoch: u64, seq: u64, h: &str| -> Line {
        let recv = json!({ "v": 1, "n": 1000, "t": 1, "host": "clients-1", "k": "recv", "c": "client-1", "room": ROOM,
                           "epoch": epoch, "seq": seq, "h": h });
        serde_json::from_value(recv).unwrap()
    };
    late.push(after(7, 5, "5555555555555555"));
    late.push(after(8, 1, "beefbeefbeefbeef"));
    assert_eq!(objections(&late, "A1"), [""; 0], "what was on its way may arrive, and a new epoch may begin");
    for seq in [5, 6] {
        let mut reused = lost();
        reused.push(after(7, seq, "beefbeefbeefbeef"));
        rejected(&reused, "A1", 30, "record 1000 goes on in the same epoch");
    }
    // Lost, but at another place than was told.
    rejected(&with(lost(), 38, json!({ "seq": 6 })), "A1", 30, "the log does not hold it");
}

#[test]
fn a2_nobody_is_rewound_in_silence() {
    rejected(&changed(19, json!({ "seq": 0, "recovered": false, "replay": 0 })), "A2", 19, "put back");
    rejected(&changed(33, json!({ "epoch": 6 })), "A2", 33, "rewound to epoch 6 seq 5");
    let renewed = changed(19, json!({ "epoch": 8, "seq": 0, "recovered": false, "replay": 0 }));
    let judgement = oracles::judge(&renewed, &[]);
    assert!(judgement.violations.iter().all(|one| one.n != 19), "a new epoch says so: {judgement:?}");
}

#[test]
fn a3_nothing_twice() {
    rejected(&changed(36, json!({ "m": "m1", "user": "u1" })), "A3", 36, "stored twice");
    let again = json!({ "k": "recv", "c": "client-1", "room": ROOM, "epoch": 7, "seq": 2, "h": "2222222222222222" });
    rejected(&inserted(31, "clients-1", again), "A3", 1000, "twice in one subscription");
}

#[test]
fn a4_what_is_delivered_was_committed_and_what_is_committed_was_sent() {
    rejected(&changed(32, json!({ "h": "beefbeefbeefbeef" })), "A4", 32, "which nobody committed");
    rejected(&changed(37, json!({ "m": "m9", "user": "u1" })), "A4", 37, "who never sent it there");
    rejected(&changed(5, json!({ "room": "t1/room-2" })), "A4", 34, "who never sent it there");
}

#[test]
fn a5_one_after_the_other() {
    rejected(&without(16), "A5", 31, "seq 2 was next");
    rejected(&changed(19, json!({ "recovered": false, "replay": 0 })), "A5", 20, "seq 3 was next");
    rejected(&changed(28, json!({ "to": 3 })), "A5", 29, "seq 4 was next");
    rejected(&without(19), "A5", 20, "without a subscription");
}

#[test]
fn a_new_epoch_begins_at_one_or_after_a_snapshot() {
    let line = |n: u64, record: Value| -> Line {
        let mut line = json!({ "v": 1, "n": n, "t": 1, "host": "clients-1", "c": "client-1", "room": ROOM });
        line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    };
    let recv = |n: u64, seq: u64| line(n, json!({ "k": "recv", "epoch": 9, "seq": seq, "h": "99" }));
    let snap = |epoch: u64, seq: u64| line(1000, json!({ "k": "snap", "epoch": epoch, "seq": seq }));
    let ending = |lines: &[Line]| good().into_iter().chain(lines.to_vec()).collect::<Vec<_>>();
    assert_eq!(objections(&ending(&[recv(1000, 1)]), "A5"), [""; 0]);
    assert_eq!(objections(&ending(&[snap(9, 4), recv(1001, 5)]), "A5"), [""; 0]);
    rejected(&ending(&[recv(1000, 2)]), "A5", 1000, "seq 6 was next");
    rejected(&ending(&[snap(9, 4), recv(1001, 6)]), "A5", 1001, "epoch 9 seq 5 was next");
    rejected(&ending(&[snap(6, 4)]), "A2", 1000, "put back to a snapshot at epoch 6 seq 4");
    // A client that was told of the new epoch only stands at the head all the same.
    let head = json!({ "v": 1, "n": 1001, "t": 1, "host": "log", "k": "commit", "room": ROOM, "epoch": 9, "seq": 4,
                       "m": "", "user": "", "h": "99" });
    let head: Line = serde_json::from_value(head).unwrap();
    let other = line(1002, json!({ "c": "client-2", "k": "snap", "epoch": 9, "seq": 4 }));
    assert_eq!(objections(&ending(&[snap(9, 4), head.clone(), other]), "D1"), [""; 0]);
    rejected(&ending(&[head]), "D1", 29, "whose head is epoch 9 seq 4");
}

#[test]
fn a6_the_same_bytes_for_all() {
    rejected(&changed(20, json!({ "h": "beefbeefbeefbeef" })), "A6", 20, "client-2 has other bytes than client-1");
    rejected(&changed(35, json!({ "h": "beefbeefbeefbeef" })), "A6", 35, "the log has other bytes");
}

#[test]
fn a7_one_owner_at_a_time() {
    let twin = json!({ "k": "owned", "room": ROOM, "epoch": 7, "term": 1 });
    rejected(&inserted(5, "brain-2", twin), "A7", 1000, "brain-2 and brain-1 both own");
    let other = json!({ "k": "commit", "room": ROOM, "epoch": 7, "seq": 2, "m": "mx", "user": "u", "h": "99" });
    rejected(&inserted(16, "brain-2", other), "A7", 1000, "different bytes");
    rejected(&changed(38, json!({ "seq": 4, "h": "4444444444444444" })), "A7", 38, "falls");
}

/// Four operations on another room of the good trace: a grant, a set, a refusal and a get.
fn with_state(changes: &[(usize, Value)]) -> Vec<Line> {
    let room = "t1/room-3";
    let set = |expect: u64| json!({ "op": "set", "key": "k", "h": "aa", "ttl_ms": 0, "expect": expect });
    let state = json!({ "entries": [{ "key": "k", "ver": 1, "h": "aa" }], "lock": null });
    let mut added = [
        json!({ "k": "grant", "c": "client-1", "m": "room-*", "a": ["pub", "state"] }),
        json!({ "k": "send", "c": "client-1", "m": "s1", "room": room, "h": "00", "op": set(0) }),
        json!({ "k": "ack", "c": "client-1", "m": "s1", "room": room, "epoch": 9, "seq": 1, "code": 0, "dup": false }),
        json!({ "k": "send", "c": "client-2", "m": "s2", "room": room, "h": "00", "op": set(0) }),
        json!({ "k": "ack", "c": "client-2", "m": "s2", "room": room, "epoch": 0, "seq": 0, "code": 5005, "dup": false, "ver": 1 }),
        json!({ "k": "get", "c": "client-2", "id": 3, "room": room }),
        json!({ "k": "got", "c": "client-2", "id": 3, "room": room, "epoch": 9, "seq": 1, "h": "00", "state": state }),
    ];
    for (index, change) in changes {
        added[*index].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    }
    let log = [
        json!({ "k": "append", "subject": "log.1.t.t1.r.room-3", "seq": 1, "expect": 0, "h": "00" }),
        json!({ "k": "commit", "room": room, "epoch": 9, "seq": 1, "m": "s1", "user": "u1", "h": "00" }),
    ];
    let mut lines = good();
    let end = lines.len();
    let line = |host: &str, n: usize, record: &Value| {
        let mut line = json!({ "v": 1, "n": n, "t": 40_000 + n, "host": host });
        line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    };
    lines.extend(added.iter().enumerate().map(|(n, record)| line("clients-1", 100 + n, record)));
    lines.extend(log.iter().enumerate().map(|(n, record)| line("log", 200 + n, record)));
    assert_eq!(lines.len(), end + 9);
    lines
}

#[test]
fn a8_rooms_are_linearizable() {
    let judgement = oracles::judge(&with_state(&[]), &[]);
    assert!(judgement.violations.iter().all(|one| one.oracle != "A8"), "{:?}", judgement.violations);
    let rejected = |changes: &[(usize, Value)], n: u64, says: &str| rejected(&with_state(changes), "A8", n, says);
    let stale = json!({ "seq": 0, "state": { "entries": [], "lock": null } });
    rejected(
        &[(4, json!({ "code": 6000 })), (6, stale)],
        106,
        "began after command s1 of client-1 had ended at epoch 9 seq 1, and shows epoch 9 seq 0",
    );
    let other = json!({ "state": { "entries": [{ "key": "k", "ver": 1, "h": "bb" }], "lock": null } });
    rejected(&[(6, other)], 106, "key k had version 1 with aa, and version 1 with bb was shown");
    rejected(&[(4, json!({ "ver": 2 }))], 104, "refused with 5005 (ver 2)");
    rejected(&[(4, json!({ "code": 5009 }))], 104, "refused with 5009");
    rejected(&[(0, json!({ "a": ["pub"] }))], 102, "u1 has no right to it");
    rejected(&[(2, json!({ "code": 6002, "epoch": 0, "seq": 0 }))], 102, "was not applied, and the log holds it");
}

#[test]
fn a9_effects_stand_above_their_causes() {
    let lines = with(changed(38, json!({ "seq": 6 })), 36, json!({ "m": "m5", "user": "u2", "seq": 1 }));
    rejected(&lines, "A9", 36, "client-2 had seen t1/room-1 epoch 7 seq 2 when it sent m5");
}

#[test]
fn a10_one_answer_a_frame_and_known_codes() {
    let again =
        json!({ "k": "ack", "c": "client-1", "m": "m2", "room": ROOM, "epoch": 7, "seq": 2, "code": 0, "dup": true });
    rejected(&inserted(16, "clients-1", again), "A10", 1000, "1 times and got 2 answers");
    rejected(&changed(22, json!({ "code": 1234 })), "A10", 22, "does not exist");
    rejected(&changed(12, json!({ "code": 3999 })), "A10", 12, "does not exist");
}

#[test]
fn a10_what_was_surely_not_applied_is_not() {
    rejected(&changed(15, json!({ "code": 6003 })), "A10", 15, "m2 is surely not applied, but the log");
    let denied = with(changed(22, json!({ "code": 6002 })), 30, json!({ "dup": true }));
    rejected(&denied, "A10", 30, "m5 repeats what was 1 times surely not applied");
}

#[test]
fn a11_commands_of_one_connection_in_order() {
    let swapped = with(changed(10, json!({ "seq": 2 })), 15, json!({ "seq": 1 }));
    rejected(&swapped, "A11", 15, "client-1 sent m1 before m2");
}

#[test]
fn b1_bad_input_meets_its_code() {
    rejected(&changed(40, json!({ "code": 1002 })), "B1", 40, "sent an empty message and was told 1002, not [1001]");
    rejected(&without(39), "B1", 40, "had sent nothing that explains it");
    rejected(&changed(42, json!({ "code": 2006 })), "B1", 42, "sent another tenant and was told 2006");
    let late = with(without(40), good().len() - 2, json!({ "t": 60_000_000 }));
    rejected(&late, "B1", 39, "never told any of [1001]");
    // Who was silent itself cannot have been told meanwhile.
    let trouble = |lines: Vec<Line>, n: usize, t: u64, record: Value| {
        let mut line = json!({ "v": 1, "n": 1000 + n, "t": t, "host": "clients-1" });
        line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        let mut lines = lines;
        lines.insert(n, serde_json::from_value(line).unwrap());
        lines
    };
    let id = "client-1-silence-1";
    let end = late.len() - 2;
    let late = trouble(late, end, 59_000_000, json!({ "k": "heal", "id": id }));
    let silent = trouble(late, 40, 40_000, json!({ "k": "fault", "id": id, "kind": "silence", "target": "client-1" }));
    assert!(!oracles::judge(&silent, &[]).violations.iter().any(|violation| violation.oracle == "B1"));
}

#[test]
fn a2_the_result_of_a_sub_is_at_the_head() {
    rejected(&changed(19, json!({ "replay": 0 })), "A2", 19, "was told of 0 events of t1/room-1 up to");
    let line = |n: u64, t: u64, record: Value| {
        let mut line = json!({ "v": 1, "n": n, "t": t, "host": "clients-1", "c": "client-1", "room": "t1/room-1" });
        line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
        serde_json::from_value::<Line>(line).unwrap()
    };
    let result = |seq: u64| {
        let result = json!({ "k": "sub", "since": null, "epoch": 7, "seq": seq, "recovered": false, "replay": 0 });
        let mut lines = good();
        lines.push(line(1000, 18_100, json!({ "k": "want", "id": 7 })));
        lines.push(line(1001, 18_200, result));
        lines.sort_by_key(|line| line.t);
        objections(&lines, "A2")
    };
    assert_eq!(result(2), [""; 0]);
    let below = result(1);
    assert!(below.iter().any(|what| what.contains("had a command at epoch 7 seq 2")), "{below:?}");
}

#[test]
fn l3_a_log_is_bounded_by_its_snapshots() {
    let without_snapshot = without(77).into_iter().map(|mut line| {
        line.t += if line.n == 79 { 10_000_000 } else { 0 };
        line
    });
    rejected(&without_snapshot.collect::<Vec<_>>(), "L3", 79, "3 entries (300 B) since its newest snapshot");
    rejected(&changed(79, json!({ "bytes": 65_537, "t": 24_000_000 })), "L3", 81, "one is due for 8901 ms");
    rejected(&without(80), "L3", 81, "begins at 1, 1 entries below 2, where it must for 10000 ms");
    rejected(&changed(72, json!({ "at": 2500 })), "L3", 80, "position 1 of t1/room-9 was trimmed 500 ms after");
    rejected(&changed(80, json!({ "pos": 2 })), "L3", 80, "the older of its two snapshots stands at 2");
}

#[test]
fn l3_what_a_fault_delays_is_not_late() {
    let fault = |lines: Vec<Line>, from: u64, to: u64| {
        let line = |n: u64, t: u64, record: Value| {
            let mut line = json!({ "v": 1, "n": n, "t": t, "host": "harness" });
            line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
            serde_json::from_value::<Line>(line).unwrap()
        };
        let mut lines = lines;
        lines.push(line(1000, from, json!({ "k": "fault", "id": "f1", "kind": "hold", "target": "brain-1" })));
        lines.push(line(1001, to, json!({ "k": "heal", "id": "f1" })));
        lines.sort_by_key(|line| line.t);
        lines
    };
    // The trim may have been lost: it is asked for again with the next snapshot.
    assert_eq!(objections(&fault(without(80), 22_950_000, 23_000_000), "L3"), [""; 0]);
    assert_eq!(objections(&fault(without(80), 22_700_000, 22_800_000), "L3").len(), 1);
}

#[test]
fn s1_snapshots_are_what_the_log_makes() {
    let state = |n: usize, path: &str, value: Value| {
        let mut line = serde_json::to_value(&good()[n]).unwrap();
        *line.pointer_mut(path).unwrap() = value;
        let mut lines = good();
        lines[n] = serde_json::from_value(line).unwrap();
        lines
    };
    let rejected = |lines: Vec<Line>, n: u64, says: &str| rejected(&lines, "S1", n, says);
    rejected(state(74, "/state/entries/0/ver", json!(2)), 74, "position 2 is not what the log makes: key k is");
    rejected(state(74, "/state/entries/0/ttl_ms", json!(0)), 74, "key k is");
    rejected(state(77, "/state/entries", json!([])), 77, "key k is missing");
    rejected(state(77, "/state/lock", json!(null)), 77, "the lock is None");
    rejected(state(77, "/state/window/1", json!(["u2", "a9", 5, 2])), 77, "does not hold a9 of u2");
    rejected(
        state(77, "/state/window", json!([["u1", "a1", 5, 1]])),
        77,
        "the last command of u2, is not in the window",
    );
    rejected(state(77, "/seq", json!(3)), 77, "that is seq 2 at 1300, and not seq 3");
    rejected(state(77, "/term", json!(2)), 77, "that is of epoch 5 term 1");
    rejected(state(77, "/pos", json!(9)), 77, "no entry stands there");
    rejected(
        state(78, "/state/entries/0/h", json!("bb")),
        78,
        "client-9 was given a state of t1/room-9 at epoch 5 seq 2",
    );
    rejected(state(78, "/state/lock/until", json!(9)), 78, "the lock is");
    rejected(state(83, "/state/entries/0/expires_at", json!(5100)), 83, "key k is");
}

#[test]
fn t1_tenants_are_apart_and_subjects_have_their_shape() {
    rejected(&changed(31, json!({ "room": "t2/room-1" })), "T1", 31, "was told of t2/room-1");
    rejected(&changed(6, json!({ "subject": "in.t.t1.r.room-1.>" })), "T1", 6, "is no subject of ours");
    rejected(&changed(7, json!({ "subject": "log.9.t.t1.r.*" })), "T1", 7, "is no subject of ours");
}

#[test]
fn g2_the_tenant_is_the_tokens() {
    rejected(&changed(34, json!({ "room": "t2/room-1" })), "G2", 34, "whose sender's token says t1");
}

#[test]
fn q1_queues_keep_their_bounds() {
    rejected(&changed(24, json!({ "len": 9 })), "Q1", 24, "outbox of shield-2 holds 9, its bound is 8");
    let shut = |code: u16| json!({ "k": "shut", "c": "client-1", "conn": "a1", "code": code });
    for code in [4102, 4201] {
        let says = format!("client-1 was closed with {code}, and it always read");
        rejected(&inserted(30, "clients-1", shut(code)), "Q1", 1000, &says);
    }
}

#[test]
fn d1_everything_ends() {
    rejected(&without(30), "D1", 23, "never learned what became of it");
    rejected(&without(33), "D1", 32, "came to epoch 7 seq 4 of t1/room-1, whose head is epoch 7 seq 5");
}

#[test]
fn d1_what_is_stored_after_a_client_went_home_is_not_owed_to_it() {
    // An event without a sender: a ttl that ended.
    let ends = |t: u64| {
        let line = |n: u64, host: &str, k: Value| -> Line {
            let mut line = json!({ "v": 1, "n": n, "t": t, "host": host });
            line.as_object_mut().unwrap().extend(k.as_object().unwrap().clone());
            serde_json::from_value(line).unwrap()
        };
        let commit = json!({ "k": "commit", "room": ROOM, "epoch": 7, "seq": 6, "m": "", "user": "", "h": "66" });
        let mut lines = good();
        for (n, c) in [(2000, "client-1"), (2001, "client-2")] {
            let mut shut = line(n, "clients-1", json!({ "k": "shut", "c": c, "conn": "a", "code": 1000 }));
            shut.t = 9_000_000;
            lines.push(shut);
        }
        lines.push(line(2002, "brain-1", commit.clone()));
        lines.push(line(2003, "log", commit));
        lines
    };
    assert_eq!(objections(&ends(9_100_000), "D1"), [""; 0]);
    rejected(&ends(8_400_000), "D1", 29, "whose head is epoch 7 seq 6");
}

#[test]
fn d1_nobody_comes_back_without_a_pause() {
    let open = json!({ "v": 1, "n": 1000, "t": 2_000_000, "host": "clients-1", "k": "open", "c": "client-1", "conn": "b",
                       "shield": "shield-1", "tenant": "t1", "user": "u1", "exp": 2000 });
    let open: Line = serde_json::from_value(open).unwrap();
    let storm = |times: usize| good().into_iter().chain(vec![open.clone(); times]).collect::<Vec<_>>();
    assert_eq!(objections(&storm(12), "D1"), [""; 0]);
    rejected(&storm(13), "D1", 1000, "connected 13 times within a second");
}

#[test]
fn d2_who_takes_leave_answers_first() {
    rejected(&without(54), "D2", 49, "no answer came before the close");
    let early: Vec<Line> =
        inserted(51, "clients-2", json!({ "k": "shut", "c": "client-3", "conn": "a4", "code": 4200 }));
    rejected(&early, "D2", 49, "no answer came before the close");
    rejected(&without(52), "D2", 57, "brain-2 took leave and never answered what it had stored: m6");
    let unread: Vec<Line> = good().into_iter().filter(|line| ![51, 52, 53, 54, 55].contains(&line.n)).collect();
    assert_eq!(objections(&unread, "D2"), [""; 0], "nobody read it, so nobody owes an answer");
    // Of two equal frames the Brain may have judged the first, unless the Shield read the second as well.
    let again =
        json!({ "k": "send", "c": "client-3", "m": "m6", "room": "t1/room-2", "h": "ff", "op": { "op": "say" } });
    let repeated = |reads: bool| {
        let mut lines: Vec<Line> = inserted(50, "clients-2", again.clone()).into_iter().filter(|l| l.n != 54).collect();
        lines[50].n = 50;
        let verdict = json!({ "v": 1, "n": 1001, "t": lines[50].t, "host": "shield-2", "k": "verdict", "conn": "a4",
                              "m": "m6", "verdict": "allow", "policy": "", "fuel": 0 });
        lines.insert(51, serde_json::from_value(verdict).unwrap());
        lines.retain(|line| reads || line.n != 1001);
        lines
    };
    assert_eq!(objections(&repeated(false), "D2"), [""; 0], "a frame that nobody read is not owed an answer");
    rejected(&repeated(true), "D2", 50, "no answer came before the close");
    let cut = with(without(54), 55, json!({ "code": 1006 }));
    assert_eq!(objections(&cut, "D2"), [""; 0], "a cut connection is nobody's leave");
}

#[test]
fn q2_a_stalled_reader_delays_nobody() {
    rejected(&without(55), "Q2", 53, "client-4 had not got t1/room-2 epoch 3 seq 1 500 ms after the first");
    let stalled = with(without(55), 48, json!({ "target": "client-2, client-4" }));
    assert_eq!(objections(&stalled, "Q2"), [""; 0], "it is the stalled one itself");
    let hold = json!({ "k": "fault", "id": "hold-1", "kind": "hold", "target": "shield-2 | broker" });
    let troubled: Vec<Line> = inserted(48, "harness", hold).into_iter().filter(|line| line.n != 55).collect();
    assert_eq!(objections(&troubled, "Q2"), [""; 0], "something else is wrong");
}

#[test]
fn an_oracle_that_must_look_and_never_did_fails_the_trace() {
    let judgement = oracles::judge(&[], &[]);
    assert!(!judgement.held());
    assert_eq!(judgement.idle(), oracles::ALWAYS);
    assert_eq!(judgement.never_looked().len(), oracles::NAMES.len());
}

#[test]
fn an_excused_oracle_reports_but_does_not_fail() {
    let lines = changed(24, json!({ "len": 9 }));
    let judgement: Judgement = oracles::judge(&lines, &["Q1".into()]);
    assert!(judgement.held());
    assert_eq!(judgement.excused.len(), 1);
}
