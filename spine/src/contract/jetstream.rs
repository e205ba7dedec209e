//! Streams: fenced appends, RePublish, reads both ways, purge, specifications.

use bytes::Bytes;
use proto::Subject;

use super::tools::*;
use super::{Outcome, Setup, World};
use crate::{
    AppendError, Batch, EnsureError, ReadError, Refusal, Spine, Storage, Stored, StreamSeq, StreamSpec, Unresolved, Via,
};

const BOTH: [Via; 2] = [Via::Direct, Via::Leader];

/// A world with every stream and one connection.
async fn begin<W: World>() -> Result<(W, W::Spine), String> {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    streams(&spine).await?;
    Ok((world, spine))
}

/// Appends `n` entries named `0 … n-1`; gives them as they must be read.
async fn fill(spine: &impl Spine, to: &Subject, n: usize) -> Result<Vec<Stored>, String> {
    let mut entries: Vec<Stored> = Vec::with_capacity(n);
    for i in 0..n {
        let expect = entries.last().map_or(StreamSeq::NONE, |last| last.seq);
        let seq = said("append", spine.append(to, expect, body(i)).await)?;
        entries.push(Stored { subject: to.clone(), seq, body: body(i) });
    }
    Ok(entries)
}

pub async fn the_first_append_expects_none<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let (a, b) = (Subject::log(&room("a")), Subject::log(&room("b")));
    same("first", spine.append(&a, StreamSeq::NONE, body("a1")).await, Ok(StreamSeq(1)))?;
    same("next", spine.append(&a, StreamSeq(1), body("a2")).await, Ok(StreamSeq(2)))?;
    // The fence is the subject's own: the other room's entries do not count.
    same("other", spine.append(&b, StreamSeq::NONE, body("b1")).await, Ok(StreamSeq(3)))?;
    same("again", spine.append(&a, StreamSeq(2), body("a3")).await, Ok(StreamSeq(4)))
}

pub async fn a_wrong_expectation_is_unresolved_and_not_stored<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let log = Subject::log(&room("a"));
    let entries = fill(&spine, &log, 3).await?;
    let wrong = Err(AppendError::Unresolved(Unresolved::WrongLast));
    for expect in [0, 1, 2, 4, 1_000] {
        same("append", spine.append(&log, StreamSeq(expect), body("zombie")).await, wrong.clone())?;
    }
    let all = Batch { entries, more: false };
    same("the log", spine.read(&log, StreamSeq(1), 100, Via::Direct).await, Ok(all))
}

pub async fn a_wrong_expectation_is_not_republished<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let lobby = room("lobby");
    let log = Subject::log(&lobby);
    let mut out = said("subscribe", spine.subscribe(&pattern("out.>"), None, 10).await)?;
    fill(&spine, &log, 1).await?;
    let refused = spine.append(&log, StreamSeq::NONE, body("zombie")).await;
    check(refused.is_err(), || "the fence let a zombie through".into())?;
    said("append", spine.append(&log, StreamSeq(1), body("1")).await)?;
    same("what went out", texts(&mut out, 2).await?, vec!["0".to_owned(), "1".to_owned()])?;
    silent(&mut out).await
}

pub async fn an_append_is_republished_with_its_position<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let lobby = room("lobby");
    let mut out = said("subscribe", spine.subscribe(&pattern("out.t.*.r.*"), None, 10).await)?;
    for entry in fill(&spine, &Subject::log(&lobby), 3).await? {
        let message = next(&mut out).await?;
        same("subject", message.subject, Subject::output(&lobby))?;
        same("position", message.stream_seq, Some(entry.seq))?;
        same("body", message.body, entry.body)?;
        check(message.reply.is_none() && message.status.is_none(), || "a reply or status on a republish".into())?;
    }
    silent(&mut out).await
}

