//! What one connection's frames mean: from the WebSocket read to the Spine's publish, and the SUB family. One session a
//! connection; it owns the gate, the subscriptions and the count of protocol errors.

mod budget;
mod get;
mod subs;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use proto::frame::{self, ClientFrame};
use proto::json::{AuthResult, PresenceResult, PubRequest, SubFamily, TextOp, render};
use proto::v1::{self, envelope::Payload};
use proto::{Code, MessageId};
use spine::Spine;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use voltron_core::{Ids, WallClock, mutant};

use crate::auth::{Identity, Refusal};
use crate::bucket::Bucket;
use crate::gate::{Denied, Gate, Moment};
use crate::meters::CodeLabel;
use crate::outbox::{Frame, Outbox};
use crate::replies::{Form, Pending};
use crate::rooms::Dialect;
use crate::shared::Shared;
use budget::Budget;
use get::Gets;
use subs::Subscriptions;

/// Protocol errors after which a connection is closed.
const STRIKES_MAX: u32 = 3;

/// What the headers of a message's fragments may take, in bytes. More is a flood of empty fragments.
const FRAGMENTS_MAX: u64 = 64 << 10;

/// How long before the end of a token the client is asked for a new one.
const REFRESH: Duration = Duration::from_secs(30);

pub(crate) struct Session<S, C, I> {
    shared: Arc<Shared<S, C, I>>,
    outbox: Arc<Outbox>,
    gate: Gate,
    subs: Subscriptions,
    strikes: u32,
    budget: Budget,
    gets: Gets,
    /// HELLO and notices as JSON with an `op`: the client speaks no subprotocol.
    text_only: bool,
    asked_refresh: bool,
    renewed: bool,
    /// When the last message came that was no ping and no pong.
    spoke: Instant,
}

impl<S: Spine, C: WallClock, I: Ids> Session<S, C, I> {
    pub(crate) fn new(
        shared: Arc<Shared<S, C, I>>,
        outbox: Arc<Outbox>,
        conn: String,
        client: Bytes,
        identity: Identity,
        text_only: bool,
    ) -> Self {
        let (limits, now) = (shared.limits.load_full(), Instant::now());
        let bucket = Bucket::new(limits.pub_per_s, limits.pub_burst, now);
        let budget = Budget::new(limits, now);
        let gate = Gate::new(conn, client, identity, bucket);
        Self {
            shared,
            outbox,
            gate,
            subs: Subscriptions::default(),
            strikes: 0,
            budget,
            gets: Gets::default(),
            text_only,
            asked_refresh: false,
            renewed: false,
            spoke: now,
        }
    }

    /// The connection's name.
    pub(crate) fn conn(&self) -> &str {
        &self.gate.conn
    }

    /// One WebSocket message. Errors end up as ERR or ACK in the outbox; what must end the connection does so there, too.
    pub(crate) async fn on_message(&mut self, message: &Message) {
        self.shared.meters.ingress.inc();
        self.retune();
        if message.len() > self.budget.limits().message_bytes as usize {
            return self.too_big();
        }
        if matches!(message, Message::Binary(_) | Message::Text(_)) {
            self.spoke = Instant::now();
        }
        match message {
            Message::Binary(bytes) => match ClientFrame::binary(bytes) {
                Ok(ClientFrame::Pub(envelope)) => self.on_pub(envelope, Form::Binary).await,
                Ok(other) => self.on_frame(other, true).await,
                Err(error) => self.strike(error.code, error.detail),
            },
            Message::Text(text) => match ClientFrame::text(text.as_str()) {
                Ok(frame) => self.on_frame(frame, false).await,
                Err(error) => self.strike(error.code, error.detail),
            },
            // Answered by the WebSocket layer, which keeps the last ping alone.
            Message::Ping(_) | Message::Pong(_) => drop(self.hurried()),
            Message::Close(_) | Message::Frame(_) => {}
        }
    }

