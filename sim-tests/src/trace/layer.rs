//! A `tracing` layer that takes the product's trace records, for engines that open a span called `node` around each turn of a
//! host.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use voltron_core::trace::TARGET;

use super::Trace;

/// Feeds a [`Trace`]; see [`Trace::layer`].
#[derive(Debug)]
pub struct CollectLayer {
    pub(super) trace: Trace,
}

/// Kept with a span called `node`.
struct HostName(String);

impl<S> Layer<S> for CollectLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut name = Text { field: "name", found: None };
        attributes.record(&mut name);
        if let (Some(span), Some(name)) = (context.span(id), name.found) {
            span.extensions_mut().insert(HostName(name));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut text = Text { field: "record", found: None };
        event.record(&mut text);
        let Some(json) = text.found else { return };
        let Ok(record) = serde_json::from_str(&json) else { return };
        let host = context.event_scope(event).and_then(|mut scope| {
            scope.find_map(|span| span.extensions().get::<HostName>().map(|name| name.0.clone()))
        });
        self.trace.lock().push(host.as_deref().unwrap_or("harness"), &json, record);
    }
}

/// Takes one field's text.
struct Text {
    field: &'static str,
    found: Option<String>,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.field {
            self.found = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.field {
            self.found = Some(format!("{value:?}"));
        }
    }
}
