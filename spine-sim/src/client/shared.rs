//! What a connection's tasks and its callers share: subscriptions, requests under way, bytes that must go first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use proto::Subject;
use spine::{Message, SpineOptions, StreamSeq, SubscribeError};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::parser::Delivered;
use super::sub::Buffer;
use crate::wire;
use spine::Link;

/// The subscription that answers to this connection's own requests arrive on.
const MUX_SID: u64 = 1;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) options: SpineOptions,
    /// Answers arrive on `{mux}.{token}`.
    pub(super) mux: String,
    state: Mutex<State>,
    /// Rung when `control` has something for the writer.
    pub(super) bell: Notify,
    pub(super) link: watch::Sender<Link>,
    pub(super) max_payload: AtomicUsize,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    generation: u64,
    subs: BTreeMap<u64, Sub>,
    last_sid: u64,
    pending: BTreeMap<u64, Pending>,
    last_token: u64,
    /// Bytes that do not queue behind publishes: SUB, UNSUB, PING, PONG.
    control: BytesMut,
    pings_sent: u64,
    pongs_seen: u64,
    /// PINGs on the clock since the last PONG. What waits for a subscription's confirmation is sent in bursts, and is no
    /// sign of a silent broker.
    pings_unheard: u64,
    /// Which PONG confirms which subscription.
    confirms: VecDeque<Confirm>,
}

#[derive(Debug)]
struct Sub {
    pattern: Bytes,
    queue: Option<String>,
    buffer: Arc<Buffer>,
}

#[derive(Debug)]
struct Confirm {
    ping: u64,
    sid: u64,
    tell: oneshot::Sender<Result<(), SubscribeError>>,
}

/// Who waits for answers.
#[derive(Debug)]
struct Pending {
    tell: mpsc::Sender<Delivered>,
    /// Given up when the connection is lost: whether it was stored is then unknown.
    append: bool,
}

/// Withdraws a request when its caller no longer waits.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    token: u64,
    pub(super) reply: Bytes,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.lock().pending.remove(&self.token);
    }
}

