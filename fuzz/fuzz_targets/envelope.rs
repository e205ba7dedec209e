//! Any bytes at every door of the gate: the view is never looser than prost, says the same where it accepts, calls
//! malformed only what prost refuses too, and what it accepts takes a sender without changing.
#![no_main]

// One text of what must hold, shared with the property tests.
#[path = "../../proto/tests/suite/oracle.rs"]
#[allow(dead_code)]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::envelope(bytes));
