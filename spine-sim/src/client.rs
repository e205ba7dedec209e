//! [`SimSpine`]: the Spine over the NATS wire protocol and an injected `Net`. It is able to do all that a real client
//! does badly: a bounded queue that fills while disconnected, a write buffer lost in silence at a reconnect, full
//! subscriptions that drop the newest, silence noticed only by pings. What the trait promises over that, it keeps.

mod calls;
mod connection;
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
    SpineOptions, Stored, StreamSeq, StreamSpec, SubscribeError, Via,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use voltron_core::tasks::timeout_at;
use voltron_core::{Ids, Net};

use calls::Call;
use connection::Command;
use shared::{Shared, into_message};
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
        voltron_core::tasks::spawn(connection::run(net, shared.clone(), queue, ids));
        Self { commands, shared, net: PhantomData }
    }

    /// Queues a message by `deadline`.
    async fn queue(
        &self,
        subject: &Subject,
        reply: Option<Bytes>,
        fence: Option<(u64, u64)>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        if self.shared.is_closing() {
            return Err(PublishError::Closed);
        }
        let (size, limit) =
            (fence.map_or(0, |(expect, _)| connection::fence_len(expect)) + body.len(), self.shared.max_payload());
        if size > limit {
            return Err(PublishError::TooBig { size, limit });
        }
        let command = Command::Publish { subject: subject.as_bytes().clone(), reply, fence, body };
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

    fn publish_deadline(&self) -> Instant {
        Instant::now() + self.shared.options.publish_timeout
    }
}

impl<N: Net> Spine for SimSpine<N> {
    type Sub = Subscription;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, body: Bytes) -> Result<(), PublishError> {
        let reply = reply.map(|reply| reply.as_bytes().clone());
        self.queue(to, reply, None, body, self.publish_deadline()).await
    }

    async fn request(&self, to: &Subject, body: Bytes, limit: Duration) -> Result<Message, RequestError> {
        let deadline = Instant::now() + limit;
        let mut call = Call::open(&self.shared, 1, false);
        self.queue(to, Some(call.reply()), None, body, deadline).await.map_err(|error| match error {
            PublishError::Timeout => RequestError::Timeout,
            PublishError::TooBig { .. } => RequestError::TooBig,
            PublishError::Closed => RequestError::Closed,
        })?;
        let answer = match timeout_at(deadline, call.delivered()).await {
            Ok(Ok(answer)) => answer,
            // A request survives a reconnect, so a call without answers means closed.
            Ok(Err(_)) => return Err(RequestError::Closed),
            Err(_) => return Err(RequestError::Timeout),
        };
        // A reply subject of ours that is no subject cannot be: we made it.
        let message = into_message(answer).ok_or(RequestError::Timeout)?;
        if message.status == Some(503) && message.body.is_empty() {
            return Err(RequestError::NoResponders);
        }
        Ok(message)
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
        self.jetstream().append(to, expect, body).await
    }

    async fn last(&self, of: &Subject, via: Via) -> Result<Option<Stored>, ReadError> {
        self.jetstream().last(of, via).await
    }

    async fn read(&self, of: &Subject, from: StreamSeq, max: u32, via: Via) -> Result<Batch, ReadError> {
        self.jetstream().read(of, from, max, via).await
    }

    async fn last_of(&self, of: &Pattern) -> Result<Batch, ReadError> {
        self.jetstream().last_of(of).await
    }

    async fn purge_below(&self, of: &Subject, keep: StreamSeq) -> Result<(), PurgeError> {
        self.jetstream().purge_below(of, keep).await
    }

    async fn ensure(&self, stream: &StreamSpec) -> Result<(), EnsureError> {
        self.jetstream().ensure(stream).await
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
