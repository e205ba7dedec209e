//! A node's metrics.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use brain_model::Outcome;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use proto::RoomKey;
use voltron_core::metrics::Metrics;

/// The values; cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) rooms: Gauge,
    pub(crate) take_overs: Counter,
    pub(crate) entries: Counter,
    pub(crate) events: Counter,
    pub(crate) fenced: Counter,
    pub(crate) unresolved: Counter,
    pub(crate) void: Counter,
    pub(crate) dedupe_hits: Counter,
    pub(crate) refused: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) lost: Counter,
    pub(crate) publish_failed: Counter,
    pub(crate) rooms_crashed: Counter,
    pub(crate) rooms_refused: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) snapshots_failed: Counter,
    pub(crate) snapshots_pending: Gauge,
    pub(crate) ready: Gauge,
    pub(crate) streams_ensured: Counter,
    pub(crate) spine_up: Gauge,
}

/// Rooms whose newest snapshot is not stored yet: from the moment when a room wants it until it is stored or the room
/// leaves.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<BTreeSet<RoomKey>>);

impl Snapshots {
    /// A room writes a snapshot.
    pub(crate) fn begun(&self, counts: &Counts, room: &RoomKey) {
        self.change(counts, |pending| pending.insert(room.clone()));
    }

    /// It ended so.
    pub(crate) fn ended(&self, counts: &Counts, room: &RoomKey, outcome: Outcome) {
        if matches!(outcome, Outcome::Stored(_)) {
            counts.snapshots.inc();
            self.left(counts, room);
        } else {
            counts.snapshots_failed.inc();
        }
    }

    /// The room is not here any more.
    pub(crate) fn left(&self, counts: &Counts, room: &RoomKey) {
        self.change(counts, |pending| pending.remove(room));
    }

    fn change(&self, counts: &Counts, change: impl FnOnce(&mut BTreeSet<RoomKey>) -> bool) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut pending) {
            counts.snapshots_pending.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        }
    }
}

impl Counts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            rooms: metrics.gauge("brain_room_count", "Rooms that this node owns or is opening"),
            take_overs: metrics.counter("brain_take_overs", "Rooms taken over"),
            entries: metrics.counter("brain_commits", "Log entries committed"),
            events: metrics.counter("brain_events", "Events committed"),
            fenced: metrics.counter("brain_fenced_writes", "Rooms lost to another owner"),
            unresolved: metrics.counter("brain_unresolved", "Appends whose outcome had to be found out"),
            void: metrics.counter("brain_void_entries", "Log entries that count for nothing"),
            dedupe_hits: metrics.counter("brain_dedupe_hits", "Repeats answered with their original place"),
            refused: metrics.counter("brain_commands_refused", "Commands answered with a code other than 0"),
            unreadable: metrics.counter("brain_requests_unreadable", "Requests refused before they came to a room"),
            lost: metrics.counter("brain_deliveries_lost", "Messages dropped because a subscription was full"),
            publish_failed: metrics.counter("brain_publish_failed", "Answers and live events that could not be sent"),
            rooms_crashed: metrics.counter("brain_rooms_crashed", "Room processes that ended by an error"),
            rooms_refused: metrics.counter(
                "brain_rooms_refused",
                "Opens refused because the node, or the tenant, holds as many rooms as it may",
            ),
            snapshots: metrics.counter("brain_snapshots", "Snapshots stored"),
            snapshots_failed: metrics
                .counter("brain_snapshots_failed", "Snapshots that could not be stored, or not surely"),
            snapshots_pending: metrics
                .gauge("brain_snapshots_pending", "Rooms whose newest snapshot is not stored yet"),
            ready: metrics.gauge("brain_ready", "1 while the node can serve rooms: what /readyz says"),
            streams_ensured: metrics
                .counter("brain_streams_ensured", "Times that the streams were found right, or made so"),
            spine_up: metrics.gauge("brain_spine_up", "1 while both connections to NATS are up"),
        }
    }
}
