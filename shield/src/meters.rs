//! The Shield's metrics. The first three names are fixed by the project; none has a tenant or a room as a label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use voltron_core::metrics::Metrics;

/// A code of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CodeLabel {
    pub(crate) code: u32,
}

/// A verdict's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VerdictLabel {
    pub(crate) verdict: &'static str,
}

#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) connections: Gauge,
    pub(crate) ingress: Counter,
    pub(crate) policy_seconds: Histogram,
    pub(crate) verdicts: Family<VerdictLabel, Counter>,
    pub(crate) accepted: Counter,
    pub(crate) refused_handshakes: Family<CodeLabel, Counter>,
    pub(crate) closes: Family<CodeLabel, Counter>,
    pub(crate) refused: Family<CodeLabel, Counter>,
    pub(crate) acks: Family<CodeLabel, Counter>,
    pub(crate) ack_seconds: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) slots_held: Gauge,
    pub(crate) questions: Gauge,
    pub(crate) opens: Gauge,
    pub(crate) outcome_unknown: Counter,
    pub(crate) answers_stray: Counter,
    pub(crate) answers_lost: Counter,
    pub(crate) rooms: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) subs_waiting: Gauge,
    pub(crate) delivered: Counter,
    pub(crate) gaps: Counter,
    pub(crate) recoveries: Counter,
    pub(crate) unrecoverable: Counter,
    pub(crate) void_entries: Counter,
    pub(crate) new_epochs: Counter,
    pub(crate) slow_consumers: Counter,
    pub(crate) ephemeral_dropped: Counter,
    pub(crate) queue_bytes: Gauge,
    pub(crate) spine_up: Gauge,
    pub(crate) spine_losses: Counter,
    pub(crate) serving: Gauge,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("shield_active_connections", "WebSocket connections that passed the handshake"),
            ingress: metrics.counter("shield_ingress_ops", "Frames received from clients"),
            policy_seconds: metrics.histogram(
                "policy_execution_duration_seconds",
                "How long one verdict took",
                &[1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 5e-5, 1e-4, 1e-3, 5e-3],
            ),
            verdicts: metrics.counters("policy_verdicts", "Verdicts of the policy by kind"),
            accepted: metrics.counter("shield_accepted", "Sockets accepted"),
            refused_handshakes: metrics.counters("shield_refused_handshakes", "Handshakes refused by code"),
            closes: metrics
                .counters("shield_closes", "Connections ended by the server, by close code; 0: by the client"),
            refused: metrics.counters("shield_refused", "Frames refused at the gate by code"),
            acks: metrics.counters("shield_acks", "Answers to commands by code, silent successes included"),
            ack_seconds: metrics
                .seconds("shield_ack_duration_seconds", "From a command's arrival to its answer, timeouts included"),
            in_flight: metrics.gauge("shield_commands_in_flight", "Commands without an answer yet"),
            slots_held: metrics.gauge("shield_reply_slots_held", "Reply slots in use, those that rest included"),
            questions: metrics.gauge("shield_questions_open", "Questions of this Shield without an answer yet"),
            opens: metrics.gauge("shield_opens_open", "Rooms that this Shield asks to be opened"),
            outcome_unknown: metrics.counter("shield_outcome_unknown", "Commands answered 6001"),
            answers_stray: metrics.counter("shield_answers_stray", "Answers that nobody waited for any more"),
            answers_lost: metrics.counter("shield_answers_lost", "Answers dropped because the inbox was full"),
            rooms: metrics.gauge("shield_rooms", "Rooms this Shield follows"),
            subscriptions: metrics.gauge("shield_subscriptions", "Subscriptions of all connections"),
            subs_waiting: metrics.gauge("shield_subs_waiting", "SUBs that wait for their turn to ask the room's owner"),
            delivered: metrics.counter("shield_events_delivered", "Events queued for connections"),
            gaps: metrics.counter("shield_gaps", "Gaps found in deliveries"),
            recoveries: metrics.counter("shield_recoveries", "Gaps closed by reading the log"),
            unrecoverable: metrics.counter("shield_gaps_unrecoverable", "Rooms whose subscribers had to come anew"),
            void_entries: metrics.counter("shield_void_entries", "Entries skipped because they do not fit the chain"),
            new_epochs: metrics.counter("shield_new_epochs", "Epoch changes seen while following a room"),
            slow_consumers: metrics.counter("shield_slow_consumers", "Connections closed because they read too slowly"),
            ephemeral_dropped: metrics.counter("shield_ephemeral_dropped", "Ephemeral events dropped under pressure"),
            queue_bytes: metrics.gauge("shield_queue_bytes", "Bytes waiting for clients, as of the last sweep"),
            spine_up: metrics.gauge("shield_spine_up", "1 while there is a connection to NATS"),
            spine_losses: metrics.counter("shield_spine_losses", "Connections to NATS that were lost"),
            serving: metrics.gauge("shield_serving", "1 while commands can be taken, as of the last sweep"),
        }
    }
}
