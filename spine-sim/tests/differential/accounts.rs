//! The two accounts: the same users, exports and imports on both brokers, and what crosses looks the same.

use spine::users::Account;

use super::*;

const LOG: &str = "log.3.t.a.r.b";

fn hello(user: &str, subscriptions: &str) -> Vec<u8> {
    let connect = r#"{"verbose":false,"headers":true,"no_responders":true"#;
    format!("CONNECT {connect},\"user\":\"{user}\",\"pass\":\"x\"}}\r\n{subscriptions}").into_bytes()
}

/// An operator where the streams are, and a witness who may do as much where they are not.
async fn brokers() -> (SocketAddr, spine::server::NatsServer, SocketAddr) {
    let operator = UserSpec::operator("x");
    let witness = UserSpec { account: Account::App, name: "witness".into(), ..operator.clone() };
    let users = vec![operator, witness];
    let server = real(|options| options.users = users.clone()).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut options = options();
    options.users = users.iter().map(User::from).collect();
    let (_, ours) = sim(options).await;
    (ours, server, theirs)
}

fn filled() -> Vec<Vec<u8>> {
    vec![
        hello("operator", "SUB _R.> 9\r\n"),
        api("STREAM.CREATE.LOG_0", &jetstream::log_config("LOG_0")),
        hpub(LOG, "_R.p", &[(EXPECT, "0")], "one"),
        hpub(LOG, "_R.p", &[(EXPECT, "1"), ("X-Foo", "bar")], "two"),
        api("STREAM.INFO.LOG_0", ""),
    ]
}

#[tokio::test]
async fn reads_cross() {
    let (ours, _server, theirs) = brokers().await;
    let mut count = compare("the operator", ours, theirs, &filled()).await;
    let direct = format!("store.DIRECT.GET.LOG_0.{LOG}");
    let batch = format!(r#"{{"seq":1,"next_by_subj":"{LOG}","batch":5}}"#);
    let mut steps =
        vec![hello("witness", "SUB _R.> 9\r\nSUB log.> 1\r\nSUB $JS.API.STREAM.> 2\r\nSUB store.STREAM.> 3\r\n")];
    for (to, body) in [
        (direct.as_str(), ""),
        ("store.DIRECT.GET.LOG_0", batch.as_str()),
        ("store.DIRECT.GET.LOG_0", r#"{"multi_last":["log.>"]}"#),
        ("store.DIRECT.GET.LOG_0", r#"{"seq":1,"no_hdr":true}"#),
        ("store.DIRECT.GET.LOG_0", ""),
        ("store.DIRECT.GET.LOG_0.none", ""),
        ("store.DIRECT.GET.NONE", r#"{"seq":1}"#),
        ("store.DIRECT.GET", ""),
        ("store.STREAM.MSG.GET.LOG_0", r#"{"seq":2}"#),
        ("store.STREAM.MSG.GET.LOG_0", r#"{"seq":9}"#),
        ("store.STREAM.MSG.GET.NONE", r#"{"seq":1}"#),
        ("$JS.API.DIRECT.GET.LOG_0", r#"{"seq":1}"#),
    ] {
        // To an inbox, and where it would do harm if the streams listened.
        for reply in ["_R.api", LOG, "$JS.API.STREAM.DELETE.LOG_0", "store.STREAM.PURGE.LOG_0"] {
            steps.push(publish(to, reply, body));
        }
    }
    steps.push(hpub(&direct, "_R.api", &[("X-Foo", "bar")], ""));
    steps.push(publish(&direct, "", ""));
    count += compare("the witness", ours, theirs, &steps).await;
    let after = [hello("operator", "SUB _R.> 9\r\n"), api("STREAM.INFO.LOG_0", ""), api("STREAM.NAMES", "")];
    count += compare("the operator again", ours, theirs, &after).await;
    println!("differential: accounts, {count} steps, equal");
}

#[tokio::test]
async fn what_is_stored_is_heard_and_nothing_else() {
    let (ours, _server, theirs) = brokers().await;
    let mut heard = Vec::new();
    for addr in [ours, theirs] {
        let (mut operator, mut witness) = (Raw::connect(addr).await, Raw::connect(addr).await);
        witness.send(&hello("witness", "SUB > 1\r\nSUB out.t.a.r.b 2\r\nSUB out.t.a.r.b group 3\r\n")).await;
        assert_eq!(witness.until_pong().await, []);
        for (n, step) in filled().iter().enumerate() {
            operator.send(step).await;
            // What is sent before the stream is there is not stored.
            if n > 0 {
                timeout(common::SOON, operator.next()).await.expect("an answer");
            }
        }
        operator.send(&[publish("sys.t.a.ban", "", "x"), publish("sys.n.pr.a", "", "x")].concat()).await;
        operator.until_pong().await;
        // Each of the two events on three subscriptions, the signal on one.
        let mut all = Vec::new();
        while all.len() < 7 {
            let next = timeout(common::SOON, witness.next()).await;
            all.push(next.unwrap_or_else(|_| panic!("{addr}: nothing more after {all:?}")));
        }
        all.extend(witness.until_pong().await);
        heard.push(by_sid(all));
    }
    assert_eq!(heard[0], heard[1], "left is ours, right is nats-server's");
}

/// nats-server's message tracing publishes a report where a message's header says. Ours has none, so this asks the real one.
#[tokio::test]
async fn a_traced_message_is_reported_where_no_stream_listens() {
    let (_, _server, theirs) = brokers().await;
    let mut operator = Raw::connect(theirs).await;
    for (n, step) in filled().iter().enumerate() {
        operator.send(step).await;
        if n > 0 {
            timeout(common::SOON, operator.next()).await.expect("an answer");
        }
    }
    let mut witness = Raw::connect(theirs).await;
    witness.send(&hello("witness", "SUB log.> 1\r\n")).await;
    witness.until_pong().await;
    let traced = [("Nats-Trace-Dest", LOG)];
    for to in ["in.t.a.r.b".to_owned(), format!("store.DIRECT.GET.LOG_0.{LOG}")] {
        witness.send(&hpub(&to, "", &traced, "")).await;
        let report = timeout(common::SOON, witness.next()).await.expect("a report");
        assert!(
            matches!(&report, Said::Msg { subject, body, .. } if subject == LOG && body.contains(&to)),
            "{report:?}"
        );
    }
    operator.send(&api("STREAM.INFO.LOG_0", "")).await;
    let info = timeout(common::SOON, operator.next()).await.expect("an answer");
    assert!(matches!(&info, Said::Msg { body, .. } if body.contains(r#""messages":2,"#)), "{info:?}");
}