    async fn on_frame(&mut self, frame: ClientFrame<'_>, binary: bool) {
        let dialect = Dialect { text: false, binary_frames: binary, json_events: false };
        match frame {
            ClientFrame::Pub(envelope) => self.on_pub(envelope, Form::Binary).await,
            ClientFrame::Sub(body) => match proto::json::sub_family(body) {
                Ok(SubFamily::Sub(request)) => self.on_sub(request, dialect),
                Ok(SubFamily::Get(request)) => self.on_get(request.id, &request.room, dialect),
                Ok(SubFamily::Presence(request)) => self.on_presence(request.id, dialect),
                Err(error) => self.strike(error.code, &error.text),
            },
            ClientFrame::Unsub(body) => match proto::json::parse::<proto::json::UnsubRequest>(body) {
                Ok(request) => self.on_unsub(&request.room, dialect),
                Err(error) => self.strike(error.code, &error.text),
            },
            ClientFrame::Auth(body) => match proto::json::parse::<proto::json::AuthRequest>(body) {
                Ok(request) => self.on_auth(&request.token, dialect),
                Err(error) => self.strike(error.code, &error.text),
            },
            ClientFrame::Heartbeat if self.hurried().is_some() => {}
            ClientFrame::Heartbeat => {
                self.outbox.push(Frame::Binary(Bytes::from_static(&[frame::HB])));
            }
            ClientFrame::Text(text) => self.on_text(text).await,
        }
    }

    async fn on_text(&mut self, text: &str) {
        if !self.shared.config.server.text_dialect {
            return self.strike(Code::TextDialectOff, Code::TextDialectOff.message());
        }
        let dialect = Dialect { text: true, binary_frames: false, json_events: true };
        match proto::json::text_op(text) {
            Ok(TextOp::Sub(request)) => self.on_sub(request, dialect),
            Ok(TextOp::Unsub(request)) => self.on_unsub(&request.room, dialect),
            Ok(TextOp::Get(request)) => self.on_get(request.id, &request.room, dialect),
            Ok(TextOp::Presence(request)) => self.on_presence(request.id, dialect),
            Ok(TextOp::Auth(request)) => self.on_auth(&request.token, dialect),
            Ok(TextOp::Pub(request)) => self.on_text_pub(request).await,
            // People type this dialect: no strike, but the budget.
            Err(_) if self.hurried().is_some() => {}
            Err(error) => {
                self.shared.meters.refused.get_or_create(&CodeLabel { code: error.code.as_u16().into() }).inc();
                let mut answer = render::err(error.code, &error.text);
                // So that the client can tell which of its requests it was.
                if let Some(id) = proto::json::id(text) {
                    answer["id"] = id.into();
                }
                self.outbox.push(Frame::Text(answer.to_string().into()));
            }
        }
    }

    // === PUB ===

    /// The hot path: nothing is allocated for a command that passes, but now and then a chunk of the arena.
    async fn on_pub(&mut self, envelope: &[u8], form: Form) {
        let now = Instant::now();
        let moment = Moment {
            now_ms: self.shared.clock.now_ms(),
            now,
            overseer: &*self.shared.overseer,
            meters: &self.shared.meters,
        };
        let passed = match self.gate.pass(envelope, &moment) {
            Ok(Some(passed)) => passed,
            Ok(None) => return,
            Err(denied) => return self.denied(denied, form),
        };
        self.shared.absent.forget(&passed.route.key);
        let pending = Pending {
            order: self.shared.replies.next_order(),
            outbox: self.outbox.clone(),
            route: passed.route,
            message_id: passed.message_id,
            ack_requested: passed.ack_requested,
            form,
            create: passed.rights.has(proto::Rights::CREATE),
            body: passed.body,
            since: now,
        };
        if mutant!(CommandInOwnTask) {
            let shared = self.shared.clone();
            voltron_core::tasks::spawn(async move { shared.replies.submit(pending).await });
            return;
        }
        self.shared.replies.submit(pending).await;
    }

