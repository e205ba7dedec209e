//! The broker dies, comes back, hangs, or is not there yet.

use futures_util::FutureExt as _;
use proto::Subject;
use tokio::time::{Duration, Instant};

use super::tools::*;
use super::{Outcome, Setup, World};
use crate::{
    AppendError, Batch, Link, PublishError, ReadError, RequestError, Spine, SpineOptions, StreamSeq, SubscribeError,
    Unresolved, Via,
};

/// Options with a short deadline, for calls that are meant to reach it.
fn hasty(name: &str) -> SpineOptions {
    SpineOptions { publish_timeout: Duration::from_millis(300), ..options(name) }
}

/// A connection whose broker has died, and knows it.
async fn cut_off<W: World>(options: SpineOptions) -> Result<(W, W::Spine), String> {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected_with(&world, options).await?;
    streams(&spine).await?;
    world.kill().await?;
    down(&spine).await?;
    Ok((world, spine))
}

/// Publishes until the queue is full; gives how many were queued.
async fn fill_queue(spine: &impl Spine, to: &Subject) -> Result<u32, String> {
    for n in 0..1_000_000 {
        match within("publish to end at its deadline", spine.publish(to, None, body(n))).await? {
            Ok(()) => {}
            Err(PublishError::Timeout) => return Ok(n),
            Err(other) => return Err(format!("publish: {other}")),
        }
    }
    Err("a million messages were queued without a broker".into())
}

pub async fn connects_when_the_broker_comes<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    world.kill().await?;
    let spine = world.connect(options("early"));
    check(!spine.link().borrow().is_up(), || "connected to a dead broker".into())?;
    let to = subject("out.t.acme.r.lobby");
    said("publish before", spine.publish(&to, None, body("early")).await)?;
    world.restart().await?;
    same("generation", up(&spine).await?, 1)?;
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    said("publish", spine.publish(&to, None, body("hi")).await)?;
    same("body", text(&next(&mut sub).await?.body), "hi".into())
}

pub async fn publish_without_broker_is_queued_then_times_out<W: World>() -> Outcome {
    let (_world, spine) = cut_off::<W>(hasty("one")).await?;
    let to = subject("out.t.acme.r.lobby");
    let queued = fill_queue(&spine, &to).await?;
    check(queued > 0, || "nothing at all was queued".into())?;
    // And stays so: no call waits longer than the last.
    let again = within("the deadline", spine.publish(&to, None, body("x"))).await?;
    same("again", again, Err(PublishError::Timeout))
}

pub async fn a_publish_that_timed_out_is_never_sent<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected_with(&world, hasty("one")).await?;
    let to = subject("out.t.acme.r.lobby");
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 100_000).await)?;
    world.kill().await?;
    down(&spine).await?;
    let queued = fill_queue(&spine, &to).await?;
    world.restart().await?;
    up(&spine).await?;
    within("room in the queue", async {
        while spine.publish(&to, None, body("last")).await == Err(PublishError::Timeout) {}
    })
    .await?;
    // What was queued may be lost, but nothing else may come.
    loop {
        let text = text(&next(&mut sub).await?.body);
        if text == "last" {
            return Ok(());
        }
        let n: u32 = said("a body", text.parse())?;
        check(n < queued, || format!("message {n} was sent although only {queued} were queued"))?;
    }
}

pub async fn a_request_without_broker_ends_at_its_limit<W: World>() -> Outcome {
    let (_world, spine) = cut_off::<W>(hasty("one")).await?;
    let (to, limit) = (subject("open.t.acme"), Duration::from_millis(200));
    same("request", spine.request(&to, body("?"), limit).await.map(drop), Err(RequestError::Timeout))?;
    // Also when it cannot even be queued.
    fill_queue(&spine, &to).await?;
    let result = within("the limit", spine.request(&to, body("?"), limit)).await?;
    same("request, queue full", result.map(drop), Err(RequestError::Timeout))
}

pub async fn subscribe_without_broker_times_out<W: World>() -> Outcome {
    let (mut world, spine) = cut_off::<W>(hasty("one")).await?;
    let result = within("the deadline", spine.subscribe(&pattern("out.>"), None, 10)).await?;
    same("subscribe", result.map(drop), Err(SubscribeError::Timeout))?;
    world.restart().await?;
    up(&spine).await?;
    said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await).map(drop)
}

