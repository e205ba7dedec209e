//! Where one room's messages go: subjects built once, cloned without allocation.

use proto::{RoomKey, Subject};

/// The subjects of one room.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) key: RoomKey,
    /// `in.…`
    pub(crate) input: Subject,
    /// `open.t.…` of its tenant.
    pub(crate) open: Subject,
}

impl Route {
    pub(crate) fn new(key: RoomKey) -> Self {
        Self { input: Subject::input(&key), open: Subject::open(&key.tenant), key }
    }
}
