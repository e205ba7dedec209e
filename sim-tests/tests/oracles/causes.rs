//! The oracles that ask for a cause, an end or a rest: B2, M1, L1, E1, R1, and D1's wants.

use super::*;

/// A line with this number and time.
fn line(n: u64, t: u64, host: &str, record: Value) -> Line {
    let mut line = json!({ "v": 1, "n": n, "t": t, "host": host });
    line.as_object_mut().unwrap().extend(record.as_object().unwrap().clone());
    serde_json::from_value(line).unwrap()
}

#[test]
fn b2_a_code_has_its_cause() {
    let told = |code: u32, says: &str| rejected(&changed(61, json!({ "code": code })), "B2", 61, says);
    told(1012, "it had sent neither an UNSUB nor another SUB");
    told(4501, "nothing had been wrong with a server for 15 s");
    told(4502, "it had not asked 8 times within a second");
    told(5003, "nobody had sent such a lock");
    told(5011, "nothing of this build brings it about");
    told(6000, "nothing had been wrong with a server for 15 s");
    rejected(&changed(61, json!({ "room": ROOM })), "B2", 61, "the room had existed for");
    let never = with(without(57), 60, json!({ "code": 5007 }));
    rejected(&never, "B2", 61, "nothing was ever lost, trimmed or troubled");
    // A drain explains it, a few times.
    let gap =
        |n: u64| line(n, 19_001_000, "clients-1", json!({ "k": "unsub", "c": "client-1", "room": ROOM, "code": 5007 }));
    let gaps = |times: u64| good().into_iter().chain((1..=times).map(|n| gap(1000 + n))).collect::<Vec<_>>();
    assert_eq!(objections(&gaps(3), "B2"), [""; 0]);
    rejected(&gaps(4), "B2", 1004, "record 57 explains it 3 times, and this is time 4");
    let denied = json!({ "k": "denied", "c": "client-1", "id": 4, "room": ROOM, "code": 2004 });
    let grant = json!({ "k": "grant", "c": "client-1", "m": "room-*", "a": ["sub"] });
    let granted = |grant: Value| {
        let mut lines = inserted(62, "clients-1", denied.clone());
        lines.insert(0, line(1001, 0, "clients-1", grant));
        lines
    };
    rejected(&granted(grant.clone()), "B2", 1000, "its token grants that");
    let mut other = grant;
    other["m"] = "lobby-*".into();
    assert_eq!(objections(&granted(other), "B2"), [""; 0]);
}

#[test]
fn m1_nothing_is_repaired_where_nothing_is_wrong() {
    let mark = |name: &str| json!({ "k": "mark", "name": name });
    for at in [20, 60] {
        rejected(&inserted(at, "shield-1", mark("shield.gap")), "M1", 1000, "shield-1 reached shield.gap");
    }
    assert_eq!(objections(&inserted(58, "shield-1", mark("shield.gap")), "M1"), [""; 0], "a Brain has just gone");
    assert_eq!(objections(&inserted(60, "shield-1", mark("shield.resume")), "M1"), [""; 0]);
    // A stalled reader explains that it is sent away, and no gap.
    let slow = mark("shield.slow-consumer");
    assert_eq!(objections(&inserted(50, "shield-2", slow.clone()), "M1"), [""; 0]);
    rejected(&inserted(50, "shield-2", mark("shield.gap")), "M1", 1000, "shield-2 reached shield.gap");
    rejected(&inserted(40, "shield-2", slow), "M1", 1000, "shield-2 reached shield.slow-consumer");
}

#[test]
fn c1_the_code_that_was_decided_on_is_read() {
    let read = |code: u16| changed(86, json!({ "code": code }));
    rejected(&read(1006), "C1", 86, "shield-3 ended a connection of client-8 with 4103 (record 85), and it read 1006");
    rejected(&read(4200), "C1", 86, "and it read 4200");
    assert_eq!(objections(&read(1001), "C1"), [""; 0], "the client let go");
    assert_eq!(objections(&without(85), "C1"), [""; 0], "shield-3 says nothing of what it decides on");
    // Another connection shows that this Shield says what it decides on.
    let lie = changed(85, json!({ "conn": "another" }));
    rejected(&lie, "C1", 86, "client-8 was told 4103, and shield-3 did not decide on it");
    // A trouble explains the loss, a stall does not, and PATIENCE ends.
    let troubled = |kind: &str, target: &str| {
        let fault = json!({ "k": "fault", "id": "f", "kind": kind, "target": target });
        with(inserted(85, "harness", fault), 87, json!({ "code": 1006 }))
    };
    for (kind, target) in
        [("reset", "client-8 | shield-3"), ("partition", "clients-2 | shield-1"), ("pause", "shield-3")]
    {
        assert_eq!(objections(&troubled(kind, target), "C1"), [""; 0], "{kind}");
    }
    for (kind, target) in [("stall", "client-8"), ("reset", "client-7 | shield-1"), ("trickle", "client-8")] {
        rejected(&troubled(kind, target), "C1", 86, "and it read 1006");
    }
    let said = |t: u64| {
        let mut lines = with(with(read(1006), 86, json!({ "t": 34_000_000 })), 87, json!({ "t": 40_000_000 }));
        let sent = json!({ "k": "leave", "c": "client-8", "room": "t1/room-8" });
        lines.insert(86, line(1000, t, "clients-1", sent));
        lines
    };
    rejected(&said(33_800_000), "C1", 86, "and it read 1006");
    assert_eq!(objections(&said(33_999_000), "C1"), [""; 0], "it had said nothing for a second");
    let late = with(with(read(1006), 86, json!({ "t": 42_914_000 })), 87, json!({ "t": 45_000_000 }));
    assert_eq!(objections(&late, "C1"), [""; 0]);
    rejected(&with(late, 86, json!({ "t": 42_913_999 })), "C1", 86, "and it read 1006");
}

