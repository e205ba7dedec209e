//! One node: heartbeats, who opens which room, and the rooms' tasks.

mod place;
mod prepare;
mod streams;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use brain_model::placement::KIND_BRAIN;
use brain_model::{Rules, Why};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use place::{place, unavailable};
use prepare::{prepare, subscribe};
use prost::Message as _;
use proto::internal::{Heartbeat, Open};
use proto::subject::OPEN_QUEUE;
use proto::{Pattern, RoomId, RoomKey, Subject, TenantId};
use spine::{Delivery, Message, Spine, StreamSpec};
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, WallClock};

use crate::cores::{Cores, PeersCore};
use crate::metrics::{Counts, Snapshots};
use crate::readiness::Readiness;
use crate::room::{self, ASKS, Ask, Context, Exit};
use crate::tails::Tails;
use crate::{BrainParts, ShellError};

/// How long another node may be silent about a forwarded open before the next one is asked.
const FORWARD_LIMIT: Duration = Duration::from_millis(500);
/// The most opens being placed at once; beyond, a Shield's open goes unanswered and it asks again.
const PLACING_MAX: usize = 4096;
/// A room that was lost to another owner is not taken again for this long, and a random part of it more.
const KEEP_AWAY: Duration = Duration::from_secs(5);
/// The longest that rooms may take to finish at a stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Messages that wait between a subscription and the node.
const BUFFER: usize = 4096;
/// The subjects on which Brains, and they alone, may say that they live.
const BRAIN_BEATS: &str = "sys.n.hb.brain.";
/// The most bytes of an open: it names a room, a tenant and a node.
const OPEN_MAX: usize = 4096;
/// Own heartbeats that must have come back before this node takes rooms.
const ROUNDS: u64 = 2;

/// Runs a node: see [`crate::run`].
pub(crate) async fn run<S: Spine, C: WallClock, I: Ids>(
    cores: Arc<dyn Cores>,
    parts: BrainParts<S, C, I>,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(),
    readiness: Readiness,
) -> Result<(), ShellError> {
    let mut shutdown = pin!(shutdown);
    let brain = &parts.config.brain;
    let replicas = usize::try_from(parts.config.nats.replicas).unwrap_or(1);
    let specs = StreamSpec::configured(&parts.config);
    let heartbeat = Duration::from_millis(brain.heartbeat_ms);
    let context = Arc::new(Context {
        incarnation: parts.ids.u64("incarnation"),
        node: parts.node,
        writer: parts.writer,
        speaker: parts.speaker,
        clock: parts.clock,
        ids: parts.ids,
        started: Instant::now(),
        rules: Rules {
            idle_ms: brain.room_idle_s.saturating_mul(1000),
            snapshot_entries: brain.snapshot_events.into(),
            trim_age_ms: i64::try_from(brain.snapshot_s.saturating_mul(1000)).unwrap_or(i64::MAX),
            dedupe: usize::try_from(brain.dedupe).unwrap_or(usize::MAX),
            ..Rules::default()
        },
        logs: parts.config.nats.logs,
        replicas,
        counts: Counts::new(&parts.metrics),
        tails: Tails::default(),
        snapshots: Snapshots::default(),
        doubt: Notify::new(),
        readiness,
        cores,
    });
    context.readiness.connected(context.writer.link(), context.speaker.link());
    let down_after_ms = brain.down_after_ms;
    let place = |rooms: u32| usize::try_from(rooms).unwrap_or(usize::MAX);
    let places = (place(brain.rooms), place(brain.tenant_rooms));

    let prepared = tokio::select! {
        biased;
        () = &mut shutdown => None,
        prepared = prepare(&context, &specs) => Some(prepared?),
    };
    let mut outcome = Ok(());
    if let Some((beats, direct)) = prepared {
        let mut node = Node::new(Arc::clone(&context), down_after_ms, heartbeat, places, beats, direct);
        outcome = tokio::select! {
            biased;
            () = &mut shutdown => Ok(()),
            ended = node.serve(ready) => ended,
            () = streams::keep(&context, &specs) => Ok(()),
        };
        let phase = |phase: &str| trace::emit(|| Record::Drain { phase: phase.into() });
        context.readiness.drains();
        phase("begin");
        node.stop().await;
        phase("end");
    }
    context.writer.close().await;
    context.speaker.close().await;
    outcome
}

struct Handle {
    session: u32,
    asks: mpsc::Sender<Ask>,
}

/// An open, unless it is larger than any that a Shield sends: many of them wait at once.
fn read_open(body: bytes::Bytes) -> Option<Open> {
    if body.len() > OPEN_MAX { None } else { Open::decode(body).ok() }
}

/// An open that was placed: on this node, or done.
struct Placed(Option<(RoomKey, Subject, bool)>);

