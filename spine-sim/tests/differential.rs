//! The simulated broker against the real nats-server 2.15.1: the same bytes go to both, and what both say is compared,
//! with the parts masked that no two servers share (ids, times). Hand-written cases, then random ones from seeds.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::{Raw, Said, api, hpub, options, publish, real, sim};
use spine::UserSpec;
use spine_sim::User;
use tokio::time::timeout;

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";
const EXPECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// Replaces what differs between any two servers.
fn masked(said: Said) -> Said {
    let Said::Msg { sid, subject, reply, header, body } = said else { return said };
    Said::Msg { sid, subject, reply, header: mask(&header), body: mask(&body) }
}

fn mask(text: &str) -> String {
    // A quirk of the server: a file stream without a message can count position 0 as deleted.
    let mut out = mask_times(text).replace(r#""num_deleted":1,"deleted":[0],"#, "");
    for key in ["\"leader\":\"", "\"total\":", "\"errors\":"] {
        if key == "\"leader\":\"" || out.contains("account_info") {
            out = mask_value(&out, key);
        }
    }
    // Only the error's code is compared where the text is that of Go's JSON parser.
    match out.find("invalid JSON: ") {
        Some(at) if !out[at..].contains("unknown field") => out[..at].into(),
        _ => out,
    }
}

fn mask_value(text: &str, key: &str) -> String {
    let Some(at) = text.find(key) else { return text.into() };
    let start = at + key.len();
    let len = text[start..].find(['"', ',', '}']).unwrap_or(0);
    format!("{}*{}", &text[..start], &text[start + len..])
}

/// `2026-11-22T19:07:08.23Z` becomes `TIME`.
fn mask_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        let is_time = text.is_char_boundary(at)
            && text[at..].starts_with("20")
            && bytes.len() >= at + 20
            && bytes[at + 4] == b'-'
            && bytes[at + 10] == b'T';
        let end = if is_time { text[at..].find('Z').map(|len| at + len + 1) } else { None };
        if let Some(end) = end {
            out.push_str("TIME");
            at = end;
        } else {
            let len = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + len]);
            at += len;
        }
    }
    out
}

/// What was said, by subscription: between two subscriptions no server promises an order.
fn by_sid(all: Vec<Said>) -> BTreeMap<String, Vec<Said>> {
    let mut map: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    for said in all {
        let key = match &said {
            Said::Msg { sid, .. } => sid.clone(),
            Said::Line(_) | Said::End => String::new(),
        };
        map.entry(key).or_default().push(masked(said));
    }
    map
}

/// Sends each step to both and compares what they say to it. Ours answers everything before its PONG; the real one
/// answers JetStream requests when it gets to them, so as many things are awaited from it as ours said.
async fn compare(name: &str, sim: SocketAddr, real: SocketAddr, steps: &[Vec<u8>]) -> usize {
    let (mut ours, mut theirs) = (Raw::connect(sim).await, Raw::connect(real).await);
    for (n, step) in steps.iter().enumerate() {
        ours.send(step).await;
        let said = ours.until_pong().await;
        theirs.send(step).await;
        let mut heard = theirs.until_pong().await;
        while heard.len() < said.len() && heard.last() != Some(&Said::End) {
            match timeout(common::SOON, theirs.next()).await {
                Ok(next) => heard.push(next),
                Err(_) => break,
            }
        }
        let ended = said.last() == Some(&Said::End);
        let (said, heard) = (by_sid(said), by_sid(heard));
        let shown = String::from_utf8_lossy(&step[..step.len().min(600)]).into_owned();
        assert_eq!(said, heard, "{name}, step {n}: left is ours, right is nats-server's\n{shown}");
        if ended {
            return n + 1;
        }
    }
    steps.len()
}

async fn both(
    change: impl FnOnce(&mut spine::server::ServerOptions),
) -> (SocketAddr, spine::server::NatsServer, SocketAddr) {
    let server = real(change).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let (_, ours) = sim(options()).await;
    (ours, server, theirs)
}

fn steps(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.to_vec()).collect()
}

