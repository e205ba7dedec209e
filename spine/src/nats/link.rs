//! The state that all clones share, the client's events, and the task that announces the link.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::connection::State;
use async_nats::{Client, Event, ServerError};
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use super::calls::{Calls, round_trip};
use super::registry::Registry;
use crate::{BrokerId, Link};

/// What all clones, the pumps and the client's callbacks share. Holds no client: those would keep each other alive.
pub(super) struct Shared {
    pub(super) link: watch::Sender<Link>,
    pub(super) subscriptions: Registry,
    closed: AtomicBool,
    was_connected: AtomicBool,
    // Something about the connection may have changed: look.
    look: Notify,
    // Set if the broker forbids messages to ourselves; without them nothing can be confirmed.
    mute: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            link: watch::Sender::new(Link::Down { since: now }),
            subscriptions: Registry::default(),
            closed: AtomicBool::new(false),
            was_connected: AtomicBool::new(false),
            look: Notify::new(),
            mute: Mutex::new(None),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn was_connected(&self) -> bool {
        self.was_connected.load(Ordering::Relaxed)
    }

    /// From now on every operation says "closed". True if this call did it.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Why messages to ourselves are forbidden, if they are.
    pub(super) fn mute(&self) -> Option<String> {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client's word. It may come late, and may be missing after a burst of others.
    pub(super) fn on_event(&self, event: Event) {
        match event {
            Event::Connected => {
                self.was_connected.store(true, Ordering::Relaxed);
                self.look.notify_one();
            }
            Event::Disconnected | Event::Closed => self.look.notify_one(),
            Event::SlowConsumer(_) => self.subscriptions.lose_everywhere(),
            Event::ServerError(error) => self.on_server_error(&error),
            Event::ClientError(error) => tracing::warn!(%error, "no connection to NATS"),
            Event::LameDuckMode => tracing::warn!("this NATS server is about to shut down"),
            Event::Draining => {}
        }
    }

    fn on_server_error(&self, error: &ServerError) {
        let text = error.to_string();
        match violation(&text) {
            Some(Violation::Subscribe(pattern)) => self.subscriptions.deny(pattern, &text),
            Some(Violation::Publish(subject)) if subject.starts_with("_INBOX.") => {
                tracing::error!(
                    text,
                    "if that is this connection's own inbox: grant its user to publish there, or no subscription can \
                     be confirmed"
                );
                *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            }
            _ => tracing::error!(text, "NATS refused something this connection did"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Violation<'a> {
    Publish(&'a str),
    Subscribe(&'a str),
}

/// `Permissions Violation for Subscription to "pattern" …`, in whatever case the server or the client writes it.
fn violation(text: &str) -> Option<Violation<'_>> {
    let what = text.split('"').nth(1)?;
    let lower = text.split('"').next()?.to_ascii_lowercase();
    if lower.contains("permissions violation for subscription to") {
        Some(Violation::Subscribe(what))
    } else if lower.contains("permissions violation for publish to") {
        Some(Violation::Publish(what))
    } else {
        None
    }
}

/// Watches the client and announces the link. "Connected" is said after a round trip on the new connection: then the
/// broker has made every subscription again, because the client sends those first.
pub(super) async fn supervise(client: Client, calls: Arc<Calls>, shared: Arc<Shared>, ping_interval: Duration) {
    let statistics = client.statistics();
    let connects = || statistics.connects.load(Ordering::Acquire);
    let (mut announced, mut generation) = (0, 0);
    loop {
        let up = client.connection_state() == State::Connected;
        let current = connects();
        if shared.link.borrow().is_up() && (!up || current != announced) {
            shared.link.send_replace(Link::Down { since: Instant::now() });
        }
        if up && current != announced && !shared.is_closed() {
            let deadline = Instant::now() + ping_interval.saturating_mul(4);
            let confirmed = tokio::select! {
                biased;
                confirmed = round_trip(&calls, &client, deadline) => confirmed.is_ok(),
                // An event: perhaps the connection is gone again.
                () = shared.look.notified() => false,
            };
            if confirmed && connects() == current && client.connection_state() == State::Connected {
                announced = current;
                generation += 1;
                let broker = BrokerId(client.server_info().server_id);
                shared.link.send_replace(Link::Connected { broker, generation });
            }
            // Look again at once: whatever ended the round trip may have changed the state.
            continue;
        }
        tokio::select! {
            biased;
            () = shared.look.notified() => {}
            // An event may have been lost.
            () = tokio::time::sleep(ping_interval) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_name_their_subject() {
        assert_eq!(
            violation("nats: Permissions Violation for Subscription to \"in.t.*.r.*\" using queue \"q\""),
            Some(Violation::Subscribe("in.t.*.r.*"))
        );
        assert_eq!(
            violation("nats: permissions violation for publish to \"log.1\""),
            Some(Violation::Publish("log.1"))
        );
        assert_eq!(violation("nats: authorization violation"), None);
        assert_eq!(violation("nats: maximum \"payload\" exceeded"), None);
    }
}
