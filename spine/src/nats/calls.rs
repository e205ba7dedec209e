//! Requests: one inbox a connection, one token a call. The client's own requests would leave an entry in a map for
//! every one that timed out, and can take only one answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::link::Shared;
use crate::jetstream::CallError;

/// The calls that wait, and the inbox they wait at.
#[derive(Default)]
pub(super) struct Calls(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    // `{inbox_prefix}.{unique}.`: unique to this connection, so that a restarted process cannot take an answer to its
    // predecessor's call for its own.
    inbox: String,
    next: u64,
    calls: BTreeMap<u64, mpsc::Sender<async_nats::Message>>,
    closed: bool,
}

/// One call. Dropping it forgets it; later answers are ignored.
pub(super) struct Call {
    calls: Arc<Calls>,
    token: u64,
    reply: async_nats::Subject,
    answers: mpsc::Receiver<async_nats::Message>,
}

impl Calls {
    /// A call that keeps at most `most` answers. `None` after the end.
    pub(super) fn open(self: &Arc<Self>, most: usize) -> Option<Call> {
        let mut waiting = self.lock();
        if waiting.closed {
            return None;
        }
        let token = waiting.next;
        waiting.next += 1;
        let (sender, answers) = mpsc::channel(most.max(1));
        waiting.calls.insert(token, sender);
        let reply = format!("{}{token}", waiting.inbox).into();
        Some(Call { calls: self.clone(), token, reply, answers })
    }

    /// Ends all calls: their next answer is "closed".
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.calls.clear();
    }

    fn deliver(&self, message: async_nats::Message) {
        let token = message.subject.rsplit_once('.').and_then(|(_, token)| token.parse::<u64>().ok());
        let waiting = self.lock();
        if let Some(call) = token.and_then(|token| waiting.calls.get(&token)) {
            // Full: more answers than were asked for. Nobody misses them.
            let _ = call.try_send(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Where the answers are to go.
    pub(super) fn reply(&self) -> async_nats::Subject {
        self.reply.clone()
    }

    /// The next answer; `None` if the Spine was closed.
    pub(super) async fn next(&mut self) -> Option<async_nats::Message> {
        self.answers.recv().await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.token);
    }
}

/// Subscribes to the inbox and hands answers to their calls. The subscription is queued before this first waits, so
/// that it stands before anything else is sent.
pub(super) fn pump(
    calls: Arc<Calls>,
    client: async_nats::Client,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send {
    let inbox = format!("{}.", client.new_inbox());
    let subscribed = client.subscribe(format!("{inbox}*")).now_or_never();
    calls.lock().inbox = inbox;
    // Always all at once: the client must not be able to read faster than this empties.
    tokio::task::unconstrained(async move {
        match subscribed {
            Some(Ok(mut inbox)) => {
                while let Some(message) = inbox.next().await {
                    calls.deliver(message);
                }
            }
            _ => tracing::error!("the NATS client did not take the inbox subscription: this connection is closed"),
        }
        calls.close();
        shared.close();
    })
}

/// A message to ourselves and back: the broker has handled all that this connection sent before.
///
/// The client has no ping that can be awaited. The user needs permission to publish below its own inbox.
pub(super) async fn round_trip(
    calls: &Arc<Calls>,
    client: &async_nats::Client,
    deadline: Instant,
) -> Result<(), CallError> {
    let Some(mut call) = calls.open(1) else { return Err(CallError::Closed) };
    let trip = async {
        let sent = client.publish(call.reply(), Bytes::new()).await;
        if sent.is_err() {
            return Err(CallError::Closed);
        }
        call.next().await.map(drop).ok_or(CallError::Closed)
    };
    timeout_at(deadline, trip).await.unwrap_or(Err(CallError::Timeout))
}