pub async fn what_no_stream_holds_is_refused<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    let input = Subject::input(&room("a"));
    let appended = spine.append(&input, StreamSeq::NONE, body("x")).await;
    let refused = matches!(appended, Err(AppendError::Refused { why: Refusal::NoStream, .. }));
    check(refused, || format!("append: {appended:?}"))?;
    same("last", spine.last(&input, Via::Direct).await, Err(ReadError::NoStream))?;
    same("read", spine.read(&input, StreamSeq(1), 1, Via::Leader).await, Err(ReadError::NoStream))?;
    same("last_of", spine.last_of(&pattern("in.t.*.r.*")).await, Err(ReadError::NoStream))?;
    same("purge", spine.purge_below(&input, StreamSeq(2)).await.map_err(|e| e.0), Err(ReadError::NoStream))?;
    // Its stream does not exist yet: surely not stored, and said at once.
    let log = Subject::log(&room("a"));
    let appended = within("the refusal", spine.append(&log, StreamSeq::NONE, body("x"))).await?;
    let refused = matches!(appended, Err(AppendError::Refused { why: Refusal::Unavailable, code: 503, .. }));
    check(refused, || format!("append: {appended:?}"))?;
    for via in BOTH {
        let last = within("the refusal", spine.last(&log, via)).await?;
        // By Direct Get nobody answers; the leader's API knows that there is no such stream.
        let seen = match via {
            Via::Direct => matches!(last, Err(ReadError::Unavailable { code: 503, .. })),
            Via::Leader => last == Err(ReadError::NoStream),
        };
        check(seen, || format!("last {via:?}: {last:?}"))?;
    }
    streams(&spine).await?;
    same("and then", spine.append(&log, StreamSeq::NONE, body("x")).await, Ok(StreamSeq(1)))
}

pub async fn a_full_stream_refuses_and_stores_nothing<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    said("ensure", spine.ensure(&StreamSpec::log(0, 1, 1, 10_000)).await)?;
    let log = Subject::log(&room("a"));
    let (mut last, big) = (StreamSeq::NONE, Bytes::from(vec![b'x'; 1_000]));
    let refused = loop {
        match spine.append(&log, last, big.clone()).await {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
        check(last < StreamSeq(100), || "a stream of 10 kB took 100 entries of 1 kB".into())?;
    };
    let full = matches!(refused, AppendError::Refused { why: Refusal::Full, code: 10077, .. });
    check(full, || format!("{refused:?} when full"))?;
    check(last > StreamSeq(3), || format!("full after {last}"))?;
    let stored = said("last", spine.last(&log, Via::Leader).await)?.ok_or("the log is empty")?;
    same("last position", stored.seq, last)?;
    // The oldest entry is still there: a full log forgets nothing.
    let first = said("read", spine.read(&log, StreamSeq(1), 1, Via::Direct).await)?;
    same("first position", first.entries.first().map(|e| e.seq), Some(StreamSeq(1)))
}

pub async fn a_server_without_room_makes_no_stream<W: World>() -> Outcome {
    let world = W::start(Setup { max_store: Some(8 << 20), ..Setup::default() }).await?;
    let spine = connected(&world, "one").await?;
    let spec = |index, max_bytes| StreamSpec::log(index, 2, 1, max_bytes);
    // It is reserved when the stream is made, whatever is stored.
    said("the first", spine.ensure(&spec(0, 5 << 20)).await)?;
    match spine.ensure(&spec(1, 5 << 20)).await {
        Err(EnsureError::NoRoom { stream, reserves: 0x50_0000, code: 10_047, .. }) if stream == "LOG_1" => {}
        other => return Err(format!("{other:?} of a stream for which there is no room")),
    }
    said("the first again", spine.ensure(&spec(0, 5 << 20)).await)?;
    said("a smaller one", spine.ensure(&spec(1, 2 << 20)).await)
}

pub async fn a_server_at_its_limit_is_unavailable<W: World>() -> Outcome {
    let world = W::start(Setup { max_store: Some(100_000), ..Setup::default() }).await?;
    let spine = connected(&world, "one").await?;
    said("ensure", spine.ensure(&StreamSpec::log(0, 1, 1, 0)).await)?;
    let (log, big) = (Subject::log(&room("a")), Bytes::from(vec![b'x'; 30_000]));
    let mut last = StreamSeq::NONE;
    let refused = loop {
        match spine.append(&log, last, big.clone()).await {
            Ok(seq) if seq.0 < 10 => last = seq,
            other => break other,
        }
    };
    let unavailable = matches!(refused, Err(AppendError::Refused { why: Refusal::Unavailable, code: 10_023, .. }));
    check(unavailable, || format!("{refused:?} at the server's limit"))?;
    check(last > StreamSeq(2), || format!("only {last} entries before it"))?;
    same("the last", said("last", spine.last(&log, Via::Leader).await)?.map(|stored| stored.seq), Some(last))?;
    // Room that is made again is used again.
    said("purge", spine.purge_below(&log, last).await)?;
    said("append", spine.append(&log, last, body("small")).await).map(drop)
}

