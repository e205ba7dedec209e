//! The [`Spine`] trait over the client.

use bytes::Bytes;
use proto::{Pattern, Subject};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::calls::{Call, round_trip};
use super::{Inner, NatsSpine, NatsSub, convert};
use crate::jetstream::{Answer, Answers, CallError, JetStream, Transport};
use crate::{
    AppendError, Batch, EnsureError, Link, Message, PublishError, PurgeError, ReadError, RequestError, Spine, Stored,
    StreamSeq, StreamSpec, SubscribeError, Unresolved, Via, buffer,
};

impl Spine for NatsSpine {
    type Sub = NatsSub;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, body: Bytes) -> Result<(), PublishError> {
        let Some(client) = self.inner.client() else { return Err(PublishError::Closed) };
        let (size, limit) = (body.len(), client.max_payload());
        if size > limit {
            return Err(PublishError::TooBig { size, limit });
        }
        let to = convert::subject(to.as_bytes());
        // Waiting for a place in the client's queue is all these do; dropped before they have one, they leave nothing.
        let queued = async {
            match reply {
                None => client.publish(to, body).await,
                Some(reply) => client.publish_with_reply(to, convert::subject(reply.as_bytes()), body).await,
            }
        };
        match timeout(self.inner.options.publish_timeout, queued).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
                    PublishError::TooBig { size, limit: client.max_payload() }
                }
                _ => PublishError::Closed,
            }),
            Err(_) => Err(PublishError::Timeout),
        }
    }

    async fn request(&self, to: &Subject, body: Bytes, limit: Duration) -> Result<Message, RequestError> {
        let deadline = Instant::now() + limit;
        let asked = async {
            let mut call = self.inner.start_call(to, None, body, 1).await?;
            call.next().await.ok_or(CallError::Closed)
        };
        let answer = timeout_at(deadline, asked).await.unwrap_or(Err(CallError::Timeout)).map_err(|e| match e {
            CallError::Timeout | CallError::Disconnected => RequestError::Timeout,
            CallError::TooBig => RequestError::TooBig,
            CallError::Closed => RequestError::Closed,
        })?;
        match convert::message(answer) {
            Some(Message { status: Some(503), .. }) => Err(RequestError::NoResponders),
            Some(message) => Ok(message),
            // Not reached: the answer came to our own inbox.
            None => Err(RequestError::Timeout),
        }
    }

    async fn subscribe(&self, to: &Pattern, queue: Option<&str>, capacity: usize) -> Result<NatsSub, SubscribeError> {
        let Some(client) = self.inner.client() else { return Err(SubscribeError::Closed) };
        let shared = &self.inner.shared;
        let deadline = self.inner.deadline();
        let pattern = convert::subject(to.as_bytes());
        let (feed, deliveries) = buffer::channel(capacity);
        // Before the broker can say no to it.
        let registration = shared.subscriptions.add(to, feed.clone());
        let subscribed = async {
            match queue {
                None => client.subscribe(pattern).await,
                Some(queue) => client.queue_subscribe(pattern, queue.to_owned()).await,
            }
        };
        let subscriber = match timeout_at(deadline, subscribed).await {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(_)) => return Err(SubscribeError::Closed),
            Err(_) => return Err(SubscribeError::Timeout),
        };
        let sub = NatsSub::start(subscriber, feed, deliveries, registration);
        // Closed between the first look and the registration: `close` did not see this one.
        if shared.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let confirmed = round_trip(&self.inner.calls, client, deadline).await;
        // A refusal came before the round trip's answer, but on another way: let it arrive. If it is later still, the
        // subscription ends.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if let Some(text) = sub.denied() {
            return Err(SubscribeError::Denied(text));
        }
        match confirmed {
            Ok(()) => Ok(sub),
            Err(CallError::Closed) => Err(SubscribeError::Closed),
            Err(_) => Err(shared.mute().map_or(SubscribeError::Timeout, SubscribeError::Denied)),
        }
    }

    async fn append(&self, to: &Subject, expect: StreamSeq, body: Bytes) -> Result<StreamSeq, AppendError> {
        let link = self.inner.shared.link.borrow().is_up();
        if !link && self.inner.client().is_some() {
            // Not queued for a later connection: by then the caller must look at the log first.
            return Err(AppendError::Unresolved(Unresolved::Disconnected));
        }
        self.inner.jetstream().append(to, expect, body).await
    }

    async fn last(&self, of: &Subject, via: Via) -> Result<Option<Stored>, ReadError> {
        self.inner.jetstream().last(of, via).await
    }

    async fn read(&self, of: &Subject, from: StreamSeq, max: u32, via: Via) -> Result<Batch, ReadError> {
        self.inner.jetstream().read(of, from, max, via).await
    }

    async fn last_of(&self, of: &Pattern) -> Result<Batch, ReadError> {
        self.inner.jetstream().last_of(of).await
    }

    async fn purge_below(&self, of: &Subject, keep: StreamSeq) -> Result<(), PurgeError> {
        self.inner.jetstream().purge_below(of, keep).await
    }

    async fn ensure(&self, stream: &StreamSpec) -> Result<(), EnsureError> {
        self.inner.jetstream().ensure(stream).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.inner.shared.link.subscribe()
    }

    async fn close(&self) {
        let shared = &self.inner.shared;
        if !shared.close() {
            return;
        }
        if let Some(client) = &self.inner.client {
            // The client's own drain may leave before everything is written: wait until the broker has seen it all.
            if shared.link.borrow().is_up() {
                let _ = round_trip(&self.inner.calls, client, self.inner.deadline()).await;
            }
            shared.subscriptions.end_all();
            self.inner.calls.close();
            // Without a connection this waits in the queue for one that never comes.
            let _ = timeout(self.inner.options.publish_timeout, client.drain()).await;
        }
        shared.link.send_if_modified(|link| {
            let up = link.is_up();
            if up {
                *link = Link::Down { since: Instant::now() };
            }
            up
        });
    }
}

