//! The Spine's contract on its simulated arm: `SimSpine` against the simulated broker, over real TCP.

use std::net::SocketAddr;

use spine::SpineOptions;
use spine::contract::{Setup, World};
use spine_sim::{Broker, BrokerOptions, SimSpine, User};
use tokio::task::JoinHandle;
use voltron_core::{Listener, Net, OsIds, SystemClock, TcpNet};

/// A broker in this process, on a port of its own.
struct Sim {
    broker: Broker,
    addr: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Sim {
    async fn serve(&mut self) -> Result<(), String> {
        let listener = TcpNet.bind(&self.addr.to_string()).await.map_err(|error| format!("bind: {error}"))?;
        self.addr = Listener::local_addr(&listener).map_err(|error| format!("local_addr: {error}"))?;
        let broker = self.broker.clone();
        self.serving = Some(tokio::spawn(async move {
            broker.serve(listener, std::future::pending()).await.expect("a bound listener has an address");
        }));
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl World for Sim {
    type Spine = SimSpine<TcpNet>;

    async fn start(setup: Setup) -> Result<Self, String> {
        let mut options = BrokerOptions::new(SystemClock, 1);
        options.users = setup.users.iter().map(User::from).collect();
        if let Some(limit) = setup.max_payload {
            options.max_payload = limit;
        }
        if let Some(limit) = setup.max_store {
            (options.store_bytes_max, options.reserved_bytes_max) = (limit, limit);
        }
        let addr = "127.0.0.1:0".parse().expect("an address");
        let mut world = Self { broker: Broker::new(options), addr, serving: None };
        world.serve().await?;
        Ok(world)
    }

    fn connect(&self, options: SpineOptions) -> Self::Spine {
        SimSpine::connect(TcpNet, SpineOptions { urls: vec![format!("nats://{}", self.addr)], ..options }, OsIds)
    }

    async fn kill(&mut self) -> Result<(), String> {
        self.stop().await;
        self.broker.crash(false);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), String> {
        self.serve().await
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.broker.pause();
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), String> {
        self.broker.resume();
        Ok(())
    }
}

spine::contract_tests!(Sim);
