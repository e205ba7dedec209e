//! `brain-shell --config arqon.toml [--node NAME] [--json]`: one Brain node on NATS. Prints one line when it takes rooms; SIGTERM
//! and SIGINT end it gracefully. `/metrics`, `/healthz` (the process lives) and `/readyz` (its streams are right, both
//! connections are up and it takes rooms) are on `[brain] metrics_port`.
//!
//! Exit codes: 0 good, 2 bad use or configuration, 3 the address cannot be bound or a service cannot be used, 1 anything
//! else.

use std::path::PathBuf;
use std::process::ExitCode;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use brain_shell::{BrainParts, Readiness, run_shown};
use clap::Parser;
use proto::NodeId;
use spine::{NatsSpine, Role, SpineOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use voltron_core::config::{Config, authority};
use voltron_core::metrics::{self, Metrics};
use voltron_core::{OsIds, SystemClock, console, telemetry};

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
            console::note(&format!("brain-shell: {error}"));
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, Box<dyn std::error::Error>);

async fn start(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|error| (2, error.into()))?;
    let telemetry = telemetry::init(&config.log, arguments.node.as_str()).map_err(|error| (2, error.into()))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| (1, error.into()))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| (1, error.into()))?;

    let brain = &config.brain;
    let node = &arguments.node;
    let connection = |role| SpineOptions::configured(&config, node, role).map_err(|error| (2, error.into()));
    let (writer, speaker) = (connection(Role::Writer)?, connection(Role::Speaker)?);
    let metrics = Metrics::new();
    metrics.counted("brain_log_lines_dropped", telemetry::LINES_DROPPED, telemetry.lines_dropped());
    let address = authority(&config.http.host, brain.metrics_port);
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| (3, format!("[brain] metrics_port {address}: {error}").into()))?;
    let bound = listener.local_addr().map_err(|error| (1, error.into()))?;
    let readiness = Readiness::default();
    tokio::spawn(observe(listener, metrics.clone(), readiness.clone()));
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
    // A reader that is gone does not end the node.
    let ready = || {
        let _ = console::line(&line);
    };
    run_shown(parts, stop, ready, readiness).await.map_err(|error| (3, error.into()))
}

/// The operators' listener; serves for ever.
async fn observe(listener: TcpListener, metrics: Metrics, readiness: Readiness) {
    let scrape = move || async move { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()) };
    let ready = move || async move {
        match readiness.unready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics listener ended");
    }
}
