//! Bytes that both sides of the protocol share: the message lines, NATS headers, numbers, JSON as Go writes it.

use bytes::{BufMut, BytesMut};

/// First line of a header block.
pub(crate) const HEADER_LINE: &[u8] = b"NATS/1.0\r\n";

/// Appends a decimal number.
pub(crate) fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Appends `MSG` or `HMSG`, the payload and its line end.
pub(crate) fn put_message(
    out: &mut BytesMut,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_len: Option<usize>,
    payload: &[u8],
) {
    out.reserve(subject.len() + sid.len() + reply.map_or(0, <[u8]>::len) + payload.len() + 64);
    out.put_slice(if header_len.is_some() { b"HMSG " } else { b"MSG " });
    out.put_slice(subject);
    out.put_u8(b' ');
    out.put_slice(sid);
    out.put_u8(b' ');
    if let Some(reply) = reply {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    if let Some(header_len) = header_len {
        put_number(out, header_len as u64);
        out.put_u8(b' ');
    }
    put_number(out, payload.len() as u64);
    out.put_slice(b"\r\n");
    out.put_slice(payload);
    out.put_slice(b"\r\n");
}

/// The value of a header, exact in case as JetStream's own lookup; leading blanks skipped. Empty counts as absent.
pub(crate) fn header<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = block;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, tail) = (&rest[..end], &rest[end + 2..]);
        if let Some(value) = line.strip_prefix(name.as_bytes()).and_then(|line| line.strip_prefix(b":")) {
            let skipped = value.iter().take_while(|byte| **byte == b' ').count();
            let value = &value[skipped..];
            return (!value.is_empty()).then_some(value);
        }
        rest = tail;
    }
    None
}

/// The status code and text in the first line of a header block.
pub(crate) fn status(block: &[u8]) -> Option<(u16, &str)> {
    let line = block.split(|byte| *byte == b'\r').next()?;
    let text = std::str::from_utf8(line.strip_prefix(b"NATS/1.0")?).ok()?.trim();
    let (code, description) = text.split_once(' ').unwrap_or((text, ""));
    Some((code.parse().ok()?, description))
}

/// Digits only, else `None`.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Serialises as Go's `encoding/json` does: `<`, `>` and `&` escaped.
pub(crate) fn go_json(value: &impl serde::Serialize) -> Vec<u8> {
    let plain = serde_json::to_vec(value).expect("the answers hold only strings, numbers and maps with string keys");
    if !plain.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        return plain;
    }
    let mut out = Vec::with_capacity(plain.len() + 16);
    for byte in plain {
        match byte {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            _ => out.push(byte),
        }
    }
    out
}

/// RFC 3339 in UTC with the fraction's trailing zeros cut, as Go's `RFC3339Nano`.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    let (days, ms_of_day) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    // Days since 1 March of year 0, in eras of 400 years (146,097 days): the leap day ends each year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if ms != 0 {
        text.push_str(format!(".{ms:03}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_345_628_234, "2026-11-22T11:07:08.234Z"),
            (1_795_345_628_230, "2026-11-22T11:07:08.23Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn headers_are_found_as_the_server_finds_them() {
        let block = b"NATS/1.0\r\nA: b\r\nNats-Expected-Last-Subject-Sequence:  7\r\nEmpty: \r\n\r\n";
        assert_eq!(header(block, "Nats-Expected-Last-Subject-Sequence"), Some(&b"7"[..]));
        assert_eq!(header(block, "nats-expected-last-subject-sequence"), None);
        assert_eq!(header(block, "Empty"), None);
        assert_eq!(status(b"NATS/1.0 404 Message Not Found\r\n\r\n"), Some((404, "Message Not Found")));
        assert_eq!(status(b"NATS/1.0\r\n\r\n"), None);
    }

    #[test]
    fn numbers_and_json() {
        let mut out = BytesMut::new();
        put_number(&mut out, 0);
        put_number(&mut out, u64::MAX);
        assert_eq!(&out[..], b"018446744073709551615");
        assert_eq!(go_json(&"a>b"), b"\"a\\u003eb\"");
    }
}
