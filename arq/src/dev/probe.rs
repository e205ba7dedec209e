//! Sends one message through everything.

use proto::RoomId;
use voltron_core::{OsIds, SystemClock, TcpNet};

use super::issue;
use arq::client::{ClientEvent, Core, CoreOptions, Reconnect, Repeat, Session, Target, say};
use arq::token::Issuer;

/// A tenant of its own, so that nobody ever sees the probe's room.
const TENANT: &str = "arqon-dev-probe";

/// Ends well when a room has stored a message. Whatever is not up yet is tried again; the caller sets the limit.
pub(super) async fn goes_through(url: &str, issuer: &Issuer) -> Result<(), String> {
    let token = issue(issuer, TENANT, "probe").map_err(|error| error.to_string())?;
    let target = Target { url: url.to_owned(), token: Some(token), client_id: None };
    let pause = std::time::Duration::from_millis(20);
    let repeat = Repeat { sends: u32::MAX, pause, pause_max: pause, ..Repeat::default() };
    let core = Core::new(CoreOptions { repeat, ..CoreOptions::new("probe") }, SystemClock, OsIds);
    let again = Reconnect { first: u32::MAX, again: u32::MAX, pause, pause_max: pause };
    let mut session = Session::new(TcpNet, target, core, again);
    let room = RoomId::parse("ready").expect("a good name");
    session.publish(&room, say("", "ready?"), true).map_err(|error| error.to_string())?;
    loop {
        match session.next().await.map_err(|error| error.to_string())? {
            ClientEvent::Ack(ack) if ack.code == 0 => break,
            ClientEvent::Ack(ack) if !ack.repeating => return Err(format!("{} {}", ack.code, ack.message)),
            _ => {}
        }
    }
    session.close(std::time::Duration::from_secs(1)).await;
    Ok(())
}