pub async fn equal_bytes_are_stored_twice<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    // Two rooms' first entries with the same bytes: nothing may take one for a repetition of the other.
    for (name, at) in [("a", 1), ("b", 2), ("c", 3)] {
        let log = Subject::log(&room(name));
        same("append", spine.append(&log, StreamSeq::NONE, body("same")).await, Ok(StreamSeq(at)))?;
    }
    Ok(())
}

pub async fn last_is_none_or_the_newest<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let (a, b) = (Subject::log(&room("a")), Subject::log(&room("b")));
    for via in BOTH {
        same("last of nothing", spine.last(&a, via).await, Ok(None))?;
    }
    let entries = fill(&spine, &a, 3).await?;
    for via in BOTH {
        same("last", spine.last(&a, via).await, Ok(entries.last().cloned()))?;
        same("last of another", spine.last(&b, via).await, Ok(None))?;
    }
    Ok(())
}

pub async fn both_ways_read_the_same<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let (a, b) = (Subject::log(&room("a")), Subject::log(&room("b")));
    let mut mine = Vec::new();
    for n in 0..10 {
        for (log, entries) in [(&a, Some(&mut mine)), (&b, None)] {
            let last = said("last", spine.last(log, Via::Leader).await)?.map_or(StreamSeq::NONE, |e| e.seq);
            let seq = said("append", spine.append(log, last, body(n)).await)?;
            if let Some(entries) = entries {
                entries.push(Stored { subject: log.clone(), seq, body: body(n) });
            }
        }
    }
    // An empty payload is a payload.
    let last = mine.last().map_or(StreamSeq::NONE, |e| e.seq);
    let seq = said("append", spine.append(&a, last, Bytes::new()).await)?;
    mine.push(Stored { subject: a.clone(), seq, body: Bytes::new() });
    for via in BOTH {
        for from in 0..=mine.len() {
            let from = mine.get(from).map_or(StreamSeq(1_000), |e| e.seq);
            let entries: Vec<Stored> = mine.iter().filter(|e| e.seq >= from).cloned().collect();
            same("read", spine.read(&a, from, 100, via).await, Ok(Batch { entries, more: false }))?;
        }
        let whole = Batch { entries: mine.clone(), more: false };
        same("from none", spine.read(&a, StreamSeq::NONE, 100, via).await, Ok(whole))?;
        let nothing = Batch::default();
        same("another room", spine.read(&Subject::log(&room("c")), StreamSeq(1), 100, via).await, Ok(nothing))?;
    }
    Ok(())
}

pub async fn a_batch_says_whether_more_follow<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let log = Subject::log(&room("a"));
    let all = fill(&spine, &log, 10).await?;
    // Another room's later entries are not "more".
    fill(&spine, &Subject::log(&room("b")), 3).await?;
    for via in BOTH {
        for max in [1, 3, 9, 10, 11] {
            let (mut read, mut from) = (Vec::new(), StreamSeq(1));
            loop {
                let batch = said("read", spine.read(&log, from, max, via).await)?;
                let n = batch.entries.len();
                check(n > 0 && n <= max as usize, || format!("{n} entries of at most {max} via {via:?}"))?;
                read.extend(batch.entries);
                let all_read = read.len() == all.len();
                check(batch.more != all_read, || {
                    format!("more = {} after {} of 10 via {via:?}", batch.more, read.len())
                })?;
                if all_read {
                    break;
                }
                from = read.last().map_or(from, |e| e.seq.next());
            }
            same("all", read, all.clone())?;
        }
        same("none", spine.read(&log, StreamSeq(1), 0, via).await, Ok(Batch::default()))?;
    }
    Ok(())
}

