//! `arq sub`: prints what happens in a room.

use clap::Args as ClapArgs;
use proto::json::{Presence, Since, render};
use proto::v1::event::Body;
use proto::{Code, RoomId};
use serde_json::{Value, json};
use std::time::Duration;

use super::input;
use super::service::{CliSession, ServiceArgs, stopped};
use crate::failure::{Exit, Failure, known};
use arq::client::{AfterClose, ClientEvent, Delivered, Reconnect, SubOptions};

/// How long a server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Prints the events of a room as they come; reconnects and resumes by itself. Ctrl-C ends it.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The room. If it does not exist yet, waits until somebody makes it.
    room: RoomId,
    #[command(flatten)]
    service: ServiceArgs,
    /// Resume after the event with this epoch and seq. Without it the room's state comes first.
    #[arg(long, value_name = "EPOCH:SEQ", value_parser = since)]
    since: Option<Since>,
    /// Begin with the last N events, at most 256.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=256), conflicts_with = "since")]
    history: u32,
    /// Also show who is there.
    #[arg(long)]
    presence: bool,
    /// End after N events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object a line; its kind is `k`: event, subscribed, snapshot, presence, gap, waiting, unsubscribed,
    /// signal, closed.
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Since, String> {
    let parsed = text.split_once(':').and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse().ok()?)));
    let (epoch, seq) = parsed.ok_or("write EPOCH:SEQ as they stand in an event, e.g. 1763838000000:42")?;
    Ok(Since { epoch, seq, pos: None })
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let mut session = args.service.session(None, Reconnect::default())?;
    let presence = if args.presence { Presence::List } else { Presence::Off };
    let options = SubOptions { since: args.since, history: args.history, presence, persist: true };
    session.subscribe(&args.room, options);
    let outcome = tokio::select! {
        biased;
        () = super::service::interrupted() => Ok(Exit::Good),
        outcome = follow(&mut session, &args) => outcome,
    };
    session.close(GOODBYE).await;
    outcome
}

/// Prints until the count is reached, nobody reads any more, or the session is over.
async fn follow(session: &mut CliSession, args: &Args) -> Result<Exit, Failure> {
    let mut left = args.count;
    let (mut last_err, mut waiting) = (None, false);
    loop {
        let event = match session.next().await {
            Ok(event) => event,
            Err(error) => return Err(stopped(error, last_err)),
        };
        match &event {
            ClientEvent::Err { code, text } => last_err = Some((*code, text.clone())),
            ClientEvent::Hello(_) => last_err = None,
            ClientEvent::SubRefused { code, message, repeating: false, .. } => {
                return Err(Failure::refused(&format!("cannot subscribe to {}", args.room), *code, message));
            }
            ClientEvent::Unsubscribed { code, message, repeating: false, .. } => {
                return Err(Failure::refused(&format!("removed from {}", args.room), *code, message));
            }
            _ => {}
        }
        if args.json {
            if let Some(value) = as_json(&event)
                && !input::line(&value.to_string())?
            {
                return Ok(Exit::Good);
            }
        } else {
            let again = waiting && matches!(event, ClientEvent::SubRefused { .. });
            waiting = matches!(event, ClientEvent::SubRefused { .. });
            if !again && !as_text(&event)? {
                return Ok(Exit::Good);
            }
        }
        if matches!(&event, ClientEvent::Event(event) if counts(event))
            && let Some(left) = &mut left
        {
            *left -= 1;
            if *left == 0 {
                return Ok(Exit::Good);
            }
        }
    }
}

/// True for what happened in the room; the state and presence are told beside it.
fn counts(event: &Delivered) -> bool {
    kind(event) == "event"
}

fn kind(event: &Delivered) -> &'static str {
    match event.event().body {
        Some(Body::Snapshot(_)) => "snapshot",
        Some(Body::Members(_) | Body::Diff(_)) => "presence",
        _ => "event",
    }
}

fn as_json(event: &ClientEvent) -> Option<Value> {
    Some(match event {
        ClientEvent::Event(event) => {
            let mut value = render::event(event.room.as_str(), event.event());
            let keys = value.as_object_mut()?;
            keys.remove("op");
            keys.insert("k".into(), kind(event).into());
            if !keys.contains_key("type") && kind(event) == "event" {
                keys.insert("type".into(), Value::Null);
                keys.entry("data").or_insert(Value::Null);
            }
            value
        }
        ClientEvent::Subscribed { room, epoch, seq, recovered, replay } => json!({
            "k": "subscribed", "room": room.as_str(), "epoch": epoch, "seq": seq, "recovered": recovered, "replay": replay,
        }),
        ClientEvent::Gap { room, epoch, from, to } => {
            json!({ "k": "gap", "room": room.as_str(), "epoch": epoch, "from": from, "to": to })
        }
        ClientEvent::SubRefused { room, code, message, .. } => {
            json!({ "k": "waiting", "room": room.as_str(), "code": code, "message": message })
        }
        ClientEvent::Unsubscribed { room, code, message, .. } => {
            json!({ "k": "unsubscribed", "room": room.as_str(), "code": code, "message": message })
        }
        ClientEvent::Signal(signal) => json!({
            "k": "signal", "code": signal.code, "reason": signal.reason, "retry_after_ms": signal.retry_after_ms,
        }),
        ClientEvent::Closed { code, reason } => {
            let again = matches!(AfterClose::of(*code), AfterClose::AtOnce | AfterClose::BackOff);
            json!({ "k": "closed", "code": code, "reason": reason, "again": again })
        }
        _ => return None,
    })
}

