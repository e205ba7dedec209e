//! The canonical rule's edges, within single messages.

use proto::Code;
use proto::canonical::{self, Message, table};
use serde::Serialize;

use super::{committed, hex};
use crate::wire::{Wire, tag, wide_varint};

#[derive(Serialize)]
struct Case {
    name: &'static str,
    message: &'static str,
    hex: String,
    code: u16,
}

const MALFORMED: u16 = Code::MalformedEnvelope as u16;
const NON_CANONICAL: u16 = Code::NonCanonicalEnvelope as u16;

fn cases() -> Vec<(&'static str, &'static Message, u16, Wire)> {
    let item = || Wire::new().bytes(1, "a").bytes(2, "b");
    let max = u64::from(u32::MAX);
    vec![
        ("empty", &table::COMMAND, 0, Wire::new()),
        ("uint64 at its greatest", &table::HEAD, 0, Wire::new().number(1, u64::MAX)),
        ("uint64 wider than need be", &table::HEAD, NON_CANONICAL, Wire::new().raw(&tag(1, 0)).raw(&wide_varint(1, 8))),
        ("a default written out", &table::HEAD, 0, Wire::new().number(1, 0)),
        ("an optional field that holds 0", &table::DELETE, 0, Wire::new().bytes(1, "k").number(2, 0)),
        ("uint32 at its greatest", &table::ROOM_OPTIONS, 0, Wire::new().number(1, max)),
        ("uint32 beyond 32 bits", &table::ROOM_OPTIONS, NON_CANONICAL, Wire::new().number(1, max + 1)),
        ("an enum value nobody knows", &table::LOCK, 0, Wire::new().number(1, 77)),
        ("an enum at its greatest", &table::LOCK, 0, Wire::new().number(1, max >> 1)),
        ("an enum beyond 31 bits", &table::LOCK, NON_CANONICAL, Wire::new().number(1, (max >> 1) + 1)),
        ("an enum below 0", &table::LOCK, NON_CANONICAL, Wire::new().number(1, u64::MAX)),
        ("an int64 below 0", &table::BAN, 0, Wire::new().bytes(1, "u").number(2, u64::MAX)),
        ("fixed64", &table::CURSOR, 0, Wire::new().number(3, 1).fixed64(4, u64::MAX)),
        ("fixed64 as a varint", &table::CURSOR, MALFORMED, Wire::new().number(4, 1)),
        ("fixed64 cut short", &table::CURSOR, MALFORMED, Wire::new().raw(&tag(4, 1)).raw(&[0; 7])),
        ("a bool of 1 in two bytes", &table::UNLOCK, NON_CANONICAL, Wire::new().raw(&[8, 0x81, 0])),
        ("a bool of 2", &table::UNLOCK, NON_CANONICAL, Wire::new().number(1, 2)),
        ("a repeated message", &table::PLAYLIST_INSERT, 0, Wire::new().message(2, item()).message(2, item())),
        ("a repeated message parted by another field", &table::PLAYLIST_INSERT, NON_CANONICAL, {
            Wire::new().message(2, item()).number(3, 1).message(2, item())
        }),
        ("a fault in the second of a repeated message", &table::PLAYLIST_INSERT, NON_CANONICAL, {
            Wire::new().message(2, item()).message(2, item().bytes(1, "c"))
        }),
        ("a key that is not UTF-8", &table::SET, MALFORMED, Wire::new().bytes(1, [0x80])),
        ("a value that is not UTF-8", &table::SET, 0, Wire::new().bytes(1, "k").bytes(2, [0x80])),
        ("a key with a null byte", &table::SET, 0, Wire::new().bytes(1, "\0")),
        ("an unknown field within a message", &table::SAY, 0, Wire::new().bytes(1, "x").bytes(32, "y")),
        ("an unknown field below 32 within a message", &table::SAY, NON_CANONICAL, Wire::new().bytes(3, "y")),
        ("a number of the server within a message", &table::SAY, NON_CANONICAL, Wire::new().bytes(1000, "y")),
        ("an operation of number 33", &table::COMMAND, 0, Wire::new().message(33, Wire::new())),
        ("unknown field 35 behind an operation", &table::COMMAND, 0, {
            Wire::new().message(33, Wire::new()).number(35, 1)
        }),
        ("field 15, kept free for leases", &table::COMMAND, NON_CANONICAL, Wire::new().message(15, Wire::new())),
        ("two operations", &table::COMMAND, NON_CANONICAL, {
            Wire::new().message(10, Wire::new()).message(11, Wire::new())
        }),
        ("64 unknown fields over two levels", &table::COMMAND, 0, {
            let inner = Wire::new().raw(&Wire::new().number(40, 0).0.repeat(32));
            Wire::new().message(10, inner).raw(&Wire::new().number(40, 0).0.repeat(32))
        }),
        ("65 unknown fields over two levels", &table::COMMAND, NON_CANONICAL, {
            let inner = Wire::new().raw(&Wire::new().number(40, 0).0.repeat(33));
            Wire::new().message(10, inner).raw(&Wire::new().number(40, 0).0.repeat(32))
        }),
        ("a command within an event's change", &table::PLAYLIST_CHANGED, NON_CANONICAL, {
            Wire::new().message(1, Wire::new().number(1, 1).number(1, 1)).number(2, 7)
        }),
        ("an unknown group", &table::COMMAND, NON_CANONICAL, Wire::new().raw(&tag(40, 3)).raw(&tag(40, 4))),
        ("a known field as a group", &table::COMMAND, NON_CANONICAL, Wire::new().raw(&tag(10, 3)).raw(&tag(10, 4))),
    ]
}

#[test]
fn canonical_messages() {
    let cases: Vec<Case> = cases()
        .into_iter()
        .map(|(name, message, code, Wire(bytes))| {
            let found = canonical::check(message, &bytes).map_or_else(|fault| fault.code.as_u16(), |()| 0);
            assert_eq!(found, code, "{name}");
            Case { name, message: message.name, hex: hex(bytes), code }
        })
        .collect();
    committed(
        "canonical.json",
        "Single messages of envelope.proto and what the canonical rule says: 0 accepted, 1004 unreadable, 1005 readable but \
         not canonical.",
        &cases,
    );
}
