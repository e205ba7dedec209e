//! `arq dev` as a real process, on both spines and with both Brains: what it prints, how it ends, and clients of three makes
//! talking in one room.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use common::command;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// A child whose lines are read; killed when dropped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: impl Into<Command>) -> Self {
        let mut command = command.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(LIMIT, self.lines.next_line()).await.expect("a line in time").expect("it is UTF-8")
    }

    /// The next line that is JSON and for which `wanted` holds.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line().await.expect("the process goes on");
            match serde_json::from_str(line.trim_start_matches('\u{4}')) {
                Ok(value) if wanted(&value) => return value,
                _ => {}
            }
        }
    }

    /// Sends SIGTERM and returns the exit code.
    async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs").success());
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends in time").expect("it is ours").code()
    }
}

/// A running system and its ready line.
struct Dev {
    process: Running,
    ready: Value,
}

impl Dev {
    async fn start(spine: &str, brain: &str) -> Self {
        let mut dev = command();
        dev.args(["dev", "--port", "0", "--json", "--spine", spine, "--brain", brain]);
        let mut process = Running::start(dev);
        let line = process.line().await.expect("a ready line; if something is missing: run `cargo xtask setup`");
        Self { process, ready: serde_json::from_str(&line).expect("it is JSON") }
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {}", self.ready))
    }

    /// `arq` with these words, told where the server is.
    fn arq(&self, words: &[&str]) -> std::process::Command {
        let mut arq = command();
        arq.args(words).args(["--url", self.text("ws"), "--token", self.text("token")]);
        arq
    }

    async fn output(&self, words: &[&str]) -> std::process::Output {
        let run = Command::from(self.arq(words)).stdin(Stdio::null()).output();
        tokio::time::timeout(LIMIT, run).await.expect("it ends in time").expect("it runs")
    }
}

/// A tool that `cargo xtask setup` installs.
fn tool(path: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let tool = root.join(path);
    assert!(tool.exists(), "there is no {}: run `cargo xtask setup`, which installs it", tool.display());
    tool
}

async fn says_where_it_is_and_ends_well(spine: &str, brain: &str) {
    let dev = Dev::start(spine, brain).await;
    let keys: Vec<&str> = dev.ready.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["brain", "http", "metrics", "nats", "ready", "spine", "tenant", "token", "ws"]);
    assert_eq!((&dev.ready["ready"], dev.text("spine"), dev.text("brain")), (&true.into(), spine, brain));

    let stored = dev.output(&["pub", "lobby", "hello", "--type", "chat", "--json"]).await;
    let answer: Value = serde_json::from_slice(&stored.stdout).expect("one line of JSON");
    assert_eq!((stored.status.code(), &answer["code"], &answer["seq"]), (Some(0), &0.into(), &1.into()));
    let quiet = dev.output(&["pub", "lobby", "--set", "colour=blue"]).await;
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(0), 0));

    let heard = dev.output(&["sub", "lobby", "--history", "2", "--count", "2", "--json"]).await;
    assert_eq!(heard.status.code(), Some(0));
    let lines: Vec<Value> =
        String::from_utf8(heard.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["k"], "subscribed");
    let said: Vec<(&Value, &Value, &Value, &Value)> = lines
        .iter()
        .filter(|line| line["k"] == "event")
        .map(|line| (&line["seq"], &line["user"], &line["event"], &line["data"]))
        .collect();
    assert_eq!(said[0], (&1.into(), &"dev".into(), &"said".into(), &"hello".into()));
    assert_eq!((said[1].0, said[1].2), (&2.into(), &"key_set".into()));

    let since = format!("{}:1", answer["epoch"]);
    let resumed = dev.output(&["sub", "lobby", "--since", &since, "--count", "1", "--json"]).await;
    let first = String::from_utf8(resumed.stdout).unwrap();
    assert!(first.lines().next().unwrap().contains(r#""recovered":true"#), "{first}");

    let mut refused = command();
    refused.args(["pub", "lobby", "x", "--ack", "--token", "a.b.c", "--url", dev.text("ws")]);
    let refused = refused.output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "{}", common::show(&refused));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("2002 token_invalid"));

    assert_eq!(dev.process.terminate().await, Some(0), "SIGTERM ends it well");
}

#[tokio::test]
async fn dev_on_the_simulated_spine_says_where_it_is_and_ends_well() {
    says_where_it_is_and_ends_well("sim", "model").await;
}

#[tokio::test]
async fn dev_on_nats_says_where_it_is_and_ends_well() {
    tool(".local/bin/nats-server");
    says_where_it_is_and_ends_well("nats", "model").await;
}

#[tokio::test]
async fn dev_with_elixir_says_where_it_is_and_ends_well() {
    says_where_it_is_and_ends_well("sim", "elixir").await;
}

