//! The broker's half of the wire protocol: what clients send, parsed from any fragmentation into the same operations.
//! Pure: bytes in, [`Op`]s out. Accepts and refuses what nats-server 2.15.1 accepts and refuses.

use bytes::{Bytes, BytesMut};

/// The longest control line's arguments, as nats-server's `max_control_line`.
pub(crate) const CONTROL_LINE_MAX: usize = 4096;

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `CONNECT {json}`.
    Connect(Bytes),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `SUB subject [queue] sid`.
    Sub {
        /// The pattern, unchecked.
        subject: Bytes,
        /// The queue group.
        queue: Option<Bytes>,
        /// The client's name for it.
        sid: Bytes,
    },
    /// `UNSUB sid [max]`.
    Unsub {
        /// Which one.
        sid: Bytes,
        /// End after so many messages in all; `None` at once.
        max: Option<u64>,
    },
    /// `PUB` or `HPUB`.
    Pub(Publish),
    /// `INFO` and `+OK`, which a client may send and nobody heeds.
    Ignored,
}

/// A published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where to, unchecked.
    pub subject: Bytes,
    /// Where an answer may go.
    pub reply: Option<Bytes>,
    /// How many bytes of `payload` are headers; `None` for `PUB`.
    pub header_len: Option<usize>,
    /// Headers and body.
    pub payload: Bytes,
}

/// Why a client's bytes end its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Not an operation, or a payload that does not end where it said.
    UnknownOperation,
    /// Arguments over 4,096 bytes.
    ControlLine,
    /// A payload over `max_payload`.
    MaxPayload,
    /// Arguments that make no sense: the server hangs up without a word.
    Silent,
}

impl Violation {
    /// The text of the `-ERR`, if one is sent.
    pub(crate) const fn text(self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some("Unknown Protocol Operation"),
            Self::ControlLine => Some("maximum control line exceeded"),
            Self::MaxPayload => Some("Maximum Payload Violation"),
            Self::Silent => None,
        }
    }
}

/// Where the parser stands between two reads.
#[derive(Debug)]
pub struct Parser {
    max_payload: usize,
    /// Bytes of the current line already searched for its end.
    searched: usize,
    /// A publish whose payload has not arrived in full.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    subject: Bytes,
    reply: Option<Bytes>,
    header_len: Option<usize>,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Info,
    Ping,
    Pong,
    Sub,
    Unsub,
    Pub,
    Hpub,
    Ok,
    Err,
}

const VERBS: [(&[u8], Verb); 10] = [
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"CONNECT", Verb::Connect),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

impl Parser {
    /// A parser for one connection.
    pub const fn new(max_payload: usize) -> Self {
        Self { max_payload, searched: 0, waiting: None }
    }

