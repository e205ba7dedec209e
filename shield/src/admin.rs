//! The operators' listener: `/healthz` (the process lives), `/readyz` (it should get clients; the text says why not),
//! `/metrics`, and a page to try the text dialect by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use voltron_core::Listener;
use voltron_core::metrics::{self, Metrics};

use crate::health::Health;

#[derive(Clone)]
struct Admin {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Our listeners in axum's shape.
struct Accept<L>(L);

impl<L: Listener> axum::serve::Listener for Accept<L> {
    type Io = L::Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the http listener");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Serves for ever.
pub(crate) async fn serve<L: Listener>(listener: L, health: Arc<Health>, metrics: Metrics) {
    let router = Router::new()
        .route("/", get(|| async { Html(include_str!("playground.html")) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Admin { health, metrics });
    if let Err(error) = axum::serve(Accept(listener), router).await {
        tracing::error!(%error, "the http listener ended");
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.health.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], admin.metrics.encode())
}
