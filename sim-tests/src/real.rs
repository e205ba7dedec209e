//! Real processes: nats-server, `brain-shell` and `shield`, with production's users and permissions, on 127.0.0.1. For the
//! test that kills them and for the benchmark.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use proto::NodeId;
use spine::server::{NatsServer, ServerError, ServerOptions};
use spine::{NatsSpine, SpineOptions, UserSpec};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::tokens;

/// Password of every NATS user of these tests.
const PASSWORD: &str = "for-tests-only";
/// The longest that the Shield may take until it accepts connections.
const READY_LIMIT: Duration = Duration::from_secs(30);

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
    /// The Shield accepts no connection.
    #[error("the Shield does not accept connections after {} s", READY_LIMIT.as_secs())]
    NotReady,
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> StackError {
    move |source| StackError::Io { what, source }
}

/// Which of our processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Brain.
    Shell,
    /// The Shield.
    Shield,
}

impl Part {
    const fn binary(self) -> &'static str {
        match self {
            Self::Shell => "brain-shell",
            Self::Shield => "shield",
        }
    }

    const fn node(self) -> &'static str {
        match self {
            Self::Shell => "brain-1",
            Self::Shield => "shield-1",
        }
    }
}

/// One of each, running. Everything is killed when this is dropped.
#[derive(Debug)]
pub struct Stack {
    /// The broker; kill and restart it as you like.
    pub nats: NatsServer,
    folder: TempDir,
    binaries: PathBuf,
    shield_port: u16,
    shell: Option<Child>,
    shield: Option<Child>,
}

impl Stack {
    /// Starts all three. `root` is the workspace, in whose `.local/bin` nats-server lies; `extra` is added to `arqon.toml`
    /// (whole sections other than server, http, nats, policy, auth, brain).
    pub async fn start(root: &Path, extra: &str) -> Result<Self, StackError> {
        let binaries = binaries()?;
        let folder = tempfile::Builder::new().prefix("arqon-stack-").tempdir().map_err(failed("a temporary folder"))?;
        let (brain, shield) = (node(Part::Shell), node(Part::Shield));
        let users = vec![
            UserSpec::writer(&brain, PASSWORD),
            UserSpec::speaker(&brain, PASSWORD),
            UserSpec::shield(&shield, PASSWORD),
            UserSpec::operator(PASSWORD),
        ];
        let options = ServerOptions { users, ..ServerOptions::new(NatsServer::pinned(root)?) };
        let nats = NatsServer::start(options).await?;
        let shield_port = free_port().map_err(failed("a free port"))?;
        let mut stack = Self { nats, folder, binaries, shield_port, shell: None, shield: None };
        stack.write_config(extra)?;
        stack.spawn(Part::Shell)?;
        stack.spawn(Part::Shield)?;
        stack.ready().await?;
        Ok(stack)
    }

    /// `host:port` of the Shield's WebSocket listener, the same for the stack's whole life.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.shield_port)
    }

    /// A token for `user` of `tenant`.
    pub fn token(&self, tenant: &str, user: &str, now_s: i64) -> String {
        tokens::token(secret().as_bytes(), "arqon", tenant, user, now_s)
    }

    /// A connection that may do everything.
    pub fn operator(&self) -> NatsSpine {
        let user = UserSpec::operator(PASSWORD);
        let options = SpineOptions {
            credentials: Some(user.credentials()),
            ..SpineOptions::new(self.nats.url(), &user.name, "_INBOX.log")
        };
        NatsSpine::connect(options)
    }

    /// User and password of the operator, for other clients.
    pub fn credentials(&self) -> (String, String) {
        UserSpec::operator(PASSWORD).credentials()
    }

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill_9(&mut self, part: Part) {
        if let Some(mut child) = self.slot(part).take() {
            // Failing means that it is gone already.
            let _ = child.kill().await;
        }
    }

    /// Starts it again.
    pub fn spawn(&mut self, part: Part) -> Result<(), StackError> {
        let log =
            std::fs::File::options().create(true).append(true).open(self.log(part)).map_err(failed("a log file"))?;
        let child = Command::new(self.binaries.join(part.binary()))
            .args(if part == Part::Shield { &["serve"][..] } else { &[] })
            .arg("--config")
            .arg(self.folder.path().join(format!("{}.toml", part.node())))
            .args(["--node", part.node()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("cannot start one of our binaries"))?;
        *self.slot(part) = Some(child);
        Ok(())
    }

    /// Waits until the Shield accepts connections.
    pub async fn ready(&self) -> Result<(), StackError> {
        let deadline = Instant::now() + READY_LIMIT;
        while Instant::now() < deadline {
            if tokio::net::TcpStream::connect(self.address()).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(StackError::NotReady)
    }

    /// The last lines that a process logged.
    pub fn last_words(&self, part: Part) -> String {
        let text = std::fs::read_to_string(self.log(part)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log(&self, part: Part) -> PathBuf {
        self.folder.path().join(format!("{}.log", part.node()))
    }

    const fn slot(&mut self, part: Part) -> &mut Option<Child> {
        match part {
            Part::Shell => &mut self.shell,
            Part::Shield => &mut self.shield,
        }
    }

    /// One file each, so that each part holds its own NATS user alone.
    fn write_config(&self, extra: &str) -> Result<(), StackError> {
        let path = |name: &str| self.folder.path().join(name);
        let put =
            |name: &str, text: &str| std::fs::write(path(name), text).map_err(failed("cannot write the configuration"));
        let quoted = |name: &str| serde_json::Value::from(path(name).to_string_lossy().into_owned()).to_string();
        put("password", PASSWORD)?;
        put("hs256", &secret())?;
        let (brain, shield) = (node(Part::Shell), node(Part::Shield));
        let common = format!(
            "[policy]\ndefault = \"none\"\n[auth]\nhs256_secret_file = {}\n[server]\nhost = \"127.0.0.1\"\nport = {}\n\
             [http]\nhost = \"127.0.0.1\"\nport = 0\n{extra}\n",
            quoted("hs256"),
            self.shield_port
        );
        let (user, url, password) = (UserSpec::shield(&shield, PASSWORD).name, self.nats.url(), quoted("password"));
        put(
            "shield-1.toml",
            &format!("{common}[nats]\nurls = [\"{url}\"]\nuser = \"{user}\"\npassword_file = {password}\n"),
        )?;
        let (writer, speaker) = (UserSpec::writer(&brain, PASSWORD).name, UserSpec::speaker(&brain, PASSWORD).name);
        put(
            "brain-1.toml",
            &format!(
                "{common}[nats]\nurls = [\"{url}\"]\n[brain]\nmetrics_port = 0\nwriter_user = \"{writer}\"\n\
                 writer_password_file = {password}\nspeaker_user = \"{speaker}\"\nspeaker_password_file = {password}\n"
            ),
        )
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
    for part in [Part::Shell, Part::Shield] {
        if !folder.join(part.binary()).is_file() {
            return Err(StackError::Missing { name: part.binary(), folder });
        }
    }
    Ok(folder)
}

/// A port that was free a moment ago, so that a Shield that starts again can be found where it was.
fn free_port() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

fn node(part: Part) -> NodeId {
    NodeId::parse(part.node()).expect("letters, a hyphen and a number")
}
