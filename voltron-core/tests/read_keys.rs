//! Each key of `arqon.toml` is read by some process, or its row in docs/configuration.md says that it has no effect yet.
//!
//! Reading is looked for in the source: `section.key` in the Rust and Elixir code that runs in production.

use std::fs;
use std::path::Path;

use voltron_core::config::sections;

/// Where production code lies. `arq dev` and the simulator only set keys.
const FOLDERS: &[&str] =
    &["shield/src", "spine/src", "brain/shell/src", "brain/model/src", "voltron-core/src", "brain/lib"];
/// The schema itself, in both languages, is no reader.
const SCHEMA: &[&str] = &["voltron-core/src/config", "brain/lib/brain/config.ex", "tests.rs"];

/// Every source file, with a chain of calls as one word.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<_> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let name = path.to_string_lossy().replace('\\', "/");
            if SCHEMA.iter().any(|schema| name.contains(schema)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".ex") {
                let text = fs::read_to_string(&path).expect("a source file");
                let words: Vec<&str> = text.split_whitespace().collect();
                texts.push(words.join(" ").replace(" .", "."));
            }
        }
    }
    assert!(texts.len() > 50, "the sources are there");
    texts
}

/// True if `word` stands in the text and does not go on; a mark of the simulator (`brain.dedupe-hit`) does.
fn holds(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let next = text[at + word.len()..].chars().next();
        !next.is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '-'))
    })
}

fn reads(text: &str, section: &str, key: &str) -> bool {
    // The section under another name: `let times = &shared.config.shield;`, or a parameter `config: &config::Shield`.
    let kind = format!("{}{}", section[..1].to_uppercase(), &section[1..]);
    let renamed = text.contains(&format!("config.{section};")) || holds(text, &format!("config::{kind}"));
    let direct = [format!("{section}.{key}"), format!("{section}.load().{key}")];
    direct.iter().any(|word| holds(text, word)) || (renamed && holds(text, &format!(".{key}")))
}

#[test]
fn every_key_has_a_reader_or_says_that_it_has_none() {
    let sources = sources();
    let mut wrong = Vec::new();
    for section in sections() {
        for key in &section.keys {
            // The file must write it, and has one way to: reading the file is what it is for.
            if key.required.is_some() {
                continue;
            }
            let read = sources.iter().any(|text| reads(text, section.name, key.name));
            match (read, key.unread) {
                (false, None) => wrong.push(format!("[{}] {} is read by nothing: mark it", section.name, key.name)),
                (true, Some(_)) => wrong.push(format!("[{}] {} is read: take its mark away", section.name, key.name)),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
