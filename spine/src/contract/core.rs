//! Publish, subscribe, request, close, on a broker that stays up.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::tools::*;
use super::{Outcome, Setup, World};
use crate::{
    AppendError, Delivery, EnsureError, Link, PublishError, ReadError, Refusal, RequestError, Spine, StreamSeq,
    StreamSpec, SubscribeError, Via,
};

pub async fn messages_arrive_in_order<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let to = subject("out.t.acme.r.lobby");
    let mut sub = said("subscribe", one.subscribe(&pattern("out.t.*.r.*"), None, 2_000).await)?;
    for n in 0..1_000 {
        said("publish", two.publish(&to, None, body(n)).await)?;
    }
    let expected: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    same("bodies", texts(&mut sub, 1_000).await?, expected)
}

pub async fn every_byte_arrives_as_sent<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let to = subject("out.t.acme.r.lobby");
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for sent in [Bytes::new(), Bytes::from_static(b"\r\nMSG x 1 0\r\n\r\n"), Bytes::from(all)] {
        said("publish", spine.publish(&to, None, sent.clone()).await)?;
        let got = next(&mut sub).await?;
        same("subject", got.subject, to.clone())?;
        check(got.body == sent, || format!("{} B arrived otherwise than the {} B sent", got.body.len(), sent.len()))?;
        check(got.reply.is_none() && got.status.is_none() && got.stream_seq.is_none(), || {
            "a plain message came with a reply, a status or a position".into()
        })?;
    }
    Ok(())
}

pub async fn wildcards_stand_for_tokens<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let mut star = said("subscribe", spine.subscribe(&pattern("out.t.*.r.*"), None, 10).await)?;
    let mut rest = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    let mut exact = said("subscribe", spine.subscribe(&pattern("out.t.a.r.b"), None, 10).await)?;
    for to in ["out", "out.t", "out.t.a.r.b", "out.t.a.r.b.c", "out.t.a.x.b", "other.t.a.r.b"] {
        said("publish", spine.publish(&subject(to), None, body(to)).await)?;
    }
    same("out.t.*.r.*", texts(&mut star, 1).await?, vec!["out.t.a.r.b".to_owned()])?;
    same(
        "out.>",
        texts(&mut rest, 4).await?,
        ["out.t", "out.t.a.r.b", "out.t.a.r.b.c", "out.t.a.x.b"].map(str::to_owned).to_vec(),
    )?;
    same("out.t.a.r.b", texts(&mut exact, 1).await?, vec!["out.t.a.r.b".to_owned()])?;
    silent(&mut star).await?;
    silent(&mut rest).await?;
    silent(&mut exact).await
}

pub async fn a_queue_group_shares_the_messages<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let opens = pattern("open.t.*");
    let a = said("subscribe", one.subscribe(&opens, Some("brain"), 1_000).await)?;
    let b = said("subscribe", two.subscribe(&opens, Some("brain"), 1_000).await)?;
    let mut all = said("subscribe", two.subscribe(&opens, None, 1_000).await)?;
    for n in 0..200 {
        said("publish", one.publish(&subject("open.t.acme"), None, body(n)).await)?;
    }
    texts(&mut all, 200).await?;
    let mut shared = futures_util::stream::select(a, b);
    let mut seen = Vec::new();
    for text in texts(&mut shared, 200).await? {
        seen.push(said("a body", text.parse::<u32>())?);
    }
    seen.sort_unstable();
    same("messages to the group", seen, (0..200).collect())?;
    silent(&mut shared).await
}

pub async fn a_reply_subject_can_be_answered<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let (to, slot) = (subject("in.t.acme.r.lobby"), subject("_INBOX.s.one.17"));
    let mut slots = said("subscribe", one.subscribe(&pattern("_INBOX.s.one.*"), None, 10).await)?;
    let mut input = said("subscribe", two.subscribe(&pattern("in.t.*.r.*"), None, 10).await)?;
    said("publish", one.publish(&to, Some(&slot), body("question")).await)?;
    let asked = next(&mut input).await?;
    same("reply", asked.reply.clone(), Some(slot.clone()))?;
    let reply = asked.reply.ok_or("no reply subject")?;
    said("publish", two.publish(&reply, None, body("answer")).await)?;
    let answer = next(&mut slots).await?;
    same("subject", answer.subject, slot)?;
    same("answer", text(&answer.body), "answer".into())
}

pub async fn no_responder_is_told_to_the_reply_subject<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let slot = subject("_INBOX.s.one.17");
    let mut slots = said("subscribe", spine.subscribe(&pattern("_INBOX.s.one.*"), None, 10).await)?;
    said("publish", spine.publish(&subject("in.t.acme.r.lobby"), Some(&slot), body("anyone?")).await)?;
    let told = next(&mut slots).await?;
    same("subject", told.subject, slot)?;
    same("status", told.status, Some(503))?;
    same("body", told.body.len(), 0)
}

