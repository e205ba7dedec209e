//! The NATS abstraction. One trait, [`Spine`]; `NatsSpine` (async-nats, production) behind the feature `nats`;
//! `SimSpine` in `spine-sim` speaks the same protocol over an injected `Net`. Both pass one contract suite.
//!
//! One `Spine` value = one connection = one NATS user. Cloning it shares that connection.

pub mod buffer;
mod configured;
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

pub use configured::Role;
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
    /// goes to one member of the group. Waits at most the configured publish deadline.
    ///
    /// What the user may not subscribe to is [`SubscribeError::Denied`]; a denial that comes only afterwards (or at a
    /// reconnect, when permissions have changed) ends the subscription.
    fn subscribe(
        &self,
        to: &Pattern,
        queue: Option<&str>,
        capacity: usize,
    ) -> impl Future<Output = Result<Self::Sub, SubscribeError>> + Send;

    /// Appends to the stream that holds `to`, only if the last message there of this very subject has the position
    /// `expect` ([`StreamSeq::NONE`]: there is none). `Refused` means surely not stored; its [`Refusal`] says whether the
    /// same bytes may pass later. `Unresolved` (no answer in time, the connection lost or closed meanwhile, err_code 10071
    /// or 10164, or an error that does not prove it) means that the caller must find out by reading. Without a connection
    /// it says
    /// `Unresolved(Disconnected)` at once and sends nothing, now or later: after a reconnect the log comes first.
    /// Never sets `Nats-Msg-Id`. Waits at most the configured publish deadline.
    fn append(
        &self,
        to: &Subject,
        expect: StreamSeq,
        body: Bytes,
    ) -> impl Future<Output = Result<StreamSeq, AppendError>> + Send;

    /// The last stored message of a subject; `None` if there is none. Like all reads it waits at most the configured
    /// publish deadline, for a connection as well as for the answer.
    fn last(&self, of: &Subject, via: Via) -> impl Future<Output = Result<Option<Stored>, ReadError>> + Send;

    /// Stored messages of a subject from position `from` on, ascending, at most `max` of them and about 1 MiB (the
    /// first in any case). [`Batch::more`] says whether others follow. The leader is asked for one at a time: what has come
    /// by the deadline is the batch, and `more` says that it may go on.
    fn read(
        &self,
        of: &Subject,
        from: StreamSeq,
        max: u32,
        via: Via,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// The last stored message of each subject that matches, ascending by position. All of them lie in one stream. Up
    /// to 1,024 subjects in one answer; beyond, the matching messages are read through, at most 65,536, else refused
    /// with code 413.
    fn last_of(&self, of: &Pattern) -> impl Future<Output = Result<Batch, ReadError>> + Send;

    /// Deletes the messages of a subject below position `keep`. No purge without a position exists.
    fn purge_below(&self, of: &Subject, keep: StreamSeq) -> impl Future<Output = Result<(), PurgeError>> + Send;

    /// Creates a stream, or verifies that the one there is has this specification.
    fn ensure(&self, stream: &StreamSpec) -> impl Future<Output = Result<(), EnsureError>> + Send;

    /// Whether there is a connection, and which. The value changes at each connect and disconnect. `Connected` is said
    /// when the broker has every subscription again. Down from the start until then, and after `close`.
    fn link(&self) -> watch::Receiver<Link>;

    /// Writes out what is queued, for at most the configured publish deadline, and closes the connection: subscriptions
    /// end, and every later call says `Closed` at once (an append: `Refused` as [`Refusal::Closed`]).
    fn close(&self) -> impl Future<Output = ()> + Send;
}
