//! The thin shell around a room's core: turns deliveries, answers and timers into inputs, and effects into calls.

mod ask;
mod perform;
mod seat;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::{Code, Pattern, Subject};
use spine::{Delivery, Spine};
use tokio::sync::mpsc;
use tokio::time::Instant;
use voltron_core::{Ids, WallClock, mark, mutant};

use super::core::{Core, Input, SubId};
use super::entry::{Entry, LiveBatch};
use super::{Ask, Rooms};
use crate::outbox::Frame;
use crate::replies::OpenOutcome;
use crate::route::Route;
use crate::shared::Shared;
pub(crate) use ask::Asker;
pub(crate) use ask::owner as ask_owner;
use seat::refuse;
pub(crate) use seat::{Dialect, Joiner, come_again};

/// Deliveries that may wait for one room's task.
const CAPACITY: usize = 1024;
/// Over how long the rooms of a silent Brain are opened, in ms: not all in one moment.
const SPREAD_MS: u64 = 500;
/// How often such an open is tried, and the pause between.
const REOPENS_MAX: u32 = 5;
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// How long a Spine subscription may take.
const SUBSCRIBE: Duration = Duration::from_secs(2);
/// For so many answer timeouts a room's SUBs wait for an owner: longer than it takes until another Brain has taken over.
const PATIENCE: u64 = 5;

struct Room<S: Spine, C, I> {
    shared: Arc<Shared<S, C, I>>,
    route: Arc<Route>,
    log: Subject,
    core: Core,
    /// Zero of the core's clock.
    started: Instant,
    seats: BTreeMap<SubId, Joiner>,
    deliveries: Option<S::Sub>,
    results: mpsc::UnboundedSender<Input>,
    /// What the gauge holds of this room's SUBs that wait.
    waiting: i64,
    /// In whose name the room's own last question was asked.
    asked_by: SubId,
    /// The event rendered last, for subscribers that want JSON.
    rendered: Option<(Bytes, Frame)>,
}

/// Runs one room until nobody has been subscribed for the linger time.
pub(super) async fn run<S: Spine, C: WallClock, I: Ids>(
    shared: Arc<Shared<S, C, I>>,
    route: Arc<Route>,
    mut asks: mpsc::Receiver<Ask>,
) {
    // Unbounded in type only: each spawned question sends one result, and those are bounded by the subscriptions.
    let (results, mut done) = mpsc::unbounded_channel();
    let log = Subject::log(&route.key);
    let mut room = Room {
        log,
        core: Core::new(shared.config.shield.answer_timeout_ms.saturating_mul(PATIENCE)),
        started: Instant::now(),
        seats: BTreeMap::new(),
        deliveries: None,
        results,
        waiting: 0,
        asked_by: 0,
        rendered: None,
        route,
        shared,
    };
    let linger = Duration::from_millis(room.shared.config.shield.linger_ms);
    let mut alone_since = Instant::now();
    loop {
        if !room.core.is_empty() {
            alone_since = Instant::now();
        }
        let alone = room.core.is_empty();
        tokio::select! {
            biased;
            Some(input) = done.recv() => room.step(input),
            Some(ask) = asks.recv() => room.on_ask(ask, &mut asks).await,
            delivery = next(&mut room.deliveries) => {
                room.on_delivery(delivery);
                if mutant!(ReaderBlocksFanOut) {
                    wait_for_all(&room.seats).await;
                }
            }
            () = tokio::time::sleep_until(alone_since + linger), if alone => {
                match Rooms::retire(&room.shared.rooms, &room.route.key, &mut asks) {
                    Ok(()) => break,
                    Err(ask) => room.on_ask(ask, &mut asks).await,
                }
            }
        }
    }
    if mutant!(SubscriptionLeaked) {
        std::mem::forget(room.deliveries.take());
    }
    room.shared.meters.rooms.dec();
}