pub async fn a_request_gets_the_first_answer<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let to = subject("sys.n.brain.two.open");
    let mut asked = said("subscribe", two.subscribe(&pattern("sys.n.brain.two.>"), None, 100).await)?;
    let answering = async {
        for _ in 0..50 {
            let question = next(&mut asked).await?;
            let reply = question.reply.ok_or("a request without a reply subject")?;
            let inbox = format!("{}.", options("one").inbox_prefix);
            check(reply.as_str().starts_with(&inbox), || format!("{reply} is not below {inbox}"))?;
            said("answer", two.publish(&reply, None, question.body).await)?;
            said("second answer", two.publish(&reply, None, body("late")).await)?;
        }
        Ok::<(), String>(())
    };
    let asking = async {
        for n in 0..50 {
            let answer = said("request", one.request(&to, body(n), SOON).await)?;
            same("answer", text(&answer.body), n.to_string())?;
        }
        Ok::<(), String>(())
    };
    futures_util::future::try_join(answering, asking).await.map(drop)
}

pub async fn a_request_without_responder_fails_at_once<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let to = subject("open.t.acme");
    let asked = spine.request(&to, body("?"), Duration::from_secs(3_600));
    match within("the refusal", asked).await? {
        Err(RequestError::NoResponders) => Ok(()),
        other => Err(format!("{other:?} instead of NoResponders")),
    }
}

pub async fn a_request_ends_at_its_limit<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let mut deaf = said("subscribe", spine.subscribe(&pattern("open.t.*"), None, 10).await)?;
    let (start, limit) = (Instant::now(), Duration::from_millis(200));
    let result = within("the limit", spine.request(&subject("open.t.acme"), body("?"), limit)).await?;
    check(matches!(result, Err(RequestError::Timeout)), || format!("{result:?} instead of Timeout"))?;
    check(start.elapsed() >= limit, || "it gave up before its limit".into())?;
    same("what was delivered all the same", text(&next(&mut deaf).await?.body), "?".into())
}

pub async fn too_big_is_refused_before_it_is_sent<W: World>() -> Outcome {
    let world = W::start(Setup { max_payload: Some(4_096), ..Setup::default() }).await?;
    let spine = connected(&world, "one").await?;
    streams(&spine).await?;
    let (to, size) = (subject("out.t.acme.r.lobby"), 4_097);
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    let big = Bytes::from(vec![b'x'; size]);
    same("publish", spine.publish(&to, None, big.clone()).await, Err(PublishError::TooBig { size, limit: 4_096 }))?;
    same("request", spine.request(&to, big.clone(), SOON).await.map(drop), Err(RequestError::TooBig))?;
    let log = proto::Subject::log(&room("lobby"));
    let appended = spine.append(&log, StreamSeq::NONE, big.clone()).await;
    check(matches!(appended, Err(AppendError::Refused { why: Refusal::TooBig, code: 0, .. })), || {
        format!("append: {appended:?} instead of a refusal before the stream")
    })?;
    // As much as is allowed goes through, on the same connection.
    said("publish", spine.publish(&to, None, big.slice(1..)).await)?;
    same("size", next(&mut sub).await?.body.len(), size - 1)?;
    same("generation", up(&spine).await?, 1)
}

pub async fn a_subscription_is_confirmed<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    for n in 0..200 {
        let to = subject(&format!("out.t.acme.r.r{n}"));
        let mut sub = said("subscribe", one.subscribe(&proto::Pattern::exact(&to), None, 1).await)?;
        said("publish", two.publish(&to, None, body(n)).await)?;
        same("body", text(&next(&mut sub).await?.body), n.to_string())?;
    }
    Ok(())
}

pub async fn a_full_subscription_says_how_many_it_lost<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let to = subject("out.t.acme.r.lobby");
    let mut full = said("subscribe", one.subscribe(&pattern("out.>"), None, 10).await)?;
    let mut all = said("subscribe", one.subscribe(&pattern("out.>"), None, 100_000).await)?;
    for n in 0..50_000 {
        said("publish", two.publish(&to, None, body(n)).await)?;
    }
    texts(&mut all, 50_000).await?;
    // Each message is either here or counted, and each count stands exactly where the messages are missing.
    let (mut due, mut lost) = (0, 0);
    while due < 50_000 {
        match within("the rest", full.next()).await? {
            Some(Delivery::Msg(message)) => {
                same("number", text(&message.body), due.to_string())?;
                due += 1;
            }
            Some(Delivery::Lost(n)) => {
                lost += n;
                due += n;
            }
            None => return Err("the subscription ended".into()),
        }
    }
    same("messages and losses", due, 50_000)?;
    check(lost > 0, || "nothing was lost although only ten had room".into())?;
    silent(&mut full).await
}

