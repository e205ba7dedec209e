//! The Brain's part of the configuration as Erlang terms.

use std::fmt::Write as _;

use super::schema::{Config, walk};

/// Sections that the Brain reads.
const SECTIONS: &[&str] = &["http", "nats", "auth", "limits", "drain", "brain", "log"];

/// One property list of property lists, ended by a full stop.
pub(super) fn brain(config: &Config) -> String {
    let mut out = String::from("%% Written by `arq config render brain` from arqon.toml. Do not edit.\n[");
    let mut current = "";
    walk(config, |section, key, _, value| {
        if !SECTIONS.contains(&section) {
            return;
        }
        if section == current {
            out.push_str(",\n  ");
        } else {
            out.push_str(if current.is_empty() { "\n " } else { "\n ]},\n " });
            let _ = write!(out, "{{{section}, [\n  ");
            current = section;
        }
        let _ = write!(out, "{{{key}, {value}}}");
    });
    out.push_str("\n ]}\n].\n");
    out
}

/// A string as a binary of its UTF-8 bytes; everything but plain printable ASCII as an escape, so that no text can end
/// the term.
pub(super) fn binary(text: &str) -> String {
    let mut out = String::from("<<\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{{{byte:02X}}}");
            }
        }
    }
    out.push_str("\">>");
    out
}
