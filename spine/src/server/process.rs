//! The child process itself: its log, its signals, its end.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Leash, PINNED, ServerError, io_error};

const LOG_LINES: usize = 200;
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Refuses a binary of another version.
pub(super) async fn check_version(binary: &Path) -> Result<(), ServerError> {
    if !binary.is_file() {
        return Err(ServerError::Missing(binary.into()));
    }
    let output = Command::new(binary).arg("-v").output().await.map_err(io_error("cannot run it"))?;
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if found.ends_with(&format!("v{PINNED}")) {
        Ok(())
    } else {
        Err(ServerError::Version { path: binary.into(), found })
    }
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    log: Log,
}

#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl Process {
    /// Starts it and waits for its "Server is ready". Gives the process and its port.
    pub(super) async fn start(
        binary: &Path,
        config: &Path,
        port: u16,
        scratch: &Path,
        limit: Duration,
        leash: &mut Leash,
    ) -> Result<(Self, u16), ServerError> {
        let port_flag = if port == 0 { "-1".to_owned() } else { port.to_string() };
        let mut child = Command::new(binary)
            .arg("-c")
            .arg(config)
            .args(["-p", &port_flag, "--ports_file_dir"])
            .arg(scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A Ctrl-C in the terminal is for us: we end it ourselves, after our own clients.
            .process_group(0)
            .spawn()
            .map_err(io_error("cannot run it"))?;
        let pid = child.id().ok_or(ServerError::NotRunning)?;
        leash.holds(pid)?;
        let log = Log::default();
        let mut ready = log.follow(child.stderr.take());
        let mut process = Self { child, pid, log };

        let deadline = Instant::now() + limit;
        tokio::select! {
            biased;
            up = async { ready.wait_for(|ready| *ready).await.is_ok() } => {
                if !up {
                    // Its log ended: it is ending too.
                    let status = process.exited().await;
                    return Err(process.failed(status));
                }
            }
            status = process.child.wait() => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                return Err(process.failed(status));
            }
            () = tokio::time::sleep_until(deadline) => {
                return Err(process.failed(format!("not ready within {limit:?}")));
            }
        }
        if port != 0 {
            return Ok((process, port));
        }
        let file = scratch.join(format!("nats-server_{pid}.ports"));
        match timeout_at(deadline, read_port(&file)).await {
            Ok(port) => Ok((process, port)),
            Err(_) => Err(process.failed("it wrote no ports file".into())),
        }
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn log(&self) -> String {
        self.log.text()
    }

    pub(super) async fn exited(&mut self) -> String {
        self.child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        // The child is not yet waited for, so its id cannot have passed to another process.
        kill_process(self.id()?, signal).map_err(|e| io_error("cannot signal it")(e.into()))
    }

    fn id(&self) -> Result<Pid, ServerError> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(ServerError::NotRunning)
    }

    /// Stops it, and waits until all its threads stand still: the signal alone reaches them one after the other.
    pub(super) async fn stop(&self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)?;
        let stopped = async {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            while waitid(WaitId::Pid(self.id()?), options).map_err(|e| io_error("cannot stop it")(e.into()))?.is_none()
            {
                sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        timeout(STOP_LIMIT, stopped).await.unwrap_or(Err(ServerError::NotRunning))
    }

    pub(super) async fn kill(mut self) {
        // Fails only if it has ended already, which is what is wanted.
        let _ = self.child.kill().await;
    }

    pub(super) async fn terminate(mut self) {
        // A paused process hears SIGTERM only when it goes on.
        let asked = self.signal(Signal::TERM).and_then(|()| self.signal(Signal::CONT));
        if asked.is_err() || timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    fn failed(self, why: String) -> ServerError {
        ServerError::Start { why, log: self.log() }
    }
}

/// The ports file appears around the time of the ready line, not surely before it.
async fn read_port(file: &Path) -> u16 {
    loop {
        let port = std::fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Ports>(&bytes).ok())
            .and_then(|ports| ports.nats.first()?.rsplit_once(':')?.1.parse().ok());
        match port {
            Some(port) => return port,
            None => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The last lines of its log.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Keeps reading for as long as the process lives: a full pipe would stop it.
    fn follow(&self, stderr: Option<impl AsyncRead + Unpin + Send + 'static>) -> watch::Receiver<bool> {
        let (ready, is_ready) = watch::channel(false);
        let log = self.clone();
        if let Some(stderr) = stderr {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let up = line.ends_with("Server is ready");
                    log.push(line);
                    if up {
                        ready.send_replace(true);
                    }
                }
            });
        }
        is_ready
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
