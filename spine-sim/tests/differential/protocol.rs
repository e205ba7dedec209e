//! NATS core: hand-written cases, users and permissions.

use super::*;

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

/// Lists of permissions meet subjects and patterns token by token, wildcards among them.
#[tokio::test]
async fn wildcards_and_empty_tokens_meet_permissions() {
    let (publish_allow, publish_deny) = (["in.t.*.r.*", "q.>", "*"], ["in.t.no.r.*", "q.*.secret"]);
    let (subscribe_allow, subscribe_deny) = (["out.*", "in.>", "_R.>", "deep.*.*"], ["in.t.no", "in.x.*", "deep.a.*"]);
    let list = |all: &[&str]| serde_json::to_string(all).expect("text");
    let permissions = format!(
        "publish: {{ allow: {}, deny: {} }}, subscribe: {{ allow: {}, deny: {} }}",
        list(&publish_allow),
        list(&publish_deny),
        list(&subscribe_allow),
        list(&subscribe_deny)
    );
    let lines = format!("authorization {{ users: [{{ user: u, password: x, permissions: {{ {permissions} }} }}] }}\n");
    let server = real(|options| options.further = lines).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut options = options();
    let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    options.users = vec![User {
        publish: spine_sim::Access { allow: text(&publish_allow), deny: text(&publish_deny) },
        subscribe: spine_sim::Access { allow: text(&subscribe_allow), deny: text(&subscribe_deny) },
        ..User::new("u", "x")
    }];
    let (_, ours) = sim(options).await;
    let connect = r#"{"verbose":false,"headers":true,"no_responders":true,"user":"u","pass":"x"}"#;
    let mut steps = vec![format!("CONNECT {connect}\r\nSUB _R.> 900\r\n").into_bytes()];
    let subjects = [
        "in.t.a.r.b",
        "in.t.a.r.>",
        "in.t.>.r.b",
        "in.t.*.r.*",
        "in.t..r.b",
        ".in.t.a.r.b",
        "in.t.a.r.",
        "in.t.no.r.b",
        "in.t.no.r.>",
        "in.t.no",
        "in.t.>",
        "in.x.y",
        "in.x.>",
        "in.x.*",
        "in.*.*",
        "in.>",
        "out.a",
        "out.*",
        "out.>",
        "out.",
        "q.a",
        "q.a.secret",
        "q.>.secret",
        "q.a.>",
        "q..a",
        ">",
        "*",
        "plain",
        "deep.a.b",
        "deep.a.>",
        "deep.*.b",
        "deep.*.*",
        "deep.>",
        "deep.b.>",
        "a..b",
        "in..t",
    ];
    for (sid, subject) in subjects.iter().enumerate() {
        steps.push(format!("SUB {subject} {}\r\n", sid + 1).into_bytes());
    }
    for subject in subjects {
        steps.push(publish(subject, "_R.q", "x"));
    }
    let count = compare("lists", ours, theirs, &steps).await;
    println!("differential: {count} steps on lists of permissions, equal");
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
        "store.DIRECT.GET.LOG_0",
        "store.STREAM.MSG.GET.LOG_0",
        "store.STREAM.PURGE.LOG_0",
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
