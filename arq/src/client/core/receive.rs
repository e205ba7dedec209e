//! What each frame from the server means.

use std::time::Duration;

use prost::Message as _;
use proto::Code;
use proto::error::Retry;
use proto::json::{AuthResult, GetResult, SubResult, Unsubbed, render};
use serde::Deserialize;

use super::{
    Acked, Bytes, ClientEvent, Core, Delivered, Hash16, Hello, Ids, Instant, MessageId, Record, RoomId, ServerFrame,
    Standing, Step, WallClock, rooms, state_json, trace, v1,
};

/// The pause before a refused SUB is asked again; it doubles up to [`ASK_MAX`].
const ASK_MIN: Duration = Duration::from_millis(250);
/// The longest such pause.
const ASK_MAX: Duration = Duration::from_secs(1);

impl<C: WallClock, I: Ids> Core<C, I> {
    /// A binary message from the server. Whatever it holds, the core stays sound; what it does not understand becomes
    /// [`ClientEvent::Unknown`].
    pub fn binary(&mut self, message: &Bytes, now: Instant) {
        match ServerFrame::binary(message) {
            Ok(frame) => self.frame(frame, message, now),
            Err(error) => self.unknown(message, error.detail),
        }
    }

    /// A text message from the server.
    pub fn text(&mut self, message: &str, now: Instant) {
        match ServerFrame::text(message) {
            Ok(frame) => self.frame(frame, message.as_bytes(), now),
            Err(error) => self.unknown(message.as_bytes(), error.detail),
        }
    }

    fn frame(&mut self, frame: ServerFrame<'_>, message: &[u8], now: Instant) {
        match frame {
            ServerFrame::Hello(body) => match serde_json::from_str::<Hello>(body) {
                Ok(hello) => self.greeted(hello, now),
                Err(_) => self.unknown(message, "HELLO without one of its keys"),
            },
            ServerFrame::Pub(body) => self.delivered(body, message),
            ServerFrame::Ack(ack) => self.acked(ack, message, now),
            ServerFrame::Sub(body) => self.sub_family(body, message, now),
            ServerFrame::Unsub(body) => match serde_json::from_str::<Unsubbed>(body) {
                Ok(unsub) => self.unsubbed(unsub, message, now),
                Err(_) => self.unknown(message, "UNSUB without a room"),
            },
            ServerFrame::Auth(body) => match serde_json::from_str::<AuthResult>(body) {
                Ok(result) => self.events.push_back(ClientEvent::Auth(result)),
                Err(_) => self.unknown(message, "an AUTH result that is none"),
            },
            ServerFrame::Err(code, text) => {
                self.events.push_back(ClientEvent::Err { code, text: text.to_owned() });
            }
            ServerFrame::Heartbeat => {}
            ServerFrame::Text(_) => self.unknown(message, "the text dialect was not asked for"),
        }
    }

    fn greeted(&mut self, hello: Hello, now: Instant) {
        trace::emit(|| Record::Open {
            c: self.options.name.clone(),
            conn: hello.conn.clone(),
            shield: hello.node.clone(),
            tenant: hello.tenant.clone(),
            user: hello.user.clone(),
            exp: hello.exp,
        });
        let hello = Box::new(hello);
        self.events.push_back(ClientEvent::Hello(hello.clone()));
        self.hello = Some(hello);
        self.greeted = Some(now);
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for room in rooms {
            self.ask(&room);
        }
        self.send_ready(now);
    }

    fn acked(&mut self, ack: v1::Ack, message: &[u8], now: Instant) {
        let Some(message_id) = MessageId::from_slice(&ack.message_id) else {
            return self.unknown(message, "an ACK whose message_id is not 16 bytes");
        };
        let retry_after = Duration::from_millis(ack.retry_after_ms.into());
        let settled = self.commands.answered(message_id, ack.code, retry_after, now, self.options.repeat);
        trace::emit(|| Record::Ack {
            c: self.options.name.clone(),
            m: message_id.to_string(),
            room: settled.room.as_ref().map(|room| self.full_name(room)).unwrap_or_default(),
            epoch: ack.epoch,
            seq: ack.seq,
            code: ack.code,
            dup: ack.duplicate,
            ver: ack.ver,
        });
        self.events.push_back(ClientEvent::Ack(Acked {
            message_id,
            room: settled.room,
            code: ack.code,
            epoch: ack.epoch,
            seq: ack.seq,
            duplicate: ack.duplicate,
            message: ack.message,
            retry_after_ms: ack.retry_after_ms,
            ver: ack.ver,
            repeating: settled.repeating,
        }));
    }

