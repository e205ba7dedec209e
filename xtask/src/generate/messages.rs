//! Elixir modules from one schema: a struct, its type and its field table for each message, a module for each enum.
//! `Brain.Codec` makes the codec from the tables.

use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use super::{MARK, Output, union};

/// The file of one schema. Refuses what the Brain's codec does not know: maps, groups, floats, nested types, and a oneof
/// whose members do not stand together (prost would write it out of order).
pub(super) fn output(file: &FileDescriptorProto) -> Result<Output, String> {
    let name = last(file.package());
    let mut text = format!("{MARK} from proto/src/{}; change that.\n", file.name());
    let mut modules = Vec::new();
    // Paths of source comments: 5 is FileDescriptorProto.enum_type, 4 is message_type.
    for (at, kind) in (0..).zip(&file.enum_type) {
        modules.push(enumeration(file, kind, &comment(file, &[5, at]))?);
    }
    for (at, message) in (0..).zip(&file.message_type) {
        let module = Module { file, message, about: comment(file, &[4, at]) };
        modules.push(module.text().map_err(|error| format!("{}: {}.{error}", file.name(), message.name()))?);
    }
    text.push_str(&modules.join("\n"));
    Ok(Output { path: format!("brain/lib/brain/proto/{name}.ex"), text })
}

/// `v1` of `arqon.v1`, `internal` of `arqon.internal.v1`.
fn last(package: &str) -> &str {
    package.strip_prefix("arqon.").map_or(package, |rest| rest.strip_suffix(".v1").unwrap_or(rest))
}

/// `Brain.Proto.V1.Head` of `.arqon.v1.Head`.
fn module(type_name: &str) -> String {
    let full = type_name.trim_start_matches('.');
    let (package, name) = full.rsplit_once('.').unwrap_or(("", full));
    let space = last(package);
    let camel: String = space.chars().take(1).flat_map(char::to_uppercase).chain(space.chars().skip(1)).collect();
    format!("Brain.Proto.{camel}.{name}")
}

/// What the schema says above an item.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let text = locations.filter(|location| location.path == path).find_map(|found| found.leading_comments.clone());
    text.unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn head(type_name: &str, about: &str, uses: &str) -> String {
    let about = if about.is_empty() { String::new() } else { format!(": {}", about.replace('\\', "\\\\")) };
    format!(
        "defmodule {} do\n  @moduledoc \"\"\"\n  `{type_name}`{about}\n  \"\"\"\n  use {uses}\n\n",
        module(type_name)
    )
}

fn enumeration(file: &FileDescriptorProto, kind: &EnumDescriptorProto, about: &str) -> Result<String, String> {
    let prefix = format!("{}_", screaming(kind.name()));
    let mut values = Vec::new();
    for value in &kind.value {
        let atom = value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_lowercase();
        if values.iter().any(|(number, _)| *number == value.number()) {
            return Err(format!("{}: two names for one number", kind.name()));
        }
        values.push((value.number(), format!(":{atom}")));
    }
    let mut text = head(&format!("{}.{}", file.package(), kind.name()), about, "Brain.Codec.Enum");
    let mut members: Vec<String> = values.iter().map(|(_, atom)| atom.clone()).collect();
    members.push("integer()".into());
    let rows: Vec<String> = values.iter().map(|(number, atom)| format!("    {{{number}, {atom}}}")).collect();
    let union = union("  @type t ::", &members);
    writeln!(text, "  @typedoc \"A number that the schema does not name stays one.\"\n{union}\n").expect("a String");
    writeln!(text, "  enum([\n{}\n  ])\nend", rows.join(",\n")).expect("a String");
    Ok(text)
}

/// One message on its way to Elixir.
struct Module<'a> {
    file: &'a FileDescriptorProto,
    message: &'a DescriptorProto,
    about: String,
}

