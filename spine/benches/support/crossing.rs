//! What the border between the broker's two accounts costs: the same event heard and the same reads made on either side of
//! it, in turns, on one server.

use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::{NodeId, Pattern, RoomKey, Subject};
use spine::server::{NatsServer, ServerOptions};
use spine::{Delivery, Link, NatsSpine, Spine, SpineOptions, StreamSeq, StreamSpec, UserSpec, Via};
use tokio::time::{Duration, Instant};

use crate::{Anyhow, row};

const ROUNDS: usize = 20;
const EVENTS: usize = 250;
const READS: usize = 250;
const BATCH: u32 = 64;

/// Prints a table with two lines for each thing: in the streams' account, and in the Shields'.
pub(crate) async fn measure() -> Anyhow<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let node: NodeId = "bench".parse()?;
    let (operator, shield) = (UserSpec::operator("o"), UserSpec::shield(&node, "s"));
    let users = vec![operator.clone(), shield.clone()];
    let server = NatsServer::start(ServerOptions { users, ..ServerOptions::new(NatsServer::pinned(root)?) }).await?;
    let connect = async |user: &UserSpec, inbox: &str| -> Anyhow<NatsSpine> {
        let spine = NatsSpine::connect(SpineOptions::of_user(server.url(), user, inbox));
        spine.link().wait_for(Link::is_up).await?;
        Ok(spine)
    };
    let writer = connect(&operator, "_INBOX.o").await?;
    let sides =
        [("LOG", connect(&operator, "_INBOX.p").await?), ("APP, imported", connect(&shield, "_INBOX.s.bench").await?)];
    writer.ensure(&StreamSpec::log(0, 1, 1, 1 << 30)).await?;
    let room = RoomKey::new("acme".parse()?, "lobby".parse()?);
    let log = Subject::log(&room);
    let (mut last, body) = (StreamSeq::NONE, Bytes::from(vec![b'x'; 256]));
    let mut times: [[Vec<Duration>; 2]; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (side, (_, spine)) in sides.iter().enumerate() {
            let mut events = spine.subscribe(&Pattern::exact(&Subject::output(&room)), None, 100).await?;
            for _ in 0..EVENTS {
                let start = Instant::now();
                last = writer.append(&log, last, body.clone()).await?;
                let Some(Delivery::Msg(_)) = events.next().await else { return Err("an event was lost".into()) };
                times[0][side].push(start.elapsed());
            }
        }
        for _ in 0..READS {
            for (side, (_, spine)) in sides.iter().enumerate() {
                let start = Instant::now();
                spine.last(&log, Via::Direct).await?;
                times[1][side].push(start.elapsed());
                let start = Instant::now();
                spine.last(&log, Via::Leader).await?;
                times[2][side].push(start.elapsed());
                let start = Instant::now();
                spine.read(&log, StreamSeq(1), BATCH, Via::Direct).await?;
                times[3][side].push(start.elapsed());
            }
        }
    }
    println!("\n| over the border of accounts, in turns | p50 us | p99 us | p99.9 us |\n| --- | --- | --- | --- |");
    let whats = ["append to event heard, 256 B", "last, Direct Get", "last, leader", "64 entries of 256 B, Direct Get"];
    for (what, both) in whats.iter().zip(times) {
        for ((side, _), times) in sides.iter().zip(both) {
            row(&format!("{what}: {side}"), times);
        }
    }
    Ok(())
}