struct Node<S: Spine, C, I> {
    context: Arc<Context<S, C, I>>,
    peers: Box<dyn PeersCore>,
    heartbeat: Duration,
    beats: S::Sub,
    direct: S::Sub,
    opens: Option<S::Sub>,
    rooms: BTreeMap<RoomKey, Handle>,
    /// How many of them are each tenant's; none that has no room.
    tenants: BTreeMap<TenantId, usize>,
    /// `[brain] rooms` and `tenant_rooms`.
    places: (usize, usize),
    /// Rooms lost to another owner, and until when to stay away.
    away: BTreeMap<RoomKey, Instant>,
    placing: FuturesUnordered<BoxFuture<'static, Placed>>,
    exits: (mpsc::UnboundedSender<Exit>, mpsc::UnboundedReceiver<Exit>),
    session: u32,
    beat: u64,
    /// Own heartbeats that came back.
    rounds: u64,
}

impl<S: Spine, C: WallClock, I: Ids> Node<S, C, I> {
    fn new(
        context: Arc<Context<S, C, I>>,
        down_after_ms: u64,
        heartbeat: Duration,
        places: (usize, usize),
        beats: S::Sub,
        direct: S::Sub,
    ) -> Self {
        Self {
            peers: context.cores.peers(down_after_ms),
            context,
            heartbeat,
            beats,
            direct,
            opens: None,
            rooms: BTreeMap::new(),
            tenants: BTreeMap::new(),
            places,
            away: BTreeMap::new(),
            placing: FuturesUnordered::new(),
            exits: mpsc::unbounded_channel(),
            session: 0,
            beat: 0,
            rounds: 0,
        }
    }

    async fn serve(&mut self, ready: impl FnOnce()) -> Result<(), ShellError> {
        let mut ready = Some(ready);
        let mut ticks = tokio::time::interval(self.heartbeat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.opens.is_none() && self.rounds >= ROUNDS {
                self.opens = Some(subscribe(&self.context.speaker, &Pattern::all_opens(), Some(OPEN_QUEUE)).await?);
                tracing::info!(node = %self.context.node, "taking rooms");
                self.context.readiness.serves();
                self.context.show();
                if let Some(ready) = ready.take() {
                    ready();
                }
            }
            tokio::select! {
                biased;
                Some(exit) = self.exits.1.recv() => self.room_ended(exit).await,
                Some(Placed(here)) = self.placing.next(), if !self.placing.is_empty() => {
                    if let Some((room, reply, create)) = here {
                        self.open_here(room, reply, create).await;
                    }
                }
                _ = ticks.tick() => self.say_alive(false).await,
                beat = self.beats.next() => self.heard(beat.ok_or(ShellError::Closed)?),
                open = self.direct.next() => {
                    if let Delivery::Msg(message) = open.ok_or(ShellError::Closed)? {
                        self.forwarded(message).await;
                    }
                }
                open = next(&mut self.opens) => {
                    if let Delivery::Msg(message) = open.ok_or(ShellError::Closed)? {
                        self.asked(message);
                    }
                }
            }
        }
    }

    async fn say_alive(&mut self, draining: bool) {
        self.beat += 1;
        let now = Instant::now();
        self.away.retain(|_, until| *until > now);
        let beat = Heartbeat {
            node: self.context.node.as_str().into(),
            kind: KIND_BRAIN,
            incarnation: self.context.incarnation,
            n: self.beat,
            draining,
            tails: self.context.tails.settled(self.heartbeat),
            ..Heartbeat::default()
        };
        self.context.show();
        self.context.tell(&Subject::heartbeat_brain(&self.context.node), beat.encode_to_vec().into()).await;
    }

    fn heard(&mut self, delivery: Delivery) {
        let Delivery::Msg(message) = delivery else { return };
        let Some(speaker) = message.subject.as_str().strip_prefix(BRAIN_BEATS) else { return };
        let Ok(beat) = Heartbeat::decode(message.body) else { return };
        // Who may publish there is the broker's permission; what is said inside is the sender's word alone.
        if beat.node != speaker {
            return;
        }
        if self.peers.heard(&beat, self.context.now().mono_ms) && beat.incarnation == self.context.incarnation {
            self.rounds += 1;
        }
    }

