//! How a [`Spine`](crate::Spine) connects: one set of options for both arms.

use std::time::Duration;

/// Options of one connection, which is one NATS user.
#[derive(Clone, Debug)]
pub struct SpineOptions {
    /// `nats://host:port`, tried in this order.
    pub urls: Vec<String>,
    /// The connection's name in the broker's lists.
    pub name: String,
    /// User and password, if the broker asks.
    pub credentials: Option<(String, String)>,
    /// Replies to this connection's own requests arrive below this prefix: `_INBOX.w.{node}`, `_INBOX.b.{node}`,
    /// `_INBOX.s.{node}`. Each node may subscribe to its own alone.
    pub inbox_prefix: String,
    /// The longest that `publish` waits to be queued and `append` waits for its PubAck.
    pub publish_timeout: Duration,
    /// How often the broker is pinged; two unanswered pings end the connection.
    pub ping_interval: Duration,
    /// The longest pause between two attempts to connect.
    pub reconnect_max: Duration,
    /// How many log streams there are (`LOG_0 … LOG_{logs-1}`): 1 in development, 8 in production.
    pub logs: u32,
}

impl SpineOptions {
    /// Defaults for a broker at `url`.
    pub fn new(url: impl Into<String>, name: impl Into<String>, inbox_prefix: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            name: name.into(),
            credentials: None,
            inbox_prefix: inbox_prefix.into(),
            publish_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(2),
            reconnect_max: Duration::from_secs(1),
            logs: 1,
        }
    }
}