impl Inner {
    fn jetstream(&self) -> JetStream<'_, Self> {
        JetStream::new(self, &self.options)
    }

    /// Publishes with a reply subject of its own. The caller holds the deadline.
    async fn start_call(
        &self,
        to: &Subject,
        expect: Option<StreamSeq>,
        body: Bytes,
        most: usize,
    ) -> Result<Call, CallError> {
        let client = self.client().ok_or(CallError::Closed)?;
        let call = self.calls.open(most).ok_or(CallError::Closed)?;
        let (to, reply) = (convert::subject(to.as_bytes()), call.reply());
        let sent = match expect {
            None => client.publish_with_reply(to, reply, body).await,
            Some(expect) => client.publish_with_reply_and_headers(to, reply, convert::fence(expect), body).await,
        };
        match sent {
            Ok(()) => Ok(call),
            Err(error) => Err(match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => CallError::TooBig,
                _ => CallError::Closed,
            }),
        }
    }
}

impl Transport for Inner {
    type Answers = LinkedCall;

    /// Waits for a connection first, and gives up if that one is lost.
    async fn call(
        &self,
        to: &Subject,
        expect: Option<StreamSeq>,
        body: Bytes,
        most: usize,
    ) -> Result<LinkedCall, CallError> {
        let mut link = self.shared.link.subscribe();
        // Of a closed Spine no link comes up any more.
        if self.client().is_none() {
            return Err(CallError::Closed);
        }
        let generation = match &*link.wait_for(Link::is_up).await.map_err(|_| CallError::Closed)? {
            Link::Connected { generation, .. } => *generation,
            Link::Down { .. } => return Err(CallError::Disconnected),
        };
        let call = self.start_call(to, expect, body, most).await?;
        Ok(LinkedCall { call, link, generation })
    }
}

/// A call that ends with the connection it was made on.
pub(super) struct LinkedCall {
    call: Call,
    link: watch::Receiver<Link>,
    generation: u64,
}

impl Answers for LinkedCall {
    async fn next(&mut self) -> Result<Answer, CallError> {
        let generation = self.generation;
        tokio::select! {
            biased;
            answer = self.call.next() => answer.map(convert::answer).ok_or(CallError::Closed),
            _ = self.link.wait_for(|link| !matches!(link, Link::Connected { generation: g, .. } if *g == generation)) => {
                Err(CallError::Disconnected)
            }
        }
    }
}
