//! Compiles the schemas with protox (no protoc to install) and generates the error registry's code.
//! The descriptor set is kept beside the generated code; the canonical rule's field tables are read from it here.

use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde::Deserialize;

/// What is compiled, and stands in the descriptor set.
const SCHEMAS: [&str; 3] = ["envelope.proto", "internal.proto", "lockstep.proto"];

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
    for schema in SCHEMAS {
        println!("cargo:rerun-if-changed=src/{schema}");
    }
    println!("cargo:rerun-if-changed=errors.toml");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let set = protox::compile(SCHEMAS, ["src"]).expect("the schemas compile");
    fs::write(out.join("descriptor.bin"), set.encode_to_vec()).expect("OUT_DIR is writable");
    fs::write(out.join("tables.rs"), tables(&set)).expect("OUT_DIR is writable");
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

/// One static `Message` for each message of package `arqon.v1`, its fields ascending by number. Stops the build where
/// the canonical rule would not hold: packed fields, maps, groups, a schema that refers to itself.
fn tables(set: &FileDescriptorSet) -> String {
    let file = set.file.iter().find(|file| file.package() == "arqon.v1").expect("envelope.proto is in the set");
    let depth = file.message_type.iter().map(|message| depth(file, message, 0)).max().expect("messages");
    let mut text = format!("/// The deepest nesting the schema allows.\npub const DEPTH_MAX: usize = {depth};\n");
    for message in &file.message_type {
        assert!(message.nested_type.is_empty(), "{}: nested types are not in the tables", message.name());
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let rows: String = fields.iter().map(|field| row(message, field)).collect();
        writeln!(
            text,
            "/// `{}`.\npub static {}: Message = Message {{ name: {:?}, fields: &[{rows}] }};",
            message.name(),
            screaming(message.name()),
            message.name()
        )
        .expect("a String");
    }
    text
}

fn row(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = field.label() == Label::Repeated;
    let kind = match field.r#type() {
        Type::Bool => "Kind::Bool".into(),
        Type::Uint32 => "Kind::Uint32".into(),
        Type::Enum => "Kind::Enum".into(),
        Type::Uint64 | Type::Int64 => "Kind::Varint".into(),
        Type::Fixed64 => "Kind::Fixed64".into(),
        Type::Bytes => "Kind::Bytes".into(),
        Type::String => "Kind::String".into(),
        Type::Message => format!("Kind::Message(&{})", screaming(short(field))),
        other => panic!("{}.{}: the canonical rule does not know {other:?}", message.name(), field.name()),
    };
    let packable = !matches!(field.r#type(), Type::Bytes | Type::String | Type::Message);
    assert!(!(repeated && packable), "{}.{}: packed fields are not in the tables", message.name(), field.name());
    let oneof = match field.oneof_index {
        Some(index) if !field.proto3_optional() => index + 1,
        _ => 0,
    };
    assert!(oneof < 8, "{}: more oneofs than the reader's set holds", message.name());
    format!(
        "Field {{ number: {}, name: {:?}, kind: {kind}, repeated: {repeated}, oneof: {oneof} }},",
        field.number(),
        field.name()
    )
}

/// Levels below and including `message`; a schema that refers to itself never ends, and stops here.
fn depth(file: &prost_types::FileDescriptorProto, message: &DescriptorProto, above: usize) -> usize {
    assert!(above < 16, "{}: the schema refers to itself or nests too deeply", message.name());
    let children = message.field.iter().filter(|field| field.r#type() == Type::Message).map(|field| {
        let child = file.message_type.iter().find(|m| m.name() == short(field)).expect("a message of this file");
        depth(file, child, above + 1)
    });
    1 + children.max().unwrap_or(0)
}

fn short(field: &FieldDescriptorProto) -> &str {
    field.type_name().rsplit('.').next().expect("rsplit yields at least once")
}

fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(c.to_uppercase());
    }
    text
}
