//! The users of CONTRACT §3: what each may do works, and nothing else does.

use futures_util::StreamExt as _;
use proto::{NodeId, Subject};
use tokio::time::timeout;

use super::tools::*;
use super::{Outcome, Setup, World};
use crate::users::Account;
use crate::{RequestError, Spine, SpineOptions, StreamSeq, SubscribeError, UserSpec, Via};

fn node(name: &str) -> NodeId {
    name.parse().expect("a case's own node name is an id")
}

/// A broker with two Shields, one Brain, the operator and a witness.
pub(super) async fn guarded<W: World>() -> Result<W, String> {
    let users = vec![
        UserSpec::shield(&node("s1"), "secret-s1"),
        UserSpec::shield(&node("s2"), "secret-s2"),
        UserSpec::writer(&node("b1"), "secret-w"),
        UserSpec::speaker(&node("b1"), "secret-b"),
        UserSpec::operator("secret-o"),
        witness_user(),
    ];
    W::start(Setup { users, ..Setup::default() }).await
}

fn as_user(user: &UserSpec, inbox_prefix: &str) -> SpineOptions {
    SpineOptions {
        credentials: Some(user.credentials()),
        api: user.account.api().into(),
        inbox_prefix: inbox_prefix.into(),
        ..options(&user.name)
    }
}

pub(super) fn shield(name: &str) -> SpineOptions {
    as_user(&UserSpec::shield(&node(name), &format!("secret-{name}")), &format!("_INBOX.s.{name}"))
}

pub(super) fn writer() -> SpineOptions {
    as_user(&UserSpec::writer(&node("b1"), "secret-w"), "_INBOX.w.b1")
}

fn speaker() -> SpineOptions {
    as_user(&UserSpec::speaker(&node("b1"), "secret-b"), "_INBOX.b.b1")
}

pub(super) fn operator() -> SpineOptions {
    as_user(&UserSpec::operator("secret-o"), "_INBOX.o")
}

/// Who may do everything where Shields and speakers are: what this one cannot do, no captured process there can.
fn witness_user() -> UserSpec {
    UserSpec { account: Account::App, name: "witness".into(), ..UserSpec::operator("secret-x") }
}

pub(super) fn witness() -> SpineOptions {
    as_user(&witness_user(), "_INBOX.x")
}

pub async fn every_user_can_do_its_work<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let shield = connected_with(&world, shield("s1")).await?;
    let (writer, speaker) = (connected_with(&world, writer()).await?, connected_with(&world, speaker()).await?);
    streams(&writer).await?;
    let lobby = room("lobby");
    let (input, output, log) = (Subject::input(&lobby), Subject::output(&lobby), Subject::log(&lobby));
    // That nobody is there is told at once.
    let asked = shield.request(&input, body("say"), SOON).await;
    same("no Brain", asked.map(drop), Err(RequestError::NoResponders))?;
    // The way of a message: in, stored, out, answered.
    let mut commands = said("speaker", speaker.subscribe(&pattern("in.t.*.r.*"), None, 10).await)?;
    let mut events = said("shield", shield.subscribe(&proto::Pattern::exact(&output), None, 10).await)?;
    let mut slots = said("shield", shield.subscribe(&pattern("_INBOX.s.s1.*"), None, 10).await)?;
    let slot = Subject::reply_slot(&node("s1"), 7);
    said("shield", shield.publish(&input, Some(&slot), body("say")).await)?;
    let command = next(&mut commands).await?;
    let seq = said("writer", writer.append(&log, StreamSeq::NONE, command.body).await)?;
    same("event", next(&mut events).await?.stream_seq, Some(seq))?;
    said("speaker", speaker.publish(&command.reply.ok_or("no reply")?, None, body("ack")).await)?;
    same("answer", text(&next(&mut slots).await?.body), "ack".into())?;
    // Reading back, live events, opening, heartbeats.
    for via in [Via::Direct, Via::Leader] {
        let batch = said("shield", shield.read(&log, StreamSeq(1), 10, via).await)?;
        same("entries", batch.entries.len(), 1)?;
    }
    said("shield", shield.last_of(&pattern("ban.t.acme.u.*")).await)?;
    said("speaker", speaker.publish(&output, None, body("live")).await)?;
    same("live", text(&next(&mut events).await?.body), "live".into())?;
    let mut opens = said("speaker", speaker.subscribe(&pattern("open.t.*"), Some("brain"), 10).await)?;
    let opening = async {
        let open = next(&mut opens).await?;
        let reply = open.reply.ok_or("no reply")?;
        check(reply.is_shield_inbox(), || format!("{reply} is no Shield's inbox"))?;
        said("speaker", speaker.publish(&reply, None, body("opened")).await)
    };
    let to = subject("open.t.acme");
    let (opened, asked) = futures_util::future::join(opening, shield.request(&to, body("open"), SOON)).await;
    opened?;
    same("opened", text(&said("request", asked)?.body), "opened".into())?;
    let mut beats = said("shield", shield.subscribe(&pattern("sys.n.hb.>"), None, 10).await)?;
    said("speaker", speaker.publish(&Subject::heartbeat_brain(&node("b1")), None, body("brain")).await)?;
    same("heartbeat", text(&next(&mut beats).await?.body), "brain".into())?;
    said("shield", shield.publish(&Subject::heartbeat_shield(&node("s1")), None, body("shield")).await)?;
    same("own heartbeat", text(&next(&mut beats).await?.body), "shield".into())?;
    // An operator's signal is heard on both sides.
    let operator = connected_with(&world, operator()).await?;
    let mut signals = said("shield", shield.subscribe(&pattern("sys.t.*.*"), None, 10).await)?;
    said("operator", operator.publish(&subject("sys.t.acme.ban"), None, body("mallory")).await)?;
    same("signal", text(&next(&mut signals).await?.body), "mallory".into())?;
    // Snapshots, generations, trimming.
    said("writer", writer.append(&Subject::snapshot(&lobby), StreamSeq::NONE, body("snap")).await)?;
    said("writer", writer.append(&Subject::generation(0), StreamSeq::NONE, body("gen")).await)?;
    said("writer", writer.purge_below(&log, seq).await)
}