/// Events go to standard output, the rest to standard error. False: nobody reads any more.
fn as_text(event: &ClientEvent) -> Result<bool, Failure> {
    match event {
        ClientEvent::Event(event) if counts(event) => return input::line(&event_text(event)),
        ClientEvent::Event(event) => match &event.event().body {
            Some(Body::Snapshot(snapshot)) => {
                for entry in &snapshot.entries {
                    let value = printable(&entry.value);
                    if !input::line(&format!("{}:{} state {}={value}", event.epoch, event.seq, entry.key))? {
                        return Ok(false);
                    }
                }
            }
            _ => {
                let mut value = render::event(event.room.as_str(), event.event());
                let keys = value.as_object_mut().expect("render makes objects");
                keys.retain(|key, _| {
                    !matches!(key.as_str(), "op" | "room" | "epoch" | "seq" | "user" | "at" | "event")
                });
                input::note(&format!("# presence {value}"));
            }
        },
        ClientEvent::Hello(hello) => {
            input::note(&format!("# connected to {} as {}/{}", hello.node, hello.tenant, hello.user));
        }
        ClientEvent::Subscribed { room, epoch, seq, recovered, replay } => {
            let how = match (recovered, replay) {
                (true, replay) => format!("resumed, {replay} events follow"),
                (false, 0) => "the state follows".to_owned(),
                (false, replay) => format!("the last {replay} events follow"),
            };
            input::note(&format!("# in {room}, which is at {epoch}:{seq}; {how}"));
        }
        ClientEvent::Gap { epoch, from, to, .. } => {
            input::note(&format!("# GAP: {epoch}:{from} to {epoch}:{to} never came"));
        }
        ClientEvent::SubRefused { room, code: 5001, .. } => {
            input::note(&format!("# {room} does not exist yet; waiting for its first message"));
        }
        ClientEvent::SubRefused { room, code, message, .. } => {
            input::note(&format!("# {room}: {} {message}; asking again", name(*code)));
        }
        ClientEvent::Unsubscribed { code, message, .. } => {
            input::note(&format!("# removed: {} {message}; subscribing again", name(*code)));
        }
        ClientEvent::Err { code, text } => input::note(&format!("# {} {text}", name((*code).into()))),
        ClientEvent::Signal(signal) => input::note(&format!("# {} {}", name(signal.code), signal.reason)),
        ClientEvent::Closed { code, reason } => input::note(&format!("# closed with {code} {reason}")),
        ClientEvent::Auth(_)
        | ClientEvent::Ack(_)
        | ClientEvent::Unanswered { .. }
        | ClientEvent::Got { .. }
        | ClientEvent::Stray { .. }
        | ClientEvent::Unknown { .. } => {}
    }
    Ok(true)
}

fn event_text(event: &Delivered) -> String {
    let (place, user) = (format!("{}:{}", event.epoch, event.seq), event.event().user.as_str());
    let user = if user.is_empty() { "-" } else { user };
    match &event.event().body {
        Some(Body::Said(said)) if said.r#type.is_empty() => format!("{place} {user} {}", printable(&said.data)),
        Some(Body::Said(said)) => {
            format!("{place} {user} [{}] {}", printable(said.r#type.as_bytes()), printable(&said.data))
        }
        Some(Body::KeySet(set)) => {
            format!("{place} {user} set {}={}", printable(set.key.as_bytes()), printable(&set.value))
        }
        Some(Body::KeyDeleted(deleted)) => format!("{place} {user} delete {}", printable(deleted.key.as_bytes())),
        _ => {
            let mut value = render::event(event.room.as_str(), event.event());
            let keys = value.as_object_mut().expect("render makes objects");
            let name = keys.remove("event").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
            keys.retain(|key, _| !matches!(key.as_str(), "op" | "room" | "epoch" | "seq" | "user" | "at"));
            format!("{place} {user} {name} {value}")
        }
    }
}

/// What people sent, safe for a terminal: no control characters, bytes as hex.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
        Err(_) => format!("hex:{}", data_encoding::HEXLOWER.encode(bytes)),
    }
}

fn name(code: u32) -> String {
    known(code).map_or_else(|| code.to_string(), |code: Code| code.to_string())
}
