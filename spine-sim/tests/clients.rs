//! Clients that other people wrote, unchanged, over real TCP: async-nats with its JetStream feature, and nats-py.

mod common;

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use common::{SOON, options, sim};
use futures_util::StreamExt as _;
use tokio::time::timeout;

async fn soon<T>(what: &str, event: impl IntoFuture<Output = T>) -> T {
    timeout(SOON, event.into_future()).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test]
async fn async_nats_core() {
    let (_, addr) = sim(options()).await;
    let client = async_nats::connect(addr.to_string()).await.expect("connect");
    assert!(client.server_info().jetstream);
    let mut sub = client.subscribe("a.*").await.expect("subscribe");
    let mut workers = client.queue_subscribe("work", "g".into()).await.expect("queue");
    client.publish_with_reply("a.b", "r", "hello".into()).await.expect("publish");
    let got = soon("a message", sub.next()).await.expect("a message");
    assert_eq!((got.subject.as_str(), got.reply.as_deref(), &got.payload[..]), ("a.b", Some("r"), &b"hello"[..]));
    let answering = async {
        let asked = workers.next().await.expect("a request");
        client.publish(asked.reply.expect("a reply"), asked.payload).await.expect("answer");
    };
    let (answer, ()) = soon("an answer", async { tokio::join!(client.request("work", "42".into()), answering) }).await;
    assert_eq!(&answer.expect("an answer").payload[..], b"42");
    let nobody = soon("the 503", client.request("nobody", "?".into())).await.expect_err("nobody listens");
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("K", "v");
    client.publish_with_headers("a.c", headers, "body".into()).await.expect("publish");
    let got = soon("a message", sub.next()).await.expect("a message");
    assert_eq!(got.headers.expect("headers").get("K").map(|value| value.as_str()), Some("v"));
    sub.unsubscribe_after(3).await.expect("unsubscribe");
    client.publish("a.d", "last".into()).await.expect("publish");
    assert!(soon("the last", sub.next()).await.is_some());
    assert!(soon("the end", sub.next()).await.is_none());
    client.drain().await.expect("drain");
}

#[tokio::test]
async fn async_nats_jetstream() {
    let (_, addr) = sim(options()).await;
    let client = async_nats::connect(addr.to_string()).await.expect("connect");
    let js = jetstream::new(client.clone());
    let account = soon("the account", js.query_account()).await.expect("account");
    assert_eq!(account.streams, 0);
    let config = stream::Config {
        name: "LOG_0".into(),
        subjects: vec!["log.*.t.*.r.*".into()],
        discard: stream::DiscardPolicy::New,
        allow_direct: true,
        deny_delete: true,
        republish: Some(stream::Republish {
            source: "log.*.t.*.r.*".into(),
            destination: "out.t.{{wildcard(2)}}.r.{{wildcard(3)}}".into(),
            headers_only: false,
        }),
        ..Default::default()
    };
    let mut log = soon("the stream", js.create_stream(config.clone())).await.expect("create");
    let mut out = client.subscribe("out.>").await.expect("subscribe");
    let fenced = |expect: u64| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expect.to_string());
        headers
    };
    let subject = "log.3.t.acme.r.lobby";
    for n in 0..5 {
        let ack = js.publish_with_headers(subject, fenced(n), format!("m{n}").into()).await.expect("publish");
        assert_eq!(soon("the ack", ack).await.expect("stored").sequence, n + 1);
        let again = soon("a republished message", out.next()).await.expect("a message");
        assert_eq!(again.subject.as_str(), "out.t.acme.r.lobby");
        let headers = again.headers.expect("headers");
        assert_eq!(headers.get("Nats-Sequence").map(|v| v.as_str()), Some((n + 1).to_string().as_str()));
        assert_eq!(headers.get("Nats-Subject").map(|v| v.as_str()), Some(subject));
    }
    let stale = js.publish_with_headers(subject, fenced(2), "stale".into()).await.expect("publish");
    let error = soon("the refusal", stale).await.expect_err("refused");
    assert_eq!(error.kind(), jetstream::context::PublishErrorKind::WrongLastSequence);
    let last = soon("the last", log.direct_get_last_for_subject(subject)).await.expect("last");
    assert_eq!((last.sequence, &last.payload[..]), (5, &b"m4"[..]));
    let third = soon("the third", log.direct_get(3)).await.expect("third");
    assert_eq!(&third.payload[..], b"m2");
    let next = soon("the next", log.direct_get_next_for_subject(subject, Some(2))).await.expect("next");
    assert_eq!(next.sequence, 2);
    let raw = soon("by the leader", log.get_raw_message(4)).await.expect("raw");
    assert_eq!((raw.sequence, &raw.payload[..]), (4, &b"m3"[..]));
    let leader = soon("by the leader", log.get_last_raw_message_by_subject(subject)).await.expect("raw");
    assert_eq!(leader.sequence, 5);
    let purged = soon("the purge", log.purge().filter(subject).sequence(4)).await.expect("purge");
    assert_eq!(purged.purged, 3);
    let info = soon("the info", log.info()).await.expect("info");
    assert_eq!((info.state.messages, info.state.first_sequence, info.state.last_sequence), (2, 4, 5));
    assert!(soon("the refusal", log.delete_message(4)).await.is_err(), "deny_delete");
    let differs = soon("the refusal", js.create_stream(stream::Config { max_bytes: 1, ..config })).await;
    assert!(differs.is_err(), "another configuration");
    let names: Vec<_> = soon("the names", js.stream_names().collect::<Vec<_>>()).await;
    assert_eq!(names.into_iter().map(|name| name.expect("a name")).collect::<Vec<_>>(), ["LOG_0"]);
    assert!(soon("the deletion", js.delete_stream("LOG_0")).await.expect("delete").success);
}

#[tokio::test]
async fn async_nats_comes_back_after_a_crash() {
    let (broker, addr) = sim(options()).await;
    let client = async_nats::ConnectOptions::new()
        .name("other")
        .ping_interval(Duration::from_millis(500))
        .connect(addr.to_string())
        .await
        .expect("connect");
    let mut sub = client.subscribe("a").await.expect("subscribe");
    client.flush().await.expect("flush");
    assert_eq!(broker.cut("other"), 1);
    let heard = soon("a message after the reconnect", async {
        loop {
            let _ = client.publish("a", "x".into()).await;
            if let Ok(Some(message)) = timeout(Duration::from_millis(100), sub.next()).await {
                return message;
            }
        }
    });
    assert_eq!(&heard.await.payload[..], b"x");
}

#[tokio::test]
async fn nats_py() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let python = root.join(".local/venv/bin/python");
    let missing = || panic!("there is no Python with nats-py at {}: run `cargo xtask setup`", python.display());
    if !python.is_file() {
        missing();
    }
    let has = tokio::process::Command::new(&python).args(["-c", "import nats"]).output().await.expect("python runs");
    if !has.status.success() {
        missing();
    }
    let (_, addr) = sim(options()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats_py.py");
    let running = tokio::process::Command::new(&python).arg(script).arg(format!("nats://{addr}")).output();
    let output = soon("the script", running).await.expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), "nats-py: ok");
}
