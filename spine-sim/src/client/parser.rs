//! The client's half of the wire protocol: what a server sends. Pure; the same result for any fragmentation.

use bytes::{Bytes, BytesMut};

use crate::wire;

/// One operation of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerOp {
    Msg(Delivered),
    Info(Bytes),
    Ping,
    Pong,
    Ok,
    Err(String),
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) sid: u64,
    pub(crate) subject: Bytes,
    pub(crate) reply: Option<Bytes>,
    /// The header block, or empty.
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

/// The server said what no server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker broke the protocol")]
pub(crate) struct Broken;

/// The longest line: an INFO.
const LINE_MAX: usize = 64 * 1024;
/// More than any server's `max_payload`.
const PAYLOAD_MAX: usize = 64 * 1024 * 1024;

/// Where the parser stands between two reads.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    searched: usize,
    waiting: Option<(Delivered, usize, usize)>,
}

impl Parser {
    /// Takes the next operation out of `buf`; `None`: more bytes are needed.
    pub(crate) fn next(&mut self, buf: &mut BytesMut) -> Result<Option<ServerOp>, Broken> {
        if self.waiting.is_some() {
            return self.payload(buf);
        }
        let Some(end) = buf[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| at + self.searched) else {
            self.searched = buf.len();
            return if buf.len() > LINE_MAX { Err(Broken) } else { Ok(None) };
        };
        self.searched = 0;
        let line = buf.split_to(end + 1).freeze();
        let line = line.slice(..line.trim_ascii_end().len());
        let (verb, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => (line.slice(..at), line.slice(at + 1..)),
            None => (line.clone(), Bytes::new()),
        };
        match &verb[..] {
            b"MSG" => self.message(&rest, false, buf),
            b"HMSG" => self.message(&rest, true, buf),
            b"INFO" => Ok(Some(ServerOp::Info(rest))),
            b"PING" => Ok(Some(ServerOp::Ping)),
            b"PONG" => Ok(Some(ServerOp::Pong)),
            b"+OK" => Ok(Some(ServerOp::Ok)),
            b"-ERR" => {
                let text = String::from_utf8_lossy(&rest).trim_matches(['\'', ' ']).to_string();
                Ok(Some(ServerOp::Err(text)))
            }
            _ => Err(Broken),
        }
    }

    fn message(&mut self, rest: &Bytes, headers: bool, buf: &mut BytesMut) -> Result<Option<ServerOp>, Broken> {
        // subject sid [reply] [header length] length
        let mut fields = [const { Bytes::new() }; 5];
        let mut count = 0;
        for field in rest.split(|byte| *byte == b' ').filter(|field| !field.is_empty()) {
            *fields.get_mut(count).ok_or(Broken)? = rest.slice_ref(field);
            count += 1;
        }
        let numbers = if headers { 2 } else { 1 };
        if count != 2 + numbers && count != 3 + numbers {
            return Err(Broken);
        }
        let number = |at: usize| wire::number(&fields[at]).and_then(|n| usize::try_from(n).ok()).ok_or(Broken);
        let len = number(count - 1)?;
        let header_len = if headers { number(count - 2)? } else { 0 };
        if len > PAYLOAD_MAX || header_len > len {
            return Err(Broken);
        }
        let delivered = Delivered {
            sid: wire::number(&fields[1]).ok_or(Broken)?,
            subject: fields[0].clone(),
            reply: (count == 3 + numbers).then(|| fields[2].clone()),
            header: Bytes::new(),
            body: Bytes::new(),
        };
        self.waiting = Some((delivered, header_len, len));
        self.payload(buf)
    }

    fn payload(&mut self, buf: &mut BytesMut) -> Result<Option<ServerOp>, Broken> {
        let len = self.waiting.as_ref().map_or(0, |(_, _, len)| *len);
        if buf.len() < len + 2 {
            return Ok(None);
        }
        if &buf[len..len + 2] != b"\r\n" {
            return Err(Broken);
        }
        let Some((mut delivered, header_len, len)) = self.waiting.take() else { return Ok(None) };
        let mut payload = buf.split_to(len + 2).freeze();
        payload.truncate(len);
        delivered.header = payload.split_to(header_len);
        delivered.body = payload;
        Ok(Some(ServerOp::Msg(delivered)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b"INFO {\"max_payload\":5} \r\nPING\r\nMSG a.b 1 2\r\nhi\r\nHMSG c 22 r.1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n+OK\r\n-ERR 'No'\r\nMSG x 1 0\r\n\r\nPONG\r\n";

    fn parse(chunks: &[&[u8]]) -> Result<Vec<ServerOp>, Broken> {
        let (mut parser, mut buf, mut ops) = (Parser::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            while let Some(op) = parser.next(&mut buf)? {
                ops.push(op);
            }
        }
        Ok(ops)
    }

    #[test]
    fn fragments_at_every_boundary_give_the_same() {
        let whole = parse(&[STREAM]).expect("a good stream");
        assert_eq!(whole.len(), 8);
        for at in 0..STREAM.len() {
            assert_eq!(parse(&[&STREAM[..at], &STREAM[at..]]).as_ref(), Ok(&whole), "cut at {at}");
        }
        assert_eq!(parse(&STREAM.chunks(1).collect::<Vec<_>>()), Ok(whole));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&[&bytes]);
        }
    }
}
