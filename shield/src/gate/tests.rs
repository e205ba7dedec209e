use super::*;
use crate::auth::Keys;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost::Message as _;
use proto::signature::SigningKey;
use proto::v1::{self, command::Op, envelope::Payload};
use serde_json::json;
use voltron_core::AllowAll;
use voltron_core::config::Auth;
use voltron_core::metrics::Metrics;

const NOW_MS: i64 = 1_700_000_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn gate(key: Option<&SigningKey>) -> Gate {
    let mut claims = json!({"aud": "arqon", "exp": NOW_MS / 1000 + 60, "sub": "ann", "tid": "acme",
        "arq": {"rooms": [{"m": "lobby", "a": ["pub"]}, {"m": "window", "a": ["sub"]}], "meta": {"name": "Ann"}}});
    if let Some(key) = key {
        let jwk = proto::json::Jwk::new(&key.verifying_key().to_bytes());
        claims["cnf"] = json!({ "jwk": jwk });
    }
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    let identity = Keys::new(&Auth::default(), None, Some(SECRET)).unwrap().verify(&token, NOW_MS).unwrap();
    Gate::new("c1".into(), Bytes::new(), identity, Bucket::new(10, 20, Instant::now()))
}

fn envelope(room: &str) -> v1::Envelope {
    let say = v1::Say { data: Bytes::from_static(b"hello"), r#type: String::new() };
    v1::Envelope {
        room_id: room.into(),
        timestamp: NOW_MS,
        message_id: Bytes::from_static(&[1; 16]),
        payload: Some(Payload::Cmd(v1::Command { op: Some(Op::Say(say)), ..v1::Command::default() })),
        ..v1::Envelope::default()
    }
}

fn signed(key: &SigningKey) -> v1::Envelope {
    let mut envelope = envelope("lobby");
    let bytes = envelope.encode_to_vec();
    let view = EnvelopeView::client(&bytes).unwrap();
    envelope.signature = Bytes::copy_from_slice(&Transcript::of(&view, "acme").sign(key).unwrap());
    envelope
}

fn pass(gate: &mut Gate, overseer: &dyn Overseer, envelope: &v1::Envelope) -> Result<Option<Passed>, Denied> {
    let meters = Meters::new(&Metrics::new());
    let moment = Moment { now_ms: NOW_MS, now: Instant::now(), overseer, meters: &meters };
    gate.pass(&envelope.encode_to_vec(), &moment)
}

/// Answers every message with the same verdict.
struct Always(Verdict);

impl Overseer for Always {
    fn judge(&self, _: &Judged<'_>, out: &mut Vec<u8>) -> Verdict {
        let say = v1::Say { data: Bytes::from_static(b"***"), r#type: String::new() };
        v1::Command { op: Some(Op::Say(say)), ..v1::Command::default() }.encode(out).unwrap();
        self.0
    }

    fn version(&self) -> &[u8] {
        &[9; 8]
    }
}

#[test]
fn the_bytes_go_on_as_they_came_with_the_sender_behind() {
    let sent = envelope("lobby");
    let passed = pass(&mut gate(None), &AllowAll, &sent).unwrap().expect("allowed");
    let bytes = sent.encode_to_vec();
    assert_eq!(&passed.body[..bytes.len()], &bytes[..]);
    let sender = v1::Envelope::decode(passed.body.clone()).unwrap().sender.expect("appended");
    assert_eq!((sender.user.as_str(), sender.conn.as_str(), sender.rights), ("ann", "c1", Rights::PUB.0));
    assert_eq!(&sender.meta[..], br#"{"name":"Ann"}"#);
    assert_eq!(passed.route.input.as_str(), "in.t.acme.r.lobby");
}

#[test]
fn rights_and_rate_are_checked() {
    let mut gate = gate(None);
    assert_eq!(pass(&mut gate, &AllowAll, &envelope("elsewhere")).unwrap_err().code, Code::PermissionDenied);
    assert_eq!(pass(&mut gate, &AllowAll, &envelope("window")).unwrap_err().code, Code::PermissionDenied, "sub alone");
    let denied = (0..30).find_map(|_| pass(&mut gate, &AllowAll, &envelope("lobby")).err()).expect("20 at once");
    assert_eq!(denied.code, Code::RateLimited);
    assert!(denied.retry_after_ms > 0 && denied.message_id.is_some());
}

#[test]
fn a_key_in_the_token_obliges_to_sign() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let mut gate = gate(Some(&key));
    assert_eq!(pass(&mut gate, &AllowAll, &envelope("lobby")).unwrap_err().code, Code::SignatureRequired);
    let good = signed(&key);
    let passed = pass(&mut gate, &AllowAll, &good).unwrap().expect("allowed");
    let sender = v1::Envelope::decode(passed.body).unwrap().sender.unwrap();
    assert_eq!(sender.public_key, key.verifying_key().to_bytes().to_vec());
    let moved = v1::Envelope { timestamp: NOW_MS + 1, ..good.clone() };
    assert_eq!(pass(&mut gate, &AllowAll, &moved).unwrap_err().code, Code::SignatureInvalid);
    let foreign = signed(&SigningKey::from_bytes(&[6; 32]));
    assert_eq!(pass(&mut gate, &AllowAll, &foreign).unwrap_err().code, Code::SignatureInvalid);
    let mut keyless = super::tests::gate(None);
    assert_eq!(
        pass(&mut keyless, &AllowAll, &good).unwrap_err().code,
        Code::SignatureInvalid,
        "nobody could verify it"
    );
}

#[test]
fn verdicts_become_answers() {
    let code = |verdict| {
        pass(&mut gate(None), &Always(verdict), &envelope("lobby")).map(|ok| ok.is_some()).map_err(|e| e.code)
    };
    assert_eq!(code(Verdict::Allow), Ok(true));
    assert_eq!(code(Verdict::Drop), Ok(false));
    assert_eq!(code(Verdict::Deny { reason: 7 }), Err(Code::PolicyDenied));
    assert_eq!(code(Verdict::RateLimited { retry_after_ms: 5 }), Err(Code::PolicyRateLimited));
    assert_eq!(code(Verdict::Fault), Err(Code::PolicyFault));
}

#[test]
fn redaction_changes_the_command_and_empties_the_signature() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let mut sent = signed(&key);
    sent.trace_id = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    let passed = pass(&mut gate(Some(&key)), &Always(Verdict::Redact), &sent).unwrap().expect("goes on");
    EnvelopeView::forwarded(&passed.body).expect("canonical again");
    let got = v1::Envelope::decode(passed.body).unwrap();
    assert_eq!((&got.trace_id, got.signature.len(), got.timestamp), (&sent.trace_id, 0, NOW_MS));
    let Some(Payload::Cmd(v1::Command { op: Some(Op::Say(say)), .. })) = got.payload else { panic!("say") };
    assert_eq!(&say.data[..], b"***");
    let sender = got.sender.unwrap();
    assert_eq!((sender.public_key.len(), &sender.redacted_by[..]), (0, &[9; 8][..]));
}

#[test]
fn the_tenant_is_the_tokens() {
    let mut gate = gate(None);
    let named = |tenant: &str| v1::Envelope { tenant_id: tenant.into(), ..envelope("lobby") };
    assert!(pass(&mut gate, &AllowAll, &named("acme")).unwrap().is_some());
    assert_eq!(pass(&mut gate, &AllowAll, &named("evil")).unwrap_err().code, Code::WrongTenant);
    let passed = pass(&mut gate, &AllowAll, &envelope("lobby")).unwrap().expect("allowed");
    assert_eq!(passed.route.input.as_str(), "in.t.acme.r.lobby");
}

/// A field that this build does not know is signed with the rest: the bytes count, not what they mean here.
#[test]
fn a_signature_covers_the_bytes_as_they_came() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let mut command = v1::Command { op: Some(Op::Say(v1::Say::default())), ..v1::Command::default() }.encode_to_vec();
    prost::encoding::string::encode(900, &"of a later version".to_owned(), &mut command);
    let mut body = v1::Envelope { payload: None, ..envelope("lobby") };
    let bytes = |envelope: &v1::Envelope| {
        let mut bytes = envelope.encode_to_vec();
        prost::encoding::bytes::encode(proto::view::CMD, &command, &mut bytes);
        bytes
    };
    let unsigned = bytes(&body);
    let view = EnvelopeView::client(&unsigned).unwrap();
    body.signature = Bytes::copy_from_slice(&Transcript::of(&view, "acme").sign(&key).unwrap());
    let meters = Meters::new(&Metrics::new());
    let moment = Moment { now_ms: NOW_MS, now: Instant::now(), overseer: &AllowAll, meters: &meters };
    assert!(gate(Some(&key)).pass(&bytes(&body), &moment).unwrap().is_some());
}
