//! One of our processes as a child: its name, its signals, its end.

use std::fmt;
use std::io;
use std::time::Duration;

use proto::NodeId;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

/// The longest that a process may take to stand still or to go on.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// The longest that a process may take to finish what it does.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Which telling of the Brain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrainKind {
    /// The Rust shell around the reference model.
    Shell,
    /// The Elixir release.
    Elixir,
}

/// Which of our processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A Brain, from 1 on.
    Brain(u8),
    /// The Shield.
    Shield,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brain(n) => write!(f, "brain-{n}"),
            Self::Shield => f.write_str("shield-1"),
        }
    }
}

impl Part {
    /// Its name among the nodes.
    pub fn node(self) -> NodeId {
        NodeId::parse(&self.to_string()).expect("letters, a hyphen and a number")
    }
}

/// Killed when dropped.
#[derive(Debug)]
pub(super) struct Process(pub(super) Child);

impl Process {
    fn id(&self) -> io::Result<Pid> {
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        id.ok_or_else(|| io::Error::other("it has ended already"))
    }

    /// The program that it runs now: a script that became another program goes by that one's name.
    pub(super) fn program(&self) -> io::Result<String> {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", self.id()?.as_raw_nonzero()))?;
        Ok(name.trim_end().to_owned())
    }

    pub(super) async fn kill_9(mut self) {
        // Failing means that it is gone already.
        let _ = self.0.kill().await;
    }

    /// SIGTERM. Returns when it has ended.
    pub(super) async fn stop(mut self) -> io::Result<()> {
        kill_process(self.id()?, Signal::TERM)?;
        timeout(STOP_LIMIT, self.0.wait()).await??;
        Ok(())
    }

    /// SIGSTOP. Returns when all its threads stand still: the signal alone reaches them one after the other.
    pub(super) async fn pause(&self) -> io::Result<()> {
        let id = self.id()?;
        kill_process(id, Signal::STOP)?;
        let stopped = async {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            while waitid(WaitId::Pid(id), options)?.is_none() {
                sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        timeout(SIGNAL_LIMIT, stopped).await?
    }

    /// SIGCONT.
    pub(super) fn resume(&self) -> io::Result<()> {
        Ok(kill_process(self.id()?, Signal::CONT)?)
    }
}
