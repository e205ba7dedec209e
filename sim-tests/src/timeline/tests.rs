use voltron_core::trace::Hash16;

use super::*;

fn lines(records: Vec<(&str, Record)>) -> Vec<Line> {
    let line = |(n, (host, record)): (usize, (&str, Record))| Line {
        v: 1,
        n: n as u64,
        t: n as u64 * 1000,
        host: host.into(),
        record,
    };
    records.into_iter().enumerate().map(line).collect()
}

fn h() -> Hash16 {
    Hash16::of(b"x")
}

/// One command on its way, sent twice because the first one got lost, and heard by another client.
fn one_message() -> Vec<Line> {
    let (c, m, room) = ("client-1".to_owned(), "aa".to_owned(), "t/r".to_owned());
    let send = || Record::Send { c: c.clone(), m: m.clone(), room: room.clone(), h: h(), op: serde_json::Value::Null };
    let fault = Record::Fault { id: "cut-1".into(), kind: "partition".into(), target: "shield-1 | broker".into() };
    lines(vec![
        ("clients-1", send()),
        ("harness", fault),
        ("harness", Record::Heal { id: "cut-1".into() }),
        ("clients-1", send()),
        ("shield-1", Record::Verdict { conn: "c".into(), m: m.clone(), v: "allow".into(), policy: "".into(), fuel: 0 }),
        ("shield-1", Record::Pub { subject: "in.t.t.r.r".into(), h: h() }),
        ("broker", Record::Append { subject: "log.7.t.t.r.r".into(), seq: 1, expect: Some(0), h: h() }),
        (
            "brain-1",
            Record::Commit {
                room: room.clone(),
                epoch: 9,
                seq: 1,
                m: m.clone(),
                user: "u".into(),
                h: h(),
                op: None,
                at: 0,
                expires_at: 0,
            },
        ),
        ("brain-1", Record::Answer { m: m.clone(), code: 0 }),
        (
            "clients-2",
            Record::Recv {
                c: "client-2".into(),
                room: room.clone(),
                epoch: 9,
                seq: 1,
                h: h(),
                term: 1,
                m: String::new(),
            },
        ),
        (
            "clients-1",
            Record::Ack { c, m: m.clone(), room: room.clone(), epoch: 9, seq: 1, code: 0, dup: false, ver: 0 },
        ),
        ("log", Record::Commit { room, epoch: 9, seq: 1, m, user: "u".into(), h: h(), op: None, at: 0, expires_at: 0 }),
    ])
}

#[test]
fn arrows_follow_the_message() {
    let lines = one_message();
    let found = causes::find(&lines);
    let arrows = |at: usize| -> Vec<usize> {
        found.causes[at].iter().filter(|cause| cause.message).map(|cause| cause.from).collect()
    };
    assert_eq!(arrows(4), [3], "the Shield judged what the client sent last");
    assert_eq!(arrows(6), [5], "the entry holds what was handed over");
    assert_eq!(arrows(7), [4, 6], "the commit follows the append, and the command");
    assert_eq!(arrows(9), [7], "a subscriber hears what was committed");
    assert_eq!(arrows(10), [8], "an ack is an answer that arrived");
    assert_eq!(found.lost, [Loss { at: 0 }], "the first one reached no Shield");
}

#[test]
fn rows_stand_in_the_order_of_the_way_and_faults_shade_theirs() {
    let lines = one_message();
    let rows = lanes(&lines);
    let names: Vec<_> = rows.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names[..5], ["client-1", "client-2", "shield-1", "broker", "brain-1"]);
    let found = faults(&lines, &rows);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].from, found[0].to), (1000, 2000));
    assert_eq!(found[0].lanes, [2, 3]);
    assert_eq!(struck("clients-1, clients-2 | shield-1", &rows), [0, 1, 2], "a host of clients is all of them");
    assert_eq!((struck("clients-2 | shield-1", &rows), struck("client-1", &rows)), (vec![1, 2], vec![0]));
}

#[test]
fn the_page_is_whole_and_no_value_can_leave_its_element() {
    let mut lines = one_message();
    lines[1].record = Record::Mark { name: "</script><b>{{script}}".into() };
    let violations = [Violation { oracle: "A1".into(), n: 10, what: "<lost>".into() }];
    let run = Run {
        scenario: "<smoke>",
        seed: 7,
        commit: "abc",
        replay: "cargo sim replay smoke --seed 7",
        lines: &lines,
        violations: &violations,
    };
    let page = html(&run);
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the program's own");
    assert!(page.contains("<title>&lt;smoke&gt; seed 7</title>"));
    for outside in ["http://", "https://", "src=", "@import", "fetch("] {
        assert!(!page.contains(outside), "the page asks for {outside}");
    }
    let json = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(data["lines"].as_array().unwrap().len(), 11, "what was read at the end is not drawn");
}
