//! The Rust client of `arqon.v1`: a protocol core without a socket ([`Core`]), one connection over any byte stream
//! ([`Client`]), and a client that reconnects by itself ([`Session`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use arq::client::{Client, ClientEvent, Core, CoreOptions, SubOptions, Target, say};
//! use voltron_core::{OsIds, SystemClock};
//!
//! let stream = tokio::net::TcpStream::connect("127.0.0.1:4000").await?;
//! let target = Target { url: "ws://127.0.0.1:4000/v1/ws".into(), token: Some("…".into()), client_id: None };
//! let core = Core::new(CoreOptions::new("example"), SystemClock, OsIds);
//! let mut client = Client::connect(stream, &target, core).await.map_err(|(error, _)| error)?;
//!
//! let room = "lobby".parse()?;
//! client.subscribe(&room, SubOptions::default());
//! client.publish(&room, say("text", "hello"), true)?;
//! while let Some(event) = client.next().await {
//!     match event {
//!         ClientEvent::Ack(ack) => println!("stored at {}:{}", ack.epoch, ack.seq),
//!         ClientEvent::Event(event) => println!("{} bytes", event.bytes.len()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod core;
mod envelope;
mod event;
mod record;
mod rooms;
mod session;
mod socket;

use bytes::Bytes;
use proto::v1;

pub use self::core::{Core, CoreOptions, Frame, Full};
pub use event::{Acked, AfterClose, ClientEvent, Delivered, Repeat, SubOptions};
pub use record::command_json;
pub use session::{Reconnect, Session, SessionError};
pub use socket::{ABNORMAL, Client, ConnectError, LET_GO, Target};

/// `say`, stored.
pub fn say(kind: impl Into<String>, data: impl Into<Bytes>) -> v1::Command {
    op(v1::command::Op::Say(v1::Say { data: data.into(), r#type: kind.into() }))
}

/// `set` without conditions, for ever.
pub fn set(key: impl Into<String>, value: impl Into<Bytes>) -> v1::Command {
    op(v1::command::Op::Set(v1::Set { key: key.into(), value: value.into(), ttl_ms: 0, expect: None }))
}

/// A command of this operation, stored and without `if_head`.
pub const fn op(op: v1::command::Op) -> v1::Command {
    v1::Command { ephemeral: false, if_head: None, op: Some(op) }
}
