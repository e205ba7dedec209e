//! What arrives on `in.…`, checked and decoded. The Brain applies the canonical rule again, takes tenant and room from
//! the subject and the user from the `sender` that the Shield appended, and nothing else on trust.

use bytes::Bytes;
use prost::Message as _;
use proto::v1::{self, command::Op, system_signal::Ask};
use proto::view::{CMD, EnvelopeView};
use proto::{Code, MessageId, Rights, UserId};

use crate::chain::fingerprint;
use crate::dedupe::Seen;

/// One of a Shield's requests.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A client's command.
    Command(Box<Command>),
    /// Leave to subscribe, and what is needed to begin.
    Sync(Box<SyncAsk>),
    /// The current state.
    Get(Caller),
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Verified by the Shield.
    pub user: UserId,
    /// Granted for this room.
    pub rights: Rights,
}

/// A client's command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Who sent it.
    pub caller: Caller,
    /// Its idempotency key.
    pub id: MessageId,
    /// The sender's clock, ms.
    pub timestamp: i64,
    /// Kept in the event's envelope.
    pub trace_id: String,
    /// Kept in the event's envelope; empty after a redaction.
    pub signature: Bytes,
    /// Kept in the event.
    pub key: Bytes,
    /// Kept in the event.
    pub redacted_by: Bytes,
    /// The payload as received.
    pub raw: Bytes,
    /// Not to be stored.
    pub ephemeral: bool,
    /// Only at this head.
    pub if_head: Option<v1::Head>,
    /// What to do; `None`: nothing this version knows.
    pub op: Option<Op>,
}

impl Command {
    /// True if it may be the one that is remembered as `seen` under its id: the same timestamp and bytes. What a policy
    /// rewrote is known by its id alone.
    pub fn repeats(&self, seen: &Seen) -> bool {
        seen.fingerprint == 0
            || !self.redacted_by.is_empty()
            || seen.fingerprint == fingerprint(self.timestamp, &self.raw)
    }

    /// True if `other`, of the same user and id, says something else.
    pub fn differs(&self, other: &Self) -> bool {
        let rewritten = !self.redacted_by.is_empty() || !other.redacted_by.is_empty();
        !rewritten && (self.timestamp, &self.raw) != (other.timestamp, &other.raw)
    }
}

/// A SUB's question.
#[derive(Clone, Debug)]
pub struct SyncAsk {
    /// Who subscribes.
    pub caller: Caller,
    /// What is asked.
    pub sync: v1::Sync,
}

/// Why a request was refused before it came to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What to answer.
    pub code: Code,
    /// For people.
    pub detail: &'static str,
    /// If it was read before the fault.
    pub message_id: Option<MessageId>,
}

/// Checks and decodes one message. `body` is shared, not copied, by what the command keeps of it.
pub fn read(body: &Bytes) -> Result<Incoming, Unreadable> {
    let view = EnvelopeView::forwarded(body).map_err(|error| Unreadable {
        code: error.code,
        detail: error.detail,
        message_id: error.message_id,
    })?;
    let message_id = MessageId::from_slice(view.message_id);
    let refuse = |code, detail| Unreadable { code, detail, message_id };
    let sender = view.sender.ok_or(refuse(Code::MissingField, "no sender: only Shields write here"))?;
    let sender = v1::Sender::decode(sender).map_err(|_| refuse(Code::MalformedEnvelope, "the sender is unreadable"))?;
    let user = UserId::parse(&sender.user).map_err(|_| refuse(Code::MissingField, "the sender has no user"))?;
    let caller = Caller { user, rights: Rights(sender.rights) };
    let raw = body.slice_ref(view.payload.bytes);
    if view.payload.field != CMD {
        let signal = v1::SystemSignal::decode(raw).map_err(|_| refuse(Code::MalformedEnvelope, "no signal"))?;
        return match signal.ask {
            Some(Ask::Sync(sync)) => Ok(Incoming::Sync(Box::new(SyncAsk { caller, sync }))),
            Some(Ask::Get(_)) => Ok(Incoming::Get(caller)),
            None => Err(refuse(Code::BadCommand, "a signal must ask sync or get")),
        };
    }
    let id = message_id.ok_or(refuse(Code::MissingField, "message_id is 16 bytes"))?;
    let command = v1::Command::decode(raw.clone()).map_err(|_| refuse(Code::MalformedEnvelope, "no command"))?;
    Ok(Incoming::Command(Box::new(Command {
        caller,
        id,
        timestamp: view.timestamp,
        trace_id: view.trace_id.into(),
        signature: body.slice_ref(view.signature),
        key: sender.public_key,
        redacted_by: sender.redacted_by,
        raw,
        ephemeral: command.ephemeral,
        if_head: command.if_head,
        op: command.op,
    })))
}
