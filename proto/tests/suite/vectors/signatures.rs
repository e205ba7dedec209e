//! Transcripts, keys and signatures. Ed25519 is deterministic, so each language must come to the same bytes.

use proto::signature::{SigningKey, Transcript, public_key};
use serde::Serialize;

use super::{committed, hex};

#[derive(Serialize)]
struct Case {
    name: &'static str,
    seed: Option<String>,
    public_key: String,
    tenant: String,
    room: String,
    message_id: String,
    timestamp: i64,
    field: u32,
    payload: String,
    transcript: String,
    signature: String,
    valid: bool,
}

fn case(name: &'static str, signed: Transcript<'_>, claimed: Transcript<'_>, bend: Option<usize>) -> Case {
    let key = SigningKey::from_bytes(&[0x42; 32]);
    let mut signature = signed.sign(&key).expect("short parts");
    if let Some(at) = bend {
        signature[at] ^= 0x80;
    }
    let mut transcript = Vec::new();
    claimed.write(&mut transcript).expect("short parts");
    Case {
        name,
        seed: Some(hex([0x42; 32])),
        public_key: hex(key.verifying_key().as_bytes()),
        tenant: claimed.tenant.into(),
        room: claimed.room.into(),
        message_id: hex(claimed.message_id),
        timestamp: claimed.timestamp,
        field: claimed.field,
        payload: hex(claimed.payload),
        transcript: hex(transcript),
        signature: hex(signature),
        valid: signed == claimed && bend.is_none(),
    }
}

/// R of small order, S = 0, under a key of small order: plain Ed25519 takes it for any message, strict does not.
fn weak(base: Transcript<'_>) -> Case {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let strong = case("a key of small order that signs everything", base, base, None);
    Case { seed: None, public_key: hex(identity), signature: hex(signature), valid: false, ..strong }
}

#[test]
fn signatures() {
    let long = "r".repeat(128);
    let base = Transcript {
        tenant: "acme",
        room: "lobby",
        message_id: &[5; 16],
        timestamp: 1_760_000_000_000,
        field: 20,
        payload: &[0x52, 0x07, 0x0a, 0x05, b'h', b'e', b'l', b'l', b'o'],
    };
    let cases = [
        case("a message", base, base, None),
        case("an empty payload", Transcript { payload: b"", ..base }, Transcript { payload: b"", ..base }, None),
        case("before 1970", Transcript { timestamp: -1, ..base }, Transcript { timestamp: -1, ..base }, None),
        case("the longest room id", Transcript { room: &long, ..base }, Transcript { room: &long, ..base }, None),
        case("replayed into another room", base, Transcript { room: "vault", ..base }, None),
        case("replayed into another tenant", base, Transcript { tenant: "evil", ..base }, None),
        case("a letter moved from room to tenant", base, Transcript { tenant: "acmel", room: "obby", ..base }, None),
        case("with another message id", base, Transcript { message_id: &[6; 16], ..base }, None),
        case("a millisecond later", base, Transcript { timestamp: base.timestamp + 1, ..base }, None),
        case("as a signal", base, Transcript { field: 22, ..base }, None),
        case("with another payload", base, Transcript { payload: b"", ..base }, None),
        case("a bit of R bent", base, base, Some(0)),
        case("the highest bit of S set", base, base, Some(63)),
        weak(base),
    ];
    for case in &cases {
        let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex");
        let (id, payload) = (bytes(&case.message_id), bytes(&case.payload));
        let transcript = Transcript {
            tenant: &case.tenant,
            room: &case.room,
            message_id: &id,
            timestamp: case.timestamp,
            field: case.field,
            payload: &payload,
        };
        let verified = public_key(&bytes(&case.public_key))
            .and_then(|key| transcript.verify(&key, &bytes(&case.signature), &mut Vec::new()));
        assert_eq!(verified.is_ok(), case.valid, "{}", case.name);
    }
    committed(
        "signatures.json",
        "Ed25519 over the transcript. Build it from the fields, compare; sign with seed where valid, compare; verify \
         strictly (RFC 8032, no key and no R of small order), compare with valid.",
        &cases,
    );
}
