//! The contract on the production arm: async-nats against the pinned nats-server.

use std::path::Path;

use spine::contract::{Outcome, Setup, World};
use spine::server::{NatsServer, ServerOptions};
use spine::{NatsSpine, SpineOptions};

struct NatsWorld(NatsServer);

impl World for NatsWorld {
    type Spine = NatsSpine;

    async fn start(setup: Setup) -> Result<Self, String> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let binary = NatsServer::pinned(root).map_err(|e| e.to_string())?;
        let Setup { max_payload, max_store, users } = setup;
        let options = ServerOptions { max_payload, max_store, users, ..ServerOptions::new(binary) };
        NatsServer::start(options).await.map(Self).map_err(|e| e.to_string())
    }

    fn connect(&self, options: SpineOptions) -> NatsSpine {
        NatsSpine::connect(SpineOptions { urls: vec![self.0.url()], ..options })
    }

    async fn kill(&mut self) -> Result<(), String> {
        self.0.kill_9().await;
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), String> {
        self.0.restart().await.map_err(|e| e.to_string())
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.0.pause().await.map_err(|e| e.to_string())
    }

    async fn resume(&mut self) -> Result<(), String> {
        self.0.resume().map_err(|e| e.to_string())
    }

    /// Several workers, as in production: what depends on the order of tasks shows here.
    fn run(case: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        runtime.block_on(case)
    }
}

spine::contract_tests!(NatsWorld);
