//! The gate: what every command passes before it leaves for the Spine. View, tenant, room, rights, timestamp, rate,
//! signature, policy; then the verified sender is appended to the bytes as they came. One gate a connection, because
//! what it caches (subjects, rights, the parsed key, buffers) is the connection's; in steady state nothing is allocated.
//!
//! The rate limit comes before the signature: refusing costs 30 ns there, and a flood must not buy 33 us a message.

mod planted;
mod redact;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::sender::{self, SenderRef};
use proto::signature::Transcript;
use proto::view::EnvelopeView;
use proto::{Code, MessageId, Rights, RoomId, RoomKey};
use tokio::time::Instant;
use voltron_core::mutant;
use voltron_core::trace::{self, Record};
use voltron_core::{Judged, Overseer, SystemClock, Verdict, WallClock as _};

use crate::arena::Arena;
use crate::auth::Identity;
use crate::bucket::Bucket;
use crate::meters::{Meters, VerdictLabel};
use crate::rooms::Asker;
use crate::route::Route;

/// How old a command may be, in ms.
const PAST_MS: i64 = 120_000;
/// How far ahead of our clock it may be, in ms.
const AHEAD_MS: i64 = 30_000;
/// Rooms whose subjects one connection caches; beyond, the cache starts anew.
const ROOMS_CACHED: usize = 1024;

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) route: Arc<Route>,
    pub(crate) rights: Rights,
    pub(crate) message_id: MessageId,
    pub(crate) ack_requested: bool,
    /// The envelope with its sender.
    pub(crate) body: Bytes,
}

/// Why a command does not leave.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
    /// If it could be read: then the answer is an ACK, else an ERR.
    pub(crate) message_id: Option<MessageId>,
    pub(crate) retry_after_ms: u32,
}

/// What the gate lends out for one connection.
pub(crate) struct Gate {
    pub(crate) conn: String,
    pub(crate) client: Bytes,
    pub(crate) identity: Identity,
    bucket: Bucket,
    rooms: BTreeMap<Box<str>, Room>,
    arena: Arena,
    transcript: Vec<u8>,
    redacted: Vec<u8>,
}

#[derive(Clone)]
struct Room {
    route: Arc<Route>,
    rights: Rights,
}

/// Where and when: what a verdict needs beside the connection.
pub(crate) struct Moment<'a> {
    pub(crate) now_ms: i64,
    pub(crate) now: Instant,
    pub(crate) overseer: &'a dyn Overseer,
    pub(crate) meters: &'a Meters,
}

impl Denied {
    fn new(code: Code, text: impl Into<Cow<'static, str>>, message_id: Option<MessageId>) -> Self {
        Self { code, text: text.into(), message_id, retry_after_ms: 0 }
    }

    fn later(self, wait: Duration) -> Self {
        Self { retry_after_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1), ..self }
    }
}

impl Gate {
    pub(crate) fn new(conn: String, client: Bytes, identity: Identity, bucket: Bucket) -> Self {
        Self {
            conn,
            client,
            identity,
            bucket,
            rooms: BTreeMap::new(),
            arena: Arena::default(),
            transcript: Vec::new(),
            redacted: Vec::new(),
        }
    }

    /// A new token of the same user: rights are resolved anew.
    pub(crate) fn renew(&mut self, identity: Identity) {
        self.identity = identity;
        self.rooms.clear();
    }

    /// In whose name the Shield asks a room's owner.
    pub(crate) fn asker(&self, rights: Rights) -> Asker {
        Asker {
            user: self.identity.user.clone(),
            conn: self.conn.as_str().into(),
            client: self.client.clone(),
            rights,
            meta: self.identity.meta.clone(),
        }
    }

