//! `shield serve --config arqon.toml [--node NAME] [--json]`: the Shield on NATS and real TCP.
//!
//! SIGTERM and SIGINT drain; SIGHUP reads keys and limits again. Exit codes: 0 good, 2 bad use or configuration,
//! 3 an address cannot be bound, 1 anything else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::{Parser, Subcommand};
use proto::NodeId;
use shield::{Keys, ShieldParts, Startup};
use spine::{NatsSpine, Role, SpineOptions};
use tokio::signal::unix::{SignalKind, signal};
use voltron_core::config::{Config, Limits, authority};
use voltron_core::metrics::Metrics;
use voltron_core::{AllowAll, Listener, Net, OsIds, SystemClock, TcpNet, console, telemetry};

/// The WebSocket edge of Arqon.
#[derive(Parser)]
#[command(name = "shield", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves WebSocket clients until SIGTERM, then drains.
    Serve {
        /// The configuration file; `arq config check` explains what is wrong with one.
        #[arg(long, default_value = "arqon.toml")]
        config: PathBuf,
        /// This Shield's name, unique among the Shields of one NATS account.
        #[arg(long, default_value = "shield-1")]
        node: String,
        /// Print the bound addresses as one JSON line on standard output.
        #[arg(long)]
        json: bool,
    },
}

/// Why the Shield did not run to its end.
enum Failure {
    Use(String),
    Bind(String),
    Other(String),
}

fn main() -> ExitCode {
    let Command::Serve { config, node, json } = Args::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Failure::Other(format!("cannot start the runtime: {error}"))),
    };
    match runtime.block_on(run(&config, &node, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(failure),
    }
}

fn report(failure: Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Use(text) => (text, 2),
        Failure::Bind(text) => (text, 3),
        Failure::Other(text) => (text, 1),
    };
    console::note(&format!("shield: {text}"));
    ExitCode::from(code)
}

async fn run(path: &Path, node: &str, json: bool) -> Result<(), Failure> {
    let config = Config::load(path).map_err(|error| Failure::Use(error.to_string()))?;
    let node = NodeId::parse(node).map_err(|error| Failure::Use(format!("--node: {error}")))?;
    // As `arq config check` does it: what that calls good is served.
    let startup = Startup::load(&config).map_err(|error| Failure::Use(error.to_string()))?;
    let telemetry = telemetry::init(&config.log, node.as_str()).map_err(|error| Failure::Use(error.to_string()))?;
    for warning in config.warnings().into_iter().chain(startup.notes()) {
        tracing::warn!("{warning}");
    }
    let options = options(&config, &node)?;
    let keys = Arc::new(ArcSwap::from_pointee(startup.keys));
    let limits = Arc::new(ArcSwap::from_pointee(config.limits.clone()));

    let bind = async |host: &str, port: u16| {
        let addr = authority(host, port);
        let listener =
            TcpNet.bind(&addr).await.map_err(|error| Failure::Bind(format!("cannot bind {addr}: {error}")))?;
        let local = Listener::local_addr(&listener).map_err(|error| Failure::Bind(error.to_string()))?;
        Ok((listener, local))
    };
    let (ws, ws_addr) = bind(&config.server.host, config.server.port).await?;
    let (http, http_addr) = bind(&config.http.host, config.http.port).await?;
    let told = if json {
        serde_json::json!({
            "ready": true, "node": node.as_str(), "ws": format!("ws://{ws_addr}/v1/ws"), "http": format!("http://{http_addr}"),
        })
        .to_string()
    } else {
        format!("clients:   ws://{ws_addr}/v1/ws\noperators: http://{http_addr}")
    };
    // The log has the addresses, too: the server runs on if standard output has no reader or no space.
    let _ = console::line(&told);
    tracing::info!(ws = %ws_addr, http = %http_addr, "listening");

    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Failure::Other(error.to_string()))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::Other(error.to_string()))?;
    let reload = {
        let (path, keys, limits) = (path.to_owned(), keys.clone(), limits.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload(&path, &keys, &limits);
            }
        })
    };
    let shutdown = async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let metrics = Metrics::new();
    metrics.counted("shield_log_lines_dropped", telemetry::LINES_DROPPED, telemetry.lines_dropped());
    metrics.counted("shield_panics", telemetry::PANICS, telemetry.panics());
    let parts = ShieldParts::<TcpNet, _, _, _> {
        node,
        ws,
        http: Some(http),
        spine: NatsSpine::connect(options),
        clock: SystemClock,
        ids: OsIds,
        overseer: Arc::new(AllowAll),
        config,
        metrics,
        keys,
    };
    shield::serve_with(parts, limits, shutdown).await;
    reload.abort();
    Ok(())
}

fn options(config: &Config, node: &NodeId) -> Result<SpineOptions, Failure> {
    SpineOptions::configured(config, node, Role::Shield).map_err(Failure::Use)
}

/// Keys and limits of the file as it is now; what cannot be used leaves the old ones in force.
fn reload(path: &Path, keys: &ArcSwap<Keys>, limits: &ArcSwap<Limits>) {
    match Config::load(path) {
        Ok(config) => match Keys::load(&config.auth) {
            Ok(new) => {
                for skipped in new.skipped() {
                    tracing::warn!("[auth] jwks_file: {skipped}");
                }
                // A set that withdraws its last key is obeyed: a key that was withdrawn must not be accepted.
                if let Err(error) = new.check() {
                    tracing::error!(%error, "no key is left: every token is refused");
                }
                keys.store(Arc::new(new));
                limits.store(Arc::new(config.limits));
                tracing::info!("keys and limits reloaded");
            }
            Err(error) => tracing::error!(%error, "reload refused: the old keys and limits stay"),
        },
        Err(error) => tracing::error!(%error, "reload refused: the old keys and limits stay"),
    }
}
