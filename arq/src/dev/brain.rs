//! The Brain under `arq dev`: the reference model as a task, or a node of the Elixir release as a child.

use std::future::Future;
use std::io;
use std::process::Stdio;

use brain_shell::{BrainParts, ShellError};
use proto::NodeId;
use spine::server::Leash;
use spine::{Spine, UserSpec};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use voltron_core::config::Config;
use voltron_core::metrics::Metrics;
use voltron_core::{OsIds, SystemClock};

use super::backend::Users;
use super::{BrainRoles, DevError, Part, STOP_LIMIT};
use arq::release::Release;

/// A running Brain.
pub(super) enum Brain {
    Here(Part<Result<(), ShellError>>),
    Child(Box<Elixir>),
}

/// The Elixir node. It ends when its standard input does: however this process dies, none is left behind.
pub(super) struct Elixir {
    child: Child,
    /// Held open apart from the child, whose `wait` would close it.
    input: Option<ChildStdin>,
    out: Option<ChildStdout>,
    /// Its configuration and passwords; removed, too, if this process is killed.
    _folder: TempDir,
    _leash: Leash,
}

impl Brain {
    /// The model in this process.
    pub(super) fn here<S: Spine>(node: &NodeId, roles: BrainRoles<S>, config: Config, metrics: Metrics) -> Self {
        let parts = BrainParts {
            node: node.clone(),
            writer: roles.writer,
            speaker: roles.speaker,
            clock: SystemClock,
            ids: OsIds,
            config,
            metrics,
        };
        Self::Here(Part::start("the Brain", |stop| brain_shell::run(parts, stop)))
    }

    /// The release on the bus at `url`, with the file that `arq config render brain` would write.
    pub(super) fn child(
        release: &Release,
        node: &NodeId,
        url: &str,
        users: &Users,
        config: &Config,
    ) -> Result<Self, DevError> {
        let failed = |what| move |source| DevError::Child { what, source };
        let folder = tempfile::Builder::new().prefix("arqon-dev-").tempdir().map_err(failed("a temporary folder"))?;
        let leash = Leash::new(folder.path())?;
        let password = |user: &UserSpec| -> io::Result<(Option<String>, Option<String>)> {
            let (name, password) = user.credentials();
            let file = folder.path().join(format!("{name}.password"));
            std::fs::write(&file, password)?;
            Ok((Some(name), Some(file.to_string_lossy().into_owned())))
        };
        let mut config = config.clone();
        config.nats.urls = vec![url.to_owned()];
        config.brain.metrics_port = 0;
        (config.brain.writer_user, config.brain.writer_password_file) =
            password(&users.writer).map_err(failed("a password's file"))?;
        (config.brain.speaker_user, config.brain.speaker_password_file) =
            password(&users.speaker).map_err(failed("a password's file"))?;
        let terms = folder.path().join("brain.terms");
        std::fs::write(&terms, config.render_brain()).map_err(failed("its configuration"))?;
        let mut child = release
            .command(&terms, node)
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for this process, which then stops its child; an Erlang VM would ask the terminal what to do.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("its launcher"))?;
        let (input, out) = (child.stdin.take(), child.stdout.take());
        Ok(Self::Child(Box::new(Elixir { child, input, out, _folder: folder, _leash: leash })))
    }

    /// Resolves when it takes rooms; with the address of its own metrics, if it has them. To be asked once.
    pub(super) fn takes_rooms(&mut self) -> impl Future<Output = Option<String>> + use<> {
        let out = match self {
            Self::Here(_) => None,
            Self::Child(elixir) => elixir.out.take(),
        };
        async move {
            let line = BufReader::new(out?).lines().next_line().await.ok()??;
            let ready: serde_json::Value = serde_json::from_str(&line).ok()?;
            ready["metrics"].as_str().map(str::to_owned)
        }
    }

    /// Why it ended, when it ends by itself.
    pub(super) async fn ended(&mut self) -> DevError {
        match self {
            Self::Here(part) => part.ended().await.map_or_else(DevError::Brain, |()| DevError::Ended("the Brain")),
            Self::Child(elixir) => {
                let status = elixir.child.wait().await;
                DevError::ChildEnded(status.map_or_else(|error| error.to_string(), |status| status.to_string()))
            }
        }
    }

    /// Lets it finish what it has begun.
    pub(super) async fn stop(self) {
        match self {
            Self::Here(part) => part.stop().await,
            Self::Child(mut elixir) => {
                drop(elixir.input.take());
                if tokio::time::timeout(STOP_LIMIT, elixir.child.wait()).await.is_err() {
                    tracing::warn!("the Elixir Brain did not stop in time; killed");
                    // Fails only if it has ended, which is what is wanted.
                    let _ = elixir.child.kill().await;
                }
            }
        }
    }
}
