//! What each of JetStream's answers means to the caller: the calls over a transport that answers as the test says.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use proto::{RoomKey, StreamName, Subject};
use spine::jetstream::{Answer, Answers, CallError, JetStream, Transport};
use spine::{AppendError, EnsureError, ReadError, Refusal, SpineOptions, StreamSeq, StreamSpec, Unresolved, Via};

/// The answers to all calls, in their order; none left: no answer.
#[derive(Debug, Default)]
struct Told(Mutex<VecDeque<Result<Answer, CallError>>>, Option<CallError>);

impl Transport for &Told {
    type Answers = Self;

    async fn call(&self, _: &Subject, _: Option<StreamSeq>, _: Bytes, _: usize) -> Result<Self, CallError> {
        self.1.map_or(Ok(*self), Err)
    }
}

impl Answers for &Told {
    async fn next(&mut self) -> Result<Answer, CallError> {
        self.0.lock().expect("no code panics while it holds this lock").pop_front().unwrap_or(Err(CallError::Timeout))
    }
}

fn json(body: &str) -> Result<Answer, CallError> {
    Ok(Answer { body: Bytes::copy_from_slice(body.as_bytes()), ..Answer::default() })
}

fn error(code: u32, err_code: u32, text: &str) -> Result<Answer, CallError> {
    let body = format!(
        r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"{text}"}},"stream":"LOG_0","seq":0}}"#
    );
    json(&body)
}

fn status(status: u16) -> Result<Answer, CallError> {
    Ok(Answer { status: Some(status), ..Answer::default() })
}

fn log() -> Subject {
    Subject::log(&RoomKey::new("acme".parse().expect("an id"), "lobby".parse().expect("an id")))
}

fn options() -> SpineOptions {
    SpineOptions::new("nats://unset", "one", "_INBOX.w.one")
}

async fn appended(answer: Result<Answer, CallError>) -> Result<StreamSeq, AppendError> {
    let told = Told(Mutex::new([answer].into()), None);
    JetStream::new(&&told, &options()).append(&log(), StreamSeq(7), Bytes::new()).await
}