pub async fn a_denied_subscription_is_told<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let denied = [
        (shield("s1"), "in.t.*.r.*"),
        (shield("s1"), "log.>"),
        (shield("s1"), "_INBOX.s.s2.*"),
        (shield("s1"), "_INBOX.>"),
        (shield("s1"), ">"),
        (writer(), "in.t.*.r.*"),
        (writer(), "out.>"),
        (speaker(), "log.>"),
        (speaker(), "_INBOX.s.s1.*"),
        (speaker(), "_INBOX.w.b1.*"),
    ];
    for (user, to) in denied {
        let name = user.name.clone();
        let spine = connected_with(&world, user).await?;
        match within("an answer", spine.subscribe(&pattern(to), None, 10)).await? {
            Err(SubscribeError::Denied(text)) => check(text.contains(to), || format!("{text:?} does not name {to}"))?,
            Err(other) => return Err(format!("{name} on {to}: {other} instead of a denial")),
            // The refusal came late: then the subscription ends, without a message.
            Ok(mut sub) => match within("the end", sub.next()).await? {
                None => {}
                Some(delivery) => return Err(format!("{name} on {to}: {delivery:?} instead of a denial")),
            },
        }
        // The connection has not suffered.
        same("generation", up(&spine).await?, 1)?;
    }
    Ok(())
}

pub async fn a_denied_publish_is_not_delivered<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let mut all = Vec::new();
    for (name, user) in [("operator", operator()), ("witness", witness())] {
        let spine = connected_with(&world, user).await?;
        let heard = said(name, spine.subscribe(&pattern(">"), None, 10_000).await)?;
        all.push((name, spine, heard));
    }
    let denied = [
        (shield("s1"), "log.1.t.acme.r.lobby"),
        (shield("s1"), "out.t.acme.r.lobby"),
        (shield("s1"), "snap.1.t.acme.r.lobby"),
        (shield("s1"), "_INBOX.s.s2.1"),
        (shield("s1"), "$JS.API.STREAM.DELETE.SNAP"),
        (shield("s1"), "$JS.API.STREAM.MSG.GET.LOG_0"),
        (shield("s1"), "store.STREAM.DELETE.SNAP"),
        (shield("s1"), "$JS.ACK.LOG_0.c.1.1.1.1.1"),
        (shield("s1"), "sys.t.acme.kick"),
        (shield("s1"), "sys.n.hb.shield.s2"),
        (writer(), "_INBOX.s.s1.1"),
        (writer(), "out.t.acme.r.lobby"),
        (writer(), "in.t.acme.r.lobby"),
        (speaker(), "log.1.t.acme.r.lobby"),
        (speaker(), "snap.1.t.acme.r.lobby"),
        (speaker(), "gen.0"),
        (speaker(), "$JS.API.STREAM.DELETE.SNAP"),
        (speaker(), "store.STREAM.MSG.GET.LOG_0"),
        (speaker(), "_INBOX.w.b1.1"),
    ];
    for (user, to) in denied {
        let spine = connected_with(&world, user).await?;
        // Queued is all that it says.
        said("publish", spine.publish(&subject(to), None, body("forbidden")).await)?;
        within("close", spine.close()).await?;
    }
    for (name, spine, heard) in &mut all {
        said(name, spine.publish(&subject("end"), None, body("end")).await)?;
        loop {
            let message = next(heard).await?;
            check(message.body != "forbidden", || format!("a forbidden message arrived on {}", message.subject))?;
            if message.body == "end" {
                break;
            }
        }
    }
    Ok(())
}

pub async fn the_speaker_cannot_write_the_log<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let writer = connected_with(&world, writer()).await?;
    streams(&writer).await?;
    let hasty = SpineOptions { publish_timeout: QUIET, ..speaker() };
    let speaker = connected_with(&world, hasty).await?;
    let log = Subject::log(&room("lobby"));
    let appended = speaker.append(&log, StreamSeq::NONE, body("forged")).await;
    check(appended.is_err(), || format!("the speaker appended: {appended:?}"))?;
    let read = speaker.read(&log, StreamSeq(1), 1, Via::Direct).await;
    check(read.is_err(), || format!("the speaker read: {read:?}"))?;
    same("last", writer.last(&log, Via::Leader).await, Ok(None))
}

pub async fn a_denied_request_ends_at_its_limit<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let spine = connected_with(&world, shield("s1")).await?;
    let asked = within("the limit", spine.request(&subject("sys.t.acme.kick"), body("?"), QUIET)).await?;
    same("request", asked.map(drop), Err(RequestError::Timeout))
}

pub async fn a_wrong_password_never_connects<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let wrong = SpineOptions { credentials: Some(("operator".into(), "guess".into())), ..operator() };
    for options in [wrong, SpineOptions { credentials: None, ..operator() }] {
        let spine = world.connect(options);
        let mut link = spine.link();
        if timeout(QUIET, link.wait_for(crate::Link::is_up)).await.is_ok() {
            return Err("connected without the password".into());
        }
        within("close", spine.close()).await?;
    }
    connected_with(&world, operator()).await.map(drop)
}
