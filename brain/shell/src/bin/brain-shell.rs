//! `brain-shell --config arqon.toml [--node NAME] [--json]`: one Brain node on NATS. Prints one line when it takes rooms; SIGTERM
//! and SIGINT end it gracefully. `/metrics` and `/healthz` (the process lives) are on `[brain] metrics_port`.
//!
//! Exit codes: 0 good, 2 bad use or configuration, 3 the address cannot be bound or a service cannot be used, 1 anything
//! else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use brain_shell::{BrainParts, run_until};
use clap::Parser;
use proto::NodeId;
use spine::{NatsSpine, SpineOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use voltron_core::config::Config;
use voltron_core::metrics::{self, Metrics};
use voltron_core::{OsIds, SystemClock};

/// Rooms on NATS: owns rooms, stores their events, answers Shields.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "arqon.toml")]
    config: PathBuf,
    /// This node's name: unique among the Brains, the same again after a restart.
    #[arg(long, default_value = "brain-1")]
    node: NodeId,
    /// Print the ready line as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("brain-shell: {error}");
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, Box<dyn std::error::Error>);

async fn start(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|error| (2, error.into()))?;
    let _telemetry =
        voltron_core::telemetry::init(&config.log, arguments.node.as_str()).map_err(|error| (2, error.into()))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| (1, error.into()))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| (1, error.into()))?;

    let brain = &config.brain;
    let node = &arguments.node;
    let writer = connect(
        &config,
        &format!("{node}/writer"),
        &format!("_INBOX.w.{node}"),
        &brain.writer_user,
        &brain.writer_password_file,
    )
    .map_err(|error| (2, error))?;
    let speaker = connect(
        &config,
        &format!("{node}/speaker"),
        &format!("_INBOX.b.{node}"),
        &brain.speaker_user,
        &brain.speaker_password_file,
    )
    .map_err(|error| (2, error))?;
    let metrics = Metrics::new();
    let address = (config.http.host.as_str(), brain.metrics_port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| (3, format!("[brain] metrics_port {}:{}: {error}", address.0, address.1).into()))?;
    let bound = listener.local_addr().map_err(|error| (1, error.into()))?;
    tokio::spawn(observe(listener, metrics.clone()));
    let line = if arguments.json {
        format!(r#"{{"ready":true,"node":"{node}","metrics":"http://{bound}/metrics"}}"#)
    } else {
        let urls = config.nats.urls.join(", ");
        format!("brain-shell {node} takes rooms, on {urls}\noperators: http://{bound}/metrics")
    };
    let parts = BrainParts {
        node: arguments.node,
        writer: NatsSpine::connect(writer),
        speaker: NatsSpine::connect(speaker),
        clock: SystemClock,
        ids: OsIds,
        config,
        metrics,
    };
    let stop = async move {
        tokio::select! {
            biased;
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    run_until(parts, stop, || println!("{line}")).await.map_err(|error| (3, error.into()))
}

/// The operators' listener; serves for ever.
async fn observe(listener: TcpListener, metrics: Metrics) {
    let scrape = move || async move { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()) };
    let router = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(scrape));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics listener ended");
    }
}

fn connect(
    config: &Config,
    name: &str,
    inbox: &str,
    user: &Option<String>,
    password_file: &Option<String>,
) -> Result<SpineOptions, Box<dyn std::error::Error>> {
    let credentials = match (user, password_file) {
        (Some(user), Some(file)) => {
            let password = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            Some((user.clone(), password.trim().to_owned()))
        }
        _ => None,
    };
    Ok(SpineOptions {
        urls: config.nats.urls.clone(),
        credentials,
        publish_timeout: Duration::from_millis(config.nats.publish_timeout_ms),
        ping_interval: Duration::from_millis(config.nats.ping_interval_ms),
        logs: config.nats.logs,
        ..SpineOptions::new("", name, inbox)
    })
}
