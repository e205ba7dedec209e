//! From a published command to its answer. Each Shield owns `[shield] reply_slots` reply subjects, built once, under one wildcard
//! subscription; a command in flight holds one [`table`] slot. What was answered 503 waits in the room's [`stall`] and
//! is repeated, byte for byte, until somebody serves the room; 2 s in all, then Ack 6000.
//!
//! What the Shield itself asks (sync, get, open) does not carry a message id to match by, so each such [`Replies::call`]
//! has a reply subject of its own that is never used again.

mod ack;
mod call;
mod open;
mod stall;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::{Code, NodeId, Pattern, Subject};
use spine::{Delivery, Message, PublishError, Spine};
use tokio::time::Instant;
use voltron_core::mark;
use voltron_core::trace::{self, Hash16, Record};

use crate::health::Health;
use crate::meters::Meters;
use crate::rooms::Absent;

pub(crate) use ack::Answer;
pub(crate) use call::CallError;
pub(crate) use open::OpenOutcome;
use table::{Answered, Submitted, Table};
pub(crate) use table::{Form, Pending};

/// How much may be in flight at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Commands that wait for their answer.
    pub(crate) slots: u16,
    /// Questions of the Shield's own.
    pub(crate) questions: usize,
}

impl From<&voltron_core::config::Shield> for Sizes {
    fn from(config: &voltron_core::config::Shield) -> Self {
        let questions = usize::try_from(config.questions).unwrap_or(usize::MAX);
        Self { slots: u16::try_from(config.reply_slots).unwrap_or(u16::MAX), questions }
    }
}

/// Answers that may wait for the dispatcher.
const INBOX_CAPACITY: usize = 16_384;
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(50);

/// Everything in flight between this Shield and the Brains.
pub(crate) struct Replies<S> {
    spine: S,
    slots: Vec<Subject>,
    node: NodeId,
    table: Mutex<Table>,
    calls: call::Calls,
    answer_timeout: Duration,
    opens: open::Opens,
    health: Arc<Health>,
    absent: Arc<Absent>,
    meters: Meters,
    order: AtomicU64,
    started: Instant,
}