    fn delivered(&mut self, body: &[u8], message: &[u8]) {
        let Ok(envelope) = v1::Envelope::decode(body) else {
            return self.unknown(message, "a PUB that is no Envelope");
        };
        let event = match &envelope.payload {
            Some(v1::envelope::Payload::Event(event)) => event,
            Some(v1::envelope::Payload::Signal(signal)) => {
                return self.events.push_back(ClientEvent::Signal(signal.clone()));
            }
            _ => return self.unknown(message, "a PUB with neither event nor signal"),
        };
        let Ok(room) = RoomId::parse(&envelope.room_id) else {
            return self.unknown(message, "an event of a room whose name is no room id");
        };
        let (epoch, seq, prev, term) = (event.epoch, event.seq, event.prev, event.term);
        match event.body {
            Some(v1::event::Body::Snapshot(ref snapshot)) => {
                if let Some(wish) = self.rooms.get_mut(&room) {
                    if trace::listening() {
                        wish.show(snapshot);
                    }
                    if snapshot.last {
                        wish.jump(epoch, seq, prev);
                        let shown = wish.shown();
                        trace::emit(|| Record::Snap {
                            c: self.options.name.clone(),
                            room: self.full_name(&room),
                            epoch,
                            seq,
                            state: Some(state_json(&render::snapshot(&shown))),
                        });
                    }
                }
            }
            Some(v1::event::Body::Members(_) | v1::event::Body::Diff(_)) => {}
            _ if seq > 0 => self.stored(&room, (epoch, term), seq, prev, body),
            // Not stored: the command's id tells it from all others.
            _ => trace::emit(|| Record::Recv {
                c: self.options.name.clone(),
                room: self.full_name(&room),
                epoch,
                seq,
                h: Hash16::of(body),
                term,
                m: MessageId::from_slice(&envelope.message_id).map(|id| id.to_string()).unwrap_or_default(),
            }),
        }
        let bytes = Bytes::copy_from_slice(body);
        let envelope = Box::new(envelope);
        self.events.push_back(ClientEvent::Event(Delivered { room, epoch, seq, bytes, envelope }));
    }

    /// An event with a place in the log: the trace first, then the cursor.
    fn stored(&mut self, room: &RoomId, (epoch, term): (u64, u64), seq: u64, prev: u64, body: &[u8]) {
        trace::emit(|| Record::Recv {
            c: self.options.name.clone(),
            room: self.full_name(room),
            epoch,
            seq,
            h: Hash16::of(body),
            term,
            m: String::new(),
        });
        let Some(wish) = self.rooms.get_mut(room) else { return };
        if let Step::Gap { from, to } = wish.step(epoch, seq, prev) {
            trace::emit(|| Record::Gap { c: self.options.name.clone(), room: self.full_name(room), epoch, from, to });
            self.events.push_back(ClientEvent::Gap { room: room.clone(), epoch, from, to });
        }
    }

    fn sub_family(&mut self, body: &str, message: &[u8], now: Instant) {
        #[derive(Deserialize)]
        struct Tag {
            op: Option<String>,
        }
        let op = serde_json::from_str::<Tag>(body).ok().and_then(|tag| tag.op);
        match op.as_deref() {
            None | Some("sub") => match serde_json::from_str::<SubResult>(body) {
                Ok(result) => self.sub_result(result, message, now),
                Err(_) => self.unknown(message, "a SUB result without one of its keys"),
            },
            Some("get") => match serde_json::from_str::<GetResult>(body) {
                Ok(result) => self.got(result, message),
                Err(_) => self.unknown(message, "a get result without one of its keys"),
            },
            Some(_) => self.unknown(message, "an answer to what was not asked"),
        }
    }

    fn sub_result(&mut self, result: SubResult, message: &[u8], now: Instant) {
        let Some((room, wish)) = rooms::asked(&mut self.rooms, result.id) else {
            return self.late_sub_result(&result);
        };
        let Standing::Asked { since, .. } = wish.standing else { return };
        if result.ok {
            let (Some(epoch), Some(seq)) = (result.epoch, result.seq) else {
                return self.unknown(message, "a SUB result without epoch and seq");
            };
            let (recovered, replay) = (result.recovered.unwrap_or(false), result.replay.unwrap_or(0));
            wish.subscribed(since, epoch, seq, replay, recovered);
            trace::emit(|| Record::Sub {
                c: self.options.name.clone(),
                room: self.full_name(&room),
                since: since.map(|since| (since.epoch, since.seq)),
                epoch,
                seq,
                recovered,
                replay: u32::try_from(replay).unwrap_or(u32::MAX),
            });
            self.events.push_back(ClientEvent::Subscribed { room, epoch, seq, recovered, replay });
            return;
        }
        let code = u32::from(result.code.unwrap_or(0));
        let repeating = wish.options.persist && may_change(code);
        if repeating {
            let pause = ASK_MIN.saturating_mul(1 << wish.refusals.min(8)).min(ASK_MAX);
            let asked = Duration::from_millis(result.retry_after_ms.unwrap_or(0).into());
            wish.refusals += 1;
            wish.absent = code == u32::from(Code::RoomAbsent.as_u16());
            wish.standing = Standing::Later(now + pause.max(asked));
        } else {
            self.rooms.remove(&room);
        }
        trace::emit(|| Record::Unsub { c: self.options.name.clone(), room: self.full_name(&room), code });
        let message = result.message.unwrap_or_default();
        self.events.push_back(ClientEvent::SubRefused { room, code, message, repeating });
    }

