//! A Spine that is none: it drops what is published and answers each command at once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use proto::{Pattern, Subject};
use spine::*;
use tokio::sync::watch;

/// Drops every message and answers each command at once with the same Ack.
#[derive(Clone)]
pub(crate) struct DropSpine(Arc<Inner>);

pub(crate) struct Inner {
    link: watch::Sender<Link>,
    ack: Bytes,
    published: AtomicU64,
    answers: Mutex<(VecDeque<Subject>, Option<Waker>)>,
}

/// The inbox, or silence.
pub(crate) enum Inbox {
    Answers(Arc<Inner>),
    Silent,
}

impl DropSpine {
    /// Its answer to every command is `ack`.
    pub(crate) fn new(ack: Bytes) -> Self {
        Self(Arc::new(Inner {
            link: watch::Sender::new(Link::Connected { broker: BrokerId("none".into()), generation: 1 }),
            ack,
            published: AtomicU64::new(0),
            answers: Mutex::new((VecDeque::with_capacity(8192), None)),
        }))
    }

    /// Commands that were published so far.
    pub(crate) fn published(&self) -> u64 {
        self.0.published.load(Ordering::SeqCst)
    }
}

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let Self::Answers(inner) = &*self else { return Poll::Pending };
        let mut answers = inner.answers.lock().unwrap();
        match answers.0.pop_front() {
            Some(subject) => {
                let body = inner.ack.clone();
                let message = Message { subject, reply: None, status: None, stream_seq: None, body };
                Poll::Ready(Some(Delivery::Msg(message)))
            }
            None => {
                answers.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Spine for DropSpine {
    type Sub = Inbox;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, _body: Bytes) -> Result<(), PublishError> {
        if let Some(reply) = reply.filter(|_| to.as_str().starts_with("in.")) {
            self.0.published.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.0.answers.lock().unwrap();
            answers.0.push_back(reply.clone());
            if let Some(waker) = answers.1.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    async fn request(&self, _: &Subject, _: Bytes, _: Duration) -> Result<Message, RequestError> {
        Err(RequestError::NoResponders)
    }

    async fn subscribe(&self, to: &Pattern, _: Option<&str>, _: usize) -> Result<Inbox, SubscribeError> {
        Ok(if to.as_str().starts_with("_INBOX.") { Inbox::Answers(self.0.clone()) } else { Inbox::Silent })
    }

    async fn append(&self, _: &Subject, _: StreamSeq, _: Bytes) -> Result<StreamSeq, AppendError> {
        Err(AppendError::Unresolved(Unresolved::Timeout))
    }

    async fn last(&self, _: &Subject, _: Via) -> Result<Option<Stored>, ReadError> {
        Ok(None)
    }

    async fn read(&self, _: &Subject, _: StreamSeq, _: u32, _: Via) -> Result<Batch, ReadError> {
        Ok(Batch::default())
    }

    async fn last_of(&self, _: &Pattern) -> Result<Batch, ReadError> {
        Ok(Batch::default())
    }

    async fn purge_below(&self, _: &Subject, _: StreamSeq) -> Result<(), PurgeError> {
        Ok(())
    }

    async fn ensure(&self, _: &StreamSpec) -> Result<(), EnsureError> {
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    async fn close(&self) {}
}
