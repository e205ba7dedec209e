//! What prost makes of a message: read, and written again. Another language's codec must come to the same bytes and
//! refuse the same, for every message of the schemas and at the edges of what the schema language lets a reader take.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use proto::{internal, v1};
use serde::Serialize;

use super::{committed, hex};
use crate::wire::{Wire, tag, varint, wide_varint};

#[derive(Serialize)]
struct Case {
    name: String,
    message: String,
    hex: String,
    /// Read and written again; absent: refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<String>,
}

fn rewritten<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
    M::decode(bytes).ok().map(|message| message.encode_to_vec())
}

macro_rules! messages {
    ($($package:literal $space:ident: $($name:ident)*;)*) => {
        /// By the message's full name.
        fn again(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
            match name {
                $($(concat!($package, ".", stringify!($name)) => rewritten::<$space::$name>(bytes),)*)*
                _ => panic!("{name} is not in the list of proto/tests/suite/vectors/codec.rs"),
            }
        }
    };
}

messages! {
    "arqon.v1" v1: Envelope Sender Head Command Say Set Delete Lock Unlock PlaylistItem PlaylistInsert PlaylistRemove
        PlaylistMove PlaylistClear PlaylistSelect Play Pause Seek Kick Ban Unban Mute Unmute RoomOptions Configure Close
        Event Said KeySet KeyDeleted Locked Unlocked PlaylistChanged Playback Kicked Banned Unbanned Muted Unmuted
        Configured Closed Snapshot Member PresenceSnapshot PresenceDiff Ack SystemSignal Cursor Sync Get;
    "arqon.internal.v1" internal: LogEntry Owned Deleted Open Opened Live SyncReply DedupeEntry DedupeRange DedupeUser
        RoomState Ttl RoomSnapshot TrimPoint PresenceEntry PresenceDelta Clock Tail Heartbeat;
}

/// The schemas as prost sees them.
struct Schema(Vec<FileDescriptorProto>);

impl Schema {
    fn new() -> Self {
        let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).expect("the build wrote it");
        let ours = |file: &FileDescriptorProto| ["arqon.v1", "arqon.internal.v1"].contains(&file.package());
        Self(set.file.into_iter().filter(ours).collect())
    }

    /// Every message by its full name.
    fn messages(&self) -> impl Iterator<Item = (String, &DescriptorProto)> {
        let named =
            |file: &FileDescriptorProto, message: &DescriptorProto| format!("{}.{}", file.package(), message.name());
        self.0.iter().flat_map(move |file| file.message_type.iter().map(move |message| (named(file, message), message)))
    }

    /// Every field once, repeated ones twice, ascending; of a oneof each member, so that the last one counts. `seed`
    /// changes the values.
    fn full(&self, message: &DescriptorProto, seed: u64) -> Wire {
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let mut wire = Wire::new();
        for (n, field) in (seed..).zip(fields) {
            let number = u32::try_from(field.number()).expect("a field number");
            for n in n..=n + u64::from(field.label() == Label::Repeated) {
                wire = match field.r#type() {
                    Type::Bool => wire.number(number, 1),
                    Type::Enum => wire.number(number, n % 6),
                    Type::Uint32 => wire.number(number, n * 1_000_003 % (1 << 32)),
                    Type::Uint64 | Type::Int64 => wire.number(number, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    Type::Fixed64 => wire.fixed64(number, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    Type::Bytes => wire.bytes(number, n.to_be_bytes()),
                    Type::String => wire.bytes(number, format!("té{n}")),
                    Type::Message => {
                        let (_, inner) = self
                            .messages()
                            .find(|(name, _)| field.type_name().strip_prefix('.') == Some(name))
                            .expect("a message of the schemas");
                        wire.message(number, self.full(inner, n))
                    }
                    other => panic!("{}: no value of {other:?}", field.name()),
                };
            }
        }
        wire
    }
}