#[test]
fn l1_a_ttl_ends_in_time() {
    rejected(&changed(69, json!({ "at": 1499 })), "L1", 69, "k of t1/room-8 ended 1 ms early");
    let other = json!({ "op": null, "m": "m1", "user": "u1", "at": 1600 });
    rejected(&changed(69, other), "L1", 69, "k of t1/room-8 stands, and was due 100 ms before this event");
    // A take-over begins it anew.
    let renewed = |at: i64| {
        with(
            inserted(69, "log", json!({ "k": "renew", "room": "t1/room-8", "epoch": 9, "at": 1200 })),
            70,
            json!({ "at": at }),
        )
    };
    rejected(&renewed(1699), "L1", 69, "ended 1 ms early");
    assert_eq!(objections(&renewed(1700), "L1"), [""; 0]);
    // Nobody ends it, though its owner lives and somebody is in the room.
    let stands = |shut: u64| {
        let sub = json!({ "k": "sub", "c": "client-4", "room": "t1/room-8", "since": null, "epoch": 9, "seq": 1,
                          "recovered": false, "replay": 0 });
        let commit = json!({ "k": "commit", "room": "t1/room-8", "epoch": 9, "seq": 1, "m": "t1s", "user": "u1",
                             "h": "7777777777777777", "at": 20_000 });
        let mut lines: Vec<Line> = without(69);
        lines.insert(60, line(1000, 19_000_000, "clients-2", sub));
        lines.insert(61, line(1001, 19_000_000, "brain-1", commit));
        lines.push(line(1002, shut, "clients-2", json!({ "k": "shut", "c": "client-4", "conn": "a5", "code": 1000 })));
        lines
    };
    rejected(&stands(20_000_000), "L1", 68, "k of t1/room-8 still stands, and was due 19500 ms before the end");
    assert_eq!(objections(&stands(9_000_000), "L1"), [""; 0], "it may yet end");
}

#[test]
fn e1_an_ephemeral_event_is_for_those_inside_and_for_now() {
    rejected(&changed(64, json!({ "room": "t1/room-2" })), "E1", 64, "without a subscription");
    rejected(&without(63), "E1", 64, "1 times, and it was sent there 0 times");
    rejected(&changed(63, json!({ "op": { "op": "say" } })), "E1", 64, "it was sent there 0 times");
    let again =
        json!({ "k": "recv", "c": "client-1", "room": ROOM, "epoch": 7, "seq": 0, "h": "ab", "term": 2, "m": "w1" });
    rejected(&inserted(65, "clients-1", again), "E1", 1000, "2 times, and it was sent there 1 times");
    rejected(
        &changed(33, json!({ "term": 3 })),
        "E1",
        64,
        "from term 2 of epoch 7 after it was told of term 3 of epoch 7",
    );
    rejected(&changed(38, json!({ "m": "w1", "user": "u1" })), "E1", 63, "record 38 of the log holds it");
    let mut strange = good();
    strange
        .insert(0, line(1000, 0, "clients-1", json!({ "k": "grant", "c": "client-1", "m": "room-*", "a": ["pub"] })));
    rejected(&strange, "E1", 17, "which its token does not grant");
}

#[test]
fn r1_nothing_is_left_at_rest() {
    rejected(
        &changed(70, json!({ "len": 1 })),
        "R1",
        70,
        "shield-1 holds 1 followed rooms after its last client has gone",
    );
}

#[test]
fn d1_who_wants_a_room_is_in_it_at_the_end() {
    rejected(
        &changed(60, json!({ "room": ROOM, "c": "client-4" })),
        "D1",
        60,
        "client-4 wants t1/room-1, which exists",
    );
    let refused = json!({ "k": "unsub", "c": "client-4", "room": ROOM, "code": 6000 });
    let asked = |after: Value| {
        let mut lines = changed(60, json!({ "room": ROOM, "c": "client-4" }));
        lines.insert(61, line(1000, 19_000_500, "clients-2", after));
        lines
    };
    rejected(&asked(refused.clone()), "D1", 60, "is not in it at the end");
    let mut for_good = refused;
    for_good["code"] = 2004.into();
    assert_eq!(objections(&asked(for_good), "D1"), [""; 0], "it does not want it any more");
    let left = json!({ "k": "leave", "c": "client-4", "room": ROOM });
    assert_eq!(objections(&asked(left), "D1"), [""; 0]);
    // What it had on another connection does not count.
    let reopened = json!({ "k": "open", "c": "client-1", "conn": "b", "shield": "shield-1", "tenant": "t1", "user": "u1", "exp": 2000 });
    let mut lines = inserted(60, "clients-1", reopened);
    lines.insert(
        61,
        line(1001, 19_000_500, "clients-1", json!({ "k": "want", "c": "client-1", "room": ROOM, "id": 9 })),
    );
    rejected(&lines, "D1", 1001, "client-1 wants t1/room-1");
    let mut never = good();
    never.insert(0, line(1000, 0, "clients-1", json!({ "k": "grant", "c": "client-9", "m": "*", "a": ["sub"] })));
    rejected(&never, "D1", 1000, "client-9 was never greeted");
}
