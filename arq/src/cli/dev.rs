//! `arq dev`: everything on this machine.

use std::path::Path;

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;
use spine::server::{NatsServer, ServerError};
use voltron_core::config::{Log, LogLevel};
use voltron_core::telemetry;

use super::input;
use crate::dev::{self, BrainChoice, Bus, DevError, DevOptions, Ready, TENANT};
use crate::failure::{Exit, Failure};
use arq::release::{Release, ReleaseError};

/// Runs the whole system on this machine until Ctrl-C: message bus, Brain and Shield. Nothing is kept.
///
/// Prints a URL, a token for every right in every room of the tenant `dev`, and commands to paste. A fresh secret signs
/// the token of each run.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The message bus: the simulated broker in this process, or the pinned nats-server (`cargo xtask setup` fetches it).
    #[arg(long, default_value = "sim")]
    spine: SpineKind,
    /// The Brain: the reference model in this process, or the real one (`cargo xtask setup` builds it).
    #[arg(long, default_value = "model")]
    brain: BrainKind,
    /// Port of the WebSocket on 127.0.0.1; http gets the next one, the message bus a free one. 0: free ports for all.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u16).range(0..=65_534))]
    port: u16,
    /// Print one JSON object when it is ready: ready, ws, http, metrics, nats, token, tenant, brain, spine.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SpineKind {
    /// Nothing but this process.
    Sim,
    /// nats-server 2.15.1 with JetStream.
    Nats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BrainKind {
    /// The Rust reference model.
    Model,
    /// The release of the Elixir Brain, in a process of its own; it logs every command to standard error.
    Elixir,
}

impl From<DevError> for Failure {
    fn from(error: DevError) -> Self {
        let text = error.to_string();
        match error {
            DevError::Port { port, .. } => Self::bad_use(text).help(format!(
                "Is another `arq dev` running? Choose another port than {port} with --port N, or free ones with --port 0."
            )),
            DevError::Nats(ServerError::Missing(_) | ServerError::Version { .. }) => {
                Self::bad_use(text).help("`--spine sim` needs nothing but this program.")
            }
            DevError::Nats(_) | DevError::Broker(_) | DevError::NotReady(_) => Self::new(Exit::Unreachable, text),
            DevError::Brain(_)
            | DevError::Child { .. }
            | DevError::ChildEnded(_)
            | DevError::Ended(_)
            | DevError::Token(_)
            | DevError::Keys(_) => Self::new(Exit::CheckFailed, text),
        }
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        Self::bad_use(error.to_string())
            .help("`cargo xtask setup` installs Elixir and builds it; `--brain model` needs nothing but this program.")
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let log = Log { level: LogLevel::Warn, ..Log::default() };
    let _telemetry =
        telemetry::init(&log, "dev").map_err(|error| Failure::new(Exit::CheckFailed, error.to_string()))?;
    let bus = match args.spine {
        SpineKind::Sim => Bus::Sim,
        SpineKind::Nats => Bus::Nats(NatsServer::pinned(workspace()).map_err(DevError::from)?),
    };
    let brain = match args.brain {
        BrainKind::Model => BrainChoice::Model,
        BrainKind::Elixir => BrainChoice::Elixir(Release::find(workspace())?),
    };
    let ready = |ready: &Ready| {
        let text = if args.json { as_json(ready) } else { as_text(ready) };
        // A reader that went away does not end the system; Ctrl-C does.
        let _ = input::line(&text);
    };
    let options = DevOptions { bus, brain, port: args.port };
    dev::run(options, ready, super::service::interrupted()).await?;
    Ok(Exit::Good)
}

/// Where this program was built: `cargo xtask setup` puts nats-server below it.
fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn as_json(ready: &Ready) -> String {
    json!({
        "ready": true, "ws": ready.ws, "http": ready.http, "metrics": format!("{}/metrics", ready.http),
        "nats": ready.nats, "token": ready.token, "tenant": TENANT, "brain": ready.brain, "spine": ready.spine,
    })
    .to_string()
}

fn as_text(ready: &Ready) -> String {
    let Ready { ws, http, nats, token, spine, brain, brain_metrics } = ready;
    let brain_metrics = brain_metrics.as_ref().map_or_else(String::new, |url| format!("  ({url})"));
    format!(
        "\
Arqon is ready: a message went through.

  WebSocket  {ws}
  http       {http}  (/healthz, /readyz, /metrics)
  NATS       {nats}  ({spine}, in memory of this run)
  Brain      {brain}{brain_metrics}
  tenant     {TENANT}
  token      {token}

Policy: [policy] default = \"none\": every message passes.

Paste each into a terminal of its own:

  wscat --connect {ws} --subprotocol arqon.v1 --header 'Authorization: Bearer {token}'
    and there: {{\"op\":\"sub\",\"id\":1,\"room\":\"lobby\",\"format\":\"json\"}}

  arq sub lobby --url {ws} --token {token}

  arq pub lobby 'hello, world' --ack --url {ws} --token {token}

Ctrl-C ends it; nothing is kept."
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn without_the_release_it_says_what_builds_it() {
        for error in [ReleaseError::Missing(PathBuf::from("brain-node")), ReleaseError::Stale(PathBuf::from("room.ex"))]
        {
            let failure = Failure::from(error);
            assert_eq!(failure.exit, Exit::BadUse);
            assert!(failure.to_string().contains("`cargo xtask setup` installs Elixir and builds it"), "{failure}");
        }
    }
}