    fn denied(&mut self, denied: Denied, form: Form) {
        self.shared.meters.refused.get_or_create(&CodeLabel { code: denied.code.as_u16().into() }).inc();
        if denied.code == Code::RateLimited {
            self.flooded();
            if denied.message_id.is_none() {
                return;
            }
        }
        let ack = |id: MessageId| v1::Ack {
            message_id: Bytes::copy_from_slice(&id.0),
            code: denied.code.as_u16().into(),
            message: denied.text.to_string(),
            retry_after_ms: denied.retry_after_ms,
            ..v1::Ack::default()
        };
        let out = match (denied.message_id, form) {
            (Some(id), Form::Binary) => Frame::Binary(frame::ack(&ack(id))),
            (Some(id), Form::Text { id: request }) => Frame::Text(render::ack(&ack(id), request).to_string().into()),
            (None, _) => return self.strike(denied.code, &denied.text),
        };
        self.outbox.push(out);
    }

    /// `say` in the text dialect: the envelope is built here, unsigned, and then judged like any other.
    async fn on_text_pub(&mut self, request: PubRequest) {
        let mut id = [0; 16];
        self.shared.ids.fill("text-message", &mut id);
        let say = v1::Say { data: request.data.into_bytes().into(), r#type: request.kind.unwrap_or_default() };
        let command =
            v1::Command { ephemeral: request.ephemeral, op: Some(v1::command::Op::Say(say)), ..v1::Command::default() };
        let envelope = v1::Envelope {
            room_id: request.room,
            timestamp: self.shared.clock.now_ms(),
            message_id: Bytes::copy_from_slice(&id),
            ack_requested: request.ack,
            payload: Some(Payload::Cmd(command)),
            ..v1::Envelope::default()
        };
        let envelope = envelope.encode_to_vec();
        self.on_pub(&envelope, Form::Text { id: request.id }).await;
    }

    /// One more frame over a budget; too many of them end the connection.
    fn flooded(&mut self) {
        if !self.budget.bear(Instant::now()) {
            self.outbox.end(Code::CloseRateLimited, Code::CloseRateLimited.message(), true);
        }
    }

    /// Takes one frame that is no PUB out of the budget; if there is none left, says in how many ms there will be.
    fn hurried(&mut self) -> Option<u32> {
        let wait = self.budget.take(Instant::now()).err()?;
        self.shared.meters.refused.get_or_create(&CodeLabel { code: Code::RateLimited.as_u16().into() }).inc();
        self.flooded();
        Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    // === get, presence, AUTH ===

    fn on_presence(&mut self, id: Option<u64>, dialect: Dialect) {
        let hurried = self.hurried().is_some();
        let code = if hurried { Code::RateLimited } else { Code::UnsupportedOperation };
        // Without an id there is no result to match; an error says it all the same.
        let Some(id) = id else {
            if !hurried {
                self.err_in(code, code.message(), self.text_only || dialect.text);
            }
            return;
        };
        let result = PresenceResult {
            op: "presence".into(),
            id,
            code: Some(code.as_u16()),
            message: Some(code.message().into()),
            ..PresenceResult::default()
        };
        self.outbox.push(dialect.frame(frame::SUB, &result, &result));
    }

    fn on_auth(&mut self, token: &str, dialect: Dialect) {
        let now_ms = self.shared.clock.now_ms();
        let mut stranger = false;
        let verified = match self.hurried() {
            None => self.shared.keys.load().verify(token, now_ms),
            Some(_) => Err(Refusal::new(Code::RateLimited, Code::RateLimited.message())),
        };
        let result = match verified {
            Ok(identity) if !identity.same_user(&self.gate.identity) => {
                let text = "AUTH refreshes the token of the same user and tenant only";
                stranger = true;
                AuthResult {
                    code: Some(Code::TokenInvalid.as_u16()),
                    message: Some(text.into()),
                    ..AuthResult::default()
                }
            }
            // Else a token without a key would lift the duty to sign. The old one goes on to hold.
            Ok(identity) if !identity.same_key(&self.gate.identity) => AuthResult {
                code: Some(Code::TokenInvalid.as_u16()),
                message: Some("the new token names another signing key: connect anew with it".into()),
                ..AuthResult::default()
            },
            Ok(identity) => {
                let exp = Some(identity.exp_s);
                self.gate.renew(identity);
                self.asked_refresh = false;
                self.renewed = true;
                self.recheck_rooms(dialect);
                AuthResult { ok: true, exp, ..AuthResult::default() }
            }
            // The old token goes on to hold.
            Err(refusal) => {
                AuthResult { code: Some(refusal.code.as_u16()), message: Some(refusal.text), ..AuthResult::default() }
            }
        };
        let tagged = AuthResult { op: Some("auth".into()), ..result.clone() };
        self.outbox.push(dialect.frame(frame::AUTH, &result, &tagged));
        if stranger {
            self.outbox.end(Code::CloseTokenInvalid, "the new token names another user", true);
        }
    }

    /// True once after a new token: its end may come before the old one's.
    pub(crate) fn take_renewed(&mut self) -> bool {
        std::mem::take(&mut self.renewed)
    }

    /// The token's end: asks for a new one in time, ends the connection when the grace is over. Returns when to look again.
    pub(crate) fn check_token(&mut self, now: Instant) -> Instant {
        let now_ms = self.shared.clock.now_ms();
        let left_ms = self.gate.identity.exp_s.saturating_mul(1000).saturating_sub(now_ms);
        let grace_ms = i64::try_from(self.shared.config.auth.grace_s.saturating_mul(1000)).unwrap_or(i64::MAX);
        if mutant!(TokenCheckedOnce) {
            return now + Duration::from_secs(3600);
        }
        if left_ms.saturating_add(grace_ms) <= 0 {
            self.err(Code::TokenExpired, Code::TokenExpired.message());
            self.outbox.end(Code::CloseTokenExpired, Code::CloseTokenExpired.message(), true);
            return now + Duration::from_secs(3600);
        }
        let refresh_ms = i64::try_from(REFRESH.as_millis()).unwrap_or(i64::MAX);
        if left_ms <= refresh_ms && !self.asked_refresh {
            self.asked_refresh = true;
            let notice =
                AuthResult { refresh: Some(true), exp: Some(self.gate.identity.exp_s), ..AuthResult::default() };
            let tagged = AuthResult { op: Some("auth".into()), ..notice.clone() };
            let dialect = Dialect { text: self.text_only, binary_frames: false, json_events: false };
            self.outbox.push(dialect.frame(frame::AUTH, &notice, &tagged));
        }
        let next_ms = if left_ms > refresh_ms { left_ms - refresh_ms } else { left_ms.saturating_add(grace_ms) };
        // The wall clock may step meanwhile, so look once a minute at least.
        now + Duration::from_millis(u64::try_from(next_ms).unwrap_or(0).clamp(10, 60_000))
    }

    // === faults ===

    fn err(&self, code: Code, text: &str) {
        self.err_in(code, text, self.text_only);
    }

    fn err_in(&self, code: Code, text: &str, as_text: bool) {
        self.shared.meters.refused.get_or_create(&CodeLabel { code: code.as_u16().into() }).inc();
        let out = if as_text {
            Frame::Text(render::err(code, text).to_string().into())
        } else {
            Frame::Binary(frame::err(code, text))
        };
        self.outbox.push(out);
    }

    /// A protocol error: ERR, and after three of them the end.
    fn strike(&mut self, code: Code, text: &str) {
        self.err(code, text);
        self.strikes += 1;
        if self.strikes >= STRIKES_MAX {
            self.outbox.end(Code::CloseProtocolError, Code::CloseProtocolError.message(), true);
        }
    }

    /// Bytes that one message may take on the wire, the headers of its fragments included.
    pub(crate) fn wire_bytes_max(&self) -> u64 {
        u64::from(self.shared.limits.load().message_bytes) + FRAGMENTS_MAX
    }

    /// A message is longer than the limits allow: ERR and the end.
    pub(crate) fn too_big(&self) {
        let code = Code::CloseMessageTooBig;
        self.err(Code::MessageTooBig, code.message());
        self.outbox.end(code, code.message(), true);
    }

    /// Called at every ping: gives back what a connection does not need that has said nothing for `quiet`.
    pub(crate) fn idle(&mut self, now: Instant, quiet: Duration) {
        if self.spoke + quiet <= now {
            self.gate.idle();
            self.outbox.shrink();
        }
    }

    fn retune(&mut self) {
        let limits = self.shared.limits.load();
        if self.budget.retune(&limits) {
            self.gate.retune(limits.pub_per_s, limits.pub_burst);
        }
    }
}
