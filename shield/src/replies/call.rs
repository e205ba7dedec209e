//! What the Shield asks on its own account: one reply subject a question, never used twice, so that a late answer can
//! be taken for no other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use proto::{NodeId, Subject};
use spine::{Message, PublishError, Spine};
use tokio::sync::oneshot;
use voltron_core::trace::{self, Hash16, Record};

use super::Replies;
use crate::shared::full;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there: surely not delivered.
    #[error("nobody serves it")]
    NoResponders,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It was not sent.
    #[error("the message bus is away")]
    Unavailable,
    /// Too many questions are open.
    #[error("too many questions are open")]
    Busy,
}

pub(super) struct Calls {
    prefix: String,
    /// Questions that may be open at once.
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Message>>,
}

impl Calls {
    pub(super) fn new(node: &NodeId, incarnation: u64, most: usize) -> Self {
        // One token of letters and digits: the only form in which a Brain answers.
        Self { prefix: format!("_INBOX.s.{node}.c{incarnation:016x}x"), most, open: Mutex::default() }
    }

    fn open(&self) -> Result<(u64, Subject, oneshot::Receiver<Message>), CallError> {
        let (tx, rx) = oneshot::channel();
        let mut open = self.open.lock().expect("no code panics while it holds this lock");
        if open.waiting.len() >= self.most {
            full("questions", self.most);
            return Err(CallError::Busy);
        }
        let n = open.next;
        open.next += 1;
        open.waiting.insert(n, tx);
        drop(open);
        let subject = Subject::from_wire(Bytes::from(format!("{}{n:x}", self.prefix).into_bytes()))
            .expect("a node id and hex digits make a subject");
        Ok((n, subject, rx))
    }

    /// Questions without an answer yet.
    pub(super) fn len(&self) -> usize {
        self.open.lock().expect("no code panics while it holds this lock").waiting.len()
    }

    pub(super) fn answered(&self, message: Message) {
        let n = message.subject.as_str().strip_prefix(&self.prefix).and_then(|n| u64::from_str_radix(n, 16).ok());
        let waiting =
            n.and_then(|n| self.open.lock().expect("no code panics while it holds this lock").waiting.remove(&n));
        if let Some(waiting) = waiting {
            let _ = waiting.send(message);
        }
    }

    fn forget(&self, n: u64) {
        self.open.lock().expect("no code panics while it holds this lock").waiting.remove(&n);
    }
}

/// Forgets the question when its asker gives up, however that happens.
struct Guard<'a>(&'a Calls, u64);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl<S: Spine> Replies<S> {
    /// Asks, and waits at most `limit` for the answer.
    pub(crate) async fn call(&self, to: &Subject, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        if !self.health.linked() {
            return Err(CallError::Unavailable);
        }
        let (n, reply, answer) = self.calls.open()?;
        let _forget = Guard(&self.calls, n);
        trace::emit(|| Record::Pub { subject: to.to_string(), h: Hash16::of(&body) });
        match self.spine.publish(to, Some(&reply), body).await {
            Ok(()) => {}
            Err(PublishError::TooBig { .. } | PublishError::Timeout | PublishError::Closed) => {
                return Err(CallError::Unavailable);
            }
        }
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(message)) if message.status == Some(503) => Err(CallError::NoResponders),
            Ok(Ok(message)) => Ok(message.body),
            Ok(Err(_)) => Err(CallError::Unavailable),
            Err(_) => Err(CallError::Timeout),
        }
    }
}
