//! [`SimSpine`]: the Spine over the NATS wire protocol and an injected `Net`. It is able to do all that a real client
//! does badly: a bounded queue that fills while disconnected, a write buffer lost in silence at a reconnect, full
//! subscriptions that drop the newest, silence noticed only by pings. What the trait promises over that, it keeps.

mod connection;
mod jetstream;
mod parser;
mod shared;
mod sub;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::{Pattern, Subject};
use spine::{
    AppendError, Batch, EnsureError, Link, Message, PublishError, PurgeError, ReadError, RequestError, Spine,
    SpineOptions, Stored, StreamSeq, StreamSpec, SubscribeError, Unresolved, Via,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use voltron_core::{Ids, Net};

use connection::Command;
use shared::{Answer, Pending, Shared, into_message};
use sub::Buffer;
pub use sub::Subscription;

/// Publishes that wait to be written; then `publish` waits, up to its deadline. As async-nats.
const QUEUE: usize = 2048;

/// A connection to a broker through `N`. Cloning shares it; it closes with its last clone, or by [`Spine::close`].
pub struct SimSpine<N> {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    net: PhantomData<fn() -> N>,
}

impl<N> Clone for SimSpine<N> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), shared: self.shared.clone(), net: PhantomData }
    }
}

impl<N> std::fmt::Debug for SimSpine<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSpine").field("name", &self.shared.options.name).finish_non_exhaustive()
    }
}

impl<N: Net> SimSpine<N> {
    /// Returns at once and connects in the background, again and again; [`Spine::link`] says how it stands. Must be
    /// called within a tokio runtime. `ids` gives the inbox's name and the jitter of reconnects.
    pub fn connect(net: N, options: SpineOptions, ids: impl Ids) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (link, _) = watch::channel(Link::Down { since: Instant::now() });
        let shared = Arc::new(Shared::new(options, ids.u64("inbox"), link));
        tokio::spawn(connection::run(net, shared.clone(), queue, ids));
        Self { commands, shared, net: PhantomData }
    }

    /// Queues a message by `deadline`.
    async fn queue(
        &self,
        subject: &Subject,
        reply: Option<Bytes>,
        expect: Option<u64>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        if self.shared.is_closing() {
            return Err(PublishError::Closed);
        }
        let (size, limit) = (expect.map_or(0, connection::fence_len) + body.len(), self.shared.max_payload());
        if size > limit {
            return Err(PublishError::TooBig { size, limit });
        }
        let command = Command::Publish { subject: subject.as_bytes().clone(), reply, expect, body };
        let command = match self.commands.try_send(command) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(PublishError::Closed),
            Err(mpsc::error::TrySendError::Full(command)) => command,
        };
        match timeout_at(deadline, self.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(PublishError::Closed),
            Err(_) => Err(PublishError::Timeout),
        }
    }

    /// Sends a request and waits for what `register` waits for.
    async fn ask<T>(
        &self,
        to: &Subject,
        body: Bytes,
        limit: Duration,
        register: impl FnOnce(oneshot::Sender<T>) -> Pending,
    ) -> Result<T, RequestError> {
        let deadline = Instant::now() + limit;
        let (tell, told) = oneshot::channel();
        let ticket = self.shared.expect(register(tell));
        self.queue(to, Some(ticket.reply.clone()), None, body, deadline).await.map_err(|error| match error {
            PublishError::Timeout => RequestError::Timeout,
            PublishError::TooBig { .. } => RequestError::TooBig,
            PublishError::Closed => RequestError::Closed,
        })?;
        match timeout_at(deadline, told).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(RequestError::Closed),
            Err(_) => Err(RequestError::Timeout),
        }
    }

    fn publish_deadline(&self) -> Instant {
        Instant::now() + self.shared.options.publish_timeout
    }
}

fn is_no_responders(answer: &Answer) -> bool {
    answer.body.is_empty() && crate::wire::status(&answer.header).is_some_and(|(code, _)| code == 503)
}

impl<N: Net> Spine for SimSpine<N> {
    type Sub = Subscription;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, body: Bytes) -> Result<(), PublishError> {
        let reply = reply.map(|reply| reply.as_bytes().clone());
        self.queue(to, reply, None, body, self.publish_deadline()).await
    }

    async fn request(&self, to: &Subject, body: Bytes, limit: Duration) -> Result<Message, RequestError> {
        let answer = self.ask(to, body, limit, Pending::One).await?;
        if is_no_responders(&answer) {
            return Err(RequestError::NoResponders);
        }
        // A reply subject of ours that is no subject cannot be: we made it.
        into_message(answer).ok_or(RequestError::Timeout)
    }

    async fn subscribe(&self, to: &Pattern, queue: Option<&str>, capacity: usize) -> Result<Self::Sub, SubscribeError> {
        if self.shared.is_closing() {
            return Err(SubscribeError::Closed);
        }
        let deadline = self.publish_deadline();
        let buffer = Arc::new(Buffer::new(capacity));
        let (tell, told) = oneshot::channel();
        let sid = self.shared.subscribe(to.as_bytes().clone(), queue, buffer.clone(), tell);
        // Made before the wait: if that fails, dropping it unsubscribes.
        let sub = Subscription { sid, buffer, shared: self.shared.clone() };
        match timeout_at(deadline, told).await {
            Ok(Ok(confirmed)) => confirmed.map(|()| sub),
            Ok(Err(_)) => Err(SubscribeError::Closed),
            Err(_) => Err(SubscribeError::Timeout),
        }
    }

    async fn append(&self, to: &Subject, expect: StreamSeq, body: Bytes) -> Result<StreamSeq, AppendError> {
        let deadline = self.publish_deadline();
        let (tell, told) = oneshot::channel();
        let ticket = self.shared.expect(Pending::Append(tell));
        self.queue(to, Some(ticket.reply.clone()), Some(expect.0), body, deadline).await.map_err(
            |error| match error {
                PublishError::Timeout => AppendError::Unresolved(Unresolved::Timeout),
                refused => AppendError::Refused { code: 0, text: refused.to_string() },
            },
        )?;
        match timeout_at(deadline, told).await {
            Ok(Ok(answer)) => jetstream::pub_ack(&answer),
            Ok(Err(_)) => Err(AppendError::Unresolved(Unresolved::Disconnected)),
            Err(_) => Err(AppendError::Unresolved(Unresolved::Timeout)),
        }
    }

    async fn last(&self, of: &Subject, via: Via) -> Result<Option<Stored>, ReadError> {
        self.read_last(of, via).await
    }

    async fn read(&self, of: &Subject, from: StreamSeq, max: u32, via: Via) -> Result<Batch, ReadError> {
        self.read_from(of, from, max, via).await
    }

    async fn last_of(&self, of: &Pattern) -> Result<Batch, ReadError> {
        self.read_last_of(of).await
    }

    async fn purge_below(&self, of: &Subject, keep: StreamSeq) -> Result<(), PurgeError> {
        self.purge(of, keep).await.map_err(PurgeError)
    }

    async fn ensure(&self, stream: &StreamSpec) -> Result<(), EnsureError> {
        self.ensure_stream(stream).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let first = !self.shared.is_closing();
        // The close stands behind everything queued before it; only then does the flag stop newcomers.
        let queued =
            first && timeout_at(self.publish_deadline(), self.commands.send(Command::Close(done))).await.is_ok();
        self.shared.start_closing();
        if queued {
            let _ = closed.await;
        }
    }
}
