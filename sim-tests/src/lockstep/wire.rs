//! The model's plain data as messages of `lockstep.proto`, and inputs back again.

pub mod back;

use brain_model::placement::Living;
use brain_model::{Effect, Found, Identity, Input, Note, Now, Outcome, Room, Rules, StoredMessage, Token, Why};
use proto::internal::RoomSnapshot;
use proto::lockstep::{self as ls, effect::Effect as Said, note::Note as Told, step::Input as Given};
use proto::{NodeId, RoomKey, Subject};
use sha2::{Digest as _, Sha256};

/// Which machine a step is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The node.
    pub node: u64,
    /// The instance there.
    pub key: Vec<u8>,
}

/// A step without an input.
pub fn step(place: &Place, machine: ls::Machine, now: Now) -> ls::Step {
    ls::Step {
        node: place.node,
        machine: machine.into(),
        key: place.key.clone().into(),
        wall_ms: now.wall_ms,
        mono_ms: now.mono_ms,
        ..ls::Step::default()
    }
}

/// A new room's core.
pub fn reset(key: &RoomKey, me: &Identity, rules: &Rules) -> ls::Reset {
    ls::Reset {
        tenant: key.tenant.as_str().into(),
        room: key.room.as_str().into(),
        identity: Some(ls::Identity {
            node: me.node.as_str().into(),
            incarnation: me.incarnation,
            session: me.session,
        }),
        rules: Some(ls::Rules {
            idle_ms: rules.idle_ms,
            snapshot_entries: rules.snapshot_entries,
            snapshot_bytes: rules.snapshot_bytes,
            trim_age_ms: rules.trim_age_ms,
            dedupe: rules.dedupe as u64,
        }),
        down_after_ms: 0,
    }
}

fn stored(messages: &[StoredMessage]) -> Vec<ls::Stored> {
    messages.iter().map(|message| ls::Stored { pos: message.pos, body: message.body.clone() }).collect()
}

fn outcome(outcome: Outcome) -> (i32, u64) {
    let (kind, pos) = match outcome {
        Outcome::Stored(pos) => (ls::Outcome::Stored, pos),
        Outcome::WrongLast => (ls::Outcome::WrongLast, 0),
        Outcome::Unresolved => (ls::Outcome::Unresolved, 0),
        Outcome::Full => (ls::Outcome::Full, 0),
        Outcome::Unavailable => (ls::Outcome::Unavailable, 0),
        Outcome::TooBig => (ls::Outcome::TooBig, 0),
    };
    (kind.into(), pos)
}

/// A room's input.
pub fn given(input: &Input) -> Given {
    match input {
        Input::Open { reply, create } => Given::Open(ls::OpenRoom { reply: reply.as_str().into(), create: *create }),
        Input::Message { reply, body } => {
            Given::Message(ls::Message { reply: reply.as_ref().map(|reply| reply.as_str().into()), body: body.clone() })
        }
        Input::Read { token, draw, found } => Given::Read(ls::ReadDone {
            token: token.0,
            draw: *draw,
            found: found.as_ref().map(|found| ls::Found {
                gen_id: found.gen_id,
                snapshots: stored(&found.snapshots),
                log: stored(&found.log),
                more: found.more,
            }),
        }),
        Input::GenWritten { token } => Given::GenWritten(ls::GenWritten { token: token.0 }),
        Input::Appended { token, outcome: ended } => {
            let (outcome, pos) = outcome(*ended);
            Given::Appended(ls::Appended { token: token.0, outcome, pos })
        }
        Input::SnapshotWritten { token, outcome: ended } => {
            let (outcome, pos) = outcome(*ended);
            Given::SnapshotWritten(ls::SnapshotWritten { token: token.0, outcome, pos })
        }
        Input::Subscribed { token, ok } => Given::Subscribed(ls::Subscribed { token: token.0, ok: *ok }),
        Input::Reconnected => Given::Reconnected(ls::Reconnected {}),
        Input::Wake => Given::Wake(ls::Wake {}),
        Input::Stop => Given::Stop(ls::Stop {}),
    }
}

/// A room's input as it came; `None`: none of a room's, or not one that a shell could give.
pub fn taken(given: Given) -> Option<Input> {
    let subject = |text: String| Subject::from_wire(text.into()).ok();
    Some(match given {
        Given::Open(open) => Input::Open { reply: subject(open.reply)?, create: open.create },
        Given::Message(message) => {
            let reply = match message.reply {
                Some(reply) => Some(subject(reply)?),
                None => None,
            };
            Input::Message { reply, body: message.body }
        }
        Given::Read(read) => Input::Read {
            token: Token(read.token),
            draw: read.draw,
            found: read.found.map(|found| Found {
                gen_id: found.gen_id,
                snapshots: unstored(found.snapshots),
                log: unstored(found.log),
                more: found.more,
            }),
        },
        Given::GenWritten(written) => Input::GenWritten { token: Token(written.token) },
        Given::Appended(ended) => {
            Input::Appended { token: Token(ended.token), outcome: ended_as(ended.outcome(), ended.pos)? }
        }
        Given::SnapshotWritten(ended) => {
            Input::SnapshotWritten { token: Token(ended.token), outcome: ended_as(ended.outcome(), ended.pos)? }
        }
        Given::Subscribed(done) => Input::Subscribed { token: Token(done.token), ok: done.ok },
        Given::Reconnected(_) => Input::Reconnected,
        Given::Wake(_) => Input::Wake,
        Given::Stop(_) => Input::Stop,
        Given::Heard(_) | Given::Lives(_) | Given::Rank(_) | Given::Code(_) | Given::Forward(_) => return None,
    })
}

