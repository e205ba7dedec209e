//! The WebSocket edge. Inside, along a message's way: `server` ▸ `connection` ▸ `session` ▸ `gate` (view, identity,
//! limits, signature, policy) ▸ `replies` (Spine); and back: `rooms` (cursor, repair, fan-out) ▸ `outbox` ▸
//! `connection`. `admin` stands beside it.
//!
//! Everything comes in through [`ShieldParts`]: sockets, clock, entropy, the Spine, the Overseer. The same code runs in
//! production and inside the simulator.

mod admin;
mod arena;
pub mod auth;
mod bucket;
mod connection;
mod gate;
mod health;
mod meters;
#[cfg(test)]
mod mock;
mod outbox;
mod replies;
mod rooms;
mod route;
mod server;
mod session;
mod shared;
pub mod startup;

pub use auth::{Identity, Keys, KeysError, Refusal, Skipped};
pub use server::{ShieldParts, serve, serve_with};
pub use startup::{Startup, StartupError};
