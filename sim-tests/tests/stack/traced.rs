//! A message is followed through everything: foreign clients, Shield, NATS and the Elixir Brain, whose log has one line a
//! command with the trace it belongs to, and back to both clients.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use prost::Message as _;
use proto::v1;
use serde_json::Value;
use sim_tests::real::{BrainKind, Part, Stack, StackOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use voltron_core::{SystemClock, WallClock as _};

use crate::{load, turn};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// A tool that `cargo xtask setup` installs.
fn tool(path: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    assert!(tool.exists(), "there is no {}: run `cargo xtask setup`, which installs it", tool.display());
    tool
}

/// A client whose lines are read; killed when dropped.
struct Foreign {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Foreign {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { lines, _child: child }
    }

    /// The first thing that `wanted` finds in what it prints.
    async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let found = async {
            loop {
                let line = self.lines.next_line().await.expect("it is UTF-8").expect("the client goes on");
                let value = serde_json::from_str(line.trim_start_matches('\u{4}')).ok();
                if let Some(found) = value.as_ref().and_then(&wanted) {
                    return found;
                }
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{what} does not come"))
    }
}

/// The text and trace of a binary event with something said.
fn said(message: &Value) -> Option<(String, String, u64)> {
    let frame = data_encoding::HEXLOWER.decode(message["binary"].as_str()?.as_bytes()).ok()?;
    let envelope = v1::Envelope::decode(frame.strip_prefix(&[1])?).ok()?;
    let Some(v1::envelope::Payload::Event(event)) = envelope.payload else { return None };
    let Some(v1::event::Body::Said(said)) = event.body else { return None };
    Some((String::from_utf8(said.data.to_vec()).ok()?, envelope.trace_id, event.seq))
}

/// The Brain's line about the command for which `key` is `value`.
async fn logged(stack: &Stack, key: &str, value: &str) -> Value {
    let found = async {
        loop {
            let words = stack.words(Part::Brain(1));
            let mut lines = words.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["msg"] == "command applied" && line[key] == value) {
                return line;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("no line with {key} {value}\n{}", stack.last_words()))
}

#[tokio::test]
async fn a_message_is_followed_through_elixir_by_its_trace() {
    let _turn = turn().await;
    let (wscat, python) = (tool(".local/npm/node_modules/.bin/wscat"), tool(".local/venv/bin/python"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/clients/traced.py");
    let stack = load::start(StackOptions::new(BrainKind::Elixir)).await;
    let url = format!("ws://{}/v1/ws", stack.address());
    let token = |user| stack.token("acme", user, SystemClock.now_ms() / 1000);

    let mut command = Command::new(python);
    let mut python =
        Foreign::start(command.arg(script).args([&url, &token("ann"), "lobby", "secret from python", TRACE]));
    let first = python.until("the event of Python's message", said).await;
    assert_eq!(first, ("secret from python".into(), TRACE.into(), 1));

    let line = logged(&stack, "trace_id", TRACE).await;
    assert_eq!((&line["level"], &line["node"]), (&"info".into(), &"brain-1".into()));
    assert_eq!((&line["room"], &line["user"]), (&"acme/lobby".into(), &"ann".into()));
    assert_eq!((&line["op"], &line["seq"]), (&"say".into(), &1.into()));

    let mut command = Command::new(wscat);
    command
        .args(["--connect", &url, "--subprotocol", "arqon.v1", "--wait", "-1", "--header"])
        .arg(format!("Authorization: Bearer {}", token("bob")))
        .args(["--execute", r#"{"op":"sub","id":1,"room":"lobby","history":256,"format":"json"}"#])
        .args(["--execute", r#"{"op":"pub","room":"lobby","type":"text","data":"secret from wscat","ack":true}"#]);
    let mut wscat = Foreign::start(&mut command);
    // The acknowledgement and the event may come in either order.
    let (mut id, mut heard) = (None, Vec::new());
    while id.is_none() || heard.len() < 2 {
        let message = wscat.until("wscat's answer and both events", |message| Some(message.clone())).await;
        match message["op"].as_str() {
            Some("ack") => id = message["message_id"].as_str().map(str::to_owned),
            // What was said; the room's state comes as an event, too, before or between them.
            Some("event") if message["data"].is_string() => {
                heard.push((message["seq"].clone(), message["data"].clone()))
            }
            _ => {}
        }
    }
    assert_eq!(heard, [(1.into(), "secret from python".into()), (2.into(), "secret from wscat".into())]);
    let line = logged(&stack, "message_id", &id.expect("it was waited for")).await;
    assert_eq!((&line["user"], &line["seq"], &line["trace_id"]), (&"bob".into(), &2.into(), &Value::Null));
    let second = python.until("the event of wscat's message", |message| said(message).filter(|event| event.2 == 2));
    assert_eq!(second.await.0, "secret from wscat");
    assert!(!stack.words(Part::Brain(1)).contains("secret"), "a log line holds what was said");
}