pub async fn calls_without_broker_do_not_hang<W: World>() -> Outcome {
    let (_world, spine) = cut_off::<W>(hasty("one")).await?;
    let log = Subject::log(&room("a"));
    let appended = within("append", spine.append(&log, StreamSeq::NONE, body("x"))).await?;
    check(matches!(appended, Err(AppendError::Unresolved(_))), || format!("append: {appended:?}"))?;
    for via in [Via::Direct, Via::Leader] {
        same("last", within("last", spine.last(&log, via)).await?, Err(ReadError::Timeout))?;
        let read = within("read", spine.read(&log, StreamSeq(1), 1, via)).await?;
        same("read", read, Err(ReadError::Timeout))?;
    }
    same("last_of", within("last_of", spine.last_of(&pattern("ban.>"))).await?, Err(ReadError::Timeout))?;
    let purged = within("purge", spine.purge_below(&log, StreamSeq(2))).await?;
    same("purge", purged.map_err(|e| e.0), Err(ReadError::Timeout))
}

pub async fn the_link_counts_connections<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    for generation in 1..=3 {
        same("generation", up(&spine).await?, generation)?;
        let before = Instant::now();
        world.kill().await?;
        down(&spine).await?;
        match &*spine.link().borrow() {
            Link::Down { since } => check(*since >= before, || "down since before the broker died".into())?,
            other => return Err(format!("{other:?} after the broker died")),
        }
        world.restart().await?;
    }
    same("generation", up(&spine).await?, 4)
}

pub async fn subscriptions_are_made_again<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let mut subs = Vec::new();
    for n in 0..50 {
        let to = subject(&format!("out.t.acme.r.r{n}"));
        subs.push((said("subscribe", one.subscribe(&proto::Pattern::exact(&to), None, 10).await)?, to));
    }
    let mut member = said("subscribe", one.subscribe(&pattern("open.t.*"), Some("brain"), 10).await)?;
    world.kill().await?;
    down(&one).await?;
    down(&two).await?;
    world.restart().await?;
    // "Up" means that the broker has them all again.
    up(&one).await?;
    up(&two).await?;
    for (sub, to) in &mut subs {
        said("publish", two.publish(to, None, body(&*to)).await)?;
        same("body", text(&next(sub).await?.body), to.to_string())?;
    }
    said("publish", two.publish(&subject("open.t.acme"), None, body("open")).await)?;
    same("body", text(&next(&mut member).await?.body), "open".into())
}

pub async fn subscriptions_come_before_what_is_queued<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let to = subject("out.t.acme.r.lobby");
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 100).await)?;
    world.kill().await?;
    down(&spine).await?;
    for n in 0..20 {
        said("publish", spine.publish(&to, None, body(n)).await)?;
    }
    world.restart().await?;
    // Heard by itself: so the subscription was there first.
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    same("bodies", texts(&mut sub, 20).await?, expected)
}

pub async fn what_was_acknowledged_survives_kill<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    streams(&spine).await?;
    let log = Subject::log(&room("a"));
    let mut last = StreamSeq::NONE;
    for n in 0..50 {
        last = said("append", spine.append(&log, last, body(n)).await)?;
    }
    world.kill().await?;
    down(&spine).await?;
    world.restart().await?;
    up(&spine).await?;
    let batch = within("the log", readable(&spine, &log)).await?;
    same("entries", batch.entries.len(), 50)?;
    same("last", batch.entries.last().map(|e| e.seq), Some(last))?;
    let next = said("append", spine.append(&log, last, body("next")).await)?;
    check(next > last, || format!("position {next} after {last}"))
}

