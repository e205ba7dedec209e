//! Effects as a driven core said them, for a shell that obeys them.

use brain_model::{Effect, Note, Token, Why};
use bytes::Bytes;
use proto::lockstep::{self as ls, effect::Effect as Said, note::Note as Told};
use proto::{Code, MessageId, Subject, UserId};

/// The effect of a room; `None`: none of a room's, or not one that a core could have.
pub fn effect(effect: ls::Effect) -> Option<Effect> {
    Some(match effect.effect? {
        Said::Read(read) => Effect::Read {
            token: Token(read.token),
            gen_id: read.gen_id,
            snapshots: read.snapshots,
            log_from: read.log_from,
        },
        Said::WriteGen(write) => Effect::WriteGen { token: Token(write.token), value: write.value },
        Said::Append(append) => Effect::Append { token: Token(append.token), expect: append.expect, body: append.body },
        Said::WriteSnapshot(write) => {
            Effect::WriteSnapshot { token: Token(write.token), expect: write.expect, body: write.body }
        }
        Said::Trim(trim) => Effect::Trim { keep: trim.keep },
        Said::Subscribe(subscribe) => Effect::Subscribe { token: Token(subscribe.token) },
        Said::Reply(reply) => Effect::Reply { to: Subject::from_wire(reply.to.into()).ok()?, body: reply.body },
        Said::Live(live) => Effect::Live { body: live.body },
        Said::StepDown(step) => Effect::StepDown(why(step.why())?),
        Said::Note(note) => Effect::Note(told(note.note?)?),
        Said::Heard(_) | Said::Ranking(_) | Said::Coded(_) | Said::Forwarded(_) => return None,
    })
}

fn why(why: ls::Why) -> Option<Why> {
    match why {
        ls::Why::Unknown => None,
        ls::Why::Fenced => Some(Why::Fenced),
        ls::Why::Absent => Some(Why::Absent),
        ls::Why::ClockBehind => Some(Why::ClockBehind),
        ls::Why::Refused => Some(Why::Refused),
        ls::Why::Idle => Some(Why::Idle),
        ls::Why::Stopped => Some(Why::Stopped),
    }
}

fn told(note: Told) -> Option<Note> {
    let id = |bytes: Bytes| MessageId::from_slice(&bytes);
    Some(match note {
        Told::Owned(owned) => Note::Owned { epoch: owned.epoch, term: owned.term, pos: owned.pos },
        Told::Committed(done) => Note::Committed {
            epoch: done.epoch,
            seq: done.seq,
            message_id: match done.message_id {
                Some(bytes) => Some(id(bytes)?),
                None => None,
            },
            user: done.user,
            envelope: done.envelope,
        },
        Told::Head(head) => Note::Head { epoch: head.epoch, term: head.term, pos: head.pos, events: head.events },
        Told::Answered(answered) => Note::Answered {
            user: match answered.user {
                Some(user) => Some(UserId::parse(&user).ok()?),
                None => None,
            },
            message_id: id(answered.message_id)?,
            code: answered.code,
            duplicate: answered.duplicate,
        },
        Told::Fenced(fenced) => Note::Fenced { term: fenced.term },
        Told::Unresolved(_) => Note::Unresolved,
        Told::Void(void) => Note::Void { pos: void.pos },
        Told::Refused(refused) => Note::Refused(Code::from_u16(u16::try_from(refused.code).ok()?)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    use crate::lockstep::coverage::Coverage;
    use crate::lockstep::ops;
    use crate::lockstep::world::{Watch, play};

    #[test]
    fn what_a_room_says_comes_back_whole() {
        let mut runner = TestRunner::deterministic();
        let mut kinds = BTreeSet::new();
        for _ in 0..300 {
            let history = ops::history().new_tree(&mut runner).unwrap().current();
            let script = play(&history, Watch { digest_every: 0, state_at: None }, &mut Coverage::default());
            for said in script.replies.into_iter().flat_map(|reply| reply.effects) {
                let Some(effect) = super::effect(said.clone()) else { continue };
                kinds.insert(format!("{effect:?}").split(['{', ' ']).next().map(str::to_owned));
                assert_eq!(super::super::effect(super::super::said(effect)), said);
            }
        }
        assert!(kinds.len() >= 10, "{kinds:?}");
    }
}
