//! The trace of real processes, as an operator would judge it: what the Brain, the Shield and the clients wrote, one file
//! after the other, and the log at the end. `cargo sim check` finds nothing wrong with it, what the Brain said that it
//! committed is what the log holds, and one acknowledged place that is made another is found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sim_tests::oracles::LOG_HOST;
use sim_tests::real::{BrainKind, Part, StackOptions};
use sim_tests::trace;
use voltron_core::trace::Record;

use crate::load::{self, LIMITS, Load};
use crate::turn;

/// Exit status and words of `cargo sim check`.
fn check(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).arg("check").arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// Room, epoch, seq, message, user and bytes of every commit that `host` tells.
fn commits(file: &Path, host: &str) -> BTreeSet<String> {
    let lines = trace::read(file).unwrap().into_iter().filter(|line| line.host == host);
    let told = lines.filter_map(|line| match line.record {
        Record::Commit { room, epoch, seq, m, user, h, .. } => Some(format!("{room} {epoch} {seq} {m} {user} {h}")),
        _ => None,
    });
    told.collect()
}

/// The trace with the place of its last acknowledgement moved by one.
fn flipped(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let stored = |value: &Value| value["k"] == "ack" && value["code"] == 0 && value["seq"].as_u64() > Some(0);
    let last = lines.iter_mut().rev().find_map(|line| {
        let value: Value = serde_json::from_str(line).unwrap();
        stored(&value).then_some((line, value))
    });
    let (line, mut value) = last.expect("something was acknowledged");
    value["seq"] = (value["seq"].as_u64().unwrap() + 1).into();
    *line = value.to_string();
    lines.join("\n")
}

async fn judged(name: &'static str, brain: BrainKind) {
    let _turn = turn().await;
    let options = StackOptions { traced: true, sections: LIMITS, ..StackOptions::new(brain) };
    let mut stack = load::start(options).await;
    let load = Load { name, rooms: 2, lasts: Duration::from_secs(4) };
    let clients = load::under(load, &mut stack, async |_| {}).await;
    // At a graceful end the files are whole.
    let mut files = Vec::new();
    for part in [Part::Shield, Part::Brain(1)] {
        stack.stop(part).await.unwrap_or_else(|error| panic!("{error}\n{}", stack.last_words()));
        files.push(stack.trace(part));
    }
    files.push(clients);
    let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let text: String = files.iter().map(read).collect();

    let whole = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-whole.jsonl"));
    std::fs::write(&whole, &text).unwrap();
    let (told, stored) = (commits(&whole, "brain-1"), commits(&whole, LOG_HOST));
    assert!(stored.len() > 100, "{}", stored.len());
    assert_eq!(told, stored, "the Brain's trace tells every commit, and no other");
    let (status, words) = check(&whole);
    assert_eq!(status, Some(0), "cargo sim check {}\n{words}", whole.display());

    let changed = whole.with_file_name(format!("{name}-flipped.jsonl"));
    std::fs::write(&changed, flipped(&text)).unwrap();
    let (status, words) = check(&changed);
    assert_eq!(status, Some(1), "cargo sim check {}\n{words}", changed.display());
    assert!(words.contains("FAILED A1 at record "), "{words}");
    println!("{name}: {} commits told and stored; a flipped place is found by A1", stored.len());
}

#[tokio::test]
async fn a_trace_of_the_shell_is_judged_and_a_flipped_place_found() {
    judged("judged-shell", BrainKind::Shell).await;
}

#[tokio::test]
async fn a_trace_of_elixir_is_judged_and_a_flipped_place_found() {
    judged("judged-elixir", BrainKind::Elixir).await;
}
