//! The simulated Spine: [`Broker`] speaks NATS (core and the JetStream subset that we use) over injected streams, and
//! [`SimSpine`] is the [`Spine`](spine::Spine) trait over the same protocol through an injected `Net`.
//!
//! What the broker leaves out: clusters, consumers, key-value and object stores, TLS, accounts, WebSocket, mirrors
//! and sources, `max_age`, compression. What it does, it does as nats-server 2.15.1; differential tests compare the
//! two. Same seed, same input, same output: it reads no clock and draws no entropy of its own.

mod broker;
mod client;
mod jetstream;
mod parser;
mod subject;
mod wire;

pub use broker::{Access, Broker, BrokerOptions, Faults, Load, Rule, User, Witness, Witnessed};
pub use client::{SimSpine, Subscription};

/// The nats-server whose behaviour this follows.
pub const SERVER_VERSION: &str = "2.15.1";

/// The protocol parser, for fuzzing.
pub mod protocol {
    pub use crate::parser::{Op, Parser, Publish, Violation};
}
