//! Frames in both directions.

use bytes::Bytes;
use proto::frame::{self, ClientFrame, FrameError, ServerFrame};
use proto::{Code, v1};
use serde::Serialize;

use super::{committed, hex, seeds};

#[derive(Serialize)]
struct Case {
    name: &'static str,
    from: &'static str,
    kind: &'static str,
    hex: String,
    /// 0, or the code of the refusal.
    code: u16,
    frame: Option<&'static str>,
    /// What follows the opcode; of an ERR its text.
    body: Option<String>,
    /// Of an ERR.
    err: Option<u16>,
}

fn client(frame: Result<ClientFrame<'_>, FrameError>) -> (u16, Option<&'static str>, Option<String>, Option<u16>) {
    let (name, body) = match frame {
        Err(error) => return (error.code.as_u16(), None, None, None),
        Ok(ClientFrame::Pub(body)) => ("pub", hex(body)),
        Ok(ClientFrame::Sub(body)) => ("sub", hex(body)),
        Ok(ClientFrame::Unsub(body)) => ("unsub", hex(body)),
        Ok(ClientFrame::Auth(body)) => ("auth", hex(body)),
        Ok(ClientFrame::Heartbeat) => ("hb", String::new()),
        Ok(ClientFrame::Text(body)) => ("text", hex(body)),
    };
    (0, Some(name), Some(body), None)
}

fn server(frame: Result<ServerFrame<'_>, FrameError>) -> (u16, Option<&'static str>, Option<String>, Option<u16>) {
    let (name, body) = match frame {
        Err(error) => return (error.code.as_u16(), None, None, None),
        Ok(ServerFrame::Pub(body)) => ("pub", hex(body)),
        Ok(ServerFrame::Sub(body)) => ("sub", hex(body)),
        Ok(ServerFrame::Unsub(body)) => ("unsub", hex(body)),
        Ok(ServerFrame::Hello(body)) => ("hello", hex(body)),
        Ok(ServerFrame::Auth(body)) => ("auth", hex(body)),
        Ok(ServerFrame::Heartbeat) => ("hb", String::new()),
        Ok(ServerFrame::Ack(ack)) => ("ack", hex(&frame::ack(&ack)[1..])),
        Ok(ServerFrame::Err(code, text)) => return (0, Some("err"), Some(hex(text)), Some(code)),
        Ok(ServerFrame::Text(body)) => ("text", hex(body)),
    };
    (0, Some(name), Some(body), None)
}

#[test]
fn frames() {
    let ack = v1::Ack { message_id: Bytes::from_static(&[5; 16]), epoch: 1, seq: 2, ..Default::default() };
    let refusal = v1::Ack { code: 5003, message: "the room is locked".into(), epoch: 0, seq: 0, ..ack.clone() };
    let long = frame::err(Code::Stale, &"é".repeat(300));
    let cases: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        ("an empty message", "client", "binary", vec![]),
        ("PUB", "client", "binary", b"\x01envelope".to_vec()),
        ("PUB of nothing: the envelope is refused, not the frame", "client", "binary", vec![1]),
        ("SUB, binary", "client", "binary", b"\x02{\"id\":1,\"room\":\"lobby\"}".to_vec()),
        ("SUB, text", "client", "text", b"\x02{\"id\":1,\"room\":\"lobby\"}".to_vec()),
        ("SUB that is not UTF-8", "client", "binary", vec![2, 0xff]),
        ("UNSUB", "client", "text", b"\x03{\"room\":\"lobby\"}".to_vec()),
        ("AUTH", "client", "text", b"\x05{\"token\":\"t\"}".to_vec()),
        ("HB", "client", "binary", vec![8]),
        ("HB with a body", "client", "binary", vec![8, 0]),
        ("PUB as text", "client", "text", b"\x01x".to_vec()),
        ("HELLO from a client", "client", "text", b"\x04{}".to_vec()),
        ("ACK from a client", "client", "binary", vec![9]),
        ("ERR from a client", "client", "binary", vec![0x99, 3, 0xe9]),
        ("opcode 0", "client", "binary", vec![0]),
        ("opcode 0x42", "client", "binary", vec![0x42]),
        ("the text dialect", "client", "text", b"{\"op\":\"sub\"}".to_vec()),
        ("the text dialect as binary", "client", "binary", b"{\"op\":\"sub\"}".to_vec()),
        ("HELLO", "server", "text", b"\x04{\"version\":\"arqon.v1\"}".to_vec()),
        ("PUB", "server", "binary", b"\x01envelope".to_vec()),
        ("SUB", "server", "text", b"\x02{\"id\":1,\"ok\":true}".to_vec()),
        ("UNSUB", "server", "text", b"\x03{\"room\":\"lobby\"}".to_vec()),
        ("HB", "server", "binary", vec![8]),
        ("ACK of a success", "server", "binary", frame::ack(&ack).to_vec()),
        ("ACK of a refusal", "server", "binary", frame::ack(&refusal).to_vec()),
        ("ACK cut short", "server", "binary", frame::ack(&ack)[..10].to_vec()),
        ("ERR", "server", "binary", frame::err(Code::UnknownOpcode, "no such opcode").to_vec()),
        ("ERR without a text", "server", "binary", frame::err(Code::EmptyMessage, "").to_vec()),
        ("ERR cut at a character's edge", "server", "binary", long.to_vec()),
        ("ERR of a code this build does not know", "server", "binary", b"\x99\xff\xfe?".to_vec()),
        ("ERR without its code", "server", "binary", vec![0x99, 1]),
        ("ERR with 513 bytes", "server", "binary", [&[0x99, 3, 0xe9][..], &[b'x'; 513]].concat()),
    ];
    seeds("frame", cases.iter().map(|(name, _, _, bytes)| (*name, bytes.clone())));
    let cases: Vec<Case> = cases
        .into_iter()
        .map(|(name, from, kind, bytes)| {
            let text = || std::str::from_utf8(&bytes).expect("a text message is UTF-8");
            let (code, frame, body, err) = match (from, kind) {
                ("client", "binary") => client(ClientFrame::binary(&bytes)),
                ("client", _) => client(ClientFrame::text(text())),
                (_, "binary") => server(ServerFrame::binary(&bytes)),
                _ => server(ServerFrame::text(text())),
            };
            assert_eq!(code == 0, frame.is_some(), "{name}");
            Case { name, from, kind, hex: hex(&bytes), code, frame, body, err }
        })
        .collect();
    committed(
        "frames.json",
        "WebSocket messages by who sends them (from) and how (kind). code 0: frame names it, body is what follows the \
         opcode (of an ERR its text, err its code), in hex; else the code of the refusal.",
        &cases,
    );
}