/// Reads a room's log as soon as the stream is up again.
async fn readable(spine: &impl Spine, log: &Subject) -> Batch {
    loop {
        if let Ok(batch) = spine.read(log, StreamSeq(1), 10_000, Via::Direct).await {
            return batch;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn memory_is_gone_after_a_restart<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    streams(&spine).await?;
    let generation = Subject::generation(0);
    said("append", spine.append(&generation, StreamSeq::NONE, body("g1")).await)?;
    world.kill().await?;
    down(&spine).await?;
    world.restart().await?;
    up(&spine).await?;
    // Gone with its stream; made again, it is empty. That is how a lost tail is noticed.
    within("the streams", async {
        while streams(&spine).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    same("generation", spine.last(&generation, Via::Leader).await, Ok(None))?;
    said("append", spine.append(&generation, StreamSeq::NONE, body("g2")).await).map(drop)
}

pub async fn an_append_cut_short_is_unresolved<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    streams(&spine).await?;
    let log = Subject::log(&room("a"));
    let first = said("append", spine.append(&log, StreamSeq::NONE, body("first")).await)?;
    // The broker hangs with the request in its socket, then dies: nobody will ever answer.
    world.pause().await?;
    let (append, kill) = futures_util::future::join(spine.append(&log, first, body("mine")), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.kill().await
    })
    .await;
    kill?;
    check(matches!(append, Err(AppendError::Unresolved(_))), || format!("append: {append:?}"))?;
    world.restart().await?;
    up(&spine).await?;
    // Repeating the same bytes with the same expectation settles it: exactly one of them is in the log.
    let repeated = within("the repetition", settle(&spine, &log, first)).await?;
    let entries = readable(&spine, &log).await.entries;
    same("entries", entries.len(), 2)?;
    same("mine", text(&entries[1].body), "mine".into())?;
    same("its position", repeated, entries[1].seq)
}

async fn settle(spine: &impl Spine, log: &Subject, expect: StreamSeq) -> StreamSeq {
    loop {
        match spine.append(log, expect, body("mine")).await {
            Ok(seq) => return seq,
            Err(AppendError::Unresolved(Unresolved::WrongLast)) => {
                if let Ok(Some(last)) = spine.last(log, Via::Leader).await {
                    return last.seq;
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn an_append_to_a_hung_broker_is_found_later<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    // So patient that the connection itself is not given up.
    let patient = SpineOptions { ping_interval: Duration::from_secs(20), ..hasty("one") };
    let spine = connected_with(&world, patient).await?;
    streams(&spine).await?;
    let log = Subject::log(&room("a"));
    world.pause().await?;
    let appended = within("the deadline", spine.append(&log, StreamSeq::NONE, body("mine"))).await?;
    same("append", appended, Err(AppendError::Unresolved(Unresolved::Timeout)))?;
    // Absence proved nothing: it is stored after all.
    world.resume().await?;
    within("the entry", async {
        while readable(&spine, &log).await.entries.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    // The late answer to it is not taken for the answer to another.
    let other = Subject::log(&room("b"));
    same("append", spine.append(&other, StreamSeq::NONE, body("x")).await, Ok(StreamSeq(2)))
}

pub async fn a_hung_broker_is_noticed<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let spine =
        connected_with(&world, SpineOptions { ping_interval: Duration::from_millis(200), ..hasty("one") }).await?;
    let generation = up(&spine).await?;
    world.pause().await?;
    down(&spine).await?;
    world.resume().await?;
    let again = up(&spine).await?;
    check(again > generation, || format!("generation {again} after {generation}"))
}

pub async fn publish_to_a_hung_broker_does_not_block<W: World>() -> Outcome {
    let mut world = W::start(Setup::default()).await?;
    let patient = SpineOptions { ping_interval: Duration::from_secs(20), ..hasty("one") };
    let spine = connected_with(&world, patient).await?;
    world.pause().await?;
    let (to, big) = (subject("out.t.acme.r.lobby"), bytes::Bytes::from(vec![b'x'; 100_000]));
    // Sockets and queues fill up; then each call ends at its deadline.
    for n in 0..100_000 {
        match within("publish to end", spine.publish(&to, None, big.clone())).await? {
            Ok(()) => {}
            Err(PublishError::Timeout) => return Ok(()),
            Err(other) => return Err(format!("publish {n}: {other}")),
        }
    }
    Err("10 GB were queued for a broker that reads nothing".into())
}

pub async fn close_without_broker_ends<W: World>() -> Outcome {
    let (_world, spine) = cut_off::<W>(hasty("one")).await?;
    let to = subject("out.t.acme.r.lobby");
    fill_queue(&spine, &to).await?;
    within("close", spine.close()).await?;
    same("publish", spine.publish(&to, None, body("x")).await, Err(PublishError::Closed))?;
    check(spine.publish(&to, None, body("x")).now_or_never().is_some(), || "a closed Spine waits".into())
}