/// What a lenient reader takes, and where it ends.
fn edges() -> Vec<(&'static str, &'static str, Wire)> {
    let number = |wire: &[u8]| Wire::new().raw(&tag(1, 0)).raw(wire);
    let groups = |depth: usize| Wire::new().raw(&tag(99, 3).repeat(depth)).raw(&tag(99, 4).repeat(depth));
    let say = |data: &str| Wire::new().message(10, Wire::new().bytes(1, data));
    let key = |name: &str| Wire::new().bytes(1, name);
    vec![
        ("fields descending", "v1.Head", Wire::new().number(2, 2).number(1, 1)),
        ("the last of a number wins", "v1.Head", Wire::new().number(1, 1).number(1, 0)),
        ("the last of a text wins", "v1.Say", Wire::new().bytes(2, "long").bytes(2, "x")),
        ("a message given twice is merged", "v1.Command", {
            Wire::new().message(2, Wire::new().number(1, 7)).message(2, Wire::new().number(2, 8))
        }),
        ("a member of a oneof given twice is merged", "v1.Command", {
            say("x").message(10, Wire::new().bytes(2, "y"))
        }),
        (
            "another member of a oneof replaces it",
            "v1.Command",
            say("x").message(11, key("k")).message(10, Wire::new()),
        ),
        ("an optional 0 is there", "v1.Delete", Wire::new().number(2, 0)),
        ("an empty message is there", "v1.Command", Wire::new().message(2, Wire::new())),
        ("defaults written out vanish", "v1.Set", Wire::new().bytes(1, "").bytes(2, "").number(3, 0)),
        ("a number of ten bytes", "v1.Head", number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        ("a number beyond 64 bits", "v1.Head", number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])),
        (
            "a number of eleven bytes",
            "v1.Head",
            number(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
        ),
        ("a number of ten bytes for 1", "v1.Head", number(&wide_varint(1, 9))),
        ("a number cut short", "v1.Head", number(&[0x80])),
        ("a tag of ten bytes", "v1.Head", Wire::new().raw(&wide_varint(8, 9)).raw(&[5])),
        ("a tag beyond 32 bits", "v1.Head", Wire::new().raw(&varint(1 << 32 | 8)).raw(&[5])),
        ("a length wider than need be", "v1.Say", Wire::new().raw(&tag(1, 2)).raw(&wide_varint(1, 3)).raw(b"x")),
        ("a length beyond the end", "v1.Say", Wire::new().raw(&tag(1, 2)).raw(&[2]).raw(b"x")),
        ("a length of 2^63", "v1.Say", Wire::new().raw(&tag(1, 2)).raw(&varint(1 << 63)).raw(b"x")),
        ("a bool of 2", "v1.Unlock", Wire::new().number(1, 2)),
        ("a bool of 2^32", "v1.Unlock", Wire::new().number(1, 1 << 32)),
        ("uint32 loses what is above", "v1.RoomOptions", Wire::new().number(1, (1 << 32) + 5)),
        ("uint32 of 2^32 is 0", "v1.RoomOptions", Wire::new().number(1, 1 << 32)),
        ("int64 below 0", "v1.Ban", Wire::new().number(2, u64::MAX)),
        ("an enum nobody knows", "v1.Lock", Wire::new().number(1, 77)),
        ("an enum below 0", "v1.Lock", Wire::new().number(1, u64::MAX)),
        ("an enum of 32 bits is below 0", "v1.Lock", Wire::new().number(1, 0xffff_ffff)),
        ("an enum of 2^32 is 0", "v1.Lock", Wire::new().number(1, 1 << 32)),
        ("a text that is not UTF-8", "v1.Set", Wire::new().bytes(1, [0xff])),
        ("a surrogate in a text", "v1.Set", Wire::new().bytes(1, [0xed, 0xa0, 0x80])),
        ("beyond the last character", "v1.Set", Wire::new().bytes(1, [0xf4, 0x90, 0x80, 0x80])),
        ("the last character", "v1.Set", Wire::new().bytes(1, [0xf4, 0x8f, 0xbf, 0xbf])),
        ("a bad text that a good one follows", "v1.Set", Wire::new().bytes(1, [0xff]).bytes(1, "k")),
        ("a text as a number", "v1.Set", Wire::new().number(1, 1)),
        ("a number as bytes", "v1.Head", Wire::new().bytes(1, [1])),
        ("fixed64 as a number", "v1.Cursor", Wire::new().number(4, 1)),
        ("fixed64 cut short", "v1.Cursor", Wire::new().raw(&tag(4, 1)).raw(&[0; 7])),
        ("a message as a number", "v1.Command", Wire::new().number(2, 1)),
        ("a known field as a group", "v1.Command", Wire::new().raw(&tag(10, 3)).raw(&tag(10, 4))),
        ("unknown fields of each wire type", "v1.Head", {
            Wire::new().number(9, 1).number(1, 3).fixed64(10, 1).fixed32(11, 1).bytes(12, "x").raw(&groups(2).0)
        }),
        ("an unknown field of the highest number", "v1.Head", Wire::new().number((1 << 29) - 1, 1)),
        ("field number 0", "v1.Head", Wire::new().raw(&[0, 1])),
        ("wire type 6", "v1.Head", Wire::new().raw(&[9 << 3 | 6])),
        ("wire type 7", "v1.Head", Wire::new().raw(&[9 << 3 | 7])),
        ("the end of no group", "v1.Head", Wire::new().raw(&tag(9, 4))),
        ("a group that ends as another", "v1.Head", Wire::new().raw(&tag(9, 3)).raw(&tag(8, 4))),
        ("a group without its end", "v1.Head", Wire::new().raw(&tag(9, 3)).number(1, 1)),
        ("an unknown number cut short", "v1.Head", Wire::new().raw(&tag(9, 5)).raw(&[0; 3])),
        ("100 groups", "v1.Head", groups(100)),
        ("101 groups", "v1.Head", groups(101)),
        ("99 groups in a message", "v1.Command", Wire::new().message(2, groups(99))),
        ("100 groups in a message", "v1.Command", Wire::new().message(2, groups(100))),
        ("a field within 99 groups", "v1.Head", {
            Wire::new().raw(&tag(99, 3).repeat(99)).number(1, 1).raw(&tag(99, 4).repeat(99))
        }),
        ("a field within 100 groups", "v1.Head", {
            Wire::new().raw(&tag(99, 3).repeat(100)).number(1, 1).raw(&tag(99, 4).repeat(100))
        }),
        ("a field that ends beyond its message", "v1.Command", {
            Wire::new().raw(&tag(2, 2)).raw(&[1]).raw(&tag(1, 0)).raw(&[1])
        }),
        ("repeated numbers, unpacked", "internal.v1.PresenceDelta", Wire::new().number(6, 1).number(6, 300)),
        ("repeated numbers, packed", "internal.v1.PresenceDelta", Wire::new().bytes(6, [1, 0xac, 2])),
        ("repeated numbers, both, and parted", "internal.v1.PresenceDelta", {
            Wire::new().bytes(6, [1, 2]).number(3, 9).number(6, 3).bytes(6, [0x80, 0])
        }),
        ("repeated numbers, none", "internal.v1.PresenceDelta", Wire::new().bytes(6, "")),
        ("packed numbers cut short", "internal.v1.PresenceDelta", Wire::new().bytes(6, [1, 0x80])),
        ("packed numbers that end beyond their length", "internal.v1.PresenceDelta", {
            Wire::new().bytes(6, [0x80]).number(1, 0)
        }),
        ("repeated numbers of eight bytes", "internal.v1.PresenceDelta", Wire::new().fixed64(6, 1)),
        ("repeated bytes, parted, one empty", "internal.v1.LogEntry", {
            Wire::new().bytes(9, "a").number(1, 1).bytes(9, "").bytes(9, "b")
        }),
    ]
}

#[test]
fn read_and_written_again() {
    let schema = Schema::new();
    let case = |name: &str, message: String, bytes: Vec<u8>| {
        let again = again(&message, &bytes).map(hex);
        Case { name: name.into(), message, hex: hex(bytes), again }
    };
    let mut cases = Vec::new();
    for (name, message) in schema.messages() {
        cases.push(case("every field", name.clone(), schema.full(message, 1).0));
        assert!(cases.last().is_some_and(|case| case.again.is_some()), "{name}");
    }
    let edges = edges().into_iter().map(|(about, name, Wire(bytes))| case(about, format!("arqon.{name}"), bytes));
    cases.extend(edges);
    committed(
        "codec.json",
        "Messages as a lenient reader takes them: read, and written again as `again`; refused where there is none.",
        &cases,
    );
}
