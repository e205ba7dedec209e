//! A node's metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
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
        }
    }
}
