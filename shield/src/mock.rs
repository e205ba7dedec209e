//! A Spine for unit tests: a closure decides what becomes of each publish. It stores nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::{Pattern, Subject};
use spine::buffer::{self, Deliveries, Feed};
use spine::*;
use tokio::sync::watch;
use tokio::time::Instant;

type Script = dyn Fn(&MockSpine, &Subject, Option<&Subject>, &Bytes) + Send + Sync;

/// What was published, and when after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) to: String,
    pub(crate) body: Bytes,
    pub(crate) at_ms: u128,
}

#[derive(Clone)]
pub(crate) struct MockSpine(Arc<Inner>);

struct Inner {
    script: Box<Script>,
    subscriptions: Mutex<Vec<(String, Feed)>>,
    published: Mutex<Vec<Published>>,
    link: watch::Sender<Link>,
    started: Instant,
}

impl MockSpine {
    pub(crate) fn new(script: impl Fn(&Self, &Subject, Option<&Subject>, &Bytes) + Send + Sync + 'static) -> Self {
        let link = watch::Sender::new(Link::Connected { broker: BrokerId("mock".into()), generation: 1 });
        Self(Arc::new(Inner {
            script: Box::new(script),
            subscriptions: Mutex::default(),
            published: Mutex::default(),
            link,
            started: Instant::now(),
        }))
    }

    /// Hands a message to every subscription whose pattern is this subject or begins it.
    pub(crate) fn deliver(&self, subject: &Subject, status: Option<u16>, body: impl Into<Bytes>) {
        let message = Message { subject: subject.clone(), reply: None, status, stream_seq: None, body: body.into() };
        for (pattern, feed) in self.0.subscriptions.lock().unwrap().iter() {
            if subject.as_str().starts_with(pattern.trim_end_matches(['>', '*'])) {
                feed.push(message.clone());
            }
        }
    }

    /// The same after a pause.
    pub(crate) fn deliver_after(&self, ms: u64, subject: &Subject, body: impl Into<Bytes>) {
        let (this, subject, body) = (self.clone(), subject.clone(), body.into());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            this.deliver(&subject, None, body);
        });
    }

    /// What was published to subjects that begin so.
    pub(crate) fn published(&self, prefix: &str) -> Vec<Published> {
        self.0.published.lock().unwrap().iter().filter(|one| one.to.starts_with(prefix)).cloned().collect()
    }
}

impl Spine for MockSpine {
    type Sub = Deliveries;

    async fn publish(&self, to: &Subject, reply: Option<&Subject>, body: Bytes) -> Result<(), PublishError> {
        let at_ms = self.0.started.elapsed().as_millis();
        self.0.published.lock().unwrap().push(Published { to: to.to_string(), body: body.clone(), at_ms });
        (self.0.script)(self, to, reply, &body);
        Ok(())
    }

    async fn request(&self, _: &Subject, _: Bytes, _: Duration) -> Result<Message, RequestError> {
        Err(RequestError::NoResponders)
    }

    async fn subscribe(&self, to: &Pattern, _: Option<&str>, capacity: usize) -> Result<Deliveries, SubscribeError> {
        let (feed, deliveries) = buffer::channel(capacity);
        self.0.subscriptions.lock().unwrap().push((to.as_str().into(), feed));
        Ok(deliveries)
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
