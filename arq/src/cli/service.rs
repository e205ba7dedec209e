//! How `sub` and `pub` reach a server: the arguments they share, and the session over them.

use std::path::PathBuf;

use clap::Args;
use proto::signature::SigningKey;
use tokio::signal::unix::{SignalKind, signal};
use voltron_core::{OsIds, SystemClock, TcpNet};

use super::input;
use crate::failure::Failure;
use arq::client::{Core, CoreOptions, Reconnect, Session, SessionError, Target};

/// The session of the command line.
pub(super) type CliSession = Session<TcpNet, SystemClock, OsIds>;

#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    /// Where the server listens.
    #[arg(long, default_value = "ws://127.0.0.1:4000/v1/ws")]
    url: String,
    /// The token to present. It can be seen in the list of processes: prefer --token-file.
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServiceArgs {
    /// A session that will connect there.
    pub(super) fn session(&self, signer: Option<SigningKey>, again: Reconnect) -> Result<CliSession, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) if path.as_os_str() == "-" => {
                Some(String::from_utf8(input::stdin()?).map_err(|_| Failure::bad_use("the token is not UTF-8"))?)
            }
            (None, Some(path)) => Some(input::text_file(path)?),
            (None, None) => None,
        };
        let token = token.map(|token| token.trim().to_owned());
        let target = Target { url: self.url.clone(), token, client_id: None };
        let core = Core::new(CoreOptions { signer, ..CoreOptions::new("arq") }, SystemClock, OsIds);
        Ok(Session::new(TcpNet, target, core, again))
    }
}

/// Why the session is over, for people. An ERR just before the close says more than the close code.
pub(super) fn stopped(error: SessionError, last_err: Option<(u16, String)>) -> Failure {
    match (&error, last_err) {
        (SessionError::Closed { .. }, Some((code, text))) => Failure::refused("the server refused", code.into(), &text),
        _ => error.into(),
    }
}

/// Ends with Ctrl-C or SIGTERM. Where signals cannot be had, never.
pub(super) async fn interrupted() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut int) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
