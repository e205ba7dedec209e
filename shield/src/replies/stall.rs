//! A room that nobody serves. The first command is repeated after 5, 20, 80 and 320 ms, then the room is opened and it
//! is repeated again; once it is taken, the ones behind it follow in order. Nothing waits longer than the answer
//! timeout: then Ack 6000, surely not applied.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::{Code, internal};
use spine::Spine;
use tokio::time::Instant;
use voltron_core::mark;

use super::table::{Next, Probed};
use super::{Answer, CallError, Replies};
use crate::route::Route;

/// Pauses before the repeats.
const PAUSES_MS: [u64; 4] = [5, 20, 80, 320];
/// Pause between two attempts after the room was opened.
const PAUSE_OPENED: Duration = Duration::from_millis(20);

/// What became of an open.
#[derive(Clone, Debug)]
pub(crate) enum OpenOutcome {
    /// Somebody serves the room.
    Served,
    /// Refused for good, e.g. 5001.
    Refused(Code, String),
    /// Nobody could be asked, or it came to nothing.
    Unavailable,
}

impl<S: Spine> Replies<S> {
    /// Asks for a room to be opened.
    pub(crate) async fn open(
        &self,
        route: &Route,
        create: bool,
        suspect: Option<(String, u64)>,
        limit: Duration,
    ) -> OpenOutcome {
        mark!("shield.open-room");
        let (suspect_node, suspect_term) = suspect.unwrap_or_default();
        let open = internal::Open {
            room: route.key.room.to_string(),
            create,
            suspect_node,
            suspect_term,
            tenant: String::new(),
        };
        match self.call(&route.open, open.encode_to_vec().into(), limit).await {
            Ok(body) => match internal::Opened::decode(body) {
                Ok(opened) if opened.code == 0 => OpenOutcome::Served,
                Ok(opened) => match u16::try_from(opened.code).ok().and_then(Code::from_u16) {
                    Some(code) if code.as_u16() < 6000 => OpenOutcome::Refused(code, opened.message),
                    _ => OpenOutcome::Unavailable,
                },
                Err(_) => OpenOutcome::Unavailable,
            },
            Err(CallError::NoResponders | CallError::Timeout | CallError::Unavailable | CallError::Busy) => {
                OpenOutcome::Unavailable
            }
        }
    }

    /// Runs from the first 503 of a room until nothing waits for it any more.
    pub(super) async fn unstall(self: Arc<Self>, route: Arc<Route>) {
        let mut step = 0;
        loop {
            match PAUSES_MS.get(step) {
                Some(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                None => {
                    if step > PAUSES_MS.len() {
                        tokio::time::sleep(PAUSE_OPENED).await;
                    }
                    self.open_for_head(&route).await;
                }
            }
            step += 1;
            for old in self.expired(&route) {
                self.answer(&old, &Answer::of(Code::Unavailable));
            }
            let next = self.table().next(&route, Instant::now() + self.answer_timeout);
            match next {
                Next::Over => return,
                Next::NotYet => {}
                Next::Probe { slot, subject, body, outcome } => {
                    self.publish(slot, subject, body).await;
                    if matches!(outcome.await, Ok(Probed::Served)) {
                        if self.let_go(&route).await {
                            return;
                        }
                        step = 0;
                    }
                }
            }
        }
    }

    /// The room is served: the others follow, in order, without waiting for each other. One that meets a 503 all the
    /// same comes back to the stall; had a later one been applied meanwhile, it is given up. True: none is left.
    async fn let_go(self: &Arc<Self>, route: &Route) -> bool {
        loop {
            let next = self.table().next(route, Instant::now() + self.answer_timeout);
            match next {
                Next::Over => return true,
                Next::NotYet => return false,
                Next::Probe { slot, subject, body, .. } => self.publish(slot, subject, body).await,
            }
        }
    }

    fn expired(&self, route: &Route) -> Vec<super::Pending> {
        let Some(before) = Instant::now().checked_sub(self.answer_timeout) else { return Vec::new() };
        self.table().expire(&route.key, before)
    }

    async fn open_for_head(&self, route: &Route) {
        let Some((create, since)) = self.table().head(&route.key) else { return };
        let left = (since + self.answer_timeout).saturating_duration_since(Instant::now());
        match self.open(route, create, None, left).await {
            OpenOutcome::Served => {}
            OpenOutcome::Unavailable => tokio::time::sleep(Duration::from_millis(50)).await,
            OpenOutcome::Refused(code, text) => {
                // Meant for the first one; the next may hold the right to create.
                let head = self.table().pop(&route.key);
                if let Some(pending) = head {
                    self.answer(&pending, &Answer::Own { code, text, retry_after_ms: 0 });
                }
            }
        }
    }
}
