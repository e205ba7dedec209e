//! The thin shell around a room's core: turns deliveries, answers and timers into inputs, and effects into calls.

mod ask;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use proto::json::{SubResult, Unsubbed};
use proto::{Code, Pattern, Subject, frame, v1};
use spine::{Delivery, Spine, StreamSeq, Via};
use tokio::sync::mpsc;
use tokio::time::Instant;
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, WallClock, mark};

use super::core::{Core, Effect, Input, Note, SubId, SyncFor};
use super::entry::{Entry, LiveBatch};
use super::{Ask, Rooms};
use crate::outbox::{Class, Frame, Outbox, Pushed, Ticket};
use crate::route::Route;
use crate::shared::Shared;
pub(crate) use ask::Asker;

/// Deliveries that may wait for one room's task.
const CAPACITY: usize = 1024;
/// Entries a read may return.
const READ_MAX: u32 = 64;
/// How long a Spine subscription may take.
const SUBSCRIBE: Duration = Duration::from_secs(2);

/// A connection that wants to subscribe.
pub(crate) struct Joiner {
    pub(crate) id: SubId,
    pub(crate) route: Arc<Route>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) ticket: Arc<Ticket>,
    /// Set once the SUB has its result.
    pub(crate) answered: Arc<AtomicBool>,
    /// The SUB's own id.
    pub(crate) request: u64,
    pub(crate) dialect: Dialect,
    pub(crate) sync: v1::Sync,
    pub(crate) asker: Asker,
}

/// In which forms a subscriber is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Results as JSON with an `op`, instead of frames.
    pub(crate) text: bool,
    /// Frames travel as binary messages.
    pub(crate) binary_frames: bool,
    /// Events as JSON.
    pub(crate) json_events: bool,
}

impl Dialect {
    /// A result in this dialect; `plain` has no `op`, `tagged` has.
    pub(crate) fn frame<T: serde::Serialize>(self, opcode: u8, plain: &T, tagged: &T) -> Frame {
        if self.text {
            Frame::Text(proto::json::to_string(tagged).into())
        } else if self.binary_frames {
            Frame::Binary(frame::binary(opcode, plain))
        } else {
            Frame::Text(frame::text(opcode, plain).into())
        }
    }

    pub(crate) fn sub(self, result: &SubResult) -> Frame {
        self.frame(frame::SUB, result, &SubResult { op: Some("sub".into()), ..result.clone() })
    }

    pub(crate) fn unsub(self, result: &Unsubbed) -> Frame {
        self.frame(frame::UNSUB, result, &Unsubbed { op: Some("unsub".into()), ..result.clone() })
    }
}

struct Room<S: Spine, C, I> {
    shared: Arc<Shared<S, C, I>>,
    route: Arc<Route>,
    log: Subject,
    core: Core,
    seats: BTreeMap<SubId, Joiner>,
    deliveries: Option<S::Sub>,
    results: mpsc::UnboundedSender<Input>,
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
        core: Core::default(),
        seats: BTreeMap::new(),
        deliveries: None,
        results,
        asked_by: 0,
        rendered: None,
        route,
        shared,
    };
    let linger = Duration::from_millis(room.shared.config.shield.linger_ms);
    let mut alone_since = Instant::now();
    loop {
        room.drop_gone();
        if !room.core.is_empty() {
            alone_since = Instant::now();
        }
        let alone = room.core.is_empty();
        tokio::select! {
            biased;
            Some(input) = done.recv() => room.step(input),
            Some(ask) = asks.recv() => room.on_ask(ask).await,
            delivery = next(&mut room.deliveries) => room.on_delivery(delivery),
            () = tokio::time::sleep_until(alone_since + linger), if alone => {
                match Rooms::retire(&room.shared.rooms, &room.route.key, &mut asks) {
                    Ok(()) => break,
                    Err(ask) => room.on_ask(ask).await,
                }
            }
        }
    }
    room.shared.meters.rooms.dec();
}

async fn next<D: futures_util::Stream<Item = Delivery> + Unpin>(deliveries: &mut Option<D>) -> Option<Delivery> {
    match deliveries {
        Some(deliveries) => deliveries.next().await,
        None => std::future::pending().await,
    }
}

