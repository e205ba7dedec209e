//! The NATS abstraction. One trait, [`Spine`]; `NatsSpine` (async-nats, production) behind the feature `nats`;
//! `SimSpine` in `spine-sim` speaks the same protocol over an injected `Net`. Both pass one contract suite.
//!
//! One `Spine` value = one connection = one NATS user. Cloning it shares that connection.

pub mod buffer;
#[cfg(feature = "contract")]
pub mod contract;
pub mod jetstream;
#[cfg(feature = "nats")]
pub mod nats;
mod options;
#[cfg(feature = "server")]
pub mod server;
mod types;
pub mod users;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use proto::{Pattern, Subject};
use tokio::sync::watch;

#[cfg(feature = "nats")]
pub use nats::NatsSpine;
pub use options::SpineOptions;
pub use types::*;
pub use users::UserSpec;

/// What the product asks of NATS. Every sentence here has a case in the contract suite.
pub trait Spine: Clone + Send + Sync + 'static {
    /// A subscription's deliveries, in the order in which the broker sent them. It ends when the Spine is closed or
    /// the value is dropped (which unsubscribes). It survives a reconnect: the subscription is made again before
    /// anything else is sent; what was published meanwhile is not delivered.
    type Sub: Stream<Item = Delivery> + Unpin + Send + 'static;

    /// Queues a message: at most once. `Ok` means queued, not delivered; a reconnect may lose it in silence. Never
    /// waits longer than the configured publish deadline, connected or not. Fails with [`PublishError::TooBig`] over
    /// the broker's `max_payload`, before anything is sent. A `reply` without a responder gets a 503 [`Message`].
    fn publish(
        &self,
        to: &Subject,
        reply: Option<&Subject>,
        body: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Publishes and waits for the first answer, at most `limit` from the call on, waiting to be queued included. No
    /// responder: [`RequestError::NoResponders`] at once.
    fn request(
        &self,
        to: &Subject,
        body: Bytes,
        limit: Duration,
    ) -> impl Future<Output = Result<Message, RequestError>> + Send;

    /// Subscribes, and returns after the broker has confirmed it (SUB + PONG): what is published through the same
    /// broker afterwards is delivered. At most `capacity` messages wait here; beyond, the newest are dropped and the
    /// subscription says [`Delivery::Lost`] with their number before the next message. With `queue`, each message
    /// goes to one member of the group.
    fn subscribe(
        &self,
        to: &Pattern,
        queue: Option<&str>,
        capacity: usize,
    ) -> impl Future<Output = Result<Self::Sub, SubscribeError>> + Send;

    /// Appends to the stream that holds `to`, only if the last message there of this very subject has the position
    /// `expect` ([`StreamSeq::NONE`]: there is none). `Refused` means surely not stored (another position was last,
    /// the stream is full, …); `Unresolved` (timeout, disconnect, err_code 10071 or 10164, no answer) that the caller
    /// must find out by reading. Never sets `Nats-Msg-Id`. Waits at most the configured publish deadline.
    fn append(
        &self,
        to: &Subject,
        expect: StreamSeq,
        body: Bytes,
    ) -> impl Future<Output = Result<StreamSeq, AppendError>> + Send;

    /// The last stored message of a subject; `None` if there is none.
    fn last(&self, of: &Subject, via: Via) -> impl Future<Output = Result<Option<Stored>, ReadError>> + Send;

    /// Stored messages of a subject from position `from` on, ascending, at most `max` of them and about 1 MiB.
    /// [`Batch::more`] says whether others follow.
    fn read(
        &self,
        of: &Subject,
        from: StreamSeq,
        max: u32,
        via: Via,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// The last stored message of each subject that matches, ascending by position.
    fn last_of(&self, of: &Pattern) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// Deletes the messages of a subject below position `keep`. No purge without a position exists.
    fn purge_below(&self, of: &Subject, keep: StreamSeq) -> impl Future<Output = Result<(), PurgeError>> + Send;

    /// Creates a stream, or verifies that the one there is has this specification.
    fn ensure(&self, stream: &StreamSpec) -> impl Future<Output = Result<(), EnsureError>> + Send;

    /// Whether there is a connection, and which. The value changes at each connect and disconnect.
    fn link(&self) -> watch::Receiver<Link>;

    /// Writes out what is queued and closes the connection; subscriptions end.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
