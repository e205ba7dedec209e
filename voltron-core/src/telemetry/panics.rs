//! The panic hook of every program: one log line with the thread and the place, and a count.
//!
//! A formatted message can hold what a user wrote (`{value:?}` in `unwrap`, a slice's text in an index error), so it is
//! shown by its length alone; a literal is shown whole. The place leads to the rest. The hook of the standard library
//! prints both, past `[log]` and its format.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{self, PanicHookInfo};

use prometheus_client::metrics::counter::Counter;

/// Replaces the hook of this process.
pub(super) fn install(count: Counter) {
    panic::set_hook(Box::new(move |info| report(info, &count)));
}

fn report(info: &PanicHookInfo<'_>, count: &Counter) {
    count.inc();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = shown(info.payload());
    tracing::error!(thread, place, %message, "a thread panicked: this is a bug, please report the place");
}

/// The message as far as it is known to come from the program's text.
fn shown(payload: &dyn Any) -> Cow<'static, str> {
    if let Some(literal) = payload.downcast_ref::<&'static str>() {
        return Cow::Borrowed(literal);
    }
    match payload.downcast_ref::<String>() {
        Some(text) => Cow::Owned(format!("a formatted message of {} bytes", text.len())),
        None => Cow::Borrowed("a value that is no text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_are_shown() {
        assert_eq!(shown(&"the table is empty"), "the table is empty");
        assert_eq!(shown(&"secret of a user".to_owned()), "a formatted message of 16 bytes");
        assert_eq!(shown(&7_u8), "a value that is no text");
    }
}
