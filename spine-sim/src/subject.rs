//! Subjects as nats-server sees them: bytes, tokens parted by dots, `*` for one token, `>` for all that follow.

pub(crate) mod trie;

/// The tokens of a subject.
pub(crate) fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|byte| *byte == b'.')
}

/// True for what may be subscribed to: no empty token, no white space, `>` only at the end.
pub(crate) fn is_valid(subject: &[u8]) -> bool {
    if subject.is_empty() {
        return false;
    }
    let mut ended = false;
    for token in tokens(subject) {
        if ended || token.is_empty() || token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)) {
            return false;
        }
        ended = token == b">";
    }
    true
}

/// True for what may be published to: valid and without wildcards.
pub(crate) fn is_literal(subject: &[u8]) -> bool {
    is_valid(subject) && !has_wildcard(subject)
}

/// True if some token is a wildcard.
pub(crate) fn has_wildcard(subject: &[u8]) -> bool {
    tokens(subject).any(|token| token == b"*" || token == b">")
}

/// True if `pattern` matches `subject`, whose own `*` and `>` are tokens as any other: as the server asks its permissions
/// about a pattern, too, so that an allowed `a.*` lets a client subscribe to `a.>`. A subject with an empty token matches
/// nothing.
pub(crate) fn covers(pattern: &[u8], subject: &[u8]) -> bool {
    if has_empty_token(subject) {
        return false;
    }
    let (mut wide, mut narrow) = (tokens(pattern), tokens(subject));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(b">"), Some(_)) | (None, None) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}

/// True if two dots follow each other, or one stands at an end.
pub(crate) fn has_empty_token(subject: &[u8]) -> bool {
    tokens(subject).any(<[u8]>::is_empty)
}

/// True if some subject matches both patterns.
pub(crate) fn overlap(left: &[u8], right: &[u8]) -> bool {
    let (mut left, mut right) = (tokens(left), tokens(right));
    loop {
        match (left.next(), right.next()) {
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) | (None, None) => return true,
            (Some(b"*"), Some(_)) | (Some(_), Some(b"*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The part of a pattern before its first wildcard: every match begins with it.
pub(crate) fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let mut len = 0;
    for token in tokens(pattern) {
        if token == b"*" || token == b">" {
            return &pattern[..len];
        }
        len += token.len() + 1;
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_nats_says() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a", false),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a.*", "a.>", true),
            ("a.*", "a.*", true),
            ("a.*", "a.", false),
            ("a.>", "a..b", false),
            ("*.b", ".b", false),
            ("a.>", "a.*", true),
            ("a.>", "a.>", true),
            ("*", ">", true),
        ] {
            assert_eq!(covers(pattern.as_bytes(), subject.as_bytes()), expected, "{pattern} covers {subject}");
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        for (left, right, expected) in [
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b.c", false),
            (">", "x", true),
            ("log.*.t.*.r.*", "log.>", true),
        ] {
            assert_eq!(overlap(left.as_bytes(), right.as_bytes()), expected, "{left} {right}");
            assert_eq!(overlap(right.as_bytes(), left.as_bytes()), expected, "{right} {left}");
        }
    }

    #[test]
    fn validity_follows_the_server() {
        for (subject, valid, literal) in [
            ("a.b", true, true),
            ("a..b", false, false),
            (".a", false, false),
            ("a.", false, false),
            ("", false, false),
            ("a.>", true, false),
            ("a.>.b", false, false),
            ("a.*b", true, true),
            ("a.*", true, false),
        ] {
            assert_eq!(is_valid(subject.as_bytes()), valid, "{subject}");
            assert_eq!(is_literal(subject.as_bytes()), literal, "{subject}");
        }
    }

    #[test]
    fn literal_prefixes() {
        assert_eq!(literal_prefix(b"log.3.t.*.r.*"), b"log.3.t.");
        assert_eq!(literal_prefix(b"a.b"), b"a.b");
        assert_eq!(literal_prefix(b">"), b"");
    }
}
