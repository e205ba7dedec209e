//! How a [`Spine`](crate::Spine) connects: one set of options for both arms.

use std::time::Duration;

use crate::users::{JETSTREAM_API, UserSpec};

/// Options of one connection, which is one NATS user.
#[derive(Clone, Debug)]
pub struct SpineOptions {
    /// `nats://host:port`, tried in this order.
    pub urls: Vec<String>,
    /// The connection's name in the broker's lists.
    pub name: String,
    /// User and password, if the broker asks.
    pub credentials: Option<(String, String)>,
    /// Refuse a broker without TLS. Its certificate is checked against the system's roots.
    pub tls: bool,
    /// Replies to this connection's own requests arrive below this prefix: `_INBOX.w.{node}`, `_INBOX.b.{node}`,
    /// `_INBOX.s.{node}`. Each node may subscribe to its own alone.
    pub inbox_prefix: String,
    /// The longest that `publish` waits to be queued and `append` waits for its PubAck.
    pub publish_timeout: Duration,
    /// How often the broker is pinged; two unanswered pings end the connection.
    pub ping_interval: Duration,
    /// The longest pause between two attempts to connect.
    pub reconnect_max: Duration,
    /// Where JetStream's API begins for this user, without the last dot: [`Account::api`](crate::users::Account::api).
    pub api: String,
    /// How many log streams there are (`LOG_0 … LOG_{logs-1}`): 1 in development, 8 in production.
    pub logs: u32,
}

impl SpineOptions {
    /// Defaults for a broker at `url` that has no users.
    pub fn new(url: impl Into<String>, name: impl Into<String>, inbox_prefix: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            name: name.into(),
            credentials: None,
            tls: false,
            inbox_prefix: inbox_prefix.into(),
            publish_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(2),
            reconnect_max: Duration::from_secs(1),
            api: JETSTREAM_API.into(),
            logs: 1,
        }
    }

    /// Defaults for this user of a broker at `url`.
    pub fn of_user(url: impl Into<String>, user: &UserSpec, inbox_prefix: impl Into<String>) -> Self {
        Self {
            credentials: Some(user.credentials()),
            api: user.account.api().into(),
            ..Self::new(url, &user.name, inbox_prefix)
        }
    }

    /// Says what is wrong with the options, in words for the operator.
    pub fn check(&self) -> Result<(), String> {
        if self.urls.is_empty() {
            return Err("no URL of a NATS server: give at least one as nats://host:port".into());
        }
        self.urls.iter().try_for_each(|url| voltron_core::config::nats_url(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        let check = |url: &str| SpineOptions::new(url, "n", "_INBOX.b.n").check();
        for good in ["nats://127.0.0.1:4222", "nats://localhost", "tls://a.example:4443/", "nats://[::1]:4222"] {
            check(good).unwrap();
        }
        for bad in ["", "localhost:4222", "http://localhost:4222", "nats://", "nats://h:x", "nats://h:0", "nats://h/p"]
        {
            assert!(check(bad).unwrap_err().contains("nats://host:port"), "{bad}");
        }
    }
}
