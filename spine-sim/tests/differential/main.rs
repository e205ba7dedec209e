//! The simulated broker against the real nats-server 2.15.1: the same bytes go to both, and what both say is compared,
//! with the parts masked that no two servers share (ids, times). Hand-written cases, then random ones from seeds.

mod accounts;
#[path = "../common/mod.rs"]
mod common;
mod jetstream;
mod protocol;
mod random;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::{Raw, Said, api, hpub, options, publish, real, sim};
use spine::UserSpec;
use spine_sim::User;
use tokio::time::timeout;

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";
const EXPECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// Replaces what differs between any two servers.
fn masked(said: Said) -> Said {
    let Said::Msg { sid, subject, reply, header, body } = said else { return said };
    Said::Msg { sid, subject, reply, header: mask(&header), body: mask(&body) }
}

fn mask(text: &str) -> String {
    // A quirk of the server: a file stream without a message can count position 0 as deleted.
    let mut out = mask_times(text).replace(r#""num_deleted":1,"deleted":[0],"#, "");
    for key in ["\"leader\":\"", "\"total\":", "\"errors\":"] {
        if key == "\"leader\":\"" || out.contains("account_info") {
            out = mask_value(&out, key);
        }
    }
    // Only the error's code is compared where the text is that of Go's JSON parser.
    match out.find("invalid JSON: ") {
        Some(at) if !out[at..].contains("unknown field") => out[..at].into(),
        _ => out,
    }
}

fn mask_value(text: &str, key: &str) -> String {
    let Some(at) = text.find(key) else { return text.into() };
    let start = at + key.len();
    let len = text[start..].find(['"', ',', '}']).unwrap_or(0);
    format!("{}*{}", &text[..start], &text[start + len..])
}

/// `2026-11-22T19:07:08.23Z` becomes `TIME`.
fn mask_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        let is_time = text.is_char_boundary(at)
            && text[at..].starts_with("20")
            && bytes.len() >= at + 20
            && bytes[at + 4] == b'-'
            && bytes[at + 10] == b'T';
        let end = if is_time { text[at..].find('Z').map(|len| at + len + 1) } else { None };
        if let Some(end) = end {
            out.push_str("TIME");
            at = end;
        } else {
            let len = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + len]);
            at += len;
        }
    }
    out
}

/// What was said, by subscription: between two subscriptions no server promises an order.
fn by_sid(all: Vec<Said>) -> BTreeMap<String, Vec<Said>> {
    let mut map: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    for said in all {
        let key = match &said {
            Said::Msg { sid, .. } => sid.clone(),
            Said::Line(_) | Said::End => String::new(),
        };
        map.entry(key).or_default().push(masked(said));
    }
    map
}

/// Sends each step to both and compares what they say to it. Ours answers everything before its PONG; the real one
/// answers JetStream requests when it gets to them, so as many things are awaited from it as ours said.
async fn compare(name: &str, sim: SocketAddr, real: SocketAddr, steps: &[Vec<u8>]) -> usize {
    let (mut ours, mut theirs) = (Raw::connect(sim).await, Raw::connect(real).await);
    for (n, step) in steps.iter().enumerate() {
        ours.send(step).await;
        let said = ours.until_pong().await;
        theirs.send(step).await;
        let mut heard = theirs.until_pong().await;
        while heard.len() < said.len() && heard.last() != Some(&Said::End) {
            match timeout(common::SOON, theirs.next()).await {
                Ok(next) => heard.push(next),
                Err(_) => break,
            }
        }
        let ended = said.last() == Some(&Said::End);
        let (said, heard) = (by_sid(said), by_sid(heard));
        let shown = String::from_utf8_lossy(&step[..step.len().min(600)]).into_owned();
        assert_eq!(said, heard, "{name}, step {n}: left is ours, right is nats-server's\n{shown}");
        if ended {
            return n + 1;
        }
    }
    steps.len()
}

async fn both(
    change: impl FnOnce(&mut spine::server::ServerOptions),
) -> (SocketAddr, spine::server::NatsServer, SocketAddr) {
    let server = real(change).await;
    let theirs = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let (_, ours) = sim(options()).await;
    (ours, server, theirs)
}

fn steps(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.to_vec()).collect()
}
/// The server removes the folder of its last file stream some time after that stream, and then fails to create the
/// next one (10049): one that stays keeps the folder there.
async fn keep(theirs: SocketAddr) {
    let mut raw = Raw::connect(theirs).await;
    raw.send(&[CONNECT, b"SUB _R.> 9\r\n", &api("STREAM.CREATE.KEEP", r#"{"name":"KEEP"}"#)].concat()).await;
    let created = timeout(common::SOON, raw.next()).await.expect("an answer");
    assert!(matches!(&created, Said::Msg { body, .. } if body.contains("did_create")), "{created:?}");
}
