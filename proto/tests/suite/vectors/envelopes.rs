//! Whole envelopes, good and bad, at the door they come to.

use prost::Message as _;
use proto::sender::{SenderRef, append};
use proto::view::EnvelopeView;
use proto::{Code, Rights, v1};
use serde::Serialize;

use super::{committed, hex, seeds};
use crate::oracle;
use crate::wire::{Wire, tag};

#[derive(Serialize)]
struct Case {
    name: &'static str,
    door: &'static str,
    hex: String,
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<View>,
}

#[derive(Serialize)]
struct View {
    trace_id: String,
    tenant_id: String,
    room_id: String,
    timestamp: i64,
    message_id: String,
    ack_requested: bool,
    signature: String,
    field: u32,
    payload: String,
    sender: Option<String>,
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn say() -> Wire {
    Wire::new().message(10, Wire::new().bytes(1, "hello").bytes(2, "text"))
}

/// Fields 3, 4 and 5: what every command needs before its payload.
fn head() -> Wire {
    Wire::new().bytes(3, "lobby").number(4, 1_760_000_000_000).bytes(5, [5; 16])
}

fn full() -> Wire {
    Wire::new().bytes(1, TRACE).bytes(2, "acme").raw(&head().0).number(6, 1).bytes(10, [9; 64]).message(20, say())
}

fn sender() -> Wire {
    let mut out = bytes::BytesMut::new();
    let sender = SenderRef {
        user: "ann",
        conn: "c1",
        client: &[],
        rights: Rights(3),
        policy: &[],
        public_key: &[],
        redacted_by: &[],
        received_at: 1_760_000_000_001,
        meta: b"{\"name\":\"Ann\"}",
    };
    append(&mut out, &sender);
    Wire(out.to_vec())
}

fn event() -> Wire {
    let event = v1::Event {
        epoch: 1_760_000_000_000,
        seq: 3,
        user: "ann".into(),
        term: 1,
        at: 1_760_000_000_002,
        prev: 41,
        cmd: say().0.into(),
        body: Some(v1::event::Body::Said(v1::Said { data: "hello".into(), r#type: "text".into() })),
        ..Default::default()
    };
    Wire(event.encode_to_vec())
}

fn sync() -> Wire {
    let ask = v1::system_signal::Ask::Sync(v1::Sync { history: 10, presence: 2, ..Default::default() });
    Wire(v1::SystemSignal { ask: Some(ask), ..Default::default() }.encode_to_vec())
}

const OK: u16 = 0;
const MALFORMED: u16 = Code::MalformedEnvelope as u16;
const NON_CANONICAL: u16 = Code::NonCanonicalEnvelope as u16;
const MISSING: u16 = Code::MissingField as u16;
const NOT_A_COMMAND: u16 = Code::NotACommand as u16;
const RESERVED: u16 = Code::ReservedField as u16;

fn good() -> Vec<(&'static str, &'static str, Wire)> {
    vec![
        ("every field", "client", full()),
        ("the least a command needs", "client", head().bytes(20, "")),
        ("a timestamp before 1970", "client", {
            Wire::new().bytes(3, "lobby").number(4, (-1_i64).cast_unsigned()).bytes(5, [5; 16]).message(20, say())
        }),
        ("defaults written out", "client", Wire::new().bytes(1, "").raw(&head().0).number(6, 0).bytes(20, "")),
        ("unknown fields 32 and 999, each wire type", "client", {
            full().number(32, u64::MAX).number(32, 1).fixed64(33, 1).fixed32(34, 1).bytes(999, "x")
        }),
        ("64 unknown fields", "client", full().raw(&Wire::new().number(100, 0).0.repeat(64))),
        ("a room id that will not parse", "client", {
            Wire::new().bytes(3, "a.*.>").number(4, 1).bytes(5, [5; 16]).message(20, say())
        }),
        ("a command with its sender", "forwarded", full().raw(&sender().0)),
        ("a sync", "forwarded", Wire::new().bytes(3, "lobby").message(22, sync()).raw(&sender().0)),
        ("a stored event", "delivered", head().message(21, event())),
        ("an event of the room itself", "delivered", Wire::new().bytes(3, "lobby").message(21, event())),
    ]
}

fn bad() -> Vec<(&'static str, &'static str, u16, Wire)> {
    let cut = |by: usize| {
        let mut wire = full();
        wire.0.truncate(wire.0.len() - by);
        wire
    };
    let with_id = |id: &[u8]| Wire::new().bytes(3, "lobby").number(4, 1).bytes(5, id).message(20, say());
    vec![
        ("empty", "client", MISSING, Wire::new()),
        ("no payload", "client", MISSING, head()),
        ("no room", "client", MISSING, Wire::new().number(4, 1).bytes(5, [5; 16]).message(20, say())),
        ("no timestamp", "client", MISSING, Wire::new().bytes(3, "lobby").bytes(5, [5; 16]).message(20, say())),
        ("no message id", "client", MISSING, Wire::new().bytes(3, "lobby").number(4, 1).message(20, say())),
        ("a message id of 15 bytes", "client", MISSING, with_id(&[5; 15])),
        ("a message id of 17 bytes", "client", MISSING, with_id(&[5; 17])),
        ("a signature of 63 bytes", "client", MISSING, head().bytes(10, [9; 63]).message(20, say())),
        (
            "a trace id of 54 bytes",
            "client",
            MISSING,
            Wire::new().bytes(1, &TRACE[1..]).raw(&head().0).message(20, say()),
        ),
        ("the last byte cut off", "client", MALFORMED, cut(1)),
        ("cut within the message id", "client", MALFORMED, Wire(full().0[..80].to_vec())),
        ("a tag and nothing more", "client", MALFORMED, full().raw(&tag(40, 2))),
        ("a length beyond the end", "client", MALFORMED, head().raw(&tag(20, 2)).raw(&[0x7f])),
        ("a length of 2^63", "client", MALFORMED, head().raw(&tag(20, 2)).raw(&[0x80; 9]).raw(&[1])),
        ("a varint of eleven bytes", "client", MALFORMED, Wire::new().raw(&tag(4, 0)).raw(&[0xff; 10]).raw(&[1])),
        ("a varint beyond 64 bits", "client", MALFORMED, Wire::new().raw(&tag(4, 0)).raw(&[0xff; 9]).raw(&[2])),
        ("field number 0", "client", MALFORMED, full().raw(&[0, 0])),
        ("a tag beyond 32 bits", "client", MALFORMED, full().raw(&[0x80, 0x80, 0x80, 0x80, 0x10, 0])),
        ("the end of no group", "client", MALFORMED, full().raw(&tag(40, 4))),
        ("wire type 6", "client", MALFORMED, full().raw(&tag(40, 6))),
        ("wire type 7", "client", MALFORMED, full().raw(&tag(40, 7))),
        ("a room that is not UTF-8", "client", MALFORMED, Wire::new().bytes(3, [0xff, 0xfe])),
        ("an overlong UTF-8 form", "client", MALFORMED, Wire::new().bytes(3, [0xc0, 0xaf])),
        ("a surrogate in UTF-8", "client", MALFORMED, Wire::new().bytes(3, [0xed, 0xa0, 0x80])),
        ("the room as a number", "client", MALFORMED, Wire::new().number(3, 1)),
        ("the payload as a number", "client", MALFORMED, head().number(20, 1)),
        ("the timestamp in eight bytes", "client", MALFORMED, Wire::new().bytes(3, "lobby").fixed64(4, 1)),
        ("a tag in six bytes", "client", NON_CANONICAL, full().raw(&[0xc0, 0x82, 0x80, 0x80, 0x80, 0x00, 0])),
        ("a tag wider than need be", "client", NON_CANONICAL, Wire::new().raw(&[0x9a, 0x00, 1, b'a'])),
        ("a length wider than need be", "client", NON_CANONICAL, Wire::new().raw(&[0x1a, 0x81, 0x00, b'a'])),
        ("a number wider than need be", "client", NON_CANONICAL, Wire::new().raw(&[0x20, 0x81, 0x00])),
        ("a bool of 2", "client", NON_CANONICAL, head().number(6, 2).message(20, say())),
        ("a room twice", "client", NON_CANONICAL, Wire::new().bytes(3, "lobby").bytes(3, "vault")),
        ("a payload twice", "client", NON_CANONICAL, head().message(20, say()).message(20, say())),
        ("a payload before the message id", "client", NON_CANONICAL, Wire::new().message(20, say()).bytes(5, [5; 16])),
        ("a command and an event", "client", NON_CANONICAL, head().message(20, say()).message(21, event())),
        ("a group", "client", NON_CANONICAL, full().raw(&tag(40, 3)).raw(&tag(40, 4))),
        ("unknown field 7", "client", NON_CANONICAL, head().number(7, 1).message(20, say())),
        ("unknown field 31", "client", NON_CANONICAL, full().number(31, 1)),
        ("unknown fields that descend", "client", NON_CANONICAL, full().number(41, 1).number(40, 1)),
        ("65 unknown fields", "client", NON_CANONICAL, full().raw(&Wire::new().number(100, 0).0.repeat(65))),
        ("a command with a field twice", "client", NON_CANONICAL, head().message(20, say().message(10, Wire::new()))),
        ("a command with two operations", "client", NON_CANONICAL, head().message(20, say().message(13, Wire::new()))),
        (
            "a command with an operation cut short",
            "client",
            MALFORMED,
            head().message(20, Wire::new().raw(&[0x52, 9, 1])),
        ),
        ("a lock mode below 0", "client", NON_CANONICAL, {
            head().message(20, Wire::new().message(13, Wire::new().number(1, (-1_i64).cast_unsigned())))
        }),
        ("an event from a client", "client", NOT_A_COMMAND, head().message(21, event())),
        ("a sync from a client", "client", NOT_A_COMMAND, head().message(22, sync())),
        ("a sender from a client", "client", RESERVED, full().raw(&sender().0)),
        ("field 1001 from a client", "client", RESERVED, full().bytes(1001, "x")),
        ("the highest field number from a client", "client", RESERVED, full().bytes((1 << 29) - 1, "x")),
        ("no sender", "forwarded", MISSING, full()),
        ("two senders", "forwarded", NON_CANONICAL, full().raw(&sender().0).raw(&sender().0)),
        ("a sender with a user twice", "forwarded", NON_CANONICAL, {
            full().message(1000, Wire::new().bytes(1, "ann").bytes(1, "root"))
        }),
        ("rights beyond 32 bits", "forwarded", NON_CANONICAL, full().message(1000, Wire::new().number(4, 1 << 32))),
        ("field 1001 from a Shield", "forwarded", NON_CANONICAL, full().raw(&sender().0).bytes(1001, "x")),
        ("an event from a Shield", "forwarded", NOT_A_COMMAND, head().message(21, event()).raw(&sender().0)),
        ("a signal with a message id of 8 bytes", "forwarded", MISSING, {
            Wire::new().bytes(3, "lobby").bytes(5, [5; 8]).message(22, sync()).raw(&sender().0)
        }),
        ("a command from a room", "delivered", NOT_A_COMMAND, full()),
        ("an event with a sender", "delivered", RESERVED, head().message(21, event()).raw(&sender().0)),
        ("field 1001 within a command of a client", "client", NON_CANONICAL, {
            head().message(20, Wire::new().bytes(1001, "x"))
        }),
    ]
}

fn read<'a>(door: &str, bytes: &'a [u8]) -> Result<EnvelopeView<'a>, proto::view::ViewError> {
    match door {
        "client" => EnvelopeView::client(bytes),
        "forwarded" => EnvelopeView::forwarded(bytes),
        _ => EnvelopeView::delivered(bytes),
    }
}

#[test]
fn envelopes() {
    let good = good().into_iter().map(|(name, door, wire)| (name, door, OK, wire));
    let all: Vec<_> = good.chain(bad()).collect();
    seeds("envelope", all.iter().map(|(name, _, _, wire)| (*name, wire.0.clone())));
    let cases: Vec<Case> = all
        .into_iter()
        .map(|(name, door, code, Wire(bytes))| {
            oracle::envelope(&bytes);
            let read = read(door, &bytes);
            assert_eq!(read.map_or_else(|error| error.code.as_u16(), |_| OK), code, "{name}: {read:?}");
            let view = read.ok().map(|view| View {
                trace_id: view.trace_id.into(),
                tenant_id: view.tenant_id.into(),
                room_id: view.room_id.into(),
                timestamp: view.timestamp,
                message_id: hex(view.message_id),
                ack_requested: view.ack_requested,
                signature: hex(view.signature),
                field: view.payload.field,
                payload: hex(view.payload.bytes),
                sender: view.sender.map(hex),
            });
            Case { name, door, hex: hex(bytes), code, view }
        })
        .collect();
    committed(
        "envelopes.json",
        "Envelopes as they come to a door: client (at the Shield), forwarded (at the Brain), delivered (at a subscriber). \
         code 0: accepted, and view holds what is read; else the code of the refusal.",
        &cases,
    );
}
