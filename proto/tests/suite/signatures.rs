//! Signatures: each signed part counts, and weak keys are no keys.

use bytes::Bytes;
use prost::Message as _;
use proto::signature::{SigningKey, Transcript, VerifyingKey, public_key};
use proto::v1;
use proto::view::EnvelopeView;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

const SIGNED: Transcript<'static> =
    Transcript { tenant: "acme", room: "lobby", message_id: &[5; 16], timestamp: -2, field: 20, payload: b"payload" };

fn verifies(transcript: &Transcript<'_>, signature: &[u8]) -> bool {
    transcript.verify(&key().verifying_key(), signature, &mut Vec::new()).is_ok()
}

#[test]
fn the_transcript_is_what_the_protocol_says() {
    let mut out = b"left over".to_vec();
    SIGNED.write(&mut out).expect("short parts");
    let mut expected = b"arqon.v1/envelope\0\x04acme\x05lobby\x10".to_vec();
    expected.extend([5; 16]);
    expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 20]);
    expected.extend(b"payload");
    assert_eq!(out, expected);
}

#[test]
fn each_part_counts() {
    let signature = SIGNED.sign(&key()).expect("short parts");
    assert!(verifies(&SIGNED, &signature));
    for other in [
        Transcript { tenant: "acm", ..SIGNED },
        Transcript { room: "elobby", tenant: "acm", ..SIGNED },
        Transcript { room: "lobby2", ..SIGNED },
        Transcript { message_id: &[6; 16], ..SIGNED },
        Transcript { timestamp: 2, ..SIGNED },
        Transcript { field: 22, ..SIGNED },
        Transcript { payload: b"payloaD", ..SIGNED },
        Transcript { payload: b"", ..SIGNED },
    ] {
        assert!(!verifies(&other, &signature), "{other:?}");
    }
    for at in 0..64 {
        let mut bent = signature;
        bent[at] ^= 1;
        assert!(!verifies(&SIGNED, &bent), "byte {at}");
    }
    assert!(!verifies(&SIGNED, &signature[..63]) && !verifies(&SIGNED, b""));
    let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
    assert!(SIGNED.verify(&stranger, &signature, &mut Vec::new()).is_err());
}

#[test]
fn parts_too_long_for_their_length_byte_are_refused() {
    let long = "a".repeat(256);
    for long in [
        Transcript { tenant: &long, ..SIGNED },
        Transcript { room: &long, ..SIGNED },
        Transcript { field: 256, ..SIGNED },
    ] {
        assert!(long.sign(&key()).is_err());
    }
    assert!(Transcript { tenant: &long[..255], ..SIGNED }.sign(&key()).is_ok());
}

#[test]
fn keys_of_small_order_are_no_keys() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(public_key(&identity).is_err(), "the identity signs everything");
    assert!(public_key(&[0; 32]).is_err(), "a point of order 4");
    assert!(public_key(&[1; 31]).is_err());
    assert!(public_key(key().verifying_key().as_bytes()).is_ok());
    // Should such a key come by another way: R = identity and S = 0 fit any message, and only the strict check refuses.
    let weak = VerifyingKey::from_bytes(&identity).expect("a point");
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(SIGNED.verify(&weak, &signature, &mut Vec::new()).is_err());
}

/// The way of a signed message: signed by the client, read by the view, verified from its bytes.
#[test]
fn an_envelope_signed_by_a_client_verifies_from_the_view() {
    let command = v1::Command { ephemeral: true, ..Default::default() };
    let payload = command.encode_to_vec();
    let transcript = Transcript { payload: &payload, ..SIGNED };
    let envelope = v1::Envelope {
        room_id: "lobby".into(),
        timestamp: -2,
        message_id: Bytes::from_static(&[5; 16]),
        signature: transcript.sign(&key()).expect("short parts").to_vec().into(),
        payload: Some(v1::envelope::Payload::Cmd(command)),
        ..Default::default()
    };
    let bytes = envelope.encode_to_vec();
    let view = EnvelopeView::client(&bytes).expect("canonical");
    assert_eq!(Transcript::of(&view, "acme"), transcript, "tenant_id is empty: the token's counts");
    assert!(verifies(&Transcript::of(&view, "acme"), view.signature));
    assert!(!verifies(&Transcript::of(&view, "other"), view.signature), "not for another tenant");
}
