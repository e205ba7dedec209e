//! Running the `arq` binary.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// The binary, unaffected by the terminal of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arq"));
    command.env("COLUMNS", "100").env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

pub fn arq(words: &[&str]) -> Output {
    command().args(words).output().expect("arq runs")
}

pub fn arq_with_stdin(words: &[&str], input: &[u8]) -> Output {
    let mut child = command()
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("arq runs");
    // The inputs of these tests fit into a pipe's buffer, so this cannot block.
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Everything that a caller sees.
pub fn show(output: &Output) -> String {
    format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )
}