#[tokio::test]
async fn core_protocol_cases() {
    let (ours, _server, theirs) = both(|_| {}).await;
    let verbose: &[u8] = b"CONNECT {\"headers\":true,\"no_responders\":true}\r\n";
    let long = [b"PUB ".as_slice(), &[b'a'; 5000], b" 1\r\nx\r\n"].concat();
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        (
            "subscribe and publish",
            steps(&[
                CONNECT,
                b"SUB a.* 1\r\nSUB a.> 2\r\nSUB a.b 3\r\nSUB > 4\r\n",
                b"PUB a.b 2\r\nhi\r\n",
                b"PUB a.b r.1 2\r\nhi\r\n",
                b"PUB a.b.c 0\r\n\r\n",
                b"PUB b 1\r\nx\r\n",
                b"HPUB a.c r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                b"UNSUB 1\r\nPUB a.b 0\r\n\r\n",
                b"UNSUB 2 3\r\nPUB a.b 1\r\nx\r\n",
                b"UNSUB 99\r\nUNSUB 3 x\r\nPUB a.b 1\r\nx\r\n",
            ]),
        ),
        (
            "ends by itself after max",
            steps(&[
                CONNECT,
                b"SUB a 1\r\nUNSUB 1 2\r\n",
                b"PUB a 0\r\n\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\n",
                b"PUB a _x 0\r\n\r\n",
            ]),
        ),
        (
            "no responders",
            steps(&[
                CONNECT,
                b"SUB _R.> 9\r\n",
                b"PUB none.x _R.1 2\r\nhi\r\n",
                b"PUB none.x other 2\r\nhi\r\n",
                b"PUB none.x 2\r\nhi\r\n",
                b"PUB $JS.API.DIRECT.GET.NOPE _R.1 0\r\n\r\n",
                b"PUB $JS.API.NOPE _R.1 0\r\n\r\n",
            ]),
        ),
        (
            "one member of a queue group",
            steps(&[
                CONNECT,
                b"SUB q.* g 5\r\nSUB q.> h 6\r\nSUB q.a 7\r\n",
                b"PUB q.a 1\r\nx\r\n",
                b"PUB q.b.c 1\r\nx\r\n",
            ]),
        ),
        (
            "bad subjects",
            steps(&[
                CONNECT,
                b"SUB a..b 7\r\nSUB a.>.b 8\r\nSUB .a 9\r\nSUB a. 10\r\n",
                b"SUB a.*b 1\r\nSUB a>c 2\r\n",
                b"PUB a.*b 1\r\nx\r\n",
                b"PUB a>c 1\r\nx\r\n",
                b"PUB a.* 1\r\nx\r\n",
            ]),
        ),
        (
            "verbose and pedantic",
            steps(&[
                verbose,
                b"SUB a 1\r\n",
                b"PUB a 1\r\nx\r\n",
                b"PUB a.* 1\r\nx\r\n",
                b"PUB a..b 1\r\nx\r\n",
                b"UNSUB 1 5\r\n",
                b"UNSUB 44\r\n",
                b"SUB a..b 2\r\n",
            ]),
        ),
        ("before CONNECT", steps(&[b"SUB a 1\r\nPUB a 1\r\nx\r\n", b"PING\r\n"])),
        (
            "no echo",
            steps(&[
                b"CONNECT {\"verbose\":false,\"echo\":false,\"headers\":true,\"no_responders\":true}\r\n",
                b"SUB a 1\r\nPUB a 1\r\nx\r\n",
                b"SUB r 2\r\nPUB a r 1\r\nx\r\n",
            ]),
        ),
        (
            "the same sid twice",
            steps(&[
                CONNECT,
                b"SUB a 1\r\nSUB b 1\r\n",
                b"PUB a 1\r\nx\r\nPUB b 1\r\ny\r\n",
                b"UNSUB 1\r\nPUB a 1\r\nx\r\n",
            ]),
        ),
        ("lower case", steps(&[b"connect {\"verbose\":false}\r\nsub a 1\r\npub a 1\r\nx\r\nping\r\n"])),
        (
            "blanks and bare line feeds",
            steps(&[CONNECT, b"SUB  a   1 \r\nPUB\ta\t1\r\nx\r\n", b"SUB b 2\nPUB b 1\r\ny\r\n", b"PING \r\n"]),
        ),
        ("what a server says", steps(&[CONNECT, b"INFO {}\r\n", b"+OK\r\n", b"-ERR 'x'\r\n"])),
        ("unknown operation", steps(&[CONNECT, b"FOO\r\n"])),
        ("leading blank", steps(&[CONNECT, b" PING\r\n"])),
        ("empty line", steps(&[CONNECT, b"\r\n"])),
        ("a payload longer than it said", steps(&[CONNECT, b"PUB x 1\r\nxyz\r\n"])),
        ("over max_payload", steps(&[CONNECT, b"PUB x 1048577\r\n"])),
        ("no number", steps(&[CONNECT, b"PUB x abc\r\n"])),
        ("too few arguments", steps(&[CONNECT, b"PUB x\r\n"])),
        ("too many arguments", steps(&[CONNECT, b"PUB x y z 1\r\n"])),
        ("SUB without arguments", steps(&[CONNECT, b"SUB\r\n"])),
        ("SUB with one argument", steps(&[CONNECT, b"SUB a\r\n"])),
        ("UNSUB without arguments", steps(&[CONNECT, b"UNSUB \r\n"])),
        ("headers longer than the whole", steps(&[CONNECT, b"HPUB a 50 4\r\n"])),
        ("headers that are none", steps(&[CONNECT, b"SUB a 1\r\nHPUB a 4 8\r\nabcdabcd\r\n"])),
        ("a line without end", steps(&[CONNECT, &long])),
        (
            "CONNECT with null and unknown keys",
            steps(&[b"CONNECT {\"verbose\":null,\"name\":null,\"user\":null,\"foo\":[1]}\r\n", b"SUB a 1\r\n"]),
        ),
        ("CONNECT twice", steps(&[CONNECT, b"CONNECT {\"verbose\":true}\r\n", b"SUB a 1\r\n"])),
        ("CONNECT of wrong types", steps(&[b"CONNECT {\"verbose\":\"yes\"}\r\n"])),
        ("CONNECT that is no JSON", steps(&[b"CONNECT {bad}\r\n"])),
        ("no responders without headers", steps(&[b"CONNECT {\"headers\":false,\"no_responders\":true}\r\n"])),
        (
            "headers without saying so",
            steps(&[b"CONNECT {\"verbose\":false}\r\n", b"SUB a 1\r\n", b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n"]),
        ),
    ];
    let mut count = 0;
    for (name, steps) in &cases {
        count += compare(name, ours, theirs, steps).await;
    }
    println!("differential: {} core cases, {count} steps, equal", cases.len());
}

#[tokio::test]
async fn headers_are_stripped_for_who_cannot_read_them() {
    let (ours, _server, theirs) = both(|_| {}).await;
    for addr in [ours, theirs] {
        let (mut old, mut new) = (Raw::connect(addr).await, Raw::connect(addr).await);
        old.send(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\n").await;
        old.until_pong().await;
        new.send(CONNECT).await;
        new.send(&hpub("a", "r", &[("K", "v")], "body")).await;
        new.until_pong().await;
        let got = timeout(common::SOON, old.next()).await.expect("a message");
        let (subject, reply, body) = ("a".into(), "r".into(), "body".into());
        assert_eq!(got, Said::Msg { sid: "1".into(), subject, reply, header: String::new(), body });
    }
}

#[tokio::test]
async fn users_and_permissions() {
    let node = "n1".parse().expect("an id");
    let users = vec![UserSpec::shield(&node, "s"), UserSpec::writer(&node, "w"), UserSpec::speaker(&node, "b")];
    let server = real(|options| options.users = users.clone()).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut options = options();
    options.users = users.iter().map(User::from).collect();
    let (_, ours) = sim(options).await;
    let hello = |user: &str, password: &str| {
        format!("CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n").into_bytes()
    };
    let subjects = [
        "in.t.a.r.b",
        "out.t.a.r.b",
        "log.3.t.a.r.b",
        "snap.3.t.a.r.b",
        "gen.0",
        "open.t.a",
        "pres.7",
        "ban.t.a.u.c",
        "sys.t.a.kick",
        "sys.n.hb.shield.n1",
        "sys.n.hb.shield.n2",
        "sys.n.hb.brain.n1",
        "sys.n.brain.n1.open",
        "sys.n.pr.n1",
        "sys.n.pr.n2",
        "_INBOX.s.n1.1",
        "_INBOX.s.n2.1",
        "_INBOX.b.n1.1",
        "_INBOX.w.n1.1",
        "_INBOX.w.n2.1",
        "$JS.API.DIRECT.GET.LOG_0",
        "$JS.API.STREAM.MSG.GET.LOG_0",
        "$JS.API.STREAM.PURGE.LOG_0",
        ">",
        "in.>",
        "out.t.*.r.*",
        "_INBOX.>",
    ];
    let mut count = 0;
    for (user, password) in [("shield-n1", "s"), ("writer-n1", "w"), ("speaker-n1", "b")] {
        let mut steps = vec![hello(user, password)];
        for (sid, subject) in subjects.iter().enumerate() {
            steps.push(format!("SUB {subject} {}\r\n", sid + 1).into_bytes());
            steps.push(format!("SUB {subject} group {}\r\n", sid + 101).into_bytes());
        }
        steps.extend(
            subjects.iter().filter(|subject| !subject.contains(['*', '>'])).map(|subject| publish(subject, "", "x")),
        );
        // A queue group of one beside a plain subscription: both get it.
        count += compare(user, ours, theirs, &steps).await;
    }
    for (name, first) in [
        ("wrong password", hello("shield-n1", "x")),
        ("unknown user", hello("nobody", "x")),
        ("no user", b"CONNECT {}\r\n".to_vec()),
        ("not CONNECT", b"PUB a 1\r\nx\r\n".to_vec()),
        ("PING first", b"PING\r\n".to_vec()),
    ] {
        count += compare(name, ours, theirs, &[first]).await;
    }
    for addr in [ours, theirs] {
        let mut silent = Raw::connect(addr).await;
        assert!(silent.info.contains("\"auth_required\":true"));
        assert_eq!(silent.until_end().await, [Said::Line("-ERR 'Authentication Timeout'".into()), Said::End]);
    }
    println!("differential: users and permissions, {count} steps, equal");
}

fn log_config(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","subjects":["log.*.t.*.r.*"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":2000,"discard":"new","max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"storage":"file","num_replicas":1,"allow_direct":true,"deny_delete":true,"republish":{{"src":"log.*.t.*.r.*","dest":"out.t.{{{{wildcard(2)}}}}.r.{{{{wildcard(3)}}}}"}}}}"#
    )
}

#[tokio::test]
async fn jetstream_cases() {
    let (ours, _server, theirs) = both(|_| {}).await;
    let config = log_config("LOG_0");
    let l = "log.3.t.a.r.b";
    let big = "x".repeat(1500);
    let mut all = vec![
        [CONNECT, b"SUB _R.> 9\r\nSUB out.> 1\r\nSUB log.> 2\r\n"].concat(),
        api("INFO", ""),
        api("STREAM.INFO.LOG_0", ""),
        api("STREAM.NAMES", ""),
        api("STREAM.CREATE.LOG_0", &config),
        api("STREAM.CREATE.LOG_0", &config),
        api("STREAM.CREATE.LOG_0", &config.replace("2000", "3000")),
        api("STREAM.CREATE.OTHER", &config),
        api("STREAM.CREATE.OTHER", &config.replace("LOG_0", "OTHER")),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","foo":1}"#),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","subjects":["a..b"]}"#),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","subjects":["q","q"]}"#),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","num_replicas":3}"#),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","republish":{"src":"OTHER.*","dest":"x.{{wildcard(2)}}"}}"#),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER","republish":{"src":"OTHER","dest":"OTHER"}}"#),
        api("STREAM.CREATE.OTHER", "{bad"),
        api("STREAM.CREATE.OTHER", ""),
        api("STREAM.CREATE.OTHER", r#"{"name":"OTHER"}"#),
        publish("OTHER", "_R.p", "plain"),
        api("DIRECT.GET.OTHER", r#"{"seq":1}"#),
        api("STREAM.DELETE.OTHER", ""),
        api("STREAM.DELETE.OTHER", ""),
        api("STREAM.INFO.LOG_0", ""),
        // The fence. What is refused still reaches plain subscribers of that very subject.
        hpub(l, "_R.p", &[(EXPECT, "0")], "one"),
        hpub(l, "_R.p", &[(EXPECT, "0")], "two"),
        hpub(l, "_R.p", &[(EXPECT, "1")], "two"),
        hpub(l, "_R.p", &[(EXPECT, "1"), ("X-Foo", "bar")], ""),
        hpub(l, "_R.p", &[(EXPECT, "zz")], ""),
        hpub(l, "_R.p", &[(EXPECT, " 2 ")], ""),
        hpub(l, "_R.p", &[(EXPECT, "2"), ("X-Foo", "bar")], ""),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Expected-Stream", "FOO")], ""),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Msg-Id", "x1")], "m"),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Msg-Id", "x1")], "m"),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Msg-Id", "x1"), (EXPECT, "0")], "m"),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Expected-Last-Sequence", "99")], "m"),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Expected-Last-Msg-Id", "99")], "m"),
        hpub("log.4.t.a.r.c", "_R.p", &[("Nats-Rollup", "sub")], "m"),
        hpub(
            "log.5.t.a.r.d",
            "_R.p",
            &[(EXPECT, "0"), ("Nats-Expected-Last-Subject-Sequence-Subject", "log.4.t.a.r.c")],
            "m",
        ),
        publish("log.5.t.a.r.d", "", "x"),
        publish("log.5.t.a.r.d", "_R.p", "x"),
        publish("log.6.t.a.r.e", "_R.p", &big),
        hpub("log.6.t.a.r.e", "_R.p", &[(EXPECT, "0")], &big),
        // The confused deputy: a PubAck may go where a stream listens.
        publish("log.7.t.a.r.f", "log.8.t.a.r.g", "x"),
        api("STREAM.INFO.LOG_0", r#"{"subjects_filter":">"}"#),
    ];
    for call in ["STREAM.MSG.GET", "DIRECT.GET"] {
        for request in [
            r#"{"seq":1}"#,
            r#"{"seq":3}"#,
            r#"{"seq":100}"#,
            r#"{"seq":0}"#,
            r#"{"seq":-1}"#,
            r#"{"last_by_subj":"log.3.t.a.r.b"}"#,
            r#"{"last_by_subj":"log.*.t.*.r.*"}"#,
            r#"{"last_by_subj":"log.9.t.a.r.b"}"#,
            r#"{"seq":2,"next_by_subj":"log.3.t.a.r.b"}"#,
            r#"{"next_by_subj":"log.5.>"}"#,
            r#"{"seq":9,"next_by_subj":"log.3.t.a.r.b"}"#,
            r#"{"seq":1,"last_by_subj":"x"}"#,
            r#"{"last_by_subj":"a","next_by_subj":"b"}"#,
            "",
            "{}",
            "{bad",
        ] {
            all.push(api(&format!("{call}.LOG_0"), request));
            all.push(api(&format!("{call}.NOPE"), request));
        }
    }
    for request in [
        r#"{"next_by_subj":"log.>","batch":2}"#,
        r#"{"seq":1,"next_by_subj":"log.3.t.a.r.b","batch":64,"max_bytes":1048576}"#,
        r#"{"seq":2,"next_by_subj":"log.3.t.a.r.b","batch":1}"#,
        r#"{"seq":1,"batch":3,"max_bytes":60}"#,
        r#"{"seq":1,"batch":3,"max_bytes":69}"#,
        r#"{"seq":1,"batch":3,"max_bytes":68}"#,
        r#"{"seq":1,"max_bytes":5}"#,
        r#"{"seq":1,"batch":-2}"#,
        r#"{"batch":2}"#,
        r#"{"multi_last":["log.*.t.*.r.*"]}"#,
        r#"{"multi_last":["log.*.t.*.r.*"],"batch":2}"#,
        r#"{"multi_last":["log.3.t.>","log.4.>"],"up_to_seq":4}"#,
        r#"{"multi_last":["nope"]}"#,
        r#"{"multi_last":["log.3.t.>"],"max_bytes":1}"#,
        r#"{"seq":9000,"next_by_subj":"log.3.t.a.r.b","batch":64}"#,
        r#"{"last_by_subj":"log.3.t.a.r.b","batch":3}"#,
        r#"{"no_hdr":true,"seq":1}"#,
        r#"{"seq":1,"x":2}"#,
    ] {
        all.push(api("DIRECT.GET.LOG_0", request));
    }
    all.extend([
        api("STREAM.MSG.GET.LOG_0", r#"{"seq":1,"min_last_seq":3}"#),
        api("DIRECT.GET.LOG_0.log.3.t.a.r.b", ""),
        api("DIRECT.GET.LOG_0.log.9.t.a.r.b", ""),
        api("STREAM.PURGE.LOG_0", r#"{"filter":"log.3.t.a.r.b","seq":3}"#),
        api("STREAM.PURGE.LOG_0", r#"{"filter":"log.3.t.a.r.b","seq":3,"keep":1}"#),
        api("STREAM.INFO.LOG_0", r#"{"deleted_details":true}"#),
        hpub(l, "_R.p", &[(EXPECT, "3")], "after"),
        api("STREAM.PURGE.LOG_0", r#"{"filter":"log.3.t.a.r.b","seq":100}"#),
        // Afterwards expectation 0 is valid again.
        hpub(l, "_R.p", &[(EXPECT, "0")], "again"),
        api("STREAM.PURGE.NOPE", "{}"),
        api("STREAM.PURGE.LOG_0", "{bad"),
        api("STREAM.MSG.DELETE.LOG_0", r#"{"seq":4}"#),
        api("STREAM.NAMES", ""),
        api("STREAM.LIST", ""),
        api("STREAM.UPDATE.LOG_0", &config.replace("2000", "4000")),
        api("STREAM.UPDATE.NOPE", r#"{"name":"NOPE"}"#),
        api("STREAM.PURGE.LOG_0", ""),
        api("STREAM.INFO.LOG_0", ""),
        api("STREAM.DELETE.LOG_0", ""),
        api("FOO.BAR", ""),
    ]);
    let count = compare("file stream", ours, theirs, &all).await;
    println!("differential: {count} JetStream steps, equal");
}

#[tokio::test]
async fn jetstream_limits() {
    let (ours, _server, theirs) = both(|_| {}).await;
    keep(theirs).await;
    let (mut count, mut stream) = (0, 0);
    for storage in ["file", "memory"] {
        for limits in [
            r#""max_msgs_per_subject":1,"discard":"new""#,
            r#""max_msgs_per_subject":2,"discard":"new","discard_new_per_subject":true"#,
            r#""max_msgs_per_subject":2,"discard":"old""#,
            r#""max_msgs":3,"discard":"new""#,
            r#""max_msgs":3,"discard":"old""#,
            r#""max_bytes":200,"discard":"new","max_msgs_per_subject":2"#,
            r#""max_bytes":200,"discard":"old""#,
            r#""max_msg_size":4"#,
        ] {
            stream += 1;
            let name = format!("L{stream}");
            let config =
                format!(r#"{{"name":"{name}","subjects":["l.*"],"storage":"{storage}","allow_direct":true,{limits}}}"#);
            let mut all = vec![[CONNECT, b"SUB _R.> 9\r\n"].concat(), api(&format!("STREAM.CREATE.{name}"), &config)];
            for n in 0..10 {
                all.push(publish(&format!("l.{}", n % 3), "_R.p", &"x".repeat(n)));
                all.push(hpub("l.0", "_R.p", &[(EXPECT, "1")], "fenced"));
                all.push(api(&format!("STREAM.INFO.{name}"), r#"{"deleted_details":true,"subjects_filter":">"}"#));
            }
            all.push(api(&format!("DIRECT.GET.{name}"), r#"{"seq":1,"batch":20}"#));
            all.push(api(&format!("STREAM.PURGE.{name}"), r#"{"seq":5}"#));
            all.push(api(&format!("STREAM.PURGE.{name}"), r#"{"keep":1,"filter":"l.1"}"#));
            all.push(api(&format!("STREAM.MSG.DELETE.{name}"), r#"{"seq":10}"#));
            all.push(api(&format!("STREAM.MSG.DELETE.{name}"), r#"{"seq":10}"#));
            all.push(api(&format!("STREAM.MSG.DELETE.{name}"), r#"{"seq":77}"#));
            all.push(api(&format!("STREAM.INFO.{name}"), r#"{"deleted_details":true,"subjects_filter":">"}"#));
            all.push(api(&format!("STREAM.DELETE.{name}"), ""));
            count += compare(&format!("{storage} {limits}"), ours, theirs, &all).await;
        }
    }
    println!("differential: {count} steps on limits, equal");
}

/// The server removes the folder of its last file stream some time after that stream, and then fails to create the
/// next one (10049): one that stays keeps the folder there.
async fn keep(theirs: SocketAddr) {
    let mut raw = Raw::connect(theirs).await;
    raw.send(&[CONNECT, b"SUB _R.> 9\r\n", &api("STREAM.CREATE.KEEP", r#"{"name":"KEEP"}"#)].concat()).await;
    let created = timeout(common::SOON, raw.next()).await.expect("an answer");
    assert!(matches!(&created, Said::Msg { body, .. } if body.contains("did_create")), "{created:?}");
}

/// A generator whose draws a seed determines.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("an index")]
    }
}

fn random_step(draw: &mut Draw, name: &str) -> Vec<u8> {
    let rooms = ["log.1.t.a.r.x", "log.1.t.a.r.y", "log.2.t.b.r.x", "log.2.t.b.r.zz"];
    let plain = ["a", "a.b", "a.b.c", "b", "out.t.a.r.x"];
    // Not `>`: there the server also sends advisories, which ours does not.
    let patterns = ["a", "a.*", "a.>", "*.b", "out.t.*.r.*", "out.>", "log.*.t.a.r.*", "log.1.>"];
    let room = draw.of(&rooms);
    let n = draw.below(12);
    match draw.below(20) {
        0 => format!("SUB {} {}\r\n", draw.of(&patterns), draw.below(4) + 20).into_bytes(),
        // One group a pattern: which member gets it is each server's own choice.
        1 => format!("SUB log.2.> g 30\r\nUNSUB 30 {}\r\n", draw.below(6)).into_bytes(),
        2 => format!("UNSUB {}\r\n", draw.below(4) + 20).into_bytes(),
        3 => format!("UNSUB {} {}\r\n", draw.below(4) + 20, draw.below(8)).into_bytes(),
        4 => publish(draw.of(&plain), draw.of(&["", "_R.q"]), "plain"),
        5 | 6 => publish(room, "_R.p", &"b".repeat(usize::try_from(n).expect("small"))),
        7..=11 => hpub(room, "_R.p", &[(EXPECT, &n.to_string())], "fenced"),
        12 => api(
            &format!("DIRECT.GET.{name}"),
            &format!(r#"{{"seq":{n},"next_by_subj":"{room}","batch":{}}}"#, draw.below(6)),
        ),
        13 => api(&format!("DIRECT.GET.{name}"), &format!(r#"{{"last_by_subj":"{room}"}}"#)),
        14 => api(
            &format!("DIRECT.GET.{name}"),
            &format!(r#"{{"multi_last":["log.{}.>"],"up_to_seq":{n}}}"#, draw.below(3)),
        ),
        15 => api(
            &format!("STREAM.MSG.GET.{name}"),
            &format!(r#"{{"seq":{n},"next_by_subj":"{}"}}"#, draw.of(&[room, "log.*.t.*.r.x", "log.>"])),
        ),
        16 => api(&format!("STREAM.PURGE.{name}"), &format!(r#"{{"filter":"{room}","seq":{n}}}"#)),
        17 => api(&format!("STREAM.INFO.{name}"), r#"{"subjects_filter":">","deleted_details":true}"#),
        18 => {
            api(&format!("DIRECT.GET.{name}"), &format!(r#"{{"seq":{n},"batch":8,"max_bytes":{}}}"#, draw.below(400)))
        }
        _ => hpub(room, "_R.p", &[("Nats-Msg-Id", &(n % 3).to_string())], "id"),
    }
}

#[tokio::test]
async fn random_sequences() {
    let (ours, _server, theirs) = both(|_| {}).await;
    keep(theirs).await;
    let (seeds, length) = (300, 80);
    let mut count = 0;
    for seed in 0..seeds {
        let mut draw = Draw(seed);
        // The server removes a deleted stream's files later: each sequence has a name of its own.
        let name = format!("LOG_{seed}");
        let storage = if seed % 2 == 0 { "file" } else { "memory" };
        let config = log_config(&name).replace("\"file\"", &format!("\"{storage}\""));
        let mut all =
            vec![[CONNECT, b"SUB _R.> 9\r\nSUB out.> 1\r\n"].concat(), api(&format!("STREAM.CREATE.{name}"), &config)];
        all.extend((0..length).map(|_| random_step(&mut draw, &name)));
        all.push(api(&format!("DIRECT.GET.{name}"), r#"{"seq":1,"batch":200}"#));
        all.push(api(&format!("STREAM.DELETE.{name}"), ""));
        count += compare(&format!("seed {seed}"), ours, theirs, &all).await;
    }
    println!("differential: {seeds} random sequences, {count} steps, equal");
}