/// Everybody hears everybody, at the same places.
async fn arq_wscat_and_python_talk_in_one_room(spine: &str, brain: &str) {
    let (wscat, python) = (tool(".local/npm/node_modules/.bin/wscat"), tool(".local/venv/bin/python"));
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/clients/room.py");
    let dev = Dev::start(spine, brain).await;
    let made = dev.output(&["pub", "lobby", "from arq", "--ack"]).await;
    assert_eq!(made.status.code(), Some(0), "{}", common::show(&made));

    let mut clients = BTreeMap::new();
    clients.insert("arq", Running::start(dev.arq(&["sub", "lobby", "--history", "256", "--json"])));
    let mut command = Command::new(wscat);
    command
        .args(["--connect", dev.text("ws"), "--subprotocol", "arqon.v1", "--wait", "-1", "--header"])
        .arg(format!("Authorization: Bearer {}", dev.text("token")))
        .args(["--execute", r#"{"op":"sub","id":1,"room":"lobby","history":256,"format":"json"}"#])
        .args(["--execute", r#"{"op":"pub","room":"lobby","type":"text","data":"from wscat","ack":true}"#]);
    clients.insert("wscat", Running::start(command));
    let mut command = Command::new(python);
    command.arg(script).args([dev.text("ws"), dev.text("token"), "lobby", "from python"]);
    clients.insert("python", Running::start(command));

    let mut heard = BTreeMap::new();
    for (name, client) in &mut clients {
        let mut said = Vec::new();
        while said.len() < 3 {
            let event = client.until(|line| line["event"] == "said").await;
            said.push((event["seq"].as_u64().unwrap(), event["data"].as_str().unwrap().to_owned()));
        }
        heard.insert(*name, said);
    }
    let mut texts: Vec<&str> = heard["arq"].iter().map(|(_, text)| text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["from arq", "from python", "from wscat"]);
    assert_eq!(heard["arq"].iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(heard["wscat"], heard["arq"]);
    assert_eq!(heard["python"], heard["arq"]);
    drop(clients);
    assert_eq!(dev.process.terminate().await, Some(0));
}

#[tokio::test]
async fn arq_wscat_and_python_talk_in_one_room_on_the_simulated_spine() {
    arq_wscat_and_python_talk_in_one_room("sim", "model").await;
}

#[tokio::test]
async fn arq_wscat_and_python_talk_in_one_room_on_nats() {
    tool(".local/bin/nats-server");
    arq_wscat_and_python_talk_in_one_room("nats", "model").await;
}

#[tokio::test]
async fn arq_wscat_and_python_talk_in_one_room_of_elixir() {
    tool(".local/bin/nats-server");
    arq_wscat_and_python_talk_in_one_room("nats", "elixir").await;
}

/// The one child of this process that runs this program.
async fn child_of(parent: u32, program: &str) -> String {
    let found = Command::new("pgrep").args(["-P", &parent.to_string(), program]).output().await.expect("pgrep runs");
    let pid = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    assert!(pid.parse::<u32>().is_ok(), "one {program}, not {pid:?}");
    pid
}

async fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().await.expect("kill runs").success());
}

#[tokio::test]
async fn dev_ends_with_its_elixir_brain() {
    let mut dev = Dev::start("sim", "elixir").await;
    let pid = dev.process.child.id().expect("it runs");
    signal("-KILL", &child_of(pid, "beam.smp").await).await;
    let ended = tokio::time::timeout(LIMIT, dev.process.child.wait()).await.expect("it ends in time").expect("ours");
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn no_elixir_brain_outlives_dev() {
    nothing_outlives_dev("sim", "elixir", "beam.smp", "/arqon-dev-").await;
}

#[tokio::test]
async fn no_nats_server_outlives_dev() {
    tool(".local/bin/nats-server");
    nothing_outlives_dev("nats", "model", "nats-server", "/arqon-nats-").await;
}

/// After `kill -9` the child ends and its folder, which may hold passwords, is removed.
async fn nothing_outlives_dev(spine: &str, brain: &str, program: &str, prefix: &str) {
    let mut dev = Dev::start(spine, brain).await;
    let child = child_of(dev.process.child.id().expect("it runs"), program).await;
    let arguments = std::fs::read_to_string(format!("/proc/{child}/cmdline")).expect("it runs");
    let config = arguments.split('\0').find(|word| word.contains(prefix)).expect("an argument below its folder");
    let folder = PathBuf::from(config).parent().expect("a folder").to_owned();
    assert!(folder.is_dir(), "{}", folder.display());
    dev.process.child.kill().await.expect("it is ours");
    let gone = async {
        // The child has no parent now; the system reaps it.
        while std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim_end() == program)
            && std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
            || folder.exists()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it ends in time");
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = common::arq(&["dev", "--port", &port]);
    insta::assert_snapshot!(common::show(&output).replace(&port, "PORT"));
}

#[tokio::test]
async fn who_waits_for_a_room_hears_its_first_message() {
    let dev = Dev::start("sim", "model").await;
    let mut waiting = Running::start(dev.arq(&["sub", "later", "--json", "--count", "1"]));
    waiting.until(|line| line["k"] == "waiting" && line["code"] == 5001).await;
    assert_eq!(dev.output(&["pub", "later", "first", "--ack"]).await.status.code(), Some(0));
    assert_eq!(waiting.until(|line| line["k"] == "event").await["data"], "first");
    assert_eq!(dev.process.terminate().await, Some(0));
}