impl Shared {
    pub(super) fn new(options: SpineOptions, id: u64, link: watch::Sender<Link>) -> Self {
        let mux = format!("{}.{id:016x}", options.inbox_prefix);
        let state = State { last_sid: MUX_SID, ..State::default() };
        Self {
            options,
            mux,
            state: Mutex::new(state),
            bell: Notify::new(),
            link,
            max_payload: AtomicUsize::new(1024 * 1024),
            closing: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more is taken from callers.
    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// The connection that stands now.
    pub(super) fn generation(&self) -> Option<u64> {
        let state = self.lock();
        state.connected.then_some(state.generation)
    }

    /// Waits until [`Self::start_closing`].
    pub(super) async fn closing(&self) {
        // The sender lives in this very value, so the wait cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    pub(super) fn start_closing(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    // === requests ===

    /// Registers a request; its reply subject stands in the ticket.
    pub(super) fn expect(self: &Arc<Self>, tell: mpsc::Sender<Delivered>, append: bool) -> Ticket {
        let mut state = self.lock();
        state.last_token += 1;
        let token = state.last_token;
        state.pending.insert(token, Pending { tell, append });
        Ticket { shared: self.clone(), token, reply: Bytes::from(format!("{}.{token}", self.mux)) }
    }

    fn answer(&self, state: &State, message: Delivered) {
        let token = message.subject.strip_prefix(self.mux.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let Some(token) = token.and_then(wire::number) else { return };
        if let Some(pending) = state.pending.get(&token) {
            // Full: more answers than were asked for. Nobody misses them.
            let _ = pending.tell.try_send(message);
        }
    }

    // === subscriptions ===

    /// Registers a subscription and asks for it now, or at the next connect.
    pub(super) fn subscribe(
        &self,
        pattern: Bytes,
        queue: Option<&str>,
        buffer: Arc<Buffer>,
        tell: oneshot::Sender<Result<(), SubscribeError>>,
    ) -> u64 {
        let mut state = self.lock();
        state.last_sid += 1;
        let sid = state.last_sid;
        let sub = Sub { pattern, queue: queue.map(Into::into), buffer };
        let mut ping = u64::MAX;
        if state.connected {
            put_sub(&mut state.control, sid, &sub);
            state.control.put_slice(b"PING\r\n");
            state.pings_sent += 1;
            ping = state.pings_sent;
        }
        state.subs.insert(sid, sub);
        state.confirms.push_back(Confirm { ping, sid, tell });
        drop(state);
        self.bell.notify_one();
        sid
    }

    pub(super) fn unsubscribe(&self, sid: u64) {
        let mut state = self.lock();
        let known = state.subs.remove(&sid).is_some();
        state.confirms.retain(|confirm| confirm.sid != sid);
        if known && state.connected {
            state.control.put_slice(b"UNSUB ");
            wire::put_number(&mut state.control, sid);
            state.control.put_slice(b"\r\n");
            drop(state);
            self.bell.notify_one();
        }
    }

    // === the connection's side ===

    /// Connected: what must be sent before anything else, every subscription among it.
    pub(super) fn up(&self, out: &mut BytesMut) {
        let mut state = self.lock();
        state.connected = true;
        state.generation += 1;
        state.control.clear();
        put_sub(
            out,
            MUX_SID,
            &Sub { pattern: Bytes::from(format!("{}.*", self.mux)), queue: None, buffer: Arc::new(Buffer::new(0)) },
        );
        for (sid, sub) in &state.subs {
            put_sub(out, *sid, sub);
        }
        out.put_slice(b"PING\r\n");
        state.pings_sent = 1;
        state.pongs_seen = 0;
        state.pings_unheard = 0;
        for confirm in &mut state.confirms {
            confirm.ping = 1;
        }
    }

    /// Disconnected: what waited to be written is lost, and appends under way are unknown.
    pub(super) fn down(&self) {
        let mut state = self.lock();
        state.connected = false;
        state.control.clear();
        for confirm in &mut state.confirms {
            confirm.ping = u64::MAX;
        }
        state.pending.retain(|_, pending| !pending.append);
    }

    /// Closed for good: everybody who waits is told.
    pub(super) fn close(&self) {
        self.start_closing();
        let mut state = self.lock();
        state.connected = false;
        for sub in std::mem::take(&mut state.subs).into_values() {
            sub.buffer.end();
        }
        for confirm in state.confirms.drain(..) {
            drop(confirm.tell.send(Err(SubscribeError::Closed)));
        }
        state.pending.clear();
    }

    /// Moves what must go first behind what is being written.
    pub(super) fn take_control(&self, out: &mut BytesMut) {
        let mut state = self.lock();
        if !state.control.is_empty() {
            out.put_slice(&state.control);
            state.control.clear();
        }
    }

    /// Asks the broker for a sign of life. Returns how many pings wait for their PONG.
    pub(super) fn ping(&self) -> u64 {
        let mut state = self.lock();
        state.pings_sent += 1;
        state.pings_unheard += 1;
        state.control.put_slice(b"PING\r\n");
        state.pings_unheard
    }

    pub(super) fn pinged(&self) {
        self.lock().control.put_slice(b"PONG\r\n");
        self.bell.notify_one();
    }

    pub(super) fn ponged(&self) {
        let mut state = self.lock();
        state.pongs_seen += 1;
        state.pings_unheard = 0;
        let seen = state.pongs_seen;
        let mut waiting = VecDeque::new();
        for confirm in std::mem::take(&mut state.confirms) {
            if confirm.ping <= seen {
                drop(confirm.tell.send(Ok(())));
            } else {
                waiting.push_back(confirm);
            }
        }
        state.confirms = waiting;
    }

    /// The broker refused a subscription: whoever waits for one to that pattern is told.
    pub(super) fn refused(&self, text: &str) {
        let Some(pattern) = text.strip_prefix("Permissions Violation for Subscription to \"") else { return };
        let Some((pattern, _)) = pattern.split_once('"') else { return };
        let mut state = self.lock();
        let at = state
            .confirms
            .iter()
            .position(|confirm| state.subs.get(&confirm.sid).is_some_and(|sub| sub.pattern == pattern.as_bytes()));
        if let Some(confirm) = at.and_then(|at| state.confirms.remove(at)) {
            state.subs.remove(&confirm.sid);
            drop(confirm.tell.send(Err(SubscribeError::Denied(text.into()))));
            return;
        }
        // None waits: permissions have changed since, and the subscription ends.
        state.subs.retain(|_, sub| {
            let denied = sub.pattern == pattern.as_bytes();
            if denied {
                sub.buffer.end();
            }
            !denied
        });
    }

    /// Hands a message to whoever subscribed.
    pub(super) fn deliver(&self, message: Delivered) {
        let state = self.lock();
        if message.sid == MUX_SID {
            self.answer(&state, message);
            return;
        }
        let Some(buffer) = state.subs.get(&message.sid).map(|sub| sub.buffer.clone()) else { return };
        drop(state);
        match into_message(message) {
            Some(message) => buffer.push(message),
            None => tracing::debug!("a message on a subject that is none: dropped"),
        }
    }
}

/// As the trait shows it; `None` if the subject is none of ours.
pub(super) fn into_message(message: Delivered) -> Option<Message> {
    Some(Message {
        subject: Subject::from_wire(message.subject).ok()?,
        reply: match message.reply {
            Some(reply) => Some(Subject::from_wire(reply).ok()?),
            None => None,
        },
        status: wire::status(&message.header).map(|(code, _)| code),
        stream_seq: wire::header(&message.header, "Nats-Sequence").and_then(wire::number).map(StreamSeq),
        body: message.body,
    })
}

fn put_sub(out: &mut BytesMut, sid: u64, sub: &Sub) {
    out.put_slice(b"SUB ");
    out.put_slice(&sub.pattern);
    if let Some(queue) = &sub.queue {
        out.put_u8(b' ');
        out.put_slice(queue.as_bytes());
    }
    out.put_u8(b' ');
    wire::put_number(out, sid);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_subscriptions_is_no_silent_broker() {
        let (link, _) = watch::channel(Link::Down { since: tokio::time::Instant::now() });
        let shared = Shared::new(SpineOptions::new("nats://127.0.0.1:1", "test", "_INBOX.s.test"), 1, link);
        shared.up(&mut BytesMut::new());
        shared.ponged();
        for n in 0..8 {
            let (tell, _) = oneshot::channel();
            shared.subscribe(Bytes::from(format!("live.{n}")), None, Arc::new(Buffer::new(1)), tell);
        }
        assert_eq!(shared.ping(), 1, "what is on its way was sent just now");
        assert_eq!((shared.ping(), shared.ping()), (2, 3));
        shared.ponged();
        assert_eq!(shared.ping(), 1, "any PONG is a sign of life");
    }
}
