//! A token that a client presents on its living connection (AUTH): one that holds, or one that must be refused.

use proto::Code;
use voltron_core::trace::{self, Record};

/// Such a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// What it is.
    pub what: &'static str,
    /// The token.
    pub token: String,
    /// What answers it; 0: it is accepted.
    pub code: u16,
}

impl Renewal {
    /// Records that this client presents it, and what it must be told: or that it asks too often.
    pub(super) fn told_as(&self, c: &str) {
        trace::emit(|| Record::Bad {
            c: c.to_owned(),
            m: String::new(),
            what: self.what.to_owned(),
            codes: vec![self.code, Code::RateLimited.as_u16()],
        });
    }
}
