//! `proto/vectors/*.json`: what other languages test their decoders against. Each case names the outcome by hand, this
//! code must agree, and the committed files must be what the cases say; `ARQON_BLESS=1` writes them anew.

use std::{env, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;

mod canonical;
mod codec;
mod envelopes;
mod frames;
mod names;
mod signatures;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// One case a line, so that a change shows as the lines it changed.
#[track_caller]
fn committed<T: Serialize>(file: &str, about: &str, cases: &[T]) {
    let lines: Vec<String> = cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
    let about = serde_json::to_string(about).unwrap();
    let text = format!("{{\"about\": {about},\n\"cases\": [\n{}\n]}}\n", lines.join(",\n"));
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    if env::var_os("ARQON_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(found.lines()).find(|(new, old)| new != old);
    assert!(
        text == found,
        "{} is not what the cases say; first difference: {differs:?}. If it should change: ARQON_BLESS=1 cargo test -p arqon-proto",
        path.display()
    );
}

/// The cases' bytes as seeds of a fuzz target, one file each, named by number and case.
fn seeds<'a>(target: &str, cases: impl Iterator<Item = (&'a str, Vec<u8>)>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let slug = |name: &str| -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
    };
    let wanted: std::collections::BTreeMap<String, Vec<u8>> =
        cases.enumerate().map(|(n, (name, bytes))| (format!("{n:03}-{}", slug(name)), bytes)).collect();
    if env::var_os("ARQON_BLESS").is_some() {
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &wanted {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let found: std::collections::BTreeMap<String, Vec<u8>> = fs::read_dir(&folder)
        .expect("fuzz/seeds is committed")
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    assert!(wanted == found, "{} is not what the cases say; ARQON_BLESS=1 writes it anew", folder.display());
}