pub async fn a_batch_is_bounded_in_bytes<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let log = Subject::log(&room("a"));
    let (mut last, big) = (StreamSeq::NONE, Bytes::from(vec![b'x'; 400_000]));
    for _ in 0..8 {
        last = said("append", spine.append(&log, last, big.clone()).await)?;
    }
    for via in BOTH {
        let batch = said("read", spine.read(&log, StreamSeq(1), 100, via).await)?;
        let bytes: usize = batch.entries.iter().map(|e| e.body.len()).sum();
        check((400_000..=1_600_000).contains(&bytes), || format!("{bytes} B in a batch via {via:?}"))?;
        check(batch.more, || format!("not told that more follow via {via:?}"))?;
    }
    Ok(())
}

pub async fn last_of_gives_the_last_of_each<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    same("nothing", spine.last_of(&pattern("ban.t.acme.u.*")).await, Ok(Batch::default()))?;
    let acme = "acme".parse().map_err(|e| format!("{e}"))?;
    let other = "other".parse().map_err(|e| format!("{e}"))?;
    let mut expected = Vec::new();
    for user in ["zoe", "ann", "bob"] {
        let to = Subject::ban(&acme, &user.parse().map_err(|e| format!("{e}"))?);
        let first = said("append", spine.append(&to, StreamSeq::NONE, body("old")).await)?;
        let seq = said("append", spine.append(&to, first, body(user)).await)?;
        expected.push(Stored { subject: to, seq, body: body(user) });
    }
    let foreign = Subject::ban(&other, &"ann".parse().map_err(|e| format!("{e}"))?);
    said("append", spine.append(&foreign, StreamSeq::NONE, body("x")).await)?;
    let bans = Batch { entries: expected, more: false };
    same("bans", spine.last_of(&pattern("ban.t.acme.u.*")).await, Ok(bans))?;
    // Heads of a log: many messages a subject.
    let heads = [fill(&spine, &Subject::log(&room("a")), 3).await?, fill(&spine, &Subject::log(&room("b")), 2).await?];
    let entries = heads.iter().filter_map(|entries| entries.last().cloned()).collect();
    same("heads", spine.last_of(&pattern("log.*.t.acme.r.*")).await, Ok(Batch { entries, more: false }))
}

pub async fn last_of_many_is_complete<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let acme = "acme".parse().map_err(|e| format!("{e}"))?;
    let mut users = Vec::new();
    for n in 0..1_500 {
        users.push(Subject::ban(&acme, &format!("u{n}").parse().map_err(|e| format!("{e}"))?));
    }
    // Side by side: one after the other would take a while.
    for some in users.chunks(100) {
        let appends = some.iter().map(|to| spine.append(to, StreamSeq::NONE, body("x")));
        said("append", futures_util::future::try_join_all(appends).await)?;
    }
    let batch = said("last_of", spine.last_of(&pattern("ban.t.acme.u.*")).await)?;
    same("more", batch.more, false)?;
    same("how many", batch.entries.len(), users.len())?;
    check(batch.entries.is_sorted_by(|a, b| a.seq < b.seq), || "not ascending by position".into())?;
    let mut seen: Vec<Subject> = batch.entries.into_iter().map(|entry| entry.subject).collect();
    seen.sort_unstable();
    users.sort_unstable();
    check(seen == users, || "other subjects than those appended".into())
}

pub async fn purge_keeps_the_position_and_later<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let (a, b) = (Subject::log(&room("a")), Subject::log(&room("b")));
    let (mine, others) = (fill(&spine, &a, 5).await?, fill(&spine, &b, 2).await?);
    // Nothing lies below the first position, and "none" is no way to say "all".
    for keep in [StreamSeq::NONE, StreamSeq(1)] {
        said("purge", spine.purge_below(&a, keep).await)?;
        same("entries", said("read", spine.read(&a, StreamSeq(1), 10, Via::Direct).await)?.entries, mine.clone())?;
    }
    said("purge", spine.purge_below(&a, mine[3].seq).await)?;
    for via in BOTH {
        same("kept", said("read", spine.read(&a, StreamSeq(1), 10, via).await)?.entries, mine[3..].to_vec())?;
        same("others", said("read", spine.read(&b, StreamSeq(1), 10, via).await)?.entries, others.clone())?;
    }
    Ok(())
}

