//! The two accounts of CONTRACT §3: what a user makes the broker say lands where that user is, and no stream listens there.

use proto::Subject;

use super::permissions::{guarded, operator, shield, witness, writer};
use super::tools::*;
use super::{Outcome, World};
use crate::{AppendError, Refusal, Spine, SpineOptions, StreamSeq, Via};

/// Reads that a Shield may ask, one for each form that an answer can have: a message with headers, a status alone, the
/// bare payload, JSON, JSON with an error.
fn reads() -> [(Subject, &'static str); 5] {
    let log = Subject::log(&room("lobby"));
    let bare = r#"{"seq":1,"no_hdr":true}"#;
    [
        (subject(&format!("store.DIRECT.GET.LOG_0.{log}")), ""),
        (subject(&format!("store.DIRECT.GET.LOG_0.{log}.none")), ""),
        (subject("store.DIRECT.GET.LOG_0"), bare),
        (subject("store.STREAM.MSG.GET.LOG_0"), r#"{"seq":1}"#),
        (subject("store.STREAM.MSG.GET.LOG_0"), r#"{"seq":99}"#),
    ]
}

/// A room with two snapshots, and a Shield that asks every read with each of these reply subjects. Returns when all answers
/// have been seen where the Shield is, with the writer: what is stored must be as it was.
async fn answers_sent_to<W: World>(world: &W, replies: &[Subject]) -> Result<W::Spine, String> {
    let (writer, shield) = (connected_with(world, writer()).await?, connected_with(world, shield("s1")).await?);
    streams(&writer).await?;
    let lobby = room("lobby");
    let first = said("entry", writer.append(&Subject::log(&lobby), StreamSeq::NONE, body("entry")).await)?;
    said("entry", writer.append(&Subject::log(&lobby), first, body("entry")).await)?;
    let first = said("snapshot", writer.append(&Subject::snapshot(&lobby), StreamSeq::NONE, body("one")).await)?;
    said("snapshot", writer.append(&Subject::snapshot(&lobby), first, body("two")).await)?;
    said("generation", writer.append(&Subject::generation(0), StreamSeq::NONE, body("gen")).await)?;
    let witness = connected_with(world, witness()).await?;
    for reply in replies {
        let mut answers = said("witness", witness.subscribe(&proto::Pattern::exact(reply), None, 10).await)?;
        for (read, question) in reads() {
            said("shield", shield.publish(&read, Some(reply), body(question)).await)?;
            next(&mut answers).await.map_err(|error| format!("{read} with reply {reply}: {error}"))?;
        }
    }
    Ok(writer)
}

/// What [`answers_sent_to`] stored, and nothing else.
async fn is_as_it_was(writer: &impl Spine) -> Outcome {
    let lobby = room("lobby");
    for (of, expected) in [
        (Subject::log(&lobby), vec!["entry", "entry"]),
        (Subject::snapshot(&lobby), vec!["one", "two"]),
        (Subject::generation(0), vec!["gen"]),
    ] {
        let batch = said("read", writer.read(&of, StreamSeq(1), 100, Via::Leader).await)?;
        same(of.as_str(), batch.entries.iter().map(|entry| text(&entry.body)).collect(), to_strings(&expected))?;
    }
    same("bans", said("bans", writer.last_of(&pattern("ban.>")).await)?.entries, Vec::new())
}

fn to_strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The broker answers wherever the reply subject says, with its own rights. So a reader must be where no stream listens.
pub async fn a_reply_subject_cannot_make_the_broker_store<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let lobby = room("lobby");
    let streams =
        [Subject::log(&lobby), Subject::snapshot(&lobby), Subject::generation(0), subject("ban.t.acme.u.mallory")];
    is_as_it_was(&answers_sent_to(&world, &streams).await?).await
}

/// The same with JetStream's own subjects: in the account of the streams, the empty answer of a read that finds nothing
/// deletes a stream whose `STREAM.DELETE` is its reply subject, and any answer without JSON purges.
pub async fn a_reply_subject_cannot_make_the_broker_delete<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let mut replies = Vec::new();
    for (verb, target) in [
        ("STREAM.DELETE", "SNAP"),
        ("STREAM.DELETE", "LOG_0"),
        ("STREAM.PURGE", "SNAP"),
        ("STREAM.PURGE", "LOG_0"),
        ("STREAM.PURGE", "GEN_0"),
        ("STREAM.MSG.DELETE", "SNAP"),
    ] {
        replies.extend(["$JS.API", "store"].map(|api| subject(&format!("{api}.{verb}.{target}"))));
    }
    is_as_it_was(&answers_sent_to(&world, &replies).await?).await
}

pub async fn where_shields_are_no_stream_listens<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let writer = answers_sent_to(&world, &[]).await?;
    let witness = connected_with(&world, SpineOptions { api: "$JS.API".into(), ..witness() }).await?;
    let lobby = room("lobby");
    for to in [Subject::log(&lobby), Subject::snapshot(&lobby), Subject::generation(0)] {
        match witness.append(&to, StreamSeq::NONE, body("forged")).await {
            Err(AppendError::Refused { why: Refusal::Unavailable, code: 503, .. }) => {}
            other => return Err(format!("{to}: {other:?} instead of a refusal by nobody there")),
        }
        let read = witness.read(&to, StreamSeq(1), 1, Via::Leader).await;
        check(read.is_err(), || format!("{to} was read without an import: {read:?}"))?;
    }
    let purged = witness.purge_below(&Subject::log(&lobby), StreamSeq(2)).await;
    check(purged.is_err(), || format!("purged from the other account: {purged:?}"))?;
    is_as_it_was(&writer).await
}

pub async fn the_log_does_not_hear_the_shields<W: World>() -> Outcome {
    let world = guarded::<W>().await?;
    let operator = connected_with(&world, operator()).await?;
    let mut all = said("operator", operator.subscribe(&pattern(">"), None, 100).await)?;
    let witness = connected_with(&world, witness()).await?;
    for to in ["in.t.acme.r.lobby", "out.t.acme.r.lobby", "sys.t.acme.ban", "log.1.t.acme.r.lobby", "_INBOX.w.b1.x"] {
        said("witness", witness.publish(&subject(to), None, body("over there")).await)?;
    }
    within("close", witness.close()).await?;
    said("operator", operator.publish(&subject("end"), None, body("end")).await)?;
    loop {
        let message = next(&mut all).await?;
        if message.body == "end" {
            return Ok(());
        }
        check(message.body != "over there", || format!("{} crossed into LOG", message.subject))?;
    }
}
