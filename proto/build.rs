//! Compiles the two schemas with protox (no protoc to install) and generates the error registry's code.
//! The descriptor set is kept beside the generated code: the canonical rule's field tables are read from it.

use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

use prost::Message as _;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    error: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    code: u16,
    name: String,
    retry: String,
    scope: String,
    message: String,
    help: String,
}

fn main() {
    println!("cargo:rerun-if-changed=src/envelope.proto");
    println!("cargo:rerun-if-changed=src/internal.proto");
    println!("cargo:rerun-if-changed=errors.toml");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let set = protox::compile(["envelope.proto", "internal.proto"], ["src"]).expect("the schemas compile");
    fs::write(out.join("descriptor.bin"), set.encode_to_vec()).expect("OUT_DIR is writable");
    prost_build::Config::new().bytes(["."]).compile_fds(set).expect("prost accepts the schemas");

    let text = fs::read_to_string("errors.toml").expect("errors.toml is there");
    let registry: Registry = toml::from_str(&text).unwrap_or_else(|error| panic!("errors.toml: {error}"));
    fs::write(out.join("errors.rs"), errors(&registry)).expect("OUT_DIR is writable");
}

/// The `Code` enum and its tables, in ascending order of code; a code or name given twice stops the build.
fn errors(registry: &Registry) -> String {
    let mut text = String::new();
    let (mut variants, mut rows) = (String::new(), String::new());
    let mut last = 0;
    for entry in &registry.error {
        assert!(entry.code > last, "errors.toml: {} {} is out of order or given twice", entry.code, entry.name);
        last = entry.code;
        let variant = camel(&entry.name);
        writeln!(variants, "/// {}: {}\n{variant} = {},", entry.code, entry.message, entry.code).expect("a String");
        writeln!(
            rows,
            "Info {{ code: Code::{variant}, name: {:?}, retry: Retry::{}, scope: Scope::{}, message: {:?}, help: {:?} }},",
            entry.name,
            camel(&entry.retry),
            camel(&entry.scope),
            entry.message,
            entry.help
        )
        .expect("a String");
    }
    writeln!(
        text,
        "/// Every stable code. Only codes are API; texts are for people.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(u16)]\n\
         pub enum Code {{\n{variants}}}\n\n/// The registry, ascending by code.\npub static REGISTRY: &[Info] = &[\n{rows}];"
    )
    .expect("a String");
    text
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
        })
        .collect()
}
