//! Log lines and the trace, set up from `[log]` alone: no environment variable is read, `RUST_LOG` included.
//!
//! Log lines go to standard error. The trace ([`crate::trace`]) goes to the file of `[log] trace_file`, whatever the log
//! level; without that key nothing listens to its target and a record is never built.
//!
//! [`init`] also replaces the panic hook: a panic is a log line that holds no user's text, and is counted.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Log, LogFormat, LogLevel};
use crate::{console, trace};

mod panics;

/// How many bytes of trace may wait in memory.
pub const TRACE_BUFFER_BYTES: usize = 64 << 10;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The trace file cannot be opened for appending.
    #[error("[log] trace_file {path}: {source}")]
    TraceFile {
        /// As configured.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// This process has a subscriber already.
    #[error("logging is set up already in this process")]
    Twice,
}

/// Where records of the trace go.
pub trait TraceSink: Send + Sync + 'static {
    /// Takes one record: the JSON object of a [`trace::Record`], without `v`, `n`, `t` and `host`
    /// ([`trace::line_json`] adds them).
    fn record(&self, json: &str);
}

/// Flushes the trace when dropped. Keep it until the process ends.
#[must_use = "dropping it ends the trace"]
pub struct Telemetry {
    trace: Option<Arc<dyn Flush>>,
    dropped: Counter,
    panics: Counter,
}

impl Telemetry {
    /// How many log lines were not written, for the metrics of this process.
    pub fn lines_dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// How many threads panicked, for the metrics of this process.
    pub fn panics(&self) -> Counter {
        self.panics.clone()
    }
}

/// Help of the metric that shows [`Telemetry::panics`].
pub const PANICS: &str = "Panics, each of which ended a task and is a bug";

/// Help of the metric that shows [`Telemetry::lines_dropped`].
pub const LINES_DROPPED: &str = "Log lines that were not written: standard error is slow or closed";

/// Where log lines go. A line that the device does not take is counted, and its error ends here: the subscriber would write
/// it to the same device.
#[derive(Clone)]
struct Lines<F> {
    device: F,
    dropped: Counter,
}

impl<'w, W: Write, F: Fn() -> W + Clone> MakeWriter<'w> for Lines<F> {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl<W: Write, F: Fn() -> W> Write for Lines<F> {
    /// Called once a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if (self.device)().write_all(line).is_err() {
            self.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

trait Flush: Send + Sync {
    fn flush(&self) -> io::Result<()>;
}

/// Sets up log lines and the trace for this process; `host` names it in the trace.
pub fn init(log: &Log, host: &str) -> Result<Telemetry, TelemetryError> {
    let sink = match &log.trace_file {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file = file.map_err(|source| TelemetryError::TraceFile { path: path.clone(), source })?;
            Some(Arc::new(LineSink::new(host, file)))
        }
    };
    let dropped = Counter::default();
    let lines = Lines { device: io::stderr, dropped: dropped.clone() };
    let subscriber = subscriber(log, lines, sink.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    let panics = Counter::default();
    panics::install(panics.clone());
    Ok(Telemetry { trace: sink.map(|sink| sink as Arc<dyn Flush>), dropped, panics })
}

/// What [`init`] installs, as a value: log lines to `writer`, records to `sink` if there is one.
pub fn subscriber<W, K>(log: &Log, writer: W, sink: Option<Arc<K>>) -> impl Subscriber + Send + Sync + use<W, K>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    K: TraceSink,
{
    let lines = Targets::new().with_default(level(log.level)).with_target(trace::TARGET, LevelFilter::OFF);
    let lines = match log.format {
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(lines).boxed()
        }
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).with_filter(lines).boxed()
        }
    };
    // An absent sink needs a filter that says "never", too: a bare `None` layer would leave every callsite undecided, and
    // records would be built for nobody.
    let nothing = sink.is_none().then(Targets::new);
    let trace = sink.map(|sink| TraceLayer { sink }).with_filter(nothing.unwrap_or_else(only_the_trace));
    tracing_subscriber::registry().with(lines).with(trace)
}

fn only_the_trace() -> Targets {
    Targets::new().with_target(trace::TARGET, LevelFilter::TRACE)
}

/// The layer that hands every record to `sink`; it sees nothing but the trace, and all of it.
pub fn trace_layer<S, K>(sink: Arc<K>) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    K: TraceSink,
{
    TraceLayer { sink }.with_filter(only_the_trace())
}

struct TraceLayer<K> {
    sink: Arc<K>,
}

impl<S: Subscriber, K: TraceSink> Layer<S> for TraceLayer<K> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut found = RecordField(None);
        event.record(&mut found);
        if let Some(json) = found.0 {
            self.sink.record(&json);
        }
    }
}

/// Takes the field `record` out of an event.
struct RecordField(Option<String>);

impl Visit for RecordField {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "record" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "record" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// Writes one [`trace::Line`] a record, numbered and timed, through a buffer of [`TRACE_BUFFER_BYTES`].
pub struct LineSink<W: Write + Send + 'static> {
    host: String,
    began: Instant,
    inner: Mutex<LineWriter<W>>,
}

struct LineWriter<W: Write> {
    n: u64,
    out: BufWriter<W>,
    /// The first failure ends the trace: a file with a hole would make every oracle lie.
    failed: Option<io::ErrorKind>,
}

// === impl LineSink ===

impl<W: Write + Send + 'static> LineSink<W> {
    /// Lines of `host` go to `out`; time 0 is now.
    pub fn new(host: &str, out: W) -> Self {
        let inner = LineWriter { n: 0, out: BufWriter::with_capacity(TRACE_BUFFER_BYTES, out), failed: None };
        Self { host: host.to_owned(), began: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Writes out what waits in memory. Fails, too, if the trace ended early.
    pub fn flush(&self) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.failed {
            Some(kind) => Err(kind.into()),
            None => inner.out.flush(),
        }
    }
}

impl<W: Write + Send + 'static> TraceSink for LineSink<W> {
    fn record(&self, json: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failed.is_some() {
            return;
        }
        // Numbered and timed under the lock, so that both rise along the file.
        let t = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let line = trace::line_json(inner.n, t, &self.host, json);
        inner.n += 1;
        if let Err(error) = inner.out.write_all(line.as_bytes()).and_then(|()| inner.out.write_all(b"\n")) {
            inner.failed = Some(error.kind());
            // Straight to standard error: an event raised while an event is handled reaches nobody.
            console::note(&format!("the trace cannot be written and ends here: {error}"));
        }
    }
}

impl<W: Write + Send + 'static> Flush for LineSink<W> {
    fn flush(&self) -> io::Result<()> {
        Self::flush(self)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.trace.as_ref().map(|trace| trace.flush()) {
            tracing::error!(%error, "the end of the trace could not be written");
        }
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests;
