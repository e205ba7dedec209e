//! Rooms, where they live, and what their subjects are called.

use proto::subject::{partition, room_hash, stream_index};
use proto::{RoomKey, StreamName, Subject};
use serde::Serialize;

use super::committed;

#[derive(Serialize)]
struct Case {
    tenant: String,
    room: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

#[derive(Serialize)]
struct Place {
    partition: u8,
    /// A decimal text: JSON numbers end at 2^53.
    room_hash: String,
    input: String,
    output: String,
    log: String,
    snapshot: String,
    /// Its log stream when there are 1, 3, 8 and 256.
    streams: [String; 4],
}

#[test]
fn names() {
    let long = ("T".repeat(64), "r".repeat(128));
    let pairs = [
        ("acme", "lobby"),
        ("acme", "game-1"),
        ("acme", "game-2"),
        ("a", "b"),
        ("A", "b"),
        ("0", "0"),
        ("t-1", "_r"),
        ("t_1", "r_-"),
        (&long.0, &long.1),
        ("", "lobby"),
        ("acme", ""),
        ("acme", "a.b"),
        ("acme", "*"),
        ("acme", ">"),
        ("acme", "a b"),
        ("acme", "a\r\nPING"),
        ("acme", "$JS"),
        ("a.b", "lobby"),
        ("-a", "lobby"),
        ("acme", "é"),
        (&long.1, "lobby"),
    ];
    let cases: Vec<Case> = pairs
        .into_iter()
        .map(|(tenant, room)| {
            let key = tenant.parse().ok().zip(room.parse().ok()).map(|(tenant, room)| RoomKey::new(tenant, room));
            let place = key.map(|key| Place {
                partition: partition(&key),
                room_hash: room_hash(&key).to_string(),
                input: Subject::input(&key).to_string(),
                output: Subject::output(&key).to_string(),
                log: Subject::log(&key).to_string(),
                snapshot: Subject::snapshot(&key).to_string(),
                streams: [1, 3, 8, 256].map(|count| StreamName::log(stream_index(partition(&key), count)).to_string()),
            });
            Case { tenant: tenant.into(), room: room.into(), ok: place.is_some(), place }
        })
        .collect();
    committed(
        "names.json",
        "Tenant and room ids, whether they are ids, and where an accepted room lives: partition = first byte of \
         sha256(tenant 00 room), room_hash = its first 8 bytes, little-endian; streams for 1, 3, 8 and 256 log streams.",
        &cases,
    );
}
