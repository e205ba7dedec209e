//! A room that nobody serves. Its first command is repeated after 5, 20, 80 and 320 ms; then the room is opened, and it
//! is repeated again. Whoever has no sign that the room had an owner a moment ago asks for the open at once, beside the
//! repeats, and repeats as soon as that is answered: else the first message into a room would wait for all of them in
//! vain. Once the command is taken, the ones behind it follow in order. Nothing waits longer than the answer timeout:
//! then Ack 6000, surely not applied.

use std::sync::Arc;
use std::time::Duration;

use proto::Code;
use spine::Spine;
use tokio::time::Instant;

use super::table::{Head, Next, Probed};
use super::{Answer, OpenOutcome, Replies};
use crate::route::Route;

/// Pauses before the repeats.
const PAUSES_MS: [u64; 4] = [5, 20, 80, 320];
/// Pause between two attempts after the room was opened.
const PAUSE_OPENED: Duration = Duration::from_millis(20);
/// Pause after an open that came to nothing.
const PAUSE_UNAVAILABLE: Duration = Duration::from_millis(50);
/// How long an answer is a sign of a living owner, in ms: as long as a Brain may be silent before it is taken for dead.
const OWNER_KNOWN_MS: u64 = 3000;

impl<S: Spine> Replies<S> {
    /// Runs from the first 503 of a room until nothing waits for it any more.
    pub(super) async fn unstall(self: Arc<Self>, route: Arc<Route>) {
        // An owner that has just answered is handing the room over, or a server of the cluster has not heard of its
        // subscription yet: both are over in a moment.
        let known = route.owner_known(self.since_start(Instant::now()), OWNER_KNOWN_MS);
        let open = || Box::pin(self.open_for_head(&route));
        let mut opening = (!known).then(open);
        let mut step = 0;
        loop {
            let opened = match (PAUSES_MS.get(step), &mut opening) {
                (Some(ms), None) => {
                    step += 1;
                    tokio::time::sleep(Duration::from_millis(*ms)).await;
                    None
                }
                (Some(ms), Some(opening)) => tokio::select! {
                    biased;
                    opened = opening => Some(opened),
                    () = tokio::time::sleep(Duration::from_millis(*ms)) => {
                        step += 1;
                        None
                    }
                },
                (None, opening) => {
                    if step > PAUSES_MS.len() {
                        tokio::time::sleep(PAUSE_OPENED).await;
                    }
                    step += 1;
                    Some(opening.get_or_insert_with(open).await)
                }
            };
            match opened {
                None => {}
                Some(Opened::Refused) => opening = Some(open()),
                Some(Opened::Served | Opened::Unavailable) => opening = None,
            }
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

    fn expired(&self, route: &Route) -> Vec<super::table::Taken> {
        let Some(before) = Instant::now().checked_sub(self.answer_timeout) else { return Vec::new() };
        self.table().expire(&route.key, before)
    }

    async fn open_for_head(self: &Arc<Self>, route: &Route) -> Opened {
        let Some(Head { order, create, since }) = self.table().head(&route.key) else { return Opened::Unavailable };
        let left = (since + self.answer_timeout).saturating_duration_since(Instant::now());
        match self.open(route, create, None, left).await {
            OpenOutcome::Served => Opened::Served,
            OpenOutcome::Unavailable => {
                tokio::time::sleep(PAUSE_UNAVAILABLE).await;
                Opened::Unavailable
            }
            OpenOutcome::Refused(code, text) => {
                // Meant for the one that stood first then; the next may hold the right to create.
                let refused = self.table().pop_if(&route.key, order);
                if let Some(pending) = refused {
                    self.answer(&pending, &Answer::Own { code, text, retry_after_ms: 0 });
                }
                Opened::Refused
            }
        }
    }
}

/// What became of an open for the first command of a stall.
enum Opened {
    Served,
    /// The command was refused: another stands first now.
    Refused,
    Unavailable,
}
