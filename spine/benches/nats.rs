//! What the Spine costs over NATS itself: both in one run, against one broker of its own.
//!
//! `cargo bench -p spine --features nats,server --bench nats` prints the tables of `docs/benchmarks.md`.

#[path = "support/counting.rs"]
mod counting;
#[path = "support/crossing.rs"]
mod crossing;

use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::{Pattern, RoomKey, Subject};
use spine::server::{NatsServer, ServerOptions};
use spine::{Delivery, Link, NatsSpine, Spine, SpineOptions, StreamSeq, StreamSpec};
use tokio::time::{Duration, Instant};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

const REQUESTS: usize = 20_000;
const PUBLISHES: u32 = 500_000;
const APPENDS: usize = 5_000;
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Anyhow<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let server = NatsServer::start(ServerOptions::new(NatsServer::pinned(root)?)).await?;
    let bare = async_nats::connect(server.url()).await?;
    let spine = NatsSpine::connect(SpineOptions::new(server.url(), "bench", "_INBOX.s.bench"));
    spine.link().wait_for(Link::is_up).await?;
    let room = RoomKey::new("acme".parse()?, "lobby".parse()?);

    println!("| round trip, one at a time | p50 us | p99 us | p99.9 us |\n| --- | --- | --- | --- |");
    row("request, bare async-nats, 256 B", requests_bare(&bare).await?);
    row("request, Spine, 256 B", requests_spine(&spine, &Subject::input(&room)).await?);
    row("append acknowledged (file, R1), Spine, 256 B", appends(&spine, &Subject::log(&room)).await?);

    println!("\n| publish only | messages/s | allocations a message |\n| --- | --- | --- |");
    let (to, slot) = (Subject::output(&room), Subject::reply_slot(&"bench".parse()?, 7));
    for size in [64, 256, 1_024, 4_096] {
        let body = Bytes::from(vec![b'x'; size]);
        drop(body.clone());
        let subject = async_nats::Subject::from(to.as_str());
        drop(subject.clone());
        published(&format!("bare async-nats, {size} B"), async {
            for _ in 0..PUBLISHES {
                bare.publish(subject.clone(), body.clone()).await?;
            }
            bare.flush().await?;
            Ok(())
        })
        .await?;
        for (name, reply) in [("Spine", None), ("Spine with reply", Some(&slot))] {
            published(&format!("{name}, {size} B"), async {
                for _ in 0..PUBLISHES {
                    spine.publish(&to, reply, body.clone()).await?;
                }
                settled(&spine).await
            })
            .await?;
        }
    }
    spine.close().await;
    crossing::measure().await
}

async fn requests_bare(bare: &async_nats::Client) -> Anyhow<Vec<Duration>> {
    let mut asked = bare.subscribe("bare.echo").await?;
    let answering = bare.clone();
    let echo = tokio::spawn(async move {
        while let Some(question) = asked.next().await {
            if let Some(reply) = question.reply {
                let _ = answering.publish(reply, question.payload).await;
            }
        }
    });
    let body = Bytes::from(vec![b'x'; 256]);
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let start = Instant::now();
        bare.request("bare.echo", body.clone()).await?;
        times.push(start.elapsed());
    }
    echo.abort();
    Ok(times)
}

async fn requests_spine(spine: &NatsSpine, to: &Subject) -> Anyhow<Vec<Duration>> {
    let mut asked = spine.subscribe(&Pattern::exact(to), None, 100).await?;
    let answering = spine.clone();
    let echo = tokio::spawn(async move {
        while let Some(Delivery::Msg(question)) = asked.next().await {
            if let Some(reply) = question.reply {
                let _ = answering.publish(&reply, None, question.body).await;
            }
        }
    });
    let body = Bytes::from(vec![b'x'; 256]);
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let start = Instant::now();
        spine.request(to, body.clone(), LIMIT).await?;
        times.push(start.elapsed());
    }
    echo.abort();
    Ok(times)
}

async fn appends(spine: &NatsSpine, to: &Subject) -> Anyhow<Vec<Duration>> {
    spine.ensure(&StreamSpec::log(0, 1, 1, 1 << 30)).await?;
    let body = Bytes::from(vec![b'x'; 256]);
    let mut times = Vec::with_capacity(APPENDS);
    let mut last = StreamSeq::NONE;
    for _ in 0..APPENDS {
        let start = Instant::now();
        last = spine.append(to, last, body.clone()).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Until the broker has taken all that was published before: a subscription is confirmed behind it.
async fn settled(spine: &NatsSpine) -> Anyhow<()> {
    drop(spine.subscribe(&Pattern::all_heartbeats(), None, 1).await?);
    Ok(())
}

async fn published(name: &str, publishing: impl Future<Output = Anyhow<()>>) -> Anyhow<()> {
    let (start, before) = (Instant::now(), counting::allocations());
    publishing.await?;
    let (took, made) = (start.elapsed(), counting::allocations() - before);
    let n = f64::from(PUBLISHES);
    println!("| {name} | {:.2} M | {:.4} |", n / took.as_secs_f64() / 1e6, made as f64 / n);
    Ok(())
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1_000].as_secs_f64() * 1e6;
    println!("| {name} | {:.0} | {:.0} | {:.0} |", at(500), at(990), at(999));
}
