//! The gate: a strict view of an [`Envelope`](crate::v1::Envelope) that borrows from the received bytes.
//!
//! Accepting is a promise: every decoder reads these bytes alike ([`crate::canonical`]), the lengths are right, and
//! what every command needs is there. Nothing is copied, nothing allocated.
//!
//! ```
//! use proto::view::EnvelopeView;
//! # use prost::Message as _;
//! let sent = proto::v1::Envelope {
//!     room_id: "lobby".into(),
//!     timestamp: 1_760_000_000_000,
//!     message_id: vec![7; 16].into(),
//!     payload: Some(proto::v1::envelope::Payload::Cmd(proto::v1::Command::default())),
//!     ..Default::default()
//! };
//! let bytes = sent.encode_to_vec();
//! let view = EnvelopeView::client(&bytes).expect("canonical");
//! assert_eq!((view.room_id, view.payload.field), ("lobby", 20));
//! assert!(EnvelopeView::client(&bytes[..bytes.len() - 1]).is_err());
//! ```

use crate::canonical::{Budget, Fault, Kind, Reader, Value, check_within, table};
use crate::{Code, MessageId};

/// Field number of `cmd`.
pub const CMD: u32 = 20;
/// Field number of `event`.
pub const EVENT: u32 = 21;
/// Field number of `signal`.
pub const SIGNAL: u32 = 22;
/// Field number of `sender`.
pub const SENDER: u32 = 1000;

/// An accepted envelope. Absent strings and bytes are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeView<'a> {
    /// A W3C traceparent of 55 bytes, or empty.
    pub trace_id: &'a str,
    /// As the client wrote it; what counts is the token's.
    pub tenant_id: &'a str,
    /// Not empty; not yet parsed as a [`RoomId`](crate::RoomId).
    pub room_id: &'a str,
    /// The sender's wall clock, ms since 1970. Not 0 in a command.
    pub timestamp: i64,
    /// 16 bytes; may be empty beside a signal or an event.
    pub message_id: &'a [u8],
    /// The sender wants an ACK for success, too.
    pub ack_requested: bool,
    /// Empty or 64 bytes.
    pub signature: &'a [u8],
    /// What it carries: checked recursively.
    pub payload: Payload<'a>,
    /// The encoded [`Sender`](crate::v1::Sender), checked; `None` from a client.
    pub sender: Option<&'a [u8]>,
}

/// The one member of `oneof payload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// [`CMD`], [`EVENT`] or [`SIGNAL`].
    pub field: u32,
    /// The message's bytes as on the wire, without tag and length: what is signed.
    pub bytes: &'a [u8],
}

/// Why an envelope is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}, field {field}, byte {at}")]
pub struct ViewError {
    /// What to answer.
    pub code: Code,
    /// What is wrong, for people.
    pub detail: &'static str,
    /// The field number, 0 where none was read.
    pub field: u32,
    /// Offset in the envelope, in bytes.
    pub at: usize,
    /// The message id, if it was read before the fault: the refusal can then be an ACK instead of an ERR.
    pub message_id: Option<MessageId>,
}

/// Who wrote the envelope, hence what may be in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Client,
    Shield,
    Room,
}

impl<'a> EnvelopeView<'a> {
    /// From a client: a command, no field from 1000 up.
    ///
    /// Refused with [`Code::MalformedEnvelope`], [`Code::NonCanonicalEnvelope`], [`Code::MissingField`],
    /// [`Code::NotACommand`] or [`Code::ReservedField`].
    pub fn client(bytes: &'a [u8]) -> Result<Self, ViewError> {
        Self::read(bytes, Writer::Client)
    }

    /// From a Shield: a command or a signal, with `sender`. A signal may lack message id and timestamp.
    pub fn forwarded(bytes: &'a [u8]) -> Result<Self, ViewError> {
        Self::read(bytes, Writer::Shield)
    }

    /// From a room, as subscribers and the log hold it: an event or a signal, without `sender`.
    pub fn delivered(bytes: &'a [u8]) -> Result<Self, ViewError> {
        Self::read(bytes, Writer::Room)
    }

