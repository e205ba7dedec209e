//! A subscription: the client's, a pump, and our counting buffer.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use super::convert;
use super::registry::Registration;
use crate::Delivery;
use crate::buffer::{Deliveries, Feed};

/// A subscription of a [`NatsSpine`](super::NatsSpine). Dropping it unsubscribes.
pub struct NatsSub {
    deliveries: Deliveries,
    // Ending the pump drops the client's subscriber, which unsubscribes.
    _pump: AbortOnDrop,
    registration: Registration,
}

impl NatsSub {
    pub(super) fn start(
        subscriber: async_nats::Subscriber,
        feed: Feed,
        deliveries: Deliveries,
        registration: Registration,
    ) -> Self {
        let pump = AbortOnDrop::spawn(tokio::task::unconstrained(pump(subscriber, feed)));
        Self { deliveries, _pump: pump, registration }
    }

    pub(super) fn denied(&self) -> Option<String> {
        self.registration.denied()
    }
}

impl Stream for NatsSub {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.deliveries.poll_next_unpin(cx)
    }
}

/// Empties the client's buffer whenever it runs, so that what is too much is counted here and not dropped there.
async fn pump(mut subscriber: async_nats::Subscriber, feed: Feed) {
    while let Some(message) = subscriber.next().await {
        match convert::message(message) {
            Some(message) => feed.push(message),
            None => tracing::debug!("a message on a malformed subject was ignored"),
        }
    }
    feed.end();
}

/// A task that ends with its owner.
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
