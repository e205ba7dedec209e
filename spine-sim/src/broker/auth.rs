//! Users and what each may publish and subscribe to, with nats-server's meaning of allow and deny.

use spine::users::Account;

use crate::subject::{covers, has_wildcard, overlap};

/// Subjects allowed and denied. An empty `allow` allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Patterns allowed.
    pub allow: Vec<String>,
    /// Patterns denied, whatever `allow` says.
    pub deny: Vec<String>,
}

/// A user of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The account whose subjects these are.
    pub account: Account,
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Where it may publish.
    pub publish: Access,
    /// Where it may subscribe.
    pub subscribe: Access,
}

impl User {
    /// A user who may do everything where the streams are.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            account: Account::Log,
            name: name.into(),
            password: password.into(),
            publish: Access::default(),
            subscribe: Access::default(),
        }
    }
}

impl From<&spine::UserSpec> for User {
    fn from(spec: &spine::UserSpec) -> Self {
        Self {
            account: spec.account,
            name: spec.name.clone(),
            password: spec.password.clone(),
            publish: Access::only(spec.publish.iter().cloned()),
            subscribe: Access::only(spec.subscribe.iter().cloned()),
        }
    }
}

impl Access {
    /// Only these patterns.
    pub fn only<T: Into<String>>(allow: impl IntoIterator<Item = T>) -> Self {
        Self { allow: allow.into_iter().map(Into::into).collect(), deny: Vec::new() }
    }

    fn allows(&self, subject: &[u8]) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|pattern| covers(pattern.as_bytes(), subject))
    }

    fn denies(&self, subject: &[u8]) -> bool {
        self.deny.iter().any(|pattern| covers(pattern.as_bytes(), subject))
    }

    /// May this literal subject be published to?
    pub(crate) fn may_publish(&self, subject: &[u8]) -> bool {
        self.allows(subject) && !self.denies(subject)
    }

    /// May this pattern be subscribed to?
    pub(crate) fn may_subscribe(&self, pattern: &[u8]) -> bool {
        self.allows(pattern) && !self.denies(pattern)
    }

    /// True if deliveries to this allowed pattern must be checked one by one, because a denied pattern overlaps it.
    pub(crate) fn must_filter(&self, pattern: &[u8]) -> bool {
        has_wildcard(pattern) && self.deny.iter().any(|denied| overlap(denied.as_bytes(), pattern))
    }

    /// May this message be delivered to a subscription that [`Self::must_filter`]?
    pub(crate) fn may_receive(&self, subject: &[u8]) -> bool {
        !self.denies(subject)
    }
}