/// The planted bug: nobody gets the next event before everybody has this one.
async fn wait_for_all(seats: &BTreeMap<SubId, Joiner>) {
    while seats.values().any(|seat| seat.outbox.ending().is_none() && seat.outbox.depth().1 > 4) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn next<D: futures_util::Stream<Item = Delivery> + Unpin>(deliveries: &mut Option<D>) -> Option<Delivery> {
    match deliveries {
        Some(deliveries) => deliveries.next().await,
        None => std::future::pending().await,
    }
}

impl<S: Spine, C: WallClock, I: Ids> Room<S, C, I> {
    fn step(&mut self, input: Input) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for effect in self.core.step(now_ms, input) {
            self.perform(effect);
        }
        let waiting = i64::try_from(self.core.waiting()).unwrap_or(i64::MAX);
        self.shared.meters.subs_waiting.inc_by(waiting - self.waiting);
        self.waiting = waiting;
    }

    fn leave(&mut self, id: SubId) {
        if self.seats.remove(&id).is_some() {
            self.shared.meters.subscriptions.dec();
        }
        self.step(Input::Leave { id });
    }

    async fn on_ask(&mut self, ask: Ask, more: &mut mpsc::Receiver<Ask>) {
        if let Ask::Join(joiner) = ask {
            let Err(joiner) = self.join(*joiner).await else { return };
            let text = "this Shield cannot follow the room now; try again";
            self.turn_away(&joiner, Code::Unavailable, text);
            // Each of those behind it would wait for as long, and in vain.
            while let Ok(ask) = more.try_recv() {
                match ask {
                    Ask::Join(joiner) => self.turn_away(&joiner, Code::Unavailable, text),
                    other => self.on_word(other),
                }
            }
            return;
        }
        self.on_word(ask);
    }

    fn on_word(&mut self, ask: Ask) {
        match ask {
            Ask::Join(_) => {}
            Ask::Leave(id) => self.leave(id),
            Ask::Tail { epoch, term, pos, node } => {
                self.shared.absent.served(&self.route.key);
                self.step(Input::Tail { epoch, term, pos, node });
            }
            Ask::Relink(of) => {
                let owner = self.core.owner.as_ref();
                if of.is_none_or(|node| owner.is_none_or(|(owner, _)| **owner == *node)) {
                    self.step(Input::Lost);
                }
            }
            Ask::Silent(brain) => {
                let owner = self.core.owner.clone();
                if owner.as_ref().is_none_or(|(node, _)| **node == *brain) {
                    // Of an unknown owner nothing is said: an open that a living one answers does no harm.
                    self.reopen(owner, SPREAD_MS);
                }
            }
            Ask::Unanswered(silent) => {
                let owner = self.core.owner.clone().filter(|(node, _)| silent.contains(node));
                self.reopen(owner, 0);
            }
        }
    }

    /// Has the room opened, naming who may be dead, until somebody answers: a Brain may not agree at once.
    fn reopen(&self, suspect: Option<(String, u64)>, spread_ms: u64) {
        let (shared, route) = (self.shared.clone(), self.route.clone());
        voltron_core::tasks::spawn(async move {
            tokio::time::sleep(Duration::from_millis(shared.below("reopen", spread_ms))).await;
            let limit = Duration::from_millis(shared.config.shield.answer_timeout_ms);
            for _ in 0..REOPENS_MAX {
                match shared.replies.open(&route, false, suspect.clone(), limit).await {
                    OpenOutcome::Served | OpenOutcome::Refused(..) => return,
                    OpenOutcome::Unavailable => tokio::time::sleep(REOPEN_PAUSE).await,
                }
            }
        });
    }

    /// Takes a subscriber in; hands it back if the room cannot be followed.
    async fn join(&mut self, joiner: Joiner) -> Result<(), Joiner> {
        if self.deliveries.is_none() {
            // Confirmed before the first question, so that nothing after the answer can be missed.
            let pattern = Pattern::exact(&Subject::output(&self.route.key));
            let subscribed =
                tokio::time::timeout(SUBSCRIBE, self.shared.spine.subscribe(&pattern, None, CAPACITY)).await;
            match subscribed {
                Ok(Ok(deliveries)) => self.deliveries = Some(deliveries),
                failed => {
                    let why = failed.map_or_else(
                        |_| "no answer".into(),
                        |failed| failed.err().map_or_else(String::new, |error| error.to_string()),
                    );
                    tracing::warn!(room = %self.route.key, %why, "cannot follow the room");
                    return Err(joiner);
                }
            }
        }
        let (id, ask, floor) = (joiner.id, joiner.sync, joiner.route.acknowledged());
        self.shared.meters.subscriptions.inc();
        self.seats.insert(id, joiner);
        self.step(Input::Join { id, ask, floor });
        Ok(())
    }

    fn turn_away(&self, joiner: &Joiner, code: Code, text: &str) {
        refuse(joiner, code, text, come_again(&self.shared, code));
    }

    fn on_delivery(&mut self, delivery: Option<Delivery>) {
        if matches!(delivery, Some(Delivery::Msg(_))) {
            // Whoever was told that there is no such room may ask again.
            self.shared.absent.served(&self.route.key);
        }
        match delivery {
            Some(Delivery::Msg(message)) => match message.stream_seq {
                Some(pos) => self.step(Input::Entry(Entry::decode(pos.0, &message.body))),
                None => {
                    if let Some(batch) = LiveBatch::decode(&message.body) {
                        self.step(Input::Live(batch));
                    }
                }
            },
            Some(Delivery::Lost(n)) => {
                mark!("spine.delivery-lost");
                tracing::debug!(room = %self.route.key, n, "deliveries lost");
                self.step(Input::Lost);
            }
            None => self.deliveries = None,
        }
    }
}