pub async fn the_fence_after_a_purge<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let log = Subject::log(&room("a"));
    let entries = fill(&spine, &log, 3).await?;
    let wrong = Err(AppendError::Unresolved(Unresolved::WrongLast));
    // While the last entry stands, it is what must be expected.
    said("purge", spine.purge_below(&log, entries[2].seq).await)?;
    same("none", spine.append(&log, StreamSeq::NONE, body("x")).await, wrong.clone())?;
    let seq = said("append", spine.append(&log, entries[2].seq, body("3")).await)?;
    // Without any entry, "none" is valid again; positions go on.
    said("purge", spine.purge_below(&log, seq.next()).await)?;
    same("last", spine.last(&log, Via::Leader).await, Ok(None))?;
    same("the old one", spine.append(&log, seq, body("x")).await, wrong)?;
    let after = said("append", spine.append(&log, StreamSeq::NONE, body("4")).await)?;
    check(after > seq, || format!("position {after} again after {seq}"))
}

pub async fn snapshots_keep_the_newest_two<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let (a, b) = (Subject::snapshot(&room("a")), Subject::snapshot(&room("b")));
    let (mine, others) = (fill(&spine, &a, 5).await?, fill(&spine, &b, 1).await?);
    for via in BOTH {
        same("kept", said("read", spine.read(&a, StreamSeq(1), 10, via).await)?.entries, mine[3..].to_vec())?;
        same("others", said("read", spine.read(&b, StreamSeq(1), 10, via).await)?.entries, others.clone())?;
    }
    Ok(())
}

pub async fn a_limit_without_rollover_refuses_the_new<W: World>() -> Outcome {
    let world = W::start(Setup::default()).await?;
    let spine = connected(&world, "one").await?;
    said("ensure", spine.ensure(&StreamSpec { rollover: false, ..StreamSpec::snapshots(1) }).await)?;
    let to = Subject::snapshot(&room("a"));
    let entries = fill(&spine, &to, 2).await?;
    let refused = spine.append(&to, entries[1].seq, body("third")).await;
    let full = matches!(refused, Err(AppendError::Refused { why: Refusal::Full, .. }));
    check(full, || format!("{refused:?} although two are there"))?;
    same("kept", said("read", spine.read(&to, StreamSeq(1), 10, Via::Direct).await)?.entries, entries)
}

pub async fn ensure_is_repeatable<W: World>() -> Outcome {
    let (world, spine) = begin::<W>().await?;
    let other = connected(&world, "two").await?;
    let entries = fill(&spine, &Subject::log(&room("a")), 2).await?;
    streams(&other).await?;
    streams(&spine).await?;
    let read = said("read", other.read(&Subject::log(&room("a")), StreamSeq(1), 10, Via::Leader).await)?;
    same("entries", read.entries, entries)
}

pub async fn ensure_names_what_differs<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let log = StreamSpec::log(0, 1, 1, 64 << 20);
    let differing = [
        ("max_bytes", StreamSpec { max_bytes: 1 << 20, ..log.clone() }),
        ("storage", StreamSpec { storage: Storage::Memory, ..log.clone() }),
        ("deny_delete", StreamSpec { deny_delete: false, ..log.clone() }),
        ("republish", StreamSpec { republish: None, ..log.clone() }),
        ("subjects", StreamSpec { subjects: vec!["log.>".into()], ..log.clone() }),
        ("max_msgs_per_subject", StreamSpec { max_msgs_per_subject: 3, ..StreamSpec::snapshots(1) }),
    ];
    for (property, spec) in differing {
        match spine.ensure(&spec).await {
            Err(EnsureError::Differs { what, .. }) if what == property => {}
            other => return Err(format!("{other:?} instead of another {property}")),
        }
    }
    said("and nothing was changed", spine.ensure(&log).await)
}

pub async fn many_appends_in_flight_keep_their_answers<W: World>() -> Outcome {
    let (_world, spine) = begin::<W>().await?;
    let logs: Vec<Subject> = (0..100).map(|n| Subject::log(&room(&format!("r{n}")))).collect();
    let appends = logs.iter().map(|log| spine.append(log, StreamSeq::NONE, body(log)));
    let seqs = said("append", futures_util::future::try_join_all(appends).await)?;
    for (log, seq) in logs.iter().zip(seqs) {
        let expected = Stored { subject: log.clone(), seq, body: body(log) };
        same("last", spine.last(log, Via::Direct).await, Ok(Some(expected)))?;
    }
    Ok(())
}