#[tokio::test]
async fn every_refusal_of_an_append_keeps_its_meaning() {
    let table = [
        (503, 10_077, "maximum bytes exceeded", Refusal::Full),
        (503, 10_077, "maximum messages exceeded", Refusal::Full),
        (503, 10_077, "maximum messages per subject exceeded", Refusal::Full),
        (400, 10_002, "resource limits exceeded for account", Refusal::Full),
        (503, 10_008, "JetStream system temporarily unavailable", Refusal::Unavailable),
        (500, 10_009, "JetStream cluster can not handle request", Refusal::Unavailable),
        (503, 10_023, "insufficient resources", Refusal::Unavailable),
        (429, 10_167, "too many requests", Refusal::Unavailable),
        (400, 10_109, "invalid operation on sealed stream", Refusal::Unavailable),
        (503, 10_077, "message too large", Refusal::TooBig),
        (400, 10_054, "message size exceeds maximum allowed", Refusal::TooBig),
        (400, 10_097, "header size exceeds maximum allowed of 64k", Refusal::TooBig),
    ];
    for (code, err_code, text, meaning) in table {
        match appended(error(code, err_code, text)).await {
            Err(AppendError::Refused { why, code, .. }) => assert_eq!((why, code), (meaning, err_code), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for (bare, code) in [(503, 503), (429, 429)] {
        match appended(status(bare)).await {
            Err(AppendError::Refused { why, code: told, .. }) => {
                assert_eq!((why, told), (Refusal::Unavailable, code), "{bare}");
            }
            other => panic!("{bare}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_proves_nothing_is_unresolved() {
    let table = [
        (error(400, 10_071, "wrong last sequence: 3"), Unresolved::WrongLast),
        (error(400, 10_164, "wrong last sequence"), Unresolved::Undecided),
        // One replica's store is closed: another one may have stored it.
        (error(503, 10_077, "store is closed"), Unresolved::Failed(10_077)),
        (error(500, 12_345, "of a later version"), Unresolved::Failed(12_345)),
        (status(408), Unresolved::Timeout),
        (json("{"), Unresolved::Timeout),
        (json(r#"{"stream":"OTHER","seq":3}"#), Unresolved::Timeout),
        (Err(CallError::Timeout), Unresolved::Timeout),
        (Err(CallError::Disconnected), Unresolved::Disconnected),
        // Sent before the Spine was closed.
        (Err(CallError::Closed), Unresolved::Disconnected),
    ];
    for (answer, meaning) in table {
        let text = format!("{answer:?}");
        assert_eq!(appended(answer).await, Err(AppendError::Unresolved(meaning)), "{text}");
    }
}

#[tokio::test]
async fn what_was_not_sent_is_refused() {
    for (failed, meaning) in [(CallError::Closed, Refusal::Closed), (CallError::TooBig, Refusal::TooBig)] {
        let told = Told(Mutex::default(), Some(failed));
        match JetStream::new(&&told, &options()).append(&log(), StreamSeq(7), Bytes::new()).await {
            Err(AppendError::Refused { why, code: 0, .. }) => assert_eq!(why, meaning),
            other => panic!("{failed:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_read_knows_what_passes_by_itself() {
    for (answer, code) in [
        (error(503, 10_008, "JetStream system temporarily unavailable"), 10_008),
        (error(500, 10_009, "JetStream cluster can not handle request"), 10_009),
        (error(500, 10_118, "stream is offline"), 10_118),
        (error(503, 10_039, "JetStream not enabled for account"), 10_039),
        (status(503), 503),
    ] {
        let told = Told(Mutex::new([answer].into()), None);
        match JetStream::new(&&told, &options()).last(&log(), Via::Leader).await {
            Err(ReadError::Unavailable { code: seen, .. }) => assert_eq!(seen, code),
            other => panic!("{code}: {other:?}"),
        }
    }
    let told = Told(Mutex::new([error(404, 10_059, "stream not found")].into()), None);
    assert_eq!(JetStream::new(&&told, &options()).last(&log(), Via::Leader).await, Err(ReadError::NoStream));
}

#[tokio::test]
async fn a_stream_without_room_says_what_it_needs() {
    for code in [10_047, 10_028, 10_023, 10_005, 10_002, 10_122] {
        let answers = [error(404, 10_059, "stream not found"), error(500, code, "insufficient storage")];
        let told = Told(Mutex::new(answers.into()), None);
        let spec = StreamSpec::log(3, 8, 3, 10 << 30);
        let made = JetStream::new(&&told, &options()).ensure(&spec).await.expect_err("it was refused");
        assert!(matches!(&made, EnsureError::NoRoom { stream, code: seen, .. }
            if *stream == StreamName::log(3).to_string() && *seen == code));
        let text = made.to_string();
        assert!(text.contains("reserves 10.0 GiB of disk on each of 3 server(s)"), "{text}");
    }
}

#[tokio::test]
async fn a_leader_read_keeps_what_came_by_the_deadline() {
    let entry = |seq: u64| json(&format!(r#"{{"message":{{"subject":"{}","seq":{seq}}}}}"#, log()));
    for end in [Err(CallError::Timeout), Err(CallError::Disconnected), error(503, 10_008, "no leader")] {
        let told = Told(Mutex::new([entry(3), entry(7), end.clone(), entry(9)].into()), None);
        let (one, options) = (&told, options());
        let stream = JetStream::new(&one, &options);
        let part = stream.read(&log(), StreamSeq(1), 10, Via::Leader).await.expect("two came");
        assert_eq!(part.entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [3, 7]);
        assert!(part.more, "and it may go on");
        // The caller goes on behind them; what fails at once is an error.
        let told = Told(Mutex::new([end].into()), None);
        let failed = JetStream::new(&&told, &options).read(&log(), StreamSeq(8), 10, Via::Leader).await;
        assert!(failed.is_err(), "{failed:?}");
    }
}
