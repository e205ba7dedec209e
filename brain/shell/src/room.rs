//! One room's task: messages in, effects out. The core decides; this only carries.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use brain_model::{Effect, Identity, Input, Note, Now, Outcome, Rules, Why};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use prost::Message as _;
use proto::{NodeId, RoomKey, Subject, v1};
use spine::{Delivery, Spine};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use voltron_core::trace::{self, Hash16, Record};
use voltron_core::{Ids, WallClock};

use crate::calls::{self, Done, Subjects};
use crate::cores::{Cores, RoomCore};
use crate::metrics::{Counts, Snapshots};
use crate::readiness::Readiness;
use crate::tails::Tails;

/// What every room of a node shares.
pub(crate) struct Context<S, C, I> {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) writer: S,
    pub(crate) speaker: S,
    pub(crate) clock: C,
    pub(crate) ids: I,
    /// Zero of the advancing clock.
    pub(crate) started: Instant,
    pub(crate) rules: Rules,
    pub(crate) logs: u32,
    pub(crate) replicas: usize,
    pub(crate) counts: Counts,
    pub(crate) tails: Tails,
    pub(crate) snapshots: Snapshots,
    /// A room's call failed: perhaps a stream is gone.
    pub(crate) doubt: Notify,
    pub(crate) readiness: Readiness,
    pub(crate) cores: Arc<dyn Cores>,
}

impl<S: Spine, C: WallClock, I: Ids> Context<S, C, I> {
    pub(crate) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { wall_ms: self.clock.now_ms(), mono_ms }
    }

    /// The moment for which a timer is set that is due at `mono_ms` of the advancing clock: a day from now at the latest.
    pub(crate) fn timer(&self, mono_ms: u64) -> Instant {
        let latest = self.started.elapsed().saturating_add(TIMER_MAX);
        self.started + Duration::from_millis(mono_ms).min(latest)
    }

    /// Sets the gauges that follow from the connections and the streams.
    pub(crate) fn show(&self) {
        self.counts.ready.set(i64::from(self.readiness.unready().is_none()));
        self.counts.spine_up.set(i64::from(self.readiness.linked()));
    }

    /// Sends an answer; a failure is counted: who asked will ask again.
    pub(crate) async fn tell(&self, to: &Subject, body: Bytes) {
        if let Err(error) = self.speaker.publish(to, None, body).await {
            self.counts.publish_failed.inc();
            tracing::debug!(%error, %to, "not sent");
        }
    }
}

/// What the node asks of a room.
pub(crate) enum Ask {
    /// Serve, and say so there.
    Open { reply: Subject, create: bool },
    /// Finish and end.
    Stop,
}

/// A room's task ended.
pub(crate) struct Exit {
    pub(crate) room: RoomKey,
    pub(crate) session: u32,
    /// `None`: it panicked.
    pub(crate) why: Option<Why>,
    /// Who asked in the very moment of the end.
    pub(crate) unanswered: Vec<(Subject, bool)>,
}

/// The longest timer. Its end looks at the deadlines and sets the next one, so a shorter timer costs one look a day; a
/// longer one may be more than the clock can add.
const TIMER_MAX: Duration = Duration::from_secs(24 * 3600);

/// How many asks wait for one room.
pub(crate) const ASKS: usize = 256;

/// Runs a room until it ends.
pub(crate) async fn serve<S: Spine, C: WallClock, I: Ids>(
    context: Arc<Context<S, C, I>>,
    room: RoomKey,
    session: u32,
    mut asks: mpsc::Receiver<Ask>,
    exits: mpsc::UnboundedSender<Exit>,
) {
    let me = Identity { node: context.node.clone(), incarnation: context.incarnation, session };
    let mut task = Task {
        core: context.cores.room(&room, &me, &context.rules),
        subjects: Subjects::new(&room, context.logs, context.replicas),
        name: room.to_string(),
        calls: FuturesUnordered::new(),
        sub: None,
        ended: None,
        context,
        room: room.clone(),
    };
    // A room that panics ends alone, and the next command opens it from its log.
    let why = AssertUnwindSafe(task.run(&mut asks)).catch_unwind().await.ok();
    if why.is_none() {
        task.context.counts.rooms_crashed.inc();
        tracing::error!(room = %room, "a room ended by a panic");
    }
    asks.close();
    let mut unanswered = Vec::new();
    while let Some(ask) = asks.recv().await {
        if let Ask::Open { reply, create } = ask {
            unanswered.push((reply, create));
        }
    }
    // The node outlives its rooms but for its own end, when nobody needs to know.
    let _ = exits.send(Exit { room, session, why, unanswered });
}

struct Task<S: Spine, C, I> {
    context: Arc<Context<S, C, I>>,
    room: RoomKey,
    name: String,
    core: Box<dyn RoomCore>,
    subjects: Subjects,
    calls: FuturesUnordered<BoxFuture<'static, Done<S::Sub>>>,
    sub: Option<S::Sub>,
    ended: Option<Why>,
}

