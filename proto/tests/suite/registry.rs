//! The registry of codes is complete and says the same everywhere.

use std::collections::BTreeSet;

use proto::Code;
use proto::error::{REGISTRY, Retry, Scope};

#[test]
fn every_row_is_whole() {
    let mut names = BTreeSet::new();
    for row in REGISTRY {
        assert!(names.insert(row.name), "{} twice", row.name);
        assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
        for text in [row.message, row.help] {
            assert!(text.len() >= 8, "{} says nothing: {text:?}", row.name);
            assert!(text.trim() == text && !text.contains(['\n', '\r']), "{}: one line", row.name);
        }
        assert!(row.help.ends_with('.'), "{}: help is a sentence", row.name);
        assert!(!row.message.ends_with('.'), "{}: message is a phrase", row.name);
        assert!(row.message.len() <= proto::frame::ERR_TEXT_MAX, "{}: fits an ERR", row.name);
    }
}

#[test]
fn ranges_and_scopes_agree() {
    for row in REGISTRY {
        let number = row.code.as_u16();
        let scopes: &[Scope] = match number {
            1001..=1999 => &[Scope::Frame, Scope::Command, Scope::Room, Scope::Http],
            2001..=2999 => &[Scope::Http, Scope::Command, Scope::Room],
            3001..=3999 => &[Scope::Command],
            4000..=4399 => &[Scope::Close],
            4500..=4999 => &[Scope::Command, Scope::Room, Scope::Frame],
            5001..=5999 => &[Scope::Command, Scope::Room],
            6000..=6999 => &[Scope::Command, Scope::Frame],
            _ => panic!("{}: no range has this number", row.code),
        };
        assert!(scopes.contains(&row.scope), "{}: {:?}", row.code, row.scope);
        assert_eq!(row.name.starts_with("close_"), row.scope == Scope::Close, "{}", row.code);
    }
}

/// PROTOCOL §8: 40xx stop, 41xx and 42xx come back, 43xx fetch a new token first.
#[test]
fn close_codes_say_what_the_client_must_do() {
    for row in REGISTRY.iter().filter(|row| row.scope == Scope::Close) {
        let retry = match row.code.as_u16() {
            4000..=4099 => Retry::Never,
            4100..=4299 => Retry::Reconnect,
            _ => Retry::NewToken,
        };
        assert_eq!(row.retry, retry, "{}", row.code);
    }
}

#[test]
fn only_availability_asks_for_the_same_bytes_again() {
    for row in REGISTRY {
        if row.retry == Retry::Same {
            assert!((6000..=6999).contains(&row.code.as_u16()), "{}", row.code);
        }
        if row.retry == Retry::Reconnect {
            assert_eq!(row.scope, Scope::Close, "{}", row.code);
        }
    }
}

#[test]
fn numbers_lead_to_rows_and_back() {
    for row in REGISTRY {
        assert_eq!(Code::from_u16(row.code.as_u16()), Some(row.code));
        assert_eq!(row.code.info().name, row.name);
    }
    for number in [0, 1, 999, 1000, 4400, 4499, u16::MAX] {
        assert_eq!(Code::from_u16(number), None);
    }
    assert_eq!(Code::NonCanonicalEnvelope.to_string(), "1005 non_canonical_envelope");
}
