//! Somebody who has the name and password of a captured Shield and speaks to the broker in its name, beside it. The broker
//! lets it write commands and opens into every room, with any reply subject; what it says there of users is believed
//! (`docs/epoch1_overview.md` says so openly). It must not get a Brain to write anywhere but below the Shields' inboxes, nor
//! have applied what is too old to judge; and what it floods a room with, the room survives.
//!
//! Each fault of the kind `captured` is one visit; what is said there is drawn from (seed, fault).

use std::time::Duration;

use arq::client::{Repeat, command_json};
use brain_model::placement::KIND_BRAIN;
use bytes::Bytes;
use prost::Message as _;
use proto::internal::{Heartbeat, Open, SyncReply, Tail};
use proto::subject::room_hash;
use proto::v1::system_signal;
use proto::{Code, MessageId, RoomKey, Subject, v1};
use spine::Spine;
use voltron_core::WallClock;
use voltron_core::trace::{self, Hash16, Record};

use crate::seed::Draw;

/// Who it is in the trace.
const NAME: &str = "captured";
/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How often something is said until it is answered.
const SENDS: usize = 60;
/// How old a flooding command says that it is, ms: old enough to leave a room's window 35 s later, not old enough to be
/// refused.
const AGE_MS: i64 = 115_000;
/// Commands of a flood that are sent before the first is answered.
const WAVE: usize = 120;
/// A room's window holds fewer users with names this long.
const USERS_MAX: usize = 1_800;
/// The bytes of a user's name, at most: what a user costs in the window.
const USER_BYTES: usize = 128;
/// Heartbeats that a visitor sends in a Brain's name, and the pause between: as long as a Shield looks for a place of the
/// log that does not exist, before it sends its readers away.
const POSES: u64 = 20;
const POSE_EVERY: Duration = Duration::from_secs(1);
/// More than the buffer of a room's or a Brain's subscription.
const SHOUTS: u64 = 1_500;

/// One visit in the name of `shield`, to one of `rooms`. `draw` is this visit's alone.
pub(super) async fn visit<S: Spine, C: WallClock>(
    spine: S,
    clock: C,
    rooms: &[RoomKey],
    shield: String,
    mut draw: Draw,
) {
    if spine.link().wait_for(spine::Link::is_up).await.is_err() {
        return;
    }
    let tongue = Tongue { spine, clock, room: draw.pick(rooms).clone(), shield };
    tongue.astray(&mut draw).await;
    tongue.belated(&mut draw).await;
    let speaks = async {
        tongue.shout().await;
        if draw.chance(40) {
            tongue.flood(&mut draw).await;
        }
    };
    futures_util::future::join(tongue.pose(), speaks).await;
}

struct Tongue<S, C> {
    spine: S,
    clock: C,
    room: RoomKey,
    shield: String,
}

/// A command of somebody who knows nothing of it.
#[derive(Clone)]
struct Forged {
    user: String,
    id: MessageId,
    command: v1::Command,
    body: Bytes,
}

impl<S: Spine, C: WallClock> Tongue<S, C> {
    fn forge(&self, draw: &mut Draw, user: &str, timestamp: i64) -> Forged {
        let (mut id, number) = ([0; 16], draw.u64());
        draw.fill_at(number, &mut id);
        let command = arq::client::say("text", format!("{NAME} {user}"));
        let envelope = v1::Envelope {
            room_id: self.room.room.as_str().to_owned(),
            timestamp,
            message_id: Bytes::copy_from_slice(&id),
            ack_requested: true,
            payload: Some(v1::envelope::Payload::Cmd(command.clone())),
            sender: Some(v1::Sender { user: user.to_owned(), rights: u32::from(u8::MAX), ..v1::Sender::default() }),
            ..v1::Envelope::default()
        };
        Forged { user: user.to_owned(), id: MessageId(id), command, body: envelope.encode_to_vec().into() }
    }

    /// Asks for answers where no Shield reads them. Nothing of it may be applied, and nothing stored by the answer.
    async fn astray(&self, draw: &mut Draw) {
        let (tenant, input) = (&self.room.tenant, Subject::input(&self.room));
        let open = Open { room: self.room.room.as_str().to_owned(), create: true, ..Open::default() };
        let open: Bytes = open.encode_to_vec().into();
        let replies = [
            Subject::log(&self.room).as_str().to_owned(),
            Subject::snapshot(&self.room).as_str().to_owned(),
            Subject::output(&self.room).as_str().to_owned(),
            "$JS.API.STREAM.DELETE.LOG_0".to_owned(),
            "sys.n.hb.brain.brain-1".to_owned(),
            format!("_INBOX.b.{}.1", self.shield),
            format!("_INBOX.s.{}.1.2.3", self.shield),
        ];
        for reply in replies {
            let Ok(reply) = Subject::from_wire(reply.into()) else { continue };
            let forged = self.forge(draw, "u1", self.clock.now_ms());
            let _ = self.spine.publish(&input, Some(&reply), forged.body).await;
            let _ = self.spine.publish(&Subject::open(tenant), Some(&reply), open.clone()).await;
        }
        let forged = self.forge(draw, "u1", self.clock.now_ms());
        let _ = self.spine.publish(&input, None, forged.body).await;
    }

    /// A command that is older than every room's memory, which a Shield would not have let pass.
    async fn belated(&self, draw: &mut Draw) {
        let ago = i64::try_from(draw.between(130_000, 900_000)).unwrap_or(i64::MAX);
        let forged = self.forge(draw, "u1", self.clock.now_ms() - ago);
        let Some(ack) = self.answer(&forged, |code| !Repeat::allows(code)).await else { return };
        trace::emit(|| Record::Bad {
            c: NAME.to_owned(),
            m: forged.id.to_string(),
            what: "a command older than any window".to_owned(),
            codes: vec![Code::OutcomeExpired.as_u16()],
        });
        told(NAME, String::new(), &forged, &ack);
    }

