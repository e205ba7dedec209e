//! Real processes: nats-server, one Brain or two (the Rust shell or the Elixir release) and a Shield, with production's users
//! and permissions, on 127.0.0.1. For the tests that kill and stop them and for the benchmark.

mod part;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use arq::release::{Release, ReleaseError};
use spine::server::{NatsServer, ServerError, ServerOptions};
use spine::{NatsSpine, SpineOptions, UserSpec};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use voltron_core::config::{Config, ConfigError};

use crate::tokens;
use part::Process;
pub use part::{BrainKind, Part};

/// Password of every NATS user of these tests.
const PASSWORD: &str = "for-tests-only";
/// The longest that the Shield may take until it accepts connections.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Generous: only a Brain that does not start reaches it.
const UP_LIMIT: Duration = Duration::from_secs(180);
/// The longest that a Brain may take to tell its metrics; a stopped one never does.
const SCRAPE_LIMIT: Duration = Duration::from_secs(2);

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// One of our own binaries is not built.
    #[error("there is no {name} beside {}: build the workspace first (`cargo build --workspace`, as `cargo xtask test` does)", folder.display())]
    Missing {
        /// Which.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// nats-server.
    #[error(transparent)]
    Nats(#[from] ServerError),
    /// Files, ports, processes.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The Elixir Brain cannot be started.
    #[error("{0}: run `cargo xtask setup`, which builds it")]
    Release(#[from] ReleaseError),
    /// This file's own fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to kill or to stop.
    #[error("{0} is not running")]
    NotRunning(Part),
    /// The Shield accepts no connection.
    #[error("the Shield does not accept connections after {} s", READY_LIMIT.as_secs())]
    NotReady,
    /// A Brain's page does not answer.
    #[error("{part} does not answer after {} s", UP_LIMIT.as_secs())]
    NotUp {
        /// Which.
        part: Part,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> StackError {
    move |source| StackError::Io { what, source }
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct StackOptions<'a> {
    /// Which Brain.
    pub brain: BrainKind,
    /// How many Brains.
    pub brains: u8,
    /// Keys of `[brain]` beside users, passwords and port.
    pub brain_keys: &'a str,
    /// Each process writes its trace.
    pub traced: bool,
    /// Whole sections of `arqon.toml`, other than server, http, nats, policy, auth, brain and log.
    pub sections: &'a str,
}

impl StackOptions<'_> {
    /// One Brain of this kind; everything else as by default.
    pub const fn new(brain: BrainKind) -> Self {
        Self { brain, brains: 1, brain_keys: "", traced: false, sections: "" }
    }
}

/// Everything, running. Killed when this is dropped.
#[derive(Debug)]
pub struct Stack {
    /// The broker; kill and restart it as you like.
    pub nats: NatsServer,
    folder: TempDir,
    programs: Programs,
    /// Where each listens: the Shield for clients, a Brain for who scrapes it.
    ports: BTreeMap<Part, u16>,
    running: BTreeMap<Part, Process>,
}

/// What is started.
#[derive(Debug)]
struct Programs {
    shield: PathBuf,
    brain: BrainProgram,
}

#[derive(Debug)]
enum BrainProgram {
    Shell(PathBuf),
    Elixir(Release),
}

impl Stack {
    /// Starts all of them. `root` is the workspace, in whose `.local/bin` nats-server lies.
    pub async fn start(root: &Path, options: StackOptions<'_>) -> Result<Self, StackError> {
        let programs = Programs::find(root, options.brain)?;
        let folder = tempfile::Builder::new().prefix("arqon-stack-").tempdir().map_err(failed("a temporary folder"))?;
        let brains: Vec<Part> = (1..=options.brains).map(Part::Brain).collect();
        let mut users = vec![UserSpec::shield(&Part::Shield.node(), PASSWORD), UserSpec::operator(PASSWORD)];
        for brain in &brains {
            users.extend([UserSpec::writer(&brain.node(), PASSWORD), UserSpec::speaker(&brain.node(), PASSWORD)]);
        }
        let nats = ServerOptions { users, ..ServerOptions::new(NatsServer::pinned(root)?) };
        let nats = NatsServer::start(nats).await?;
        let mut ports = BTreeMap::new();
        for part in brains.iter().copied().chain([Part::Shield]) {
            ports.insert(part, free_port().map_err(failed("a free port"))?);
        }
        let mut stack = Self { nats, folder, programs, ports, running: BTreeMap::new() };
        stack.write_config(options)?;
        for part in brains.iter().copied().chain([Part::Shield]) {
            stack.spawn(part)?;
        }
        stack.ready().await?;
        for brain in brains {
            stack.up(brain).await?;
        }
        Ok(stack)
    }

    /// `host:port` of the Shield's WebSocket listener, the same for the stack's whole life.
    pub fn address(&self) -> String {
        self.listener(Part::Shield)
    }

    fn listener(&self, part: Part) -> String {
        format!("127.0.0.1:{}", self.ports.get(&part).copied().unwrap_or_default())
    }

    /// A token for `user` of `tenant`.
    pub fn token(&self, tenant: &str, user: &str, now_s: i64) -> String {
        tokens::token(secret().as_bytes(), "arqon", tenant, user, now_s)
    }

    /// A connection that may do everything.
    pub fn operator(&self) -> NatsSpine {
        NatsSpine::connect(SpineOptions::of_user(self.nats.url(), &UserSpec::operator(PASSWORD), "_INBOX.log"))
    }

    /// User and password of the operator, for other clients.
    pub fn credentials(&self) -> (String, String) {
        UserSpec::operator(PASSWORD).credentials()
    }

    /// `kill -9`, and waits until the process is gone. Says which program it was.
    pub async fn kill_9(&mut self, part: Part) -> Result<String, StackError> {
        let process = self.running.remove(&part).ok_or(StackError::NotRunning(part))?;
        let program = process.program().map_err(failed("a process that is to be killed"))?;
        process.kill_9().await;
        Ok(program)
    }

    /// SIGTERM, and waits until the process has finished what it does and ended.
    pub async fn stop(&mut self, part: Part) -> Result<(), StackError> {
        let process = self.running.remove(&part).ok_or(StackError::NotRunning(part))?;
        process.stop().await.map_err(failed("a process that is to end"))
    }

    /// SIGSTOP: its connections stay open and it says nothing, as when a machine hangs. Returns when it stands still.
    pub async fn pause(&self, part: Part) -> Result<(), StackError> {
        let process = self.running.get(&part).ok_or(StackError::NotRunning(part))?;
        process.pause().await.map_err(failed("a process that is to stop"))
    }

    /// SIGCONT: undoes [`pause`](Self::pause).
    pub fn resume(&self, part: Part) -> Result<(), StackError> {
        let process = self.running.get(&part).ok_or(StackError::NotRunning(part))?;
        process.resume().map_err(failed("a process that is to go on"))
    }

    /// Starts it again.
    pub fn spawn(&mut self, part: Part) -> Result<(), StackError> {
        let log = || std::fs::File::options().create(true).append(true).open(self.log(part));
        let (out, err) = (log().map_err(failed("a log file"))?, log().map_err(failed("a log file"))?);
        let child = self
            .programs
            .command(part, self.folder.path())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("cannot start one of our programs"))?;
        self.running.insert(part, Process(child));
        Ok(())
    }

    /// Waits until the Shield accepts connections.
    pub async fn ready(&self) -> Result<(), StackError> {
        let deadline = Instant::now() + READY_LIMIT;
        while Instant::now() < deadline {
            if TcpStream::connect(self.address()).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(StackError::NotReady)
    }

    /// Waits until a Brain's own page answers: an Erlang VM on a busy machine takes its time.
    pub async fn up(&self, part: Part) -> Result<(), StackError> {
        let answers = async {
            while self.metric(part, "brain_room_count").await.is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(UP_LIMIT, answers).await.map_err(|_| StackError::NotUp { part })
    }

    /// One of a Brain's metrics, if it answers.
    pub async fn metric(&self, part: Part, name: &str) -> Option<u64> {
        let address = self.listener(part);
        let scrape = async {
            let mut stream = TcpStream::connect(&address).await.ok()?;
            let question = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(question.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        };
        timeout(SCRAPE_LIMIT, scrape).await.ok()?
    }

    /// Everything that a process has logged so far.
    pub fn words(&self, part: Part) -> String {
        std::fs::read_to_string(self.log(part)).unwrap_or_default()
    }

    /// The last lines that every process logged.
    pub fn last_words(&self) -> String {
        let last = |text: &str, count: usize| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        };
        let ours = self.ports.keys().map(|part| format!("--- {part}\n{}\n", last(&self.words(*part), 20)));
        ours.collect::<String>() + "--- nats-server\n" + &last(&self.nats.log(), 5)
    }

    /// Where a process writes its trace: whole once it has been [stopped](Self::stop).
    pub fn trace(&self, part: Part) -> PathBuf {
        self.folder.path().join(format!("{part}.jsonl"))
    }

    fn log(&self, part: Part) -> PathBuf {
        self.folder.path().join(format!("{part}.log"))
    }

    /// One file each, so that each part holds its own NATS users alone.
    fn write_config(&self, options: StackOptions<'_>) -> Result<(), StackError> {
        let path = |name: &str| self.folder.path().join(name);
        let put =
            |name: &str, text: &str| std::fs::write(path(name), text).map_err(failed("cannot write the configuration"));
        let quoted = |name: &str| serde_json::Value::from(path(name).to_string_lossy().into_owned()).to_string();
        put("password", PASSWORD)?;
        put("hs256", &secret())?;
        let (url, password) = (self.nats.url(), quoted("password"));
        for (part, port) in &self.ports {
            let node = part.node();
            let own = match part {
                Part::Shield => format!(
                    "user = \"{}\"\npassword_file = {password}\n[server]\nhost = \"127.0.0.1\"\nport = {port}\n\
                     text_dialect = true\n",
                    UserSpec::shield(&node, PASSWORD).name
                ),
                Part::Brain(_) => format!(
                    "[brain]\nmetrics_port = {port}\nwriter_user = \"{}\"\nwriter_password_file = {password}\n\
                     speaker_user = \"{}\"\nspeaker_password_file = {password}\n{}\n",
                    UserSpec::writer(&node, PASSWORD).name,
                    UserSpec::speaker(&node, PASSWORD).name,
                    options.brain_keys
                ),
            };
            let traced = if options.traced {
                format!("trace_file = {}", quoted(&format!("{part}.jsonl")))
            } else {
                String::new()
            };
            let text = format!(
                "[policy]\ndefault = \"none\"\n[auth]\nhs256_secret_file = {}\n[http]\nhost = \"127.0.0.1\"\nport = 0\n\
                 [log]\nformat = \"json\"\n{traced}\n{}\n[nats]\nurls = [\"{url}\"]\n{own}",
                quoted("hs256"),
                options.sections
            );
            put(&format!("{part}.toml"), &text)?;
            put(&format!("{part}.terms"), &Config::parse(&text)?.render_brain())?;
        }
        Ok(())
    }
}

impl Programs {
    fn find(root: &Path, brain: BrainKind) -> Result<Self, StackError> {
        let folder = binaries()?;
        let built = |name: &'static str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(StackError::Missing { name, folder: folder.clone() }) }
        };
        let brain = match brain {
            BrainKind::Shell => BrainProgram::Shell(built("brain-shell")?),
            BrainKind::Elixir => BrainProgram::Elixir(Release::find(root)?),
        };
        Ok(Self { shield: built("shield")?, brain })
    }

    fn command(&self, part: Part, folder: &Path) -> Command {
        let file = |kind: &str| folder.join(format!("{part}.{kind}"));
        let ours = |program: &Path, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).arg("--config").arg(file("toml")).args(["--node", part.node().as_str()]);
            command
        };
        match (part, &self.brain) {
            (Part::Shield, _) => ours(&self.shield, &["serve"]),
            (Part::Brain(_), BrainProgram::Shell(program)) => ours(program, &[]),
            (Part::Brain(_), BrainProgram::Elixir(release)) => release.command(&file("terms"), &part.node()),
        }
    }
}

/// As text, for a file: white space around it would not count.
fn secret() -> String {
    tokens::secret(0).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder that holds this workspace's binaries: above the running test's or example's own.
fn binaries() -> Result<PathBuf, StackError> {
    let own = std::env::current_exe().map_err(failed("cannot find this program"))?;
    let mut folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    if matches!(folder.file_name().and_then(|name| name.to_str()), Some("deps" | "examples")) {
        folder.pop();
    }
    Ok(folder)
}

/// A port that was free a moment ago, so that a Shield that starts again can be found where it was.
fn free_port() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}