impl<S: Spine, C: WallClock, I: Ids> Room<S, C, I> {
    fn step(&mut self, input: Input) {
        for effect in self.core.step(input) {
            self.perform(effect);
        }
    }

    /// Subscriptions whose end the mailbox did not tell.
    fn drop_gone(&mut self) {
        let gone: Vec<SubId> =
            self.seats.iter().filter(|(_, seat)| seat.ticket.cancelled()).map(|(id, _)| *id).collect();
        for id in gone {
            self.leave(id);
        }
    }

    fn leave(&mut self, id: SubId) {
        if self.seats.remove(&id).is_some() {
            self.shared.meters.subscriptions.dec();
        }
        self.step(Input::Leave { id });
    }

    async fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Join(joiner) => self.join(*joiner).await,
            Ask::Leave(id) => self.leave(id),
            Ask::Tail { epoch, pos } => self.step(Input::Tail { epoch, pos }),
            Ask::Relink => self.step(Input::Lost),
            Ask::Silent(brain) => {
                if let Some((node, term)) = self.core.owner.clone().filter(|(node, _)| **node == *brain) {
                    let (shared, route) = (self.shared.clone(), self.route.clone());
                    tokio::spawn(async move {
                        let limit = Duration::from_millis(shared.config.shield.answer_timeout_ms);
                        shared.replies.open(&route, false, Some((node, term)), limit).await;
                    });
                }
            }
        }
    }

    async fn join(&mut self, joiner: Joiner) {
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
                    let text = "this Shield cannot follow the room now; try again";
                    return refuse(&joiner, Code::Unavailable, text);
                }
            }
        }
        let (id, ask) = (joiner.id, joiner.sync);
        self.shared.meters.subscriptions.inc();
        self.seats.insert(id, joiner);
        self.step(Input::Join { id, ask });
    }

    fn on_delivery(&mut self, delivery: Option<Delivery>) {
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

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Sync { of, ask, after_ms } => self.sync(of, ask, after_ms),
            Effect::Read { from, attempt } => self.read(from, attempt, |entries| Input::Read { entries }),
            Effect::ReadFor { id, from, attempt } => {
                self.read(from, attempt, move |entries| Input::ReadFor { id, entries });
            }
            Effect::Refuse { id, code, message } => {
                if let Some(seat) = self.seats.remove(&id) {
                    self.shared.meters.subscriptions.dec();
                    if code == Code::RoomAbsent {
                        self.shared.absent.note(&self.route.key);
                    }
                    refuse(&seat, code, &message);
                }
            }
            Effect::Admit { id, epoch, seq, recovered, replay, snapshot, members } => {
                let Some(seat) = self.seats.get(&id) else { return };
                if recovered {
                    mark!("shield.resume");
                }
                let room = self.route.key.room.as_str();
                let result = SubResult::ok(seat.request, room, (epoch, seq), recovered, replay.len() as u64);
                seat.outbox.push_event(seat.dialect.sub(&result), Class::Firm, &seat.ticket);
                let members = (!members.is_empty()).then(|| frame::publish(&members));
                for frame in replay.into_iter().chain(snapshot).chain(members) {
                    self.event(id, &frame, Class::Bulk);
                }
                if let Some(seat) = self.seats.get(&id) {
                    seat.answered.store(true, Ordering::Release);
                    // The next SUB of that connection may wait for this.
                    seat.outbox.nudge();
                }
            }
            Effect::Announce { id, snapshot } => {
                for frame in snapshot {
                    self.event(id, &frame, Class::Bulk);
                }
            }
            Effect::Event { id, frame, class } => self.event(id, &frame, class),
            Effect::Remove { id, code } => {
                if let Some(seat) = self.seats.remove(&id) {
                    self.shared.meters.subscriptions.dec();
                    seat.outbox.cancel(&seat.ticket);
                    let notice = Unsubbed {
                        room: self.route.key.room.to_string(),
                        code: Some(code.as_u16()),
                        message: Some(code.message().into()),
                        resub: Some(true),
                        ..Unsubbed::default()
                    };
                    seat.outbox.push(seat.dialect.unsub(&notice));
                }
            }
            Effect::Note(note) => self.note(note),
        }
    }

    fn note(&self, note: Note) {
        let meters = &self.shared.meters;
        match note {
            Note::Gap => {
                mark!("shield.gap");
                meters.gaps.inc();
            }
            Note::Repaired => {
                mark!("shield.gap-repaired");
                meters.recoveries.inc();
            }
            Note::Unrecoverable => {
                meters.unrecoverable.inc();
                tracing::warn!(room = %self.route.key, "a gap could not be closed: subscribers must come anew");
            }
            Note::Void => {
                meters.void_entries.inc();
            }
            Note::NewEpoch => {
                meters.new_epochs.inc();
                tracing::info!(room = %self.route.key, "a new epoch");
            }
        }
    }

    fn event(&mut self, id: SubId, event: &Bytes, class: Class) {
        let Some(seat) = self.seats.get(&id) else { return };
        let out = if seat.dialect.json_events {
            match &self.rendered {
                Some((last, out)) if last.as_ptr() == event.as_ptr() && last.len() == event.len() => out.clone(),
                _ => {
                    let Some(out) = render(event) else { return };
                    self.rendered = Some((event.clone(), out.clone()));
                    out
                }
            }
        } else {
            Frame::Binary(event.clone())
        };
        match seat.outbox.push_event(out, class, &seat.ticket) {
            Pushed::Queued => {
                self.shared.meters.delivered.inc();
            }
            Pushed::Dropped => {
                self.shared.meters.ephemeral_dropped.inc();
            }
            Pushed::Ended => trace::emit(|| Record::Queue {
                name: format!("outbox.{}", seat.asker.conn),
                len: seat.outbox.depth().0 as u64,
                cap: self.shared.limits.load().queue_bytes.into(),
            }),
        }
    }

    fn read(&self, from: u64, attempt: u32, done: impl FnOnce(Option<Vec<Entry>>) -> Input + Send + 'static) {
        let (shared, log, results) = (self.shared.clone(), self.log.clone(), self.results.clone());
        tokio::spawn(async move {
            if attempt > 0 {
                // A follower that lags, or a broker on its way back.
                tokio::time::sleep(Duration::from_millis(10 << attempt.min(6))).await;
            }
            let via = if attempt < 2 { Via::Direct } else { Via::Leader };
            let entries = match shared.spine.read(&log, StreamSeq(from), READ_MAX, via).await {
                Ok(batch) => {
                    Some(batch.entries.iter().map(|stored| Entry::decode(stored.seq.0, &stored.body)).collect())
                }
                Err(error) => {
                    tracing::debug!(%error, from, "cannot read the log");
                    None
                }
            };
            let _ = results.send(done(entries));
        });
    }

    fn sync(&mut self, of: SyncFor, ask: v1::Sync, after_ms: u64) {
        let seat = match of {
            SyncFor::Sub(id) => self.seats.get_key_value(&id),
            // The room's own question needs a name, too: that of each subscriber in turn, so that one whom the owner
            // refuses holds up nobody.
            SyncFor::Announce | SyncFor::Resolve => {
                let next = self.seats.range(self.asked_by + 1..).next().or_else(|| self.seats.first_key_value());
                self.asked_by = next.map_or(0, |(id, _)| *id);
                next
            }
        };
        let Some(asker) = seat.map(|(_, seat)| seat.asker.clone()) else {
            let nobody = Err((Code::Unavailable, String::new()));
            let _ = self.results.send(Input::Synced { of, reply: nobody });
            return;
        };
        let (shared, route, results) = (self.shared.clone(), self.route.clone(), self.results.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let reply = ask::owner(&shared, &route, &asker, v1::system_signal::Ask::Sync(ask)).await;
            let _ = results.send(Input::Synced { of, reply });
        });
    }
}

/// The refusal of a SUB.
pub(crate) fn refuse(seat: &Joiner, code: Code, text: &str) {
    let result = SubResult::refused(seat.request, Some(seat.route.key.room.as_str()), code, Some(text));
    seat.outbox.cancel(&seat.ticket);
    seat.outbox.push(seat.dialect.sub(&result));
    seat.answered.store(true, Ordering::Release);
    seat.outbox.nudge();
}

fn render(event: &Bytes) -> Option<Frame> {
    let envelope = v1::Envelope::decode(event.slice(1..)).ok()?;
    Some(Frame::Text(proto::json::render::envelope(&envelope)?.to_string().into()))
}

pub(crate) use ask::owner as ask_owner;
