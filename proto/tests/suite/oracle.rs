//! The view against prost: what must hold for *any* bytes. Property tests and the fuzz targets share this file.

use bytes::BytesMut;
use prost::Message as _;
use proto::canonical::{self, table};
use proto::frame::{ClientFrame, ServerFrame};
use proto::sender::{SenderRef, append};
use proto::view::{CMD, EVENT, EnvelopeView, SIGNAL};
use proto::{Code, Rights, v1};

/// Everything at once: any bytes, every door.
pub(crate) fn envelope(bytes: &[u8]) {
    let decoded = v1::Envelope::decode(bytes);
    match canonical::check(&table::ENVELOPE, bytes) {
        Ok(()) => assert!(decoded.is_ok(), "canonical, but prost refuses it"),
        Err(fault) => {
            assert!(fault.at <= bytes.len(), "a fault beyond the input");
            if fault.code == Code::MalformedEnvelope {
                assert!(decoded.is_err(), "called malformed ({fault}), but prost reads it");
            }
        }
    }
    for view in [EnvelopeView::client(bytes), EnvelopeView::forwarded(bytes), EnvelopeView::delivered(bytes)] {
        match view {
            Ok(view) => {
                assert!(canonical::check(&table::ENVELOPE, bytes).is_ok(), "accepted, but not canonical");
                same(&view, decoded.as_ref().expect("accepted, but prost refuses it"));
            }
            Err(error) if error.code == Code::MalformedEnvelope => {
                assert!(decoded.is_err(), "called malformed ({error}), but prost reads it");
            }
            Err(_) => {}
        }
    }
    if EnvelopeView::client(bytes).is_ok() {
        client(bytes, decoded.expect("checked above"));
    }
}

/// What else holds for a client's envelope.
fn client(bytes: &[u8], decoded: v1::Envelope) {
    assert!(decoded.sender.is_none(), "a client smuggled a sender in");
    assert!(EnvelopeView::forwarded(bytes).is_err(), "forwarded without a sender");

    let sender = SenderRef {
        user: "u",
        conn: "c-1",
        client: &[3; 16],
        rights: Rights(127),
        policy: &[],
        public_key: &[9; 32],
        redacted_by: &[],
        received_at: -1,
        meta: b"{}",
    };
    let mut appended = BytesMut::from(bytes);
    append(&mut appended, &sender);
    assert_eq!(appended.len(), bytes.len() + sender.encoded_len());
    assert_eq!(&appended[..bytes.len()], bytes, "appending touched the client's bytes");
    let view = EnvelopeView::forwarded(&appended).expect("the result is canonical again");
    assert!(EnvelopeView::client(&appended).is_err(), "a client could send this");
    let both = v1::Envelope::decode(&appended[..]).expect("and readable");
    assert_eq!(v1::Sender::decode(view.sender.expect("it is there")).as_ref(), Ok(&owned(&sender)));
    assert_eq!(both, v1::Envelope { sender: Some(owned(&sender)), ..decoded.clone() });

    let again = decoded.encode_to_vec();
    let view = EnvelopeView::client(&again).expect("what prost writes is canonical");
    same(&view, &decoded);
}

/// The view and prost say the same.
pub(crate) fn same(view: &EnvelopeView<'_>, envelope: &v1::Envelope) {
    assert_eq!(view.trace_id, envelope.trace_id);
    assert_eq!(view.tenant_id, envelope.tenant_id);
    assert_eq!(view.room_id, envelope.room_id);
    assert_eq!(view.timestamp, envelope.timestamp);
    assert_eq!(view.message_id, envelope.message_id);
    assert_eq!(view.ack_requested, envelope.ack_requested);
    assert_eq!(view.signature, envelope.signature);
    assert_eq!(view.sender.map(|sender| v1::Sender::decode(sender).expect("checked")), envelope.sender);
    use v1::envelope::Payload;
    let bytes = view.payload.bytes;
    match (view.payload.field, envelope.payload.as_ref().expect("a payload")) {
        (CMD, Payload::Cmd(cmd)) => assert_eq!(v1::Command::decode(bytes).as_ref(), Ok(cmd)),
        (EVENT, Payload::Event(event)) => assert_eq!(v1::Event::decode(bytes).as_ref(), Ok(event)),
        (SIGNAL, Payload::Signal(signal)) => assert_eq!(v1::SystemSignal::decode(bytes).as_ref(), Ok(signal)),
        (field, other) => panic!("the view says {field}, prost {other:?}"),
    }
}

/// The reference as the message it stands for.
pub(crate) fn owned(sender: &SenderRef<'_>) -> v1::Sender {
    v1::Sender {
        user: sender.user.into(),
        conn: sender.conn.into(),
        client: sender.client.to_vec().into(),
        rights: sender.rights.0,
        policy: sender.policy.to_vec().into(),
        public_key: sender.public_key.to_vec().into(),
        redacted_by: sender.redacted_by.to_vec().into(),
        received_at: sender.received_at,
        meta: sender.meta.to_vec().into(),
    }
}

/// Any bytes as a frame, in either direction, binary and text: no panic, and what is read comes back when written.
pub(crate) fn frame(bytes: &[u8]) {
    if let Ok(ClientFrame::Pub(body)) = ClientFrame::binary(bytes) {
        assert_eq!(proto::frame::publish(body), bytes);
    }
    match ServerFrame::binary(bytes) {
        Ok(ServerFrame::Ack(ack)) => {
            let written = proto::frame::ack(&ack);
            assert_eq!(ServerFrame::binary(&written), Ok(ServerFrame::Ack(ack)));
        }
        Ok(ServerFrame::Err(number, text)) => {
            if let Some(code) = Code::from_u16(number) {
                assert_eq!(proto::frame::err(code, text), bytes);
            }
        }
        _ => {}
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = ServerFrame::text(text);
        match ClientFrame::text(text) {
            Ok(ClientFrame::Text(json)) => {
                let _ = proto::json::text_op(json);
            }
            Ok(ClientFrame::Sub(json)) => {
                let _ = proto::json::sub_family(json);
            }
            Ok(ClientFrame::Unsub(json)) => {
                let _ = proto::json::parse::<proto::json::UnsubRequest>(json);
            }
            Ok(ClientFrame::Auth(json)) => {
                let _ = proto::json::parse::<proto::json::AuthRequest>(json);
            }
            _ => {}
        }
    }
}
