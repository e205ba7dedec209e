//! The configuration as text for people: a complete TOML file, and the table of every key.

use std::fmt::Write as _;

use super::schema::{Config, Key, sections, walk};

/// A complete file; unset keys stand as comments.
pub(super) fn toml(config: &Config) -> String {
    let mut values = Vec::new();
    walk(config, |_, _, value, _| values.push(value));
    let mut values = values.into_iter();
    let mut out = String::from("# Every key of arqon.toml. Times are in the unit that ends the key's name.\n");
    for section in sections() {
        let _ = write!(out, "\n# {}\n[{}]\n", section.help, section.name);
        for key in &section.keys {
            let _ = writeln!(out, "# {}{} {}", unread(key), key.help, facts(key));
            match values.next().flatten() {
                Some(value) => {
                    let _ = writeln!(out, "{} = {value}", key.name);
                }
                None => {
                    let _ = writeln!(out, "# {} =", key.name);
                }
            }
        }
    }
    out
}

/// Unit, default and range in brackets.
fn facts(key: &Key) -> String {
    let default = if key.required.is_some() {
        "must be written".to_owned()
    } else {
        key.default.as_ref().map_or_else(|| "unset by default".to_owned(), |default| format!("default {default}"))
    };
    let range = key.range.as_ref().map_or_else(String::new, |range| format!(", {} to {}", range.start(), range.end()));
    let unit = if key.unit.is_empty() { String::new() } else { format!(", in {}", key.unit) };
    format!("({default}{range}{unit})")
}

/// Every key as a Markdown table, one a section.
pub(super) fn docs() -> String {
    let mut out = String::from(
        "# arqon.toml\n\nOne file for every process, one schema (`voltron-core/src/config/schema.rs`), from which this page is made. \
         Paths are\nrelative to the working directory. An unknown section or key is refused, and so is another value than the default for a\nkey that has no effect yet.\n\n",
    );
    for section in sections() {
        let _ = write!(out, "## [{}]\n\n{}\n\n", section.name, section.help);
        out.push_str("| key | type | default | unit | range | meaning |\n| --- | --- | --- | --- | --- | --- |\n");
        for key in &section.keys {
            let default =
                if key.required.is_some() { "must be written".to_owned() } else { code(key.default.as_deref()) };
            let range =
                key.range.as_ref().map_or_else(String::new, |range| format!("{} … {}", range.start(), range.end()));
            let _ = writeln!(
                out,
                "| `{}` | {} | {default} | {} | {range} | {}{} |",
                key.name,
                key.kind,
                key.unit,
                unread(key),
                key.help
            );
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The mark of a key that nothing reads.
fn unread(key: &Key) -> String {
    key.unread.map_or_else(String::new, |why| format!("**No effect yet**: {why}. "))
}

fn code(text: Option<&str>) -> String {
    text.map_or_else(|| "–".to_owned(), |text| format!("`{text}`"))
}