    /// More, at once, than a subscription holds.
    async fn shout(&self) {
        let input = Subject::input(&self.room);
        let Ok(reply) = Subject::from_wire(format!("_INBOX.s.{}.shout", self.shield).into()) else { return };
        for _ in 0..SHOUTS {
            let _ = self.spine.publish(&input, Some(&reply), Bytes::from_static(b"x")).await;
        }
    }

    /// Calls itself a Brain, in the one place where it may say that it lives, and speaks of the room as its owner: to the
    /// Shields, which must not look for a head that nobody has stored, nor send readers away for it.
    async fn pose(&self) {
        let input = Subject::input(&self.room);
        let Some(head) = self.head(&input).await else { return };
        let Ok(subject) = Subject::from_wire(format!("sys.n.hb.shield.{}", self.shield).into()) else { return };
        for n in 1..=POSES {
            let (room, pos) = (room_hash(&self.room), head.pos.saturating_add(100_000));
            let tail = Tail { room, epoch: head.epoch, term: head.term, pos, diff_n: 0 };
            let beat = Heartbeat {
                node: "brain-1".to_owned(),
                kind: KIND_BRAIN,
                incarnation: 7,
                n,
                tails: vec![tail],
                ..Heartbeat::default()
            };
            let _ = self.spine.publish(&subject, None, beat.encode_to_vec().into()).await;
            tokio::time::sleep(POSE_EVERY).await;
        }
    }

    /// Where the room stands, as its owner tells a Shield that asks for a subscriber.
    async fn head(&self, input: &Subject) -> Option<SyncReply> {
        let ask = system_signal::Ask::Sync(v1::Sync { leave_only: true, ..v1::Sync::default() });
        let envelope = v1::Envelope {
            room_id: self.room.room.as_str().to_owned(),
            timestamp: self.clock.now_ms(),
            message_id: Bytes::from_static(&[1; 16]),
            payload: Some(v1::envelope::Payload::Signal(v1::SystemSignal {
                ask: Some(ask),
                ..v1::SystemSignal::default()
            })),
            sender: Some(v1::Sender { user: "u1".to_owned(), rights: u32::from(u8::MAX), ..v1::Sender::default() }),
            ..v1::Envelope::default()
        };
        let message = self.spine.request(input, envelope.encode_to_vec().into(), ANSWER).await.ok()?;
        SyncReply::decode(message.body).ok().filter(|reply| reply.code == 0)
    }

    /// Commands of one user after another, until the room has no place left to remember one more.
    async fn flood(&self, draw: &mut Draw) {
        let mut users = (0..USERS_MAX).map(|n| format!("{n:0>USER_BYTES$}"));
        let timestamp = self.clock.now_ms() - AGE_MS;
        let mut late = Vec::new();
        while late.is_empty() {
            let wave: Vec<Forged> = users.by_ref().take(WAVE).map(|user| self.forge(draw, &user, timestamp)).collect();
            if wave.is_empty() {
                return;
            }
            let told = futures_util::future::join_all(wave.iter().map(|forged| self.say(forged))).await;
            late = wave.into_iter().zip(told).filter(|(_, ended)| !ended).map(|(forged, _)| forged).collect();
        }
        // By then they are too old to judge, and are told so: the outcome is final.
        tokio::time::sleep(Duration::from_secs(10)).await;
        futures_util::future::join_all(late.iter().map(|forged| self.say(forged))).await;
    }

    /// Says it in its user's name and records that. True if the answer is final.
    async fn say(&self, forged: &Forged) -> bool {
        let tenant = self.room.tenant.as_str();
        let c = format!("{NAME}-{tenant}-{}", forged.user.trim_start_matches('0'));
        trace::emit(|| Record::Open {
            c: c.clone(),
            conn: String::new(),
            shield: self.shield.clone(),
            tenant: tenant.to_owned(),
            user: forged.user.clone(),
            exp: 0,
        });
        trace::emit(|| Record::Send {
            c: c.clone(),
            m: forged.id.to_string(),
            room: self.room.to_string(),
            h: Hash16::of(&forged.command.encode_to_vec()),
            op: command_json(&forged.command),
        });
        // Whatever else was answered on the way: only what is final, or a full window, is told.
        let ends = |code: u32| !Repeat::allows(code) || code == u32::from(Code::Busy.as_u16());
        let Some(ack) = self.answer(forged, ends).await else { return false };
        told(&c, self.room.to_string(), forged, &ack);
        ack.code == 0 || !Repeat::allows(ack.code)
    }

    /// Sends it until it is answered with a code like that.
    async fn answer(&self, forged: &Forged, ends: impl Fn(u32) -> bool) -> Option<v1::Ack> {
        for _ in 0..SENDS {
            if let Ok(message) = self.spine.request(&Subject::input(&self.room), forged.body.clone(), ANSWER).await
                && let Ok(ack) = v1::Ack::decode(message.body)
                && ends(ack.code)
            {
                return Some(ack);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        None
    }
}

fn told(c: &str, room: String, forged: &Forged, ack: &v1::Ack) {
    trace::emit(|| Record::Ack {
        c: c.to_owned(),
        m: forged.id.to_string(),
        room,
        epoch: ack.epoch,
        seq: ack.seq,
        code: ack.code,
        dup: ack.duplicate,
        ver: ack.ver,
    });
}