impl Module<'_> {
    fn text(&self) -> Result<String, String> {
        if let Some(nested) = self.message.nested_type.first() {
            return Err(format!("{}: nested types and maps are not generated", nested.name()));
        }
        let mut fields: Vec<_> = self.message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let mut rows = Vec::new();
        // (member of the struct, its type); a oneof once, where its first member stands.
        let mut members: Vec<(&str, String)> = Vec::new();
        let mut types = String::new();
        for field in &fields {
            let (row, kind) = self.row(field).map_err(|error| format!("{}: {error}", field.name()))?;
            rows.push(format!("    {row}"));
            match self.oneof(field) {
                None => members.push((field.name(), kind)),
                Some(name) if members.last().is_some_and(|(last, _)| *last == name) => {}
                Some(name) if members.iter().any(|(known, _)| *known == name) => {
                    return Err(format!("{name}: another field stands between the members of the oneof"));
                }
                Some(name) => {
                    members.push((name, format!("{name}()")));
                    writeln!(types, "{}\n", self.choice(name, &fields)?).expect("a String");
                }
            }
        }
        let type_name = format!("{}.{}", self.file.package(), self.message.name());
        let mut text = head(&type_name, &self.about, "Brain.Codec.Message");
        text.push_str(&types);
        let members: Vec<String> = members.iter().map(|(name, kind)| format!("          {name}: {kind}")).collect();
        if members.is_empty() {
            text.push_str("  @type t :: %__MODULE__{}\n\n  message([])\nend\n");
        } else {
            writeln!(text, "  @type t :: %__MODULE__{{\n{}\n        }}\n", members.join(",\n")).expect("a String");
            writeln!(text, "  message([\n{}\n  ])\nend", rows.join(",\n")).expect("a String");
        }
        Ok(text)
    }

    /// The oneof that the field is a member of; an optional field is none.
    fn oneof(&self, field: &FieldDescriptorProto) -> Option<&str> {
        if field.proto3_optional() {
            return None;
        }
        Some(self.message.oneof_decl.get(usize::try_from(field.oneof_index?).ok()?)?.name())
    }

    /// The type of a oneof's member of the struct.
    fn choice(&self, name: &str, fields: &[&FieldDescriptorProto]) -> Result<String, String> {
        let mut members = vec!["nil".to_owned()];
        for field in fields.iter().filter(|field| self.oneof(field) == Some(name)) {
            members.push(format!("{{:{}, {}}}", field.name(), kind(field)?.1));
        }
        Ok(union(&format!("  @type {name} ::"), &members))
    }

    /// The field's row in the table, and its type in the struct.
    fn row(&self, field: &FieldDescriptorProto) -> Result<(String, String), String> {
        let (kind, plain) = kind(field)?;
        let message = field.r#type() == Type::Message;
        let (shape, shaped) = match self.oneof(field) {
            Some(name) => (format!("{{:oneof, :{name}}}"), plain),
            None if field.label() == Label::Repeated => (":repeated".into(), format!("[{plain}]")),
            None if message || field.proto3_optional() => (":optional".into(), format!("nil | {plain}")),
            None => (":single".into(), plain),
        };
        Ok((format!("{{{}, :{}, {kind}, {shape}}}", field.number(), field.name()), shaped))
    }
}

/// What a field holds: in the table, and as a type.
fn kind(field: &FieldDescriptorProto) -> Result<(String, String), String> {
    let plain = |kind: &str, of: &str| Ok((format!(":{kind}"), of.to_owned()));
    match field.r#type() {
        Type::Bool => plain("bool", "boolean()"),
        Type::Uint32 => plain("uint32", "non_neg_integer()"),
        Type::Uint64 => plain("uint64", "non_neg_integer()"),
        Type::Int64 => plain("int64", "integer()"),
        Type::Fixed64 => plain("fixed64", "non_neg_integer()"),
        Type::Bytes => plain("bytes", "binary()"),
        Type::String => plain("string", "binary()"),
        Type::Enum => {
            let module = module(field.type_name());
            Ok((format!("{{:enum, {module}}}"), format!("{module}.t()")))
        }
        Type::Message => {
            let module = module(field.type_name());
            Ok((format!("{{:message, {module}}}"), format!("{module}.t()")))
        }
        other => Err(format!("the Brain's codec does not know {other:?}")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(body: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("syntax = \"proto3\";\npackage arqon.a.v1;\n{body}");
        std::fs::write(folder.path().join("a.proto"), text).expect("writable");
        let set = protox::compile(["a.proto"], [folder.path()]).map_err(|error| error.to_string())?;
        output(&set.file[0]).map(|output| output.text)
    }

    #[track_caller]
    fn holds(text: &str, part: &str) {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }

    #[test]
    fn every_shape_of_a_field() {
        let text = generated(
            "enum Kind { KIND_NONE = 0; KIND_BIG = 7; }\n\
             // What it is.\nmessage A { string s = 1; optional uint64 o = 2; repeated bytes r = 3; A a = 4; Kind k = 5;\n\
             oneof choice { bool b = 6; A c = 7; } int64 z = 8; }\nmessage E {}",
        )
        .expect("a schema");
        holds(&text, "defmodule Brain.Proto.A.Kind do\n");
        holds(&text, "  @type t :: :none | :big | integer()\n");
        holds(&text, "  enum([\n    {0, :none},\n    {7, :big}\n  ])\n");
        holds(&text, "  `arqon.a.v1.A`: What it is.\n");
        holds(&text, "  @type choice :: nil | {:b, boolean()} | {:c, Brain.Proto.A.A.t()}\n");
        holds(
            &text,
            "          o: nil | non_neg_integer(),\n          r: [binary()],\n          a: nil | Brain.Proto.A.A.t(),\n",
        );
        holds(&text, "          choice: choice(),\n          z: integer()\n        }\n");
        holds(&text, "    {2, :o, :uint64, :optional},\n    {3, :r, :bytes, :repeated},\n");
        holds(&text, "    {5, :k, {:enum, Brain.Proto.A.Kind}, :single},\n    {6, :b, :bool, {:oneof, :choice}},\n");
        holds(&text, "  @type t :: %__MODULE__{}\n\n  message([])\nend\n");
    }

    #[test]
    fn what_the_codec_does_not_know_is_refused() {
        for (body, part) in [
            ("message A { double d = 1; }", "Double"),
            ("message A { map<string, bytes> m = 1; }", "nested"),
            ("message A { message B {} B b = 1; }", "nested"),
            ("message A { oneof c { bool a = 1; bool b = 3; } bool d = 2; }", "between"),
        ] {
            let error = generated(body).expect_err(body);
            assert!(error.contains(part), "{error}");
        }
    }
}