    fn read(bytes: &'a [u8], from: Writer) -> Result<Self, ViewError> {
        let mut view = Self {
            trace_id: "",
            tenant_id: "",
            room_id: "",
            timestamp: 0,
            message_id: &[],
            ack_requested: false,
            signature: &[],
            payload: Payload { field: 0, bytes: &[] },
            sender: None,
        };
        match view.fill(bytes, from) {
            Ok(()) => Ok(view),
            Err(Fault { code, detail, field, at }) => {
                Err(ViewError { code, detail, field, at, message_id: MessageId::from_slice(view.message_id) })
            }
        }
    }

    fn fill(&mut self, bytes: &'a [u8], from: Writer) -> Result<(), Fault> {
        let mut budget = Budget::default();
        let mut reader = Reader::new(&table::ENVELOPE, bytes, 0);
        while let Some(item) = reader.next(&mut budget).map_err(|fault| reserved(fault, from))? {
            let fault = |code, detail| Err(Fault { code, detail, field: item.number, at: item.at });
            if item.number >= SENDER && from != Writer::Shield {
                return fault(Code::ReservedField, "a field that only the server writes");
            }
            if let Some(Kind::Message(inner)) = item.field.map(|field| field.kind)
                && let Value::Bytes(slice) = item.value
            {
                if !may(from, item.number) {
                    return fault(Code::NotACommand, "a payload that this sender may not send");
                }
                check_within(inner, slice, item.at, &mut budget)?;
            }
            match (item.number, item.value) {
                (1, Value::Bytes(text)) => self.trace_id = utf8(text),
                (2, Value::Bytes(text)) => self.tenant_id = utf8(text),
                (3, Value::Bytes(text)) => self.room_id = utf8(text),
                (4, Value::Varint(n)) => self.timestamp = n.cast_signed(),
                (5, Value::Bytes(id)) => self.message_id = id,
                (6, Value::Varint(n)) => self.ack_requested = n == 1,
                (10, Value::Bytes(signature)) => self.signature = signature,
                (field @ CMD..=SIGNAL, Value::Bytes(bytes)) => self.payload = Payload { field, bytes },
                (SENDER, Value::Bytes(sender)) => self.sender = Some(sender),
                _ => {}
            }
        }
        self.complete(bytes.len(), from)
    }

    /// What must be there is there, and has its length.
    fn complete(&self, end: usize, from: Writer) -> Result<(), Fault> {
        let command = self.payload.field == CMD;
        let wrong = |field, detail| Err(Fault { code: Code::MissingField, detail, field, at: end });
        if self.payload.field == 0 {
            return wrong(CMD, "no payload");
        }
        if self.room_id.is_empty() {
            return wrong(3, "room_id is missing");
        }
        if command && self.timestamp == 0 {
            return wrong(4, "timestamp is missing");
        }
        if self.message_id.len() != 16 && (command || !self.message_id.is_empty()) {
            return wrong(5, "message_id is not 16 bytes");
        }
        if !matches!(self.signature.len(), 0 | 64) {
            return wrong(10, "signature is neither empty nor 64 bytes");
        }
        if !matches!(self.trace_id.len(), 0 | 55) {
            return wrong(1, "trace_id is neither empty nor 55 bytes");
        }
        if from == Writer::Shield && self.sender.is_none() {
            return wrong(SENDER, "sender is missing");
        }
        Ok(())
    }

    /// The message id, if there is one.
    pub fn id(&self) -> Option<MessageId> {
        MessageId::from_slice(self.message_id)
    }
}

/// Which message fields of the envelope each writer may fill.
const fn may(from: Writer, field: u32) -> bool {
    match from {
        Writer::Client => field == CMD,
        Writer::Shield => matches!(field, CMD | SIGNAL | SENDER),
        Writer::Room => matches!(field, EVENT | SIGNAL),
    }
}

/// From a client, an unknown field from 1000 up is the server's ground, not merely out of range.
fn reserved(fault: Fault, from: Writer) -> Fault {
    if from == Writer::Client && fault.field > SENDER && fault.code == Code::NonCanonicalEnvelope {
        return Fault { code: Code::ReservedField, detail: "a field that only the server writes", ..fault };
    }
    fault
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the reader checks strings")
}