impl<S: Spine> Replies<S> {
    /// `incarnation` keeps the subjects of [`Replies::call`] apart from those of an earlier process of this name.
    #[allow(clippy::too_many_arguments, reason = "each is a part that the Shield injects, of a type of its own")]
    pub(crate) fn new(
        spine: S,
        node: NodeId,
        incarnation: u64,
        answer_timeout: Duration,
        sizes: Sizes,
        health: Arc<Health>,
        absent: Arc<Absent>,
        meters: Meters,
    ) -> Self {
        Self {
            spine,
            slots: (0..sizes.slots).map(|slot| Subject::reply_slot(&node, slot)).collect(),
            calls: call::Calls::new(&node, incarnation, sizes.questions),
            node,
            table: Mutex::new(Table::new(sizes.slots)),
            answer_timeout,
            opens: open::Opens::default(),
            health,
            absent,
            meters,
            order: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code panics while it holds this lock")
    }

    /// Milliseconds of this Shield's life, as routes remember them.
    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// The place of the next command in the order of arrival.
    pub(crate) fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a command on its way. Whatever becomes of it, the connection gets at most one answer, through its outbox.
    pub(crate) async fn submit(self: &Arc<Self>, pending: Pending) {
        if !self.health.serving() {
            return self.answer(&pending, &Answer::of(Code::Unavailable));
        }
        let submitted = self.table().submit(pending, Instant::now() + self.answer_timeout);
        match submitted {
            Submitted::Publish { slot, subject, body } => self.publish(slot, subject, body).await,
            Submitted::Waits => {}
            Submitted::Closed(pending) => self.answer(&pending, &Answer::of(Code::Unavailable)),
            Submitted::Busy(pending) => self.answer(&pending, &Answer::of(Code::Busy).later(1000)),
        }
    }

    async fn publish(self: &Arc<Self>, slot: u16, to: Subject, body: Bytes) {
        trace::emit(|| Record::Pub { subject: to.to_string(), h: Hash16::of(&body) });
        let Err(error) = self.spine.publish(&to, Some(&self.slots[usize::from(slot)]), body).await else { return };
        let answer = match error {
            PublishError::TooBig { .. } => Answer::of(Code::MessageTooBig),
            PublishError::Timeout | PublishError::Closed => Answer::of(Code::Unavailable),
        };
        // Nothing was sent, so the slot needs no rest.
        let taken = self.table().withdraw(slot);
        if let Some(pending) = taken {
            self.answer(&pending, &answer);
        }
    }

    /// Tells the client, unless success was not asked for.
    fn answer(&self, pending: &Pending, answer: &Answer) {
        self.meters.acks.get_or_create(&crate::meters::CodeLabel { code: u32::from(answer.code()) }).inc();
        // Every command has one answer, and a timeout is one: left out, the worst would look like the best.
        self.meters.ack_seconds.observe(pending.since.elapsed().as_secs_f64());
        if answer.code() != 0 || pending.ack_requested {
            ack::push(pending, answer);
        }
    }

    /// Runs until the Spine closes: hands answers to their connections.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let pattern = Pattern::reply_slots(&self.node);
            match self.spine.subscribe(&pattern, None, INBOX_CAPACITY).await {
                Ok(mut inbox) => {
                    self.health.inbox_ready();
                    while let Some(delivery) = inbox.next().await {
                        match delivery {
                            Delivery::Msg(message) => self.on_message(message),
                            Delivery::Lost(n) => {
                                mark!("spine.delivery-lost");
                                self.meters.answers_lost.inc_by(n);
                            }
                        }
                    }
                    return;
                }
                Err(spine::SubscribeError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe to the answers; trying again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    fn on_message(self: &Arc<Self>, message: Message) {
        let Some(slot) = message.subject.slot_of(&self.node).filter(|slot| usize::from(*slot) < self.slots.len())
        else {
            return self.calls.answered(message);
        };
        let now = Instant::now();
        let (mut code, mut head) = (0, (0, 0));
        let answered = if message.status == Some(503) {
            self.table().no_responders(slot, now)
        } else {
            let Some(brief) = ack::brief(&message.body) else {
                self.meters.answers_stray.inc();
                return;
            };
            (code, head) = (brief.code, brief.head);
            self.table().answered(slot, &brief)
        };
        match answered {
            Answered::Stray => {
                self.meters.answers_stray.inc();
            }
            Answered::Done { pending, overtaken } => {
                pending.route.owner_spoke(self.since_start(now));
                if code != u32::from(Code::RoomAbsent.as_u16()) {
                    self.absent.served(&pending.route.key);
                }
                if code == 0 && head.1 > 0 {
                    // Before the client can know, and subscribe.
                    pending.route.stored(head.0, head.1);
                }
                self.answer(&pending, &Answer::Forward(message.body));
                for earlier in overtaken {
                    self.answer(&earlier, &Answer::of(Code::Unavailable));
                }
            }
            Answered::Stalled { begin: Some(route) } => {
                let this = self.clone();
                voltron_core::tasks::spawn(async move { this.unstall(route).await });
            }
            Answered::Stalled { begin: None } => {}
            Answered::Late(pending) => self.answer(&pending, &Answer::of(Code::Unavailable)),
        }
    }

    /// Runs for ever: answers what waited too long with 6001, frees slots that rested.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP.min(self.answer_timeout / 4)).await;
            self.expire(Instant::now());
        }
    }

    fn expire(&self, now: Instant) {
        let late = self.table().sweep(now);
        for pending in late {
            mark!("shield.outcome-unknown");
            self.meters.outcome_unknown.inc();
            self.answer(&pending, &Answer::of(Code::OutcomeUnknown));
            self.health.unanswered(&pending.route.key);
        }
    }

    /// Takes no command any more (6000, surely not applied), so that those in flight come to an end.
    pub(crate) fn close(&self) {
        self.table().close();
    }

    /// Tells the meters what is held here.
    pub(crate) fn measure(&self) {
        let gauge = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        self.meters.slots_held.set(gauge(self.table().held()));
        self.meters.questions.set(gauge(self.calls.len()));
        self.meters.opens.set(gauge(self.opens.len()));
    }

    /// Commands whose answer is not in their connection's queue yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.table().in_flight()
    }
}

#[cfg(test)]
mod tests;
