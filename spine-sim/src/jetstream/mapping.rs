//! Subject mapping of RePublish: `log.*.t.*.r.*` to `out.t.{{wildcard(2)}}.r.{{wildcard(3)}}`, also `$2`, and a
//! trailing `>` that carries the rest over.

use bytes::{BufMut, Bytes, BytesMut};

use crate::subject::{covers, is_valid, tokens};

/// A source pattern and what becomes of its matches.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The n-th wildcard's token, from 1 on.
    Wildcard(usize),
    /// What the source's `>` matched.
    Tail,
}

impl Mapping {
    /// `None` if the destination refers to what the source does not have.
    pub(crate) fn parse(source: &str, destination: &str) -> Option<Self> {
        if !is_valid(source.as_bytes()) || destination.is_empty() {
            return None;
        }
        let stars = tokens(source.as_bytes()).filter(|token| *token == b"*").count();
        let has_tail = source == ">" || source.ends_with(".>");
        let mut parts = Vec::new();
        let mut stars_in_turn = 0;
        for token in destination.split('.') {
            let part = match token {
                "" => return None,
                ">" => Part::Tail,
                "*" => {
                    stars_in_turn += 1;
                    Part::Wildcard(stars_in_turn)
                }
                _ => match reference(token)? {
                    Some(index) => Part::Wildcard(index),
                    None => Part::Literal(token.into()),
                },
            };
            match &part {
                Part::Wildcard(index) if *index == 0 || *index > stars => return None,
                Part::Tail if !has_tail => return None,
                _ => {}
            }
            if parts.last() == Some(&Part::Tail) {
                return None;
            }
            parts.push(part);
        }
        Some(Self { source: source.into(), parts })
    }

    /// The pattern that covers everything this can produce.
    pub(crate) fn target_pattern(&self) -> String {
        let tokens: Vec<&str> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Wildcard(_) => "*",
                Part::Tail => ">",
            })
            .collect();
        tokens.join(".")
    }

    /// Where this subject goes; `None` if the source does not cover it.
    pub(crate) fn apply(&self, subject: &[u8]) -> Option<Bytes> {
        if !covers(self.source.as_bytes(), subject) {
            return None;
        }
        let (mut wildcards, mut tail_from) = (Vec::new(), subject.len());
        let mut at = 0;
        let mut source = tokens(self.source.as_bytes());
        for token in tokens(subject) {
            match source.next() {
                Some(b"*") => wildcards.push(token),
                Some(b">") => {
                    tail_from = at;
                    break;
                }
                _ => {}
            }
            at += token.len() + 1;
        }
        let mut out = BytesMut::with_capacity(subject.len() + 16);
        for part in &self.parts {
            if !out.is_empty() {
                out.put_u8(b'.');
            }
            match part {
                Part::Literal(text) => out.put_slice(text.as_bytes()),
                Part::Wildcard(index) => out.put_slice(wildcards.get(index - 1)?),
                Part::Tail => out.put_slice(&subject[tail_from..]),
            }
        }
        Some(out.freeze())
    }
}

/// `{{wildcard(n)}}` or `$n`; `Some(None)` for plain text, `None` for a function that is not known.
fn reference(token: &str) -> Option<Option<usize>> {
    if let Some(digits) =
        token.strip_prefix('$').filter(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    {
        return Some(digits.parse().ok());
    }
    let Some(call) = token.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else { return Some(None) };
    let compact: String = call.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    let index = compact.strip_prefix("wildcard(")?.strip_suffix(')')?.parse().ok()?;
    Some(Some(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        for (source, destination, subject, expected) in [
            (
                "log.*.t.*.r.*",
                "out.t.{{wildcard(2)}}.r.{{wildcard(3)}}",
                "log.7.t.acme.r.lobby",
                Some("out.t.acme.r.lobby"),
            ),
            ("log.*", "out.$1", "log.a", Some("out.a")),
            ("log.>", "out.>", "log.a.b", Some("out.a.b")),
            (">", "copy.>", "a.b", Some("copy.a.b")),
            ("a", "b", "a", Some("b")),
            ("a.*", "b.{{ Wildcard( 1 ) }}", "a.x", Some("b.x")),
            ("a.*", "b.$1", "c.x", None),
        ] {
            let mapping = Mapping::parse(source, destination).expect(destination);
            assert_eq!(mapping.apply(subject.as_bytes()).as_deref(), expected.map(str::as_bytes));
        }
        for (source, destination) in [("a.*", "b.{{wildcard(2)}}"), ("a", "b.>"), ("a..b", "c"), ("a.*", "b.{{no(1)}}")]
        {
            assert!(Mapping::parse(source, destination).is_none(), "{source} to {destination}");
        }
    }
}
