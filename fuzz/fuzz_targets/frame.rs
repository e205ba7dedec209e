//! Any bytes as a WebSocket message, from client and server, binary and text: no panic, and what is read comes back
//! when it is written.
#![no_main]

#[path = "../../proto/tests/suite/oracle.rs"]
#[allow(dead_code)]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::frame(bytes));