    /// New limits.
    pub(crate) fn retune(&mut self, per_s: u32, burst: u32) {
        self.bucket.retune(per_s, burst);
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn idle(&mut self) {
        self.arena.release();
        self.transcript = Vec::new();
        self.redacted = Vec::new();
    }

    /// The room's subjects and this user's rights there.
    pub(crate) fn room(&mut self, name: &str) -> Result<(Arc<Route>, Rights), Denied> {
        if let Some(room) = self.rooms.get(name) {
            return Ok((room.route.clone(), room.rights));
        }
        if mutant!(RoomIdUnchecked)
            && let Some(route) = planted::unchecked(&self.identity.tenant, name)
        {
            return Ok((route, self.identity.rights(&planted::anywhere())));
        }
        let room = RoomId::parse(name).map_err(|error| Denied::new(Code::BadRoomId, error.to_string(), None))?;
        let rights = self.identity.rights(&room);
        let route = Arc::new(Route::new(RoomKey::new(self.identity.tenant.clone(), room)));
        if self.rooms.len() >= ROOMS_CACHED {
            self.rooms.clear();
        }
        self.rooms.insert(name.into(), Room { route: route.clone(), rights });
        Ok((route, rights))
    }

    /// Judges one envelope as it came from the client. `Ok(None)`: the policy drops it in silence.
    pub(crate) fn pass(&mut self, envelope: &[u8], at: &Moment<'_>) -> Result<Option<Passed>, Denied> {
        let rate = self.bucket.take(at.now);
        let view = EnvelopeView::client(envelope);
        let id = match &view {
            Ok(view) => MessageId::from_slice(view.message_id),
            Err(error) => error.message_id,
        };
        let deny = |code, text: &'static str| Denied::new(code, text, id);
        // Malformed or not: over the rate nothing is said of the message itself.
        if let Err(wait) = rate {
            return Err(deny(Code::RateLimited, Code::RateLimited.message()).later(wait));
        }
        let view = view.map_err(|error| {
            Denied::new(error.code, format!("{}, field {}, byte {}", error.detail, error.field, error.at), id)
        })?;
        let message_id = id.ok_or_else(|| deny(Code::MissingField, "message_id must have 16 bytes"))?;
        if mutant!(TenantFromEnvelope) {
            planted::move_to(&mut self.identity.tenant, view.tenant_id, &mut self.rooms);
        }
        if !view.tenant_id.is_empty() && view.tenant_id != self.identity.tenant.as_str() {
            return Err(deny(Code::WrongTenant, Code::WrongTenant.message()));
        }
        let (route, rights) = self.room(view.room_id).map_err(|denied| Denied { message_id: id, ..denied })?;
        // Which right an operation needs is the Brain's to say; with none at all there is nothing to ask it.
        const ANY: u32 = Rights::PUB.0 | Rights::STATE.0 | Rights::MOD.0 | Rights::OWNER.0;
        if rights.0 & ANY == 0 {
            return Err(deny(Code::PermissionDenied, "the token grants no command in this room"));
        }
        let age_ms = at.now_ms.saturating_sub(view.timestamp);
        if !(-AHEAD_MS..=PAST_MS).contains(&age_ms) {
            return Err(deny(Code::TimestampOutOfWindow, Code::TimestampOutOfWindow.message()));
        }
        let signed = self.check_signature(&view).map_err(|code| deny(code, code.message()))?;

        self.redacted.clear();
        let judged = Judged {
            tenant: &self.identity.tenant,
            user: &self.identity.user,
            room: &route.key.room,
            rights,
            now_ms: at.now_ms,
            signed,
            envelope,
        };
        let started = Instant::now();
        let verdict = at.overseer.judge(&judged, &mut self.redacted);
        at.meters.policy_seconds.observe(started.elapsed().as_secs_f64());
        at.meters.verdicts.get_or_create(&VerdictLabel { verdict: verdict_name(verdict) }).inc();
        trace::emit(|| Record::Verdict {
            conn: self.conn.clone(),
            m: message_id.to_string(),
            v: verdict_name(verdict).into(),
            policy: data_encoding::HEXLOWER.encode(at.overseer.version()),
            fuel: 0,
        });
        match verdict {
            Verdict::Allow | Verdict::Redact => {}
            Verdict::Drop => return Ok(None),
            Verdict::Deny { reason } => {
                return Err(Denied::new(
                    Code::PolicyDenied,
                    format!("the policy refused the message, reason {reason}"),
                    id,
                ));
            }
            Verdict::RateLimited { retry_after_ms } => {
                let wait = Duration::from_millis(u64::from(retry_after_ms));
                return Err(deny(Code::PolicyRateLimited, Code::PolicyRateLimited.message()).later(wait));
            }
            Verdict::Fault => {
                return Err(deny(Code::PolicyFault, Code::PolicyFault.message()).later(Duration::from_secs(1)));
            }
        }
        let redacted = verdict == Verdict::Redact;
        let ack_requested = view.ack_requested;
        let sender = SenderRef {
            user: self.identity.user.as_str(),
            conn: &self.conn,
            client: &self.client,
            rights,
            policy: at.overseer.version(),
            public_key: match &self.identity.key {
                Some(key) if !redacted => &key.bytes,
                _ => &[],
            },
            redacted_by: if redacted { at.overseer.version() } else { &[] },
            received_at: if mutant!(WallClockRead) { SystemClock.now_ms() } else { at.now_ms },
            meta: &self.identity.meta,
        };
        let out = self.arena.begin(envelope.len() + self.redacted.len() + 8 + sender.encoded_len());
        if redacted {
            redact::rebuild(envelope, &self.redacted, out);
        } else {
            out.extend_from_slice(envelope);
        }
        sender::append(out, &sender);
        Ok(Some(Passed { route, rights, message_id, ack_requested, body: self.arena.take() }))
    }

    /// Whether the envelope is signed, rightly so.
    fn check_signature(&mut self, view: &EnvelopeView<'_>) -> Result<bool, Code> {
        match (&self.identity.key, view.signature) {
            (None, []) => Ok(false),
            (None, _) => Err(Code::SignatureInvalid),
            (Some(_), []) => Err(Code::SignatureRequired),
            (Some(key), signature) => {
                let mut transcript = Transcript::of(view, self.identity.tenant.as_str());
                let encoded;
                if mutant!(SignatureOverReencoded) {
                    encoded = planted::encoded(view.payload.bytes);
                    transcript.payload = &encoded;
                }
                match transcript.verify(&key.key, signature, &mut self.transcript) {
                    Ok(()) => Ok(true),
                    Err(_) => Err(Code::SignatureInvalid),
                }
            }
        }
    }
}

pub(crate) const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny { .. } => "deny",
        Verdict::Redact => "redact",
        Verdict::RateLimited { .. } => "rate_limited",
        Verdict::Drop => "drop",
        Verdict::Fault => "fault",
    }
}

#[cfg(test)]
mod tests;
