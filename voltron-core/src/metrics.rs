//! The metrics registry as a value: each process (each simulated host, each test) has its own, and nothing is global.
//!
//! ```
//! use voltron_core::metrics::Metrics;
//!
//! let metrics = Metrics::new();
//! let ops = metrics.counter("shield_ingress_ops", "Messages received from clients");
//! ops.inc();
//! assert!(metrics.encode().contains("shield_ingress_ops_total 1"));
//! ```
//!
//! Names follow Prometheus: base units in the name (`_seconds`, `_bytes`), counters shown with `_total` (added here, so
//! never written by the caller). In builds with debug assertions a name that breaks this does not register, so every test
//! that builds a part's metrics checks them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets for latencies from 50 us to 10 s, in seconds.
pub const LATENCY_SECONDS: &[f64] =
    &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A registry. Cloning shares it.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    names: BTreeMap<String, Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Other,
}

// === impl Metrics ===

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers any metric of `prometheus_client`. `name` without `_total`, `help` as a sentence without its full stop.
    ///
    /// # Panics
    /// If the name is taken: two owners of one name is a programming error. With debug assertions also if the name or the
    /// help breaks the conventions.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.add(Kind::Other, name, help, metric);
    }

    /// Registers a counter; it is shown as `{name}_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.keep(Kind::Counter, name, help, Counter::default())
    }

    /// Registers a counter that somebody else made; it is shown as `{name}_total`.
    pub fn counted(&self, name: &str, help: &str, counter: Counter) {
        self.add(Kind::Counter, name, help, counter);
    }

    /// Registers counters with labels; they are shown as `{name}_total{…}`. Labels must be few: never a tenant or a room.
    pub fn counters<L: Labels>(&self, name: &str, help: &str) -> Family<L, Counter> {
        self.keep(Kind::Counter, name, help, Family::default())
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.keep(Kind::Other, name, help, Gauge::default())
    }

    /// Registers gauges with labels.
    pub fn gauges<L: Labels>(&self, name: &str, help: &str) -> Family<L, Gauge> {
        self.keep(Kind::Other, name, help, Family::default())
    }

    /// Registers a histogram of durations in seconds with [`LATENCY_SECONDS`]; `name` ends in `_seconds`.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.histogram(name, help, LATENCY_SECONDS)
    }

    /// Registers a histogram with these upper bounds.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.keep(Kind::Other, name, help, Histogram::new(buckets.iter().copied()))
    }

    /// Everything in the OpenMetrics text format, see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &inner.registry)
            .expect("writing into a String cannot fail");
        out
    }

    /// Every registered name as a scrape shows it, without a histogram's suffixes. Sorted.
    pub fn names(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |(name, kind): (&String, &Kind)| match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Other => name.clone(),
        };
        inner.names.iter().map(shown).collect()
    }

    fn keep<M: Metric + Clone>(&self, kind: Kind, name: &str, help: &str, metric: M) -> M {
        self.add(kind, name, help, metric.clone());
        metric
    }

    fn add(&self, kind: Kind, name: &str, help: &str, metric: impl Metric) {
        debug_assert_eq!(offences(kind, name, help), Vec::<String>::new());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = inner.names.insert(name.to_owned(), kind);
        assert!(taken.is_none(), "the metric {name} is registered twice");
        inner.registry.register(name, help, metric);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("names", &self.names()).finish()
    }
}

/// A set of labels, by `#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]`.
pub trait Labels: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + fmt::Debug + 'static {}
impl<L: EncodeLabelSet + Clone + Hash + Eq + Send + Sync + fmt::Debug + 'static> Labels for L {}

fn offences(kind: Kind, name: &str, help: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, why: &str| {
        if !holds {
            found.push(format!("{name}: {why}"));
        }
    };
    let word = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    must(word, "a name is lower case ASCII letters, digits and _");
    must(!name.ends_with("_total"), "_total is added to counters by the registry; nothing else may end in it");
    must(!help.is_empty() && !help.ends_with('.'), "help is a sentence without its full stop");
    for (unit, base) in [
        ("_ms", "_seconds"),
        ("_us", "_seconds"),
        ("_millis", "_seconds"),
        ("_milliseconds", "_seconds"),
        ("_microseconds", "_seconds"),
        ("_kb", "_bytes"),
        ("_kib", "_bytes"),
        ("_mib", "_bytes"),
        ("_percent", "_ratio"),
    ] {
        must(!name.ends_with(unit), &format!("use the base unit {base}"));
    }
    let timed = ["duration", "latency", "lag"].iter().any(|word| name.split('_').any(|part| part == *word));
    must(kind == Kind::Counter || !timed || name.ends_with("_seconds"), "a duration ends in _seconds");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_as_openmetrics_wants() {
        let metrics = Metrics::new();
        metrics.counter("a_ops", "Operations").inc_by(3);
        metrics.gauge("b_open", "Open ones").set(2);
        metrics.seconds("c_duration_seconds", "How long").observe(0.003);
        let text = metrics.encode();
        assert!(text.contains("# TYPE a_ops counter\na_ops_total 3\n"), "{text}");
        assert!(text.contains("# HELP b_open Open ones.\n"), "{text}");
        assert!(text.contains("c_duration_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(metrics.names(), ["a_ops_total", "b_open", "c_duration_seconds"]);
    }

    #[test]
    fn bad_names_are_named() {
        for (kind, name, help, offence) in [
            (Kind::Counter, "a_total", "Ends twice", "_total is added"),
            (Kind::Other, "queue_wait_ms", "Wrong unit", "use the base unit _seconds"),
            (Kind::Other, "convergence_lag", "No unit", "a duration ends in _seconds"),
            (Kind::Other, "Upper", "Not lower case", "a name is lower case"),
            (Kind::Other, "a", "Ends with a full stop.", "help is a sentence"),
            (Kind::Other, "a", "", "help is a sentence"),
        ] {
            let found = offences(kind, name, help);
            assert!(found.len() == 1 && found[0].contains(offence), "{name}: {found:?}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "use the base unit _bytes")]
    fn a_bad_name_does_not_register() {
        Metrics::new().gauge("queue_kib", "Bytes that wait");
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn one_owner_a_name() {
        let metrics = Metrics::new();
        metrics.gauge("a", "Once");
        metrics.clone().counter("a", "Twice");
    }
}
