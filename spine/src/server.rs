//! Runs the pinned nats-server as a child process: for the contract suite, for tests that kill it, and for
//! `arq dev --spine nats`.
//!
//! The server binds 127.0.0.1 alone. Without a port it picks one itself and writes it to a ports file, so no two
//! tests race for one; a restart takes the same port again and the same data.

mod leash;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::users::{UserSpec, accounts};
pub use leash::Leash;
use process::Process;

/// The version that everything here was measured with; another one is refused.
pub const PINNED: &str = "2.15.1";
/// The longest wait for the server to say that it is ready, or to exit.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How to run it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The binary, by absolute path: one found in PATH may be too old for our client.
    pub binary: PathBuf,
    /// JetStream's folder. `None`: a temporary one, removed at the end.
    pub data: Option<PathBuf>,
    /// 0: the server picks a free one.
    pub port: u16,
    /// Empty: anyone may do everything, in one account.
    pub users: Vec<UserSpec>,
    /// Bytes; `None`: the server's default of 1 MiB.
    pub max_payload: Option<usize>,
    /// Bytes of disk that the streams may take together; `None`: the server's default, from what is free.
    pub max_store: Option<u64>,
    /// Every write is synced to disk before its PubAck.
    pub sync_always: bool,
    /// Further lines of its configuration, as they are.
    pub further: String,
}

impl ServerOptions {
    /// An open server on a free port with a temporary folder.
    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            data: None,
            port: 0,
            users: Vec::new(),
            max_payload: None,
            max_store: None,
            sync_always: false,
            further: String::new(),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The binary is not there.
    #[error("there is no nats-server {PINNED} at {0}: run `cargo xtask setup`, which fetches it")]
    Missing(PathBuf),
    /// The binary says another version.
    #[error("{path} says it is {found:?}, not nats-server {PINNED}: run `cargo xtask setup`")]
    Version {
        /// Where.
        path: PathBuf,
        /// What it printed.
        found: String,
    },
    /// It did not come up; the end of its log is the reason.
    #[error("nats-server did not start ({why}); its log ends:\n{log}")]
    Start {
        /// Exited, or silent for too long.
        why: String,
        /// Its last lines.
        log: String,
    },
    /// It is not running.
    #[error("nats-server is not running")]
    NotRunning,
    /// A file or process operation failed.
    #[error("nats-server: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Io { what, source }
}

/// A nats-server of ours. Killed when dropped, and by its leash if this process dies before that.
#[derive(Debug)]
pub struct NatsServer {
    options: ServerOptions,
    // Configuration, ports file and, unless given, the data.
    scratch: TempDir,
    port: u16,
    process: Option<Process>,
    leash: Leash,
}

impl NatsServer {
    /// Where `cargo xtask setup` puts the binary, if it is there.
    pub fn pinned(workspace_root: &Path) -> Result<PathBuf, ServerError> {
        let path = workspace_root.join(".local/bin/nats-server");
        let path = std::path::absolute(&path).map_err(io_error("its path"))?;
        if path.is_file() { Ok(path) } else { Err(ServerError::Missing(path)) }
    }

    /// Starts it and waits until it is ready for clients.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        process::check_version(&options.binary).await?;
        let scratch = tempfile::Builder::new()
            .prefix("arqon-nats-")
            .tempdir()
            .map_err(io_error("cannot make a temporary folder"))?;
        let leash = Leash::new(scratch.path())?;
        let mut server = Self { port: options.port, options, scratch, process: None, leash };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again on the same port and data, after [`kill_9`](Self::kill_9) or [`stop`](Self::stop).
    /// If it runs, it is killed first.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill_9().await;
        let config = self.scratch.path().join("nats.conf");
        std::fs::write(&config, self.config()).map_err(io_error("cannot write its configuration"))?;
        let ports = self.scratch.path();
        let (process, port) =
            Process::start(&self.options.binary, &config, self.port, ports, START_LIMIT, &mut self.leash).await?;
        self.process = Some(process);
        self.port = port;
        Ok(())
    }

    /// `kill -9`: nothing is flushed, no goodbye is sent. Returns when the process is gone.
    pub async fn kill_9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Asks it to end (SIGTERM) and waits; killed if it does not within 10 s.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.terminate().await;
        }
    }

    /// SIGSTOP: its connections stay open and nobody answers, as when a machine hangs. Returns when it has stopped.
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.running()?.stop().await
    }

    /// SIGCONT: undoes [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), ServerError> {
        self.running()?.signal(rustix::process::Signal::CONT)
    }

    /// `nats://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port, the same for its whole life.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The last lines it logged, oldest first: at most 200.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Resolves when the process has ended by itself; says how. Pends for ever if it is not running.
    pub async fn exited(&mut self) -> String {
        match &mut self.process {
            Some(process) => process.exited().await,
            None => std::future::pending().await,
        }
    }

    /// The folder that holds the streams.
    pub fn data(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.scratch.path().join("data"))
    }

    fn running(&self) -> Result<&Process, ServerError> {
        self.process.as_ref().ok_or(ServerError::NotRunning)
    }

    fn config(&self) -> String {
        let store = serde_json::Value::from(self.data().to_string_lossy().into_owned());
        let sync = if self.options.sync_always { ", sync_interval: always" } else { "" };
        let room = self.options.max_store.map_or(String::new(), |max| format!(", max_file_store: {max}"));
        let mut text = format!("host: 127.0.0.1\njetstream {{ store_dir: {store}{sync}{room} }}\n");
        if let Some(limit) = self.options.max_payload {
            text.push_str(&format!("max_payload: {limit}\n"));
        }
        if !self.options.users.is_empty() {
            text.push_str(&accounts(&self.options.users));
        }
        text + &self.options.further
    }
}
