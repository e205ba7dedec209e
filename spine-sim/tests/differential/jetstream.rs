//! The JetStream subset: hand-written cases, and the limits of streams.

use super::*;

pub(super) fn log_config(name: &str) -> String {
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
        api("STREAM.PURGE.NOPE", "{bad"),
        api("STREAM.PURGE.NOPE", "entry"),
        api("STREAM.PURGE.LOG_0", "{bad"),
        api("STREAM.PURGE.LOG_0", "[1]"),
        api("STREAM.INFO.LOG_0", "null"),
        api("STREAM.INFO.LOG_0", " {\"offset\":0} "),
        api("STREAM.INFO.LOG_0", "[]"),
        api("STREAM.INFO.NOPE", "entry"),
        api("STREAM.NAMES", "null"),
        api("STREAM.LIST", "7"),
        api("STREAM.DELETE.LOG_0", "entry"),
        api("STREAM.DELETE.LOG_0", "null"),
        api("STREAM.DELETE.NOPE", r#"{"a":1}"#),
        api("STREAM.DELETE.NOPE", " { } "),
        api("STREAM.MSG.DELETE.LOG_0", "{ }"),
        api("STREAM.MSG.DELETE.LOG_0", "entry"),
        api("STREAM.MSG.DELETE.NOPE", "entry"),
        // No JSON: everything goes.
        api("STREAM.PURGE.LOG_0", "entry"),
        api("STREAM.INFO.LOG_0", ""),
        hpub(l, "_R.p", &[(EXPECT, "0")], "anew"),
        api("STREAM.PURGE.LOG_0", "null"),
        hpub(l, "_R.p", &[(EXPECT, "0")], "anew"),
        api("STREAM.DELETE.LOG_0", "[]"),
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

/// What is beyond one MiB comes in one answer if the request names no bound, and up to the message that passes it if it
/// does.
#[tokio::test]
async fn a_batch_without_a_bound_is_not_cut() {
    let (ours, _server, theirs) = both(|_| {}).await;
    let config = log_config("BIG").replace("2000", "-1");
    let mut all = vec![[CONNECT, b"SUB _R.> 9\r\n"].concat(), api("STREAM.CREATE.BIG", &config)];
    for n in 0..5 {
        all.push(publish(&format!("log.1.t.a.r.{n}"), "_R.p", &"x".repeat(400_000)));
    }
    for request in [
        r#"{"seq":1,"batch":10}"#,
        r#"{"seq":1,"batch":10,"max_bytes":1048576}"#,
        r#"{"seq":1,"batch":10,"max_bytes":-1}"#,
        r#"{"multi_last":["log.>"]}"#,
        r#"{"multi_last":["log.>"],"max_bytes":-1}"#,
    ] {
        all.push(api("DIRECT.GET.BIG", request));
    }
    let count = compare("without a bound", ours, theirs, &all).await;
    println!("differential: {count} steps on large batches, equal");
}

#[tokio::test]
async fn streams_reserve_what_they_may_hold() {
    let limit = 1 << 20;
    let server = real(|options| options.max_store = Some(limit)).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut options = options();
    (options.store_bytes_max, options.reserved_bytes_max) = (limit, limit);
    let (_, ours) = sim(options).await;
    let create = |verb: &str, name: &str, bytes: u64| {
        let subjects = format!(r#""subjects":["{name}.*"],"max_bytes":{bytes}"#);
        api(&format!("STREAM.{verb}.{name}"), &format!(r#"{{"name":"{name}",{subjects},"discard":"new"}}"#))
    };
    let all = vec![
        [CONNECT, b"SUB _R.> 9\r\n"].concat(),
        create("CREATE", "A", 600_000),
        create("CREATE", "B", 600_000),
        create("CREATE", "B", 400_000),
        create("UPDATE", "B", 500_000),
        create("UPDATE", "B", 440_000),
        create("CREATE", "A", 600_000),
        api("STREAM.DELETE.A", ""),
        create("UPDATE", "B", 900_000),
        create("CREATE", "C", 200_000),
        create("CREATE", "C", 100_000),
    ];
    let count = compare("reserved", ours, theirs, &all).await;
    println!("differential: {count} steps on reservation, equal");
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