impl<S: Spine, C: WallClock, I: Ids> Task<S, C, I> {
    async fn run(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Why {
        let mut link = self.context.writer.link();
        let mut watching = true;
        loop {
            if let Some(why) = self.ended {
                return why;
            }
            let wake = self.core.wake_at().map(|ms| self.context.timer(ms));
            let listening = self.sub.is_some() && self.core.has_room();
            tokio::select! {
                biased;
                Some(done) = self.calls.next(), if !self.calls.is_empty() => match done {
                    Done::Input(input) => {
                        self.ended_call(&input);
                        self.step(input).await;
                    }
                    Done::Subscribed(sub, input) => {
                        self.sub = Some(sub);
                        self.step(input).await;
                    }
                    Done::Nothing => {}
                },
                changed = link.changed(), if watching => {
                    watching = changed.is_ok();
                    self.step(Input::Reconnected).await;
                }
                // Before what is delivered: a flood must not put off the retries of an unresolved entry.
                () = sleep_until(wake) => {
                    if self.core.wake_at().is_some_and(|at| at <= self.context.now().mono_ms) {
                        self.step(Input::Wake).await;
                    }
                }
                ask = asks.recv() => match ask {
                    Some(Ask::Open { reply, create }) => self.step(Input::Open { reply, create }).await,
                    Some(Ask::Stop) | None => self.stop().await,
                },
                delivery = next(&mut self.sub), if listening => match delivery {
                    Some(delivery) => self.delivered(delivery).await,
                    // The Spine was closed: nothing more can be heard or said.
                    None => {
                        self.sub = None;
                        self.step(Input::Stop).await;
                    }
                },
            }
        }
    }

    /// What was delivered already is still served; then no more is taken.
    async fn stop(&mut self) {
        while let Some(Some(Some(delivery))) = self.sub.as_mut().map(|sub| sub.next().now_or_never()) {
            self.delivered(delivery).await;
        }
        self.sub = None;
        self.step(Input::Stop).await;
    }

    async fn delivered(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Msg(message) => self.step(Input::Message { reply: message.reply, body: message.body }).await,
            Delivery::Lost(count) => {
                self.context.counts.lost.inc_by(count);
            }
        }
    }

    async fn step(&mut self, input: Input) {
        for effect in self.core.step(self.context.now(), input) {
            match effect {
                Effect::Reply { to, body } => self.context.tell(&to, body).await,
                Effect::Live { body } => self.context.tell(&self.subjects.output, body).await,
                Effect::Note(note) => self.note(note),
                Effect::StepDown(why) => {
                    tracing::info!(room = %self.room, ?why, "room left");
                    self.sub = None;
                    self.ended = Some(why);
                }
                call => {
                    if matches!(call, Effect::WriteSnapshot { .. }) {
                        self.context.snapshots.begun(&self.context.counts, &self.room);
                    }
                    let (writer, speaker) = (self.context.writer.clone(), self.context.speaker.clone());
                    let draw = self.context.ids.u64("generation");
                    self.calls.push(calls::perform(writer, speaker, self.subjects.clone(), draw, call).boxed());
                }
            }
        }
    }

    /// What a call's end means beside the core.
    fn ended_call(&self, input: &Input) {
        match input {
            Input::SnapshotWritten { outcome, .. } => {
                self.context.snapshots.ended(&self.context.counts, &self.room, *outcome);
            }
            Input::Appended { outcome: Outcome::Stored(_), .. } => {}
            Input::Appended { .. } | Input::Read { found: None, .. } => self.context.doubt.notify_one(),
            _ => {}
        }
    }

    fn note(&self, note: Note) {
        let counts = &self.context.counts;
        let room = || self.name.clone();
        match note {
            Note::Owned { epoch, term, pos } => {
                counts.take_overs.inc();
                tracing::info!(room = %self.room, epoch, term, pos, "room owned");
                trace::emit(|| Record::Owned { room: room(), epoch, term });
            }
            Note::Committed { epoch, seq, message_id, user, envelope } => {
                counts.events.inc();
                trace::emit(|| Record::Commit {
                    room: room(),
                    epoch,
                    seq,
                    m: message_id.map(|id| id.to_string()).unwrap_or_default(),
                    user,
                    h: Hash16::of(&envelope),
                    op: None,
                    at: at(&envelope),
                    expires_at: 0,
                });
            }
            Note::Head { epoch, term, pos, .. } => {
                counts.entries.inc();
                self.context.tails.moved(&self.room, epoch, term, pos);
            }
            Note::Answered { message_id, code, duplicate, .. } => {
                if code != 0 {
                    counts.refused.inc();
                }
                if duplicate {
                    counts.dedupe_hits.inc();
                }
                trace::emit(|| Record::Answer { m: message_id.to_string(), code });
            }
            Note::Fenced { term } => {
                counts.fenced.inc();
                trace::emit(|| Record::Fenced { room: room(), term });
            }
            Note::Unresolved => {
                counts.unresolved.inc();
            }
            Note::Void { pos } => {
                counts.void.inc();
                tracing::warn!(room = %self.room, pos, "void entry skipped");
            }
            Note::Refused(code) => {
                counts.unreadable.inc();
                tracing::debug!(room = %self.room, %code, "request refused unread");
            }
        }
    }
}

async fn next<Sub: futures_util::Stream<Item = Delivery> + Unpin>(sub: &mut Option<Sub>) -> Option<Delivery> {
    match sub {
        Some(sub) => Pin::new(sub).next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The room's clock in an event, ms.
fn at(envelope: &[u8]) -> i64 {
    match v1::Envelope::decode(envelope).ok().and_then(|envelope| envelope.payload) {
        Some(v1::envelope::Payload::Event(event)) => event.at,
        _ => 0,
    }
}
