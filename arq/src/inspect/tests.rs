use prost::Message as _;
use proto::v1;
use serde_json::json;

use super::*;
use crate::client::set;

fn command() -> Vec<u8> {
    let envelope = v1::Envelope {
        room_id: "lobby".into(),
        timestamp: 1_700_000_000_000,
        message_id: vec![7; 16].into(),
        ack_requested: true,
        payload: Some(v1::envelope::Payload::Cmd(set("colour", "blue"))),
        ..Default::default()
    };
    proto::frame::publish(&envelope.encode_to_vec()).to_vec()
}

#[test]
fn a_command_reads_as_json_and_back_to_the_same_bytes() {
    let bytes = command();
    let decoded = decode(&bytes);
    assert_eq!(decoded.violation, None);
    assert_eq!(
        decoded.json,
        json!({"frame": "pub", "from": "client", "envelope": {
            "room_id": "lobby", "timestamp": 1_700_000_000_000_u64, "message_id": format!("hex:{}", "07".repeat(16)),
            "ack_requested": true, "cmd": {"set": {"key": "colour", "value": "text:blue"}},
        }})
    );
    assert_eq!(encode(&decoded.json).unwrap(), bytes);
}

#[test]
fn every_kind_of_frame_survives_the_round_trip() {
    let frames = [
        json!({"frame": "sub", "body": {"id": 1, "room": "lobby"}}),
        json!({"frame": "unsub", "body": {"room": "lobby"}}),
        json!({"frame": "hb"}),
        json!({"frame": "text", "body": {"op": "pub"}}),
        json!({"frame": "ack", "ack": {"message_id": "hex:00ff", "code": 6001, "duplicate": true}}),
        json!({"frame": "err", "code": 6004, "name": "stale", "text": "wait"}),
        json!({"frame": "pub", "from": "room", "envelope": {"room_id": "a", "event": {
            "epoch": u64::MAX, "seq": 2, "at": -5, "snapshot": {"last": true, "entries": [
                {"key": "k", "value": "hex:00"}, {"key": "l", "value": "text:"}]}}}}),
        json!({"frame": "pub", "from": "client", "envelope": {"room_id": "a", "timestamp": 1, "message_id":
            format!("hex:{}", "00".repeat(16)), "cmd": {"say": {}}, "#40": ["varint:7", "hex:aa", "fixed32:9"]}}),
    ];
    for frame in frames {
        let decoded = decode(&encode(&frame).unwrap());
        assert_eq!(decoded, Decoded { json: frame, violation: None });
    }
}

#[test]
fn a_fault_is_placed_and_what_stands_before_it_is_shown() {
    let mut bytes = command();
    // room_id again, at the end: two decoders could disagree about the room.
    let at = bytes.len();
    bytes.extend_from_slice(b"\x1a\x03bad");
    let decoded = decode(&bytes);
    let violation = decoded.violation.unwrap();
    assert_eq!((violation.code, violation.field, violation.byte), (1005, 3, at));
    assert_eq!(decoded.json["envelope"]["room_id"], "lobby");

    for cut in 1..command().len() {
        let violation = decode(&command()[..cut]).violation.expect("no cut message is whole");
        assert!(violation.byte <= cut, "{violation:?} lies beyond {cut}");
    }
}

#[test]
fn wrong_json_says_where_and_what_was_meant() {
    let cases = [
        (json!([]), "frame: the JSON is no object"),
        (json!({"frame": "pup"}), "frame: there is no frame \"pup\"; did you mean \"pub\"?"),
        (json!({"frame": "pub"}), "envelope: is missing"),
        (
            json!({"frame": "pub", "envelope": {"rom_id": "a"}}),
            "envelope.rom_id: Envelope has no such field; did you mean \"room_id\"?",
        ),
        (json!({"frame": "pub", "envelope": {"timestamp": "1"}}), "must be a whole number"),
        (json!({"frame": "pub", "envelope": {"message_id": "0700"}}), "must be \"text:…\", \"hex:…\" or \"base64:…\""),
        (
            json!({"frame": "pub", "envelope": {"cmd": {"say": {}, "set": {}}}}),
            "envelope.cmd.say: stands beside \"set\": one of them only",
        ),
        (json!({"frame": "ack", "ack": {"code": 4_294_967_296_u64}}), "at most 4294967295"),
    ];
    for (json, expected) in cases {
        let error = encode(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