    /// Takes the next operation out of `buf`; `None`: more bytes are needed. What stays in `buf` never exceeds the
    /// larger of a control line and `max_payload` by more than the last read.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Op>, Violation> {
        if self.waiting.is_some() {
            return self.payload(buf);
        }
        if buf.is_empty() {
            return Ok(None);
        }
        let Some((verb, verb_len)) = verb(buf)? else { return Ok(None) };
        let Some(end) = buf[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| at + self.searched) else {
            self.searched = buf.len();
            return if buf.len() > verb_len + CONTROL_LINE_MAX + 2 { Err(Violation::ControlLine) } else { Ok(None) };
        };
        self.searched = 0;
        let line = buf.split_to(end + 1).freeze();
        let args = line.slice(verb_len..end);
        if args.trim_ascii().len() > CONTROL_LINE_MAX {
            return Err(Violation::ControlLine);
        }
        match verb {
            Verb::Ping => Ok(Some(Op::Ping)),
            Verb::Pong => Ok(Some(Op::Pong)),
            Verb::Info | Verb::Ok => Ok(Some(Op::Ignored)),
            Verb::Err => Err(Violation::Silent),
            Verb::Connect => Ok(Some(Op::Connect(args))),
            Verb::Sub => sub(&args).map(Some),
            Verb::Unsub => unsub(&args).map(Some),
            Verb::Pub => {
                self.waiting = Some(self.publish(&args)?);
                self.payload(buf)
            }
            Verb::Hpub => {
                self.waiting = Some(self.publish_with_headers(&args)?);
                self.payload(buf)
            }
        }
    }

    fn payload(&mut self, buf: &mut BytesMut) -> Result<Option<Op>, Violation> {
        let len = self.waiting.as_ref().map_or(0, |waiting| waiting.len);
        // The line end is checked as early as it can be seen, as the server does.
        if buf.len() > len && buf[len] != b'\r' || buf.len() > len + 1 && buf[len + 1] != b'\n' {
            return Err(Violation::UnknownOperation);
        }
        if buf.len() < len + 2 {
            return Ok(None);
        }
        let Some(Waiting { subject, reply, header_len, len }) = self.waiting.take() else { return Ok(None) };
        let payload = buf.split_to(len).freeze();
        let _end_of_line = buf.split_to(2);
        Ok(Some(Op::Pub(Publish { subject, reply, header_len, payload })))
    }

    fn publish(&self, args: &Bytes) -> Result<Waiting, Violation> {
        let mut fields = Fields::of(args);
        let (subject, reply, len) = match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(subject), Some(len), None, None) => (subject, None, len),
            (Some(subject), Some(reply), Some(len), None) => (subject, Some(reply), len),
            _ => return Err(Violation::Silent),
        };
        let len = self.size(&len)?;
        Ok(Waiting { subject, reply, header_len: None, len })
    }

    fn publish_with_headers(&self, args: &Bytes) -> Result<Waiting, Violation> {
        let mut fields = Fields::of(args);
        let (subject, reply, header, len) =
            match (fields.next(), fields.next(), fields.next(), fields.next(), fields.next()) {
                (Some(subject), Some(header), Some(len), None, None) => (subject, None, header, len),
                (Some(subject), Some(reply), Some(header), Some(len), None) => (subject, Some(reply), header, len),
                _ => return Err(Violation::Silent),
            };
        let header_len = number(&header).ok_or(Violation::Silent)?;
        let len = self.size(&len)?;
        if header_len > len {
            return Err(Violation::Silent);
        }
        Ok(Waiting { subject, reply, header_len: Some(header_len), len })
    }

    fn size(&self, text: &[u8]) -> Result<usize, Violation> {
        let len = number(text).ok_or(Violation::Silent)?;
        if len > self.max_payload { Err(Violation::MaxPayload) } else { Ok(len) }
    }
}

/// The verb at the start of `buf` and its length; `None` if more bytes are needed to tell.
fn verb(buf: &[u8]) -> Result<Option<(Verb, usize)>, Violation> {
    let mut possible = false;
    for (text, verb) in VERBS {
        let len = text.len().min(buf.len());
        if !buf[..len].eq_ignore_ascii_case(&text[..len]) {
            continue;
        }
        let Some(after) = buf.get(text.len()) else {
            possible = true;
            continue;
        };
        let parted = matches!(after, b' ' | b'\t');
        return match verb {
            Verb::Ping | Verb::Pong | Verb::Ok | Verb::Connect => Ok(Some((verb, text.len()))),
            _ if parted => Ok(Some((verb, text.len()))),
            _ => Err(Violation::UnknownOperation),
        };
    }
    if possible { Ok(None) } else { Err(Violation::UnknownOperation) }
}

fn sub(args: &Bytes) -> Result<Op, Violation> {
    let mut fields = Fields::of(args);
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(subject), Some(sid), None, None) => Ok(Op::Sub { subject, queue: None, sid }),
        (Some(subject), Some(queue), Some(sid), None) => Ok(Op::Sub { subject, queue: Some(queue), sid }),
        _ => Err(Violation::Silent),
    }
}

fn unsub(args: &Bytes) -> Result<Op, Violation> {
    let mut fields = Fields::of(args);
    match (fields.next(), fields.next(), fields.next()) {
        (Some(sid), max, None) => Ok(Op::Unsub { sid, max: max.and_then(|max| number(&max)).map(|max| max as u64) }),
        _ => Err(Violation::Silent),
    }
}

/// Digits only, at most nine of them, as the server parses sizes.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
}

/// Fields parted by blanks, as slices of the line.
struct Fields<'a> {
    line: &'a Bytes,
    at: usize,
}

impl<'a> Fields<'a> {
    const fn of(line: &'a Bytes) -> Self {
        Self { line, at: 0 }
    }
}

impl Iterator for Fields<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const fn blank(byte: u8) -> bool {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
        }
        let rest = &self.line[self.at..];
        let start = self.at + rest.iter().position(|byte| !blank(*byte))?;
        let rest = &self.line[start..];
        self.at = start + rest.iter().position(|byte| blank(*byte)).unwrap_or(rest.len());
        Some(self.line.slice(start..self.at))
    }
}
