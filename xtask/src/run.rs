//! Running commands: shown before they run, their output passed through, their failure told with the command to repeat.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What every recipe returns; the text says what to do next.
pub(crate) type Done = Result<(), String>;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo says of xtask itself is nothing for the packages that it builds: build scripts that look at it (ring's) would
    // run again, and all that stands on them, whenever somebody calls cargo without xtask.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    // A clean machine builds once: the incremental cache would only cost it time and gigabytes.
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// `cargo` with these arguments.
pub(crate) fn cargo_with<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = cargo();
    command.args(args);
    command
}

/// Another program, run at the root.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// Runs it with its output passed through.
pub(crate) fn run(command: &mut Command) -> Done {
    let shown = shown(command);
    println!("{}", dim(&format!("$ {shown}")));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed ({status})")),
        Err(error) => Err(format!("`{shown}` cannot be run: {error}")),
    }
}

/// Runs it in silence and returns what it printed; an error holds its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("`{shown}` cannot be run: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{shown}` failed ({}):\n{}", output.status, why.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// True if this program can be started and succeeds.
pub(crate) fn works(path: impl AsRef<OsStr>, args: &[&str]) -> bool {
    output(program(path).args(args)).is_ok()
}

/// As a person would type it at the root.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(&value.to_string_lossy())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    let line = set.chain(words).collect::<Vec<_>>().join(" ");
    let line = match command.get_current_dir().filter(|folder| *folder != root()) {
        Some(folder) => format!("cd {} && {line}", quoted(&folder.to_string_lossy())),
        None => line,
    };
    line.replace(&format!("{}/", root().display()), "")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf, String> {
    let metadata = output(&mut cargo_with(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| "cargo metadata names no target folder".into())
}

/// A clock for people: seconds of each stage. Nothing is decided by it.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "build times are the real world's")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Stages of a recipe, each with its seconds.
pub(crate) struct Stages {
    began: Clock,
    done: Vec<(&'static str, Duration)>,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self { began: Clock::start(), done: Vec::new() }
    }

    /// Runs one stage; the first failure ends the recipe.
    pub(crate) fn stage(&mut self, name: &'static str, body: impl FnOnce() -> Done) -> Done {
        println!("\n{}", bold(&format!("== {name}")));
        let began = Clock::start();
        let done = body();
        let took = began.elapsed();
        println!(
            "{}",
            bold(&format!(
                "== {name}: {} in {:.1} s",
                if done.is_ok() { "good" } else { "FAILED" },
                took.as_secs_f64()
            ))
        );
        self.done.push((name, took));
        done.map_err(|why| format!("{name}: {why}"))
    }

    /// The table of all stages. A recipe over `limit` is told loudly but does not fail: the machine may be busy.
    pub(crate) fn finish(self, limit: Duration) {
        println!("\n{}", bold("stage                    seconds"));
        for (name, took) in &self.done {
            println!("{name:<24} {:>7.1}", took.as_secs_f64());
        }
        let all = self.began.elapsed();
        println!("{}", bold(&format!("{:<24} {:>7.1}", "all", all.as_secs_f64())));
        if all > limit {
            let minutes = limit.as_secs() / 60;
            println!("{}", loud(&format!("THIS TOOK LONGER THAN {minutes} MINUTES: find the stage above that grew.")));
        }
    }
}

fn bold(text: &str) -> String {
    styled("1", text)
}

fn dim(text: &str) -> String {
    styled("2", text)
}

/// For what nobody may overlook.
pub(crate) fn loud(text: &str) -> String {
    styled("1;31", text)
}

/// Plain when not a terminal.
fn styled(style: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_to_repeat() {
        let error = run(program("sh").args(["-c", "exit 3"])).expect_err("it fails");
        assert_eq!(error, "`sh -c 'exit 3'` failed (exit status: 3)");
        let error = run(program("false").current_dir(root().join("proto")).env("A", "b c")).expect_err("it fails");
        assert_eq!(error, "`cd proto && A='b c' false` failed (exit status: 1)");
        let error = output(program("sh").args(["-c", "echo no >&2; exit 1"])).expect_err("it fails");
        assert!(error.ends_with("failed (exit status: 1):\nno"), "{error}");
        assert!(run(&mut program("no-such-program")).expect_err("absent").contains("cannot be run"));
        assert_eq!(output(program("echo").arg("yes")), Ok("yes".into()));
    }

    #[test]
    fn a_stage_that_fails_ends_with_its_name() {
        let mut stages = Stages::new();
        assert_eq!(stages.stage("one", || Ok(())), Ok(()));
        assert_eq!(stages.stage("two", || Err("it broke".into())), Err("two: it broke".into()));
        stages.finish(Duration::ZERO);
    }
}