    /// The answer to a SUB of a room that was left, or asked for again, before it came.
    fn late_sub_result(&mut self, result: &SubResult) {
        let Some((room, wish, since)) = rooms::overtaken(&mut self.rooms, result.id) else {
            if result.id > self.next_id {
                self.stray(result.id, result.code);
            }
            return;
        };
        let (true, Some(epoch), Some(seq)) = (result.ok, result.epoch, result.seq) else { return };
        // Its events follow until the server reads what overtook it.
        let (recovered, replay) = (result.recovered.unwrap_or(false), result.replay.unwrap_or(0));
        wish.passes(since, epoch, seq, replay, recovered);
        trace::emit(|| Record::Sub {
            c: self.options.name.clone(),
            room: self.full_name(&room),
            since: since.map(|since| (since.epoch, since.seq)),
            epoch,
            seq,
            recovered,
            replay: u32::try_from(replay).unwrap_or(u32::MAX),
        });
    }

    fn unsubbed(&mut self, unsub: Unsubbed, message: &[u8], now: Instant) {
        let Ok(room) = RoomId::parse(&unsub.room) else {
            return self.unknown(message, "an UNSUB of a room whose name is no room id");
        };
        let Some(wish) = self.rooms.get_mut(&room) else { return };
        // An answer to an UNSUB that a new SUB of the same room has overtaken ends nothing: also the answer that there was
        // nothing to end.
        let asked_for = wish.standing == Standing::Leaving;
        let answers = unsub.code.is_none_or(|code| code == Code::NotSubscribed.as_u16());
        if answers && (!asked_for || wish.owes_answers()) {
            return;
        }
        let repeating = !asked_for && wish.options.persist && unsub.resub.unwrap_or(false);
        if repeating {
            wish.stands(Standing::Later(now + ASK_MIN));
        } else {
            self.rooms.remove(&room);
        }
        let code = u32::from(unsub.code.unwrap_or(0));
        self.left(&room, code, unsub.message.unwrap_or_default(), repeating);
    }

    fn got(&mut self, result: GetResult, message: &[u8]) {
        let Some((room, earlier)) = self.gets.remove(&result.id) else {
            if result.id > self.next_id {
                return self.stray(result.id, result.code);
            }
            return self.unknown(message, "an answer to a get that was not asked");
        };
        let last = result.is_last();
        let result = match earlier {
            Some(mut whole) if result.ok => {
                whole.join(result);
                whole
            }
            _ => result,
        };
        if !last {
            self.gets.insert(result.id, (room, Some(result)));
            return;
        }
        let (epoch, seq) = (result.epoch.unwrap_or(0), result.seq.unwrap_or(0));
        if result.ok {
            trace::emit(|| Record::Got {
                c: self.options.name.clone(),
                id: result.id,
                room: self.full_name(&room),
                epoch,
                seq,
                h: Hash16::of(result.state.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes()),
                state: result.state.as_ref().map(state_json),
            });
        } else {
            let code = result.code.unwrap_or(0).into();
            trace::emit(|| Record::Denied {
                c: self.options.name.clone(),
                id: result.id,
                room: self.full_name(&room),
                code,
            });
        }
        self.events.push_back(ClientEvent::Got {
            id: result.id,
            room,
            code: result.code.unwrap_or(0).into(),
            epoch,
            seq,
            state: result.state,
            message: result.message.unwrap_or_default(),
        });
    }

    /// Answers a request that has no number of ours.
    fn stray(&mut self, id: u64, code: Option<u16>) {
        self.events.push_back(ClientEvent::Stray { id, code: code.unwrap_or(0).into() });
    }

    fn unknown(&mut self, message: &[u8], why: &'static str) {
        let head = message[..message.len().min(64)].to_vec();
        self.events.push_back(ClientEvent::Unknown { head, why });
    }
}

/// True if asking again later can get another answer.
fn may_change(code: u32) -> bool {
    let known = u16::try_from(code).ok().and_then(Code::from_u16);
    known.is_some_and(|code| matches!(code.retry(), Retry::Later | Retry::Same))
}