pub async fn lost_comes_before_the_next_message<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let (to, after) = (subject("out.t.acme.r.lobby"), subject("out.t.acme.r.after"));
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.t.acme.r.lobby"), None, 2).await)?;
    // Hears what was sent after the flood: the broker has passed all of that on by then.
    let mut witness = said("subscribe", spine.subscribe(&pattern("out.t.acme.r.after"), None, 100).await)?;
    const FLOOD: u64 = 200;
    for n in 0..FLOOD {
        said("publish", spine.publish(&to, None, body(n)).await)?;
    }
    let (mut sent, mut next, mut lost) = (FLOOD, 0, 0);
    // One is taken for one that is sent. How far the client had come with the flood is its own affair: what counts is that
    // every number is delivered or counted as lost, in its place.
    while next <= FLOOD {
        check(sent < 2 * FLOOD, || format!("{next} of {sent} came or were counted as lost"))?;
        said("publish", spine.publish(&to, None, body(sent)).await)?;
        said("publish", spine.publish(&after, None, body(sent)).await)?;
        sent += 1;
        texts(&mut witness, 1).await?;
        match within("what came or was lost", sub.next()).await? {
            Some(Delivery::Lost(count)) => {
                check(count > 0, || "nothing was lost, and said".to_owned())?;
                (next, lost) = (next + count, lost + count);
            }
            Some(Delivery::Msg(message)) => {
                same("the next number", text(&message.body), next.to_string())?;
                next += 1;
            }
            None => return Err("the subscription ended".to_owned()),
        }
    }
    check(lost > 0, || format!("two places held {FLOOD} messages"))
}

pub async fn dropping_a_subscription_unsubscribes<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let to = subject("open.t.acme");
    let sub = said("subscribe", spine.subscribe(&pattern("open.t.*"), None, 10).await)?;
    let heard = spine.request(&to, body("?"), QUIET).await;
    check(matches!(heard, Err(RequestError::Timeout)), || format!("{heard:?} although somebody listens"))?;
    drop(sub);
    within("nobody to listen", async {
        while !matches!(spine.request(&to, body("?"), QUIET).await, Err(RequestError::NoResponders)) {}
    })
    .await
}

pub async fn clones_share_one_connection<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let clone = spine.clone();
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    said("publish", clone.publish(&subject("out.t.acme.r.lobby"), None, body("hi")).await)?;
    same("body", text(&next(&mut sub).await?.body), "hi".into())?;
    same("link", clone.link().borrow().clone(), spine.link().borrow().clone())?;
    // Dropping one of them closes nothing.
    drop(spine);
    said("publish", clone.publish(&subject("out.t.acme.r.lobby"), None, body("still")).await)?;
    same("body", text(&next(&mut sub).await?.body), "still".into())
}

pub async fn the_link_names_the_broker<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let (one, two) = (one.link().borrow().clone(), two.link().borrow().clone());
    match &one {
        Link::Connected { broker, generation: 1 } => check(!broker.0.is_empty(), || "the broker has no id".into())?,
        other => return Err(format!("{other:?} instead of the first connection")),
    }
    same("the other connection's link", two, one)
}

pub async fn close_writes_out_what_is_queued<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let (one, two) = (connected(&world, "one").await?, connected(&world, "two").await?);
    let to = subject("out.t.acme.r.lobby");
    let mut sub = said("subscribe", two.subscribe(&pattern("out.>"), None, 2_000).await)?;
    for n in 0..1_500 {
        said("publish", one.publish(&to, None, body(n)).await)?;
    }
    within("close", one.close()).await?;
    let expected: Vec<String> = (0..1_500).map(|n| n.to_string()).collect();
    same("bodies", texts(&mut sub, 1_500).await?, expected)
}

pub async fn close_ends_everything<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let (to, log) = (subject("out.t.acme.r.lobby"), proto::Subject::log(&room("lobby")));
    let mut sub = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    let closer = spine.clone();
    within("close", closer.close()).await?;
    check(within("the end", sub.next()).await?.is_none(), || "a delivery after close".into())?;
    same("publish", spine.publish(&to, None, body("x")).await, Err(PublishError::Closed))?;
    same("request", spine.request(&to, body("x"), SOON).await.map(drop), Err(RequestError::Closed))?;
    same("subscribe", spine.subscribe(&pattern("out.>"), None, 1).await.map(drop), Err(SubscribeError::Closed))?;
    let appended = spine.append(&log, StreamSeq::NONE, body("x")).await;
    let closed = matches!(appended, Err(AppendError::Refused { why: Refusal::Closed, .. }));
    check(closed, || format!("append: {appended:?}"))?;
    same("last", spine.last(&log, Via::Direct).await, Err(ReadError::Closed))?;
    same("read", spine.read(&log, StreamSeq(1), 1, Via::Leader).await, Err(ReadError::Closed))?;
    same("last_of", spine.last_of(&pattern("ban.>")).await, Err(ReadError::Closed))?;
    same("purge", spine.purge_below(&log, StreamSeq(2)).await.map_err(|e| e.0), Err(ReadError::Closed))?;
    same("ensure", spine.ensure(&StreamSpec::bans(1)).await, Err(EnsureError::Call(ReadError::Closed)))?;
    check(!spine.link().borrow().is_up(), || "the link is up after close".into())?;
    within("a second close", spine.close()).await
}