fn unstored(messages: Vec<ls::Stored>) -> Vec<StoredMessage> {
    messages.into_iter().map(|message| StoredMessage { pos: message.pos, body: message.body }).collect()
}

fn ended_as(outcome: ls::Outcome, pos: u64) -> Option<Outcome> {
    match outcome {
        ls::Outcome::Unknown => None,
        ls::Outcome::Stored => Some(Outcome::Stored(pos)),
        ls::Outcome::WrongLast => Some(Outcome::WrongLast),
        ls::Outcome::Unresolved => Some(Outcome::Unresolved),
        ls::Outcome::Full => Some(Outcome::Full),
        ls::Outcome::Unavailable => Some(Outcome::Unavailable),
        ls::Outcome::TooBig => Some(Outcome::TooBig),
    }
}

fn said(effect: Effect) -> Said {
    match effect {
        Effect::Read { token, gen_id, snapshots, log_from } => {
            Said::Read(ls::Read { token: token.0, gen_id, snapshots, log_from })
        }
        Effect::WriteGen { token, value } => Said::WriteGen(ls::WriteGen { token: token.0, value }),
        Effect::Append { token, expect, body } => Said::Append(ls::Append { token: token.0, expect, body }),
        Effect::WriteSnapshot { token, expect, body } => {
            Said::WriteSnapshot(ls::WriteSnapshot { token: token.0, expect, body })
        }
        Effect::Trim { keep } => Said::Trim(ls::Trim { keep }),
        Effect::Subscribe { token } => Said::Subscribe(ls::Subscribe { token: token.0 }),
        Effect::Reply { to, body } => Said::Reply(ls::Reply { to: to.as_str().into(), body }),
        Effect::Live { body } => Said::Live(ls::Live { body }),
        Effect::StepDown(why) => {
            let why = match why {
                Why::Fenced => ls::Why::Fenced,
                Why::Absent => ls::Why::Absent,
                Why::ClockBehind => ls::Why::ClockBehind,
                Why::Refused => ls::Why::Refused,
                Why::Idle => ls::Why::Idle,
                Why::Stopped => ls::Why::Stopped,
            };
            Said::StepDown(ls::StepDown { why: why.into() })
        }
        Effect::Note(note) => Said::Note(ls::Note { note: Some(told(note)) }),
    }
}

fn told(note: Note) -> Told {
    match note {
        Note::Owned { epoch, term, pos } => Told::Owned(ls::Owned { epoch, term, pos }),
        Note::Committed { epoch, seq, message_id, user, envelope } => Told::Committed(ls::Committed {
            epoch,
            seq,
            message_id: message_id.map(|id| id.0.to_vec().into()),
            user,
            envelope,
        }),
        Note::Head { epoch, term, pos, events } => Told::Head(ls::Head { epoch, term, pos, events }),
        Note::Answered { user, message_id, code, duplicate } => Told::Answered(ls::Answered {
            user: user.map(|user| user.as_str().into()),
            message_id: message_id.0.to_vec().into(),
            code,
            duplicate,
        }),
        Note::Fenced { term } => Told::Fenced(ls::Fenced { term }),
        Note::Unresolved => Told::Unresolved(ls::Unresolved {}),
        Note::Void { pos } => Told::Void(ls::Void { pos }),
        Note::Refused(code) => Told::Refused(ls::Refused { code: code.as_u16().into() }),
    }
}

/// A node that lives.
pub fn alive(living: &Living) -> ls::Living {
    ls::Living { node: living.node.as_str().into(), incarnation: living.incarnation }
}

/// Nodes that live, as they came; `None` if one of them has a name that no node can have.
pub fn living(all: Vec<ls::Living>) -> Option<Vec<Living>> {
    let one = |one: ls::Living| Some(Living { node: NodeId::parse(&one.node).ok()?, incarnation: one.incarnation });
    all.into_iter().map(one).collect()
}

/// One effect as a message.
pub fn effect(said: Said) -> ls::Effect {
    ls::Effect { effect: Some(said) }
}

/// What a room's core answers to a step.
pub fn reply(effects: Vec<Effect>, room: &Room, wants: &ls::Step) -> ls::StepReply {
    let mut reply = ls::StepReply {
        effects: effects.into_iter().map(|one| effect(said(one))).collect(),
        wake_at: room.wake_at(),
        serving: room.serving(),
        gone: room.gone(),
        has_room: room.has_room(),
        ..ls::StepReply::default()
    };
    if wants.digest || wants.state {
        let state = prost::Message::encode_to_vec(&digest_of(room));
        reply.digest = Sha256::digest(&state).to_vec().into();
        if wants.state {
            reply.state = state.into();
        }
    }
    reply
}

fn digest_of(room: &Room) -> ls::RoomDigest {
    let folded = room.committed();
    let snapshot: RoomSnapshot = folded.snapshot();
    ls::RoomDigest {
        committed: Some(snapshot),
        fence: folded.tail.fence,
        deleted: folded.tail.deleted,
        state_bytes: folded.state.bytes() as u64,
        window_bytes: folded.state.dedupe.bytes() as u64,
        window_len: folded.state.dedupe.len() as u64,
    }
}
