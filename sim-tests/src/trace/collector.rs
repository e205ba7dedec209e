//! The `tracing` subscriber of a run: it takes the product's trace records, says which process wrote each, and passes all
//! else on to the log lines, if somebody wants to see them. Nothing is kept for a span or an event that nobody asked for.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{self, Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use voltron_core::trace::TARGET;

use super::Trace;
use crate::engine::leap;

/// Where log lines go.
pub type Logs = Box<dyn Subscriber + Send + Sync>;

/// Feeds a [`Trace`]; see [`Trace::collector`].
pub struct Collector {
    trace: Trace,
    logs: Option<Logs>,
}

impl Collector {
    pub(super) fn new(trace: Trace, logs: Option<Logs>) -> Self {
        Self { trace, logs }
    }
}

fn is_record(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// Spans are the log lines' alone: without them nobody is interested, and none is made.
impl Subscriber for Collector {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_record(metadata) {
            return Interest::always();
        }
        self.logs.as_ref().map_or_else(Interest::never, |logs| logs.register_callsite(metadata))
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_record(metadata) || self.logs.as_ref().is_some_and(|logs| logs.enabled(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.logs.as_ref().map_or_else(|| Id::from_u64(1), |logs| logs.new_span(attributes))
    }

    fn record(&self, span: &Id, values: &span::Record<'_>) {
        if let Some(logs) = &self.logs {
            logs.record(span, values);
        }
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        if let Some(logs) = &self.logs {
            logs.record_follows_from(span, follows);
        }
    }

    fn event(&self, event: &Event<'_>) {
        if !is_record(event.metadata()) {
            if let Some(logs) = &self.logs {
                logs.event(event);
            }
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let Ok(record) = serde_json::from_str(&text.0) else { return };
        leap::whose(|host| self.trace.lock().push(host.unwrap_or("harness"), &text.0, record));
    }

    fn enter(&self, span: &Id) {
        if let Some(logs) = &self.logs {
            logs.enter(span);
        }
    }

    fn exit(&self, span: &Id) {
        if let Some(logs) = &self.logs {
            logs.exit(span);
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.logs.as_ref().map_or_else(|| span.clone(), |logs| logs.clone_span(span))
    }

    fn try_close(&self, span: Id) -> bool {
        self.logs.as_ref().is_some_and(|logs| logs.try_close(span))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("trace", &self.trace).finish_non_exhaustive()
    }
}

/// Takes a record's JSON.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "record" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "record" {
            self.0 = format!("{value:?}");
        }
    }
}
