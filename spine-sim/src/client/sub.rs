//! A subscription's buffer: bounded, the newest are dropped, and the hole is told where it is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use spine::{Delivery, Message};

use super::shared::Shared;

/// What the connection fills and the subscriber empties.
#[derive(Debug)]
pub(crate) struct Buffer {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Delivery>,
    /// Messages in `queue`, the marks of holes left out.
    messages: usize,
    lost: u64,
    ended: bool,
    waker: Option<Waker>,
}

impl Buffer {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, or counts it as lost.
    pub(crate) fn push(&self, message: Message) {
        let mut inner = self.lock();
        if inner.ended {
            return;
        }
        if inner.messages >= self.capacity {
            inner.lost += 1;
        } else {
            if inner.lost > 0 {
                let lost = std::mem::take(&mut inner.lost);
                inner.queue.push_back(Delivery::Lost(lost));
            }
            inner.queue.push_back(Delivery::Msg(message));
            inner.messages += 1;
        }
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Nothing comes any more; what waits is still delivered.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }
}

/// A subscription of a [`SimSpine`](crate::SimSpine).
#[derive(Debug)]
pub struct Subscription {
    pub(super) sid: u64,
    pub(super) buffer: Arc<Buffer>,
    pub(super) shared: Arc<Shared>,
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut inner = self.buffer.lock();
        if let Some(delivery) = inner.queue.pop_front() {
            if let Delivery::Msg(_) = &delivery {
                inner.messages -= 1;
            } else {
                voltron_core::mark!("spine.delivery-lost");
            }
            return Poll::Ready(Some(delivery));
        }
        if inner.lost > 0 {
            voltron_core::mark!("spine.delivery-lost");
            return Poll::Ready(Some(Delivery::Lost(std::mem::take(&mut inner.lost))));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.sid);
    }
}