    /// A Shield's open: who should serve the room?
    fn asked(&mut self, message: Message) {
        let tenant = message.subject.as_str().strip_prefix("open.t.").and_then(|tenant| TenantId::parse(tenant).ok());
        let (Some(tenant), Some(reply)) = (tenant, message.reply.filter(Subject::is_shield_inbox)) else {
            voltron_core::mark!("brain.reply-refused");
            return;
        };
        let Some(open) = read_open(message.body) else { return };
        let Ok(room) = RoomId::parse(&open.room) else { return };
        let room = RoomKey::new(tenant, room);
        let here = || Placed(Some((room.clone(), reply.clone(), open.create)));
        if self.rooms.contains_key(&room) {
            return self.placing.push(std::future::ready(here()).boxed());
        }
        if self.placing.len() >= PLACING_MAX {
            return;
        }
        let mut living = self.peers.living(self.context.now().mono_ms);
        if self.away.contains_key(&room) {
            living.retain(|one| one.node != self.context.node);
        }
        let context = Arc::clone(&self.context);
        self.placing.push(place(context, room, reply, open, living).boxed());
    }

    /// Another Brain found that this one should serve the room.
    async fn forwarded(&mut self, message: Message) {
        let inbox = |reply: &Subject| reply.as_str().starts_with("_INBOX.b.");
        let Some(reply) = message.reply.filter(inbox) else { return };
        let Some(open) = read_open(message.body) else { return };
        let (Ok(tenant), Ok(room)) = (TenantId::parse(&open.tenant), RoomId::parse(&open.room)) else { return };
        if self.opens.is_some() {
            self.open_here(RoomKey::new(tenant, room), reply, open.create).await;
        }
    }

    async fn open_here(&mut self, room: RoomKey, reply: Subject, create: bool) {
        let mut ask = Ask::Open { reply, create };
        if let Some(handle) = self.rooms.get(&room) {
            match handle.asks.try_send(ask) {
                Ok(()) => return,
                // As many wait already: the Shield asks again.
                Err(mpsc::error::TrySendError::Full(_)) => return,
                // Its task has just ended: a new one takes its place.
                Err(mpsc::error::TrySendError::Closed(back)) => ask = back,
            }
        }
        if self.away.contains_key(&room) {
            if let Ask::Open { reply, .. } = ask {
                self.context.tell(&reply, unavailable(&self.context.node)).await;
            }
            return;
        }
        if !self.has_place(&room) {
            if let Ask::Open { reply, .. } = ask {
                self.context.counts.rooms_refused.inc();
                self.context.tell(&reply, unavailable(&self.context.node)).await;
            }
            return;
        }
        self.session += 1;
        let (asks, inbox) = mpsc::channel(ASKS);
        // A new channel has room for one.
        let _ = asks.try_send(ask);
        let exits = self.exits.0.clone();
        voltron_core::tasks::spawn(room::serve(Arc::clone(&self.context), room.clone(), self.session, inbox, exits));
        if self.rooms.insert(room.clone(), Handle { session: self.session, asks }).is_none() {
            *self.tenants.entry(room.tenant).or_default() += 1;
        }
        self.count();
    }

    /// True if this node may serve one more room, and one more of this room's tenant. A room whose task has just ended
    /// still has its place.
    fn has_place(&self, room: &RoomKey) -> bool {
        let (all, own) = self.places;
        let tenants = self.tenants.get(&room.tenant).copied().unwrap_or(0);
        self.rooms.contains_key(room) || (self.rooms.len() < all && tenants < own)
    }

    async fn room_ended(&mut self, exit: Exit) {
        if self.rooms.get(&exit.room).is_some_and(|handle| handle.session == exit.session) {
            self.rooms.remove(&exit.room);
            if let Some(count) = self.tenants.get_mut(&exit.room.tenant) {
                *count -= 1;
                if *count == 0 {
                    self.tenants.remove(&exit.room.tenant);
                }
            }
            self.context.snapshots.left(&self.context.counts, &exit.room);
            self.count();
        }
        if exit.why == Some(Why::Fenced) {
            let span = u64::try_from(KEEP_AWAY.as_millis()).unwrap_or(0);
            let jitter = Duration::from_millis(self.context.ids.u64("keep-away") % span.max(1));
            self.away.insert(exit.room.clone(), Instant::now() + KEEP_AWAY + jitter);
        }
        for (reply, create) in exit.unanswered {
            self.open_here(exit.room.clone(), reply, create).await;
        }
    }

    fn count(&self) {
        self.context.counts.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
    }

    /// Takes nothing more, lets every room finish and answer, and says that this node is going.
    async fn stop(&mut self) {
        self.opens = None;
        self.say_alive(true).await;
        let mut left = self.rooms.len();
        for handle in self.rooms.values() {
            let _ = handle.asks.send(Ask::Stop).await;
        }
        let all = async {
            while left > 0 {
                match self.exits.1.recv().await {
                    Some(_) => left -= 1,
                    None => return,
                }
            }
        };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("some rooms did not finish in time; their commands stay unanswered");
        }
    }
}

async fn next<Sub: futures_util::Stream<Item = Delivery> + Unpin>(sub: &mut Option<Sub>) -> Option<Delivery> {
    match sub {
        Some(sub) => sub.next().await,
        None => std::future::pending().await,
    }
}
