//! `arq pub`: sends into a room.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use proto::{Code, MessageId, RoomId, v1};
use serde_json::json;
use tokio::time::Instant;

use super::input;
use super::service::{CliSession, ServiceArgs, stopped};
use super::token::private_key;
use crate::failure::{Exit, Failure};
use arq::client::{Acked, ClientEvent, Reconnect, say, set};

/// How long a server may take to say goodbye, and with it everything it had against what was sent.
const GOODBYE: Duration = Duration::from_secs(2);

/// Sends a message into a room, or sets keys of its state.
///
/// Without --ack it ends once the server has taken everything; with it, once the room has answered: then the event is
/// stored. An uncertain answer (6000, 6001, 6002) is repeated with the same message_id, so it is applied once.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The room. It is made if it does not exist and the token grants `create`.
    room: RoomId,
    /// What to say; `-` reads it from standard input, whole.
    #[arg(required_unless_present = "set")]
    data: Option<String>,
    #[command(flatten)]
    service: ServiceArgs,
    /// A word of your own for what the data is.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    kind: String,
    /// Set a key of the room's state; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Wait for the room's answer and print it.
    #[arg(long)]
    ack: bool,
    /// Print each answer as JSON: {"code":0,"epoch","seq","duplicate","ms"}. Implies --ack.
    #[arg(long)]
    json: bool,
    /// File with the Ed25519 private key to sign with, the one that the token names (`arq token new --cnf`).
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".into()) } else { Ok((key.to_owned(), value.to_owned())) }
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let wait = args.ack || args.json;
    let mut commands: Vec<v1::Command> = Vec::new();
    match args.data {
        Some(dash) if dash == "-" => commands.push(say(args.kind, input::stdin()?)),
        Some(data) => commands.push(say(args.kind, data)),
        None => {}
    }
    commands.extend(args.set.into_iter().map(|(key, value)| set(key, value)));
    let signer = args.sign_key.as_deref().map(private_key).transpose()?;
    let mut session = args.service.session(signer, Reconnect { again: 8, ..Reconnect::default() })?;
    let begun = Instant::now();
    let mut open = BTreeMap::new();
    for (index, command) in commands.into_iter().enumerate() {
        let id = session
            .publish(&args.room, command, wait)
            .map_err(|_| Failure::bad_use("too many commands at once: at most 4096"))?;
        open.insert(id, index);
    }
    let outcome = tokio::select! {
        biased;
        () = super::service::interrupted() => {
            Err(Failure::new(Exit::Unreachable, "interrupted; what became of the message is unknown"))
        }
        outcome = send(&mut session, open, wait, args.json, begun) => outcome,
    };
    session.close(GOODBYE).await;
    outcome
}

async fn send(
    session: &mut CliSession,
    mut open: BTreeMap<MessageId, usize>,
    wait: bool,
    as_json: bool,
    begun: Instant,
) -> Result<Exit, Failure> {
    let mut worst = None;
    let mut last_err = None;
    while !open.is_empty() {
        let event = session.next().await.map_err(|error| stopped(error, last_err.take()))?;
        let events = if !wait && matches!(event, ClientEvent::Hello(_)) {
            // Everything leaves with the goodbye; what comes back until then is all that will be heard.
            let events = session.close(GOODBYE).await;
            open.clear();
            events
        } else {
            vec![event]
        };
        for event in events {
            match event {
                ClientEvent::Ack(ack) if !ack.repeating => {
                    if wait && open.remove(&ack.message_id).is_some() {
                        report(&ack, as_json, begun)?;
                    }
                    if ack.code != 0 {
                        worst.get_or_insert(Failure::refused("not applied", ack.code, &ack.message));
                    }
                }
                ClientEvent::Unanswered { message_id, .. } => {
                    let code = Code::OutcomeUnknown.as_u16().into();
                    if open.remove(&message_id).is_some() && as_json {
                        let lost = json!({ "code": code, "epoch": 0, "seq": 0, "duplicate": false, "ms": ms(begun) });
                        input::line(&lost.to_string())?;
                    }
                    worst.get_or_insert(Failure::refused("no answer", code, ""));
                }
                ClientEvent::Err { code, text } => {
                    if !wait {
                        worst.get_or_insert(Failure::refused("the server refused", code.into(), &text));
                    }
                    last_err = Some((code, text));
                }
                _ => {}
            }
        }
    }
    worst.map_or(Ok(Exit::Good), Err)
}

fn report(ack: &Acked, as_json: bool, begun: Instant) -> Result<(), Failure> {
    if as_json {
        let line = json!({
            "code": ack.code, "epoch": ack.epoch, "seq": ack.seq, "duplicate": ack.duplicate, "ms": ms(begun),
        });
        input::line(&line.to_string())?;
    } else if ack.code == 0 {
        let again = if ack.duplicate { " (by an earlier send)" } else { "" };
        input::line(&format!("stored at {}:{} in {} ms{again}", ack.epoch, ack.seq, ms(begun)))?;
    }
    Ok(())
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
