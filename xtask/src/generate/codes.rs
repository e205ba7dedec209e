//! `Brain.Code` from `proto/errors.toml`.

use std::fmt::Write as _;

use super::{MARK, Output, WIDTH, union};

/// One row of the registry.
struct Row {
    code: u16,
    name: String,
    retry: String,
    scope: String,
    message: String,
}

/// The module. The registry's order and uniqueness are checked by the build of `proto`.
pub(super) fn output(errors: &str) -> Result<Output, String> {
    let rows = rows(errors)?;
    let names: Vec<String> = rows.iter().map(|row| format!(":{}", row.name)).collect();
    let mut text = format!(
        "{MARK} from proto/errors.toml; change that.\n\
         defmodule Brain.Code do\n  @moduledoc \"\"\"\n  \
         The registry of stable codes: what a client, an operator or a test can meet. Only the codes are API; texts are for\n  \
         people.\n  \"\"\"\n\n"
    );
    let doc = |text: &mut String, what: &str| writeln!(text, "  @typedoc \"{what}\"").expect("a String");
    doc(&mut text, "A code by its name.");
    writeln!(text, "{}\n", union("  @type t ::", &names)).expect("a String");
    doc(&mut text, "What a client may do: nothing, the same bytes again, wait, open a connection, fetch a token.");
    writeln!(text, "{}\n", union("  @type retry ::", &distinct(&rows, |row| &row.retry))).expect("a String");
    doc(&mut text, "Where it appears: ERR, ACK, SUB or UNSUB, a close code, a refused handshake.");
    writeln!(text, "{}\n", union("  @type scope ::", &distinct(&rows, |row| &row.scope))).expect("a String");

    text.push_str("  @doc \"Every code, ascending by number.\"\n  @spec all() :: [t()]\n  def all do\n    [\n");
    writeln!(text, "      {}\n    ]\n  end\n", names.join(",\n      ")).expect("a String");
    let atom = |value: &str| format!(":{value}");
    clauses(&mut text, &rows, "The number on the wire.", "number", "pos_integer()", |row| row.code.to_string());
    clauses(&mut text, &rows, "One line for people.", "message", "binary()", |row| quoted(&row.message));
    clauses(&mut text, &rows, "What a client may do.", "retry", "retry()", |row| atom(&row.retry));
    clauses(&mut text, &rows, "Where it appears.", "scope", "scope()", |row| atom(&row.scope));
    text.push_str(
        "  @doc \"The name in snake case.\"\n  @spec name(t()) :: binary()\n  \
         def name(code), do: Atom.to_string(code)\n\n  \
         @doc \"The code with this number, if there is one.\"\n  @spec from_number(integer()) :: t() | nil\n",
    );
    for row in &rows {
        writeln!(text, "  def from_number({}), do: :{}", row.code, row.name).expect("a String");
    }
    text.push_str("  def from_number(number) when is_integer(number), do: nil\nend\n");
    Ok(Output { path: "brain/lib/brain/code.ex".into(), text })
}

fn rows(errors: &str) -> Result<Vec<Row>, String> {
    let registry: toml::Table = errors.parse().map_err(|error| format!("proto/errors.toml: {error}"))?;
    let entries = registry.get("error").and_then(toml::Value::as_array).ok_or("proto/errors.toml: no [[error]]")?;
    let row = |entry: &toml::Value| {
        let text = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
        let code = u16::try_from(entry.get("code")?.as_integer()?).ok()?;
        Some(Row { code, name: text("name")?, retry: text("retry")?, scope: text("scope")?, message: text("message")? })
    };
    let rows = entries.iter().map(|entry| row(entry).ok_or_else(|| format!("proto/errors.toml: no row: {entry}")));
    rows.collect()
}

/// Each value once, in the order it first appears, as atoms.
fn distinct(rows: &[Row], value: impl Fn(&Row) -> &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for row in rows {
        let atom = format!(":{}", value(row));
        if !values.contains(&atom) {
            values.push(atom);
        }
    }
    values
}

fn clauses(text: &mut String, rows: &[Row], doc: &str, name: &str, to: &str, value: impl Fn(&Row) -> String) {
    writeln!(text, "  @doc \"{doc}\"\n  @spec {name}(t()) :: {to}").expect("a String");
    for row in rows {
        let (head, value) = (format!("  def {name}(:{})", row.name), value(row));
        let line = format!("{head}, do: {value}");
        let line = if line.len() <= WIDTH { line } else { format!("\n{head},\n    do: {value}\n") };
        writeln!(text, "{line}").expect("a String");
    }
    text.push('\n');
}

/// A text as an Elixir literal.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("#{", "\\#{"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[error]]\ncode = 1001\nname = \"empty\"\nretry = \"never\"\nscope = \"frame\"\nmessage = \"a \\\"b\\\"\"\nhelp = \"-\"\n";

    #[test]
    fn a_row_becomes_clauses() {
        let text = output(ONE).expect("a registry").text;
        for part in [
            "@type t :: :empty\n",
            "def number(:empty), do: 1001\n",
            "def message(:empty), do: \"a \\\"b\\\"\"\n",
            "def from_number(1001), do: :empty\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_row_that_lacks_something_is_told() {
        let broken = ONE.replace("scope", "scoop");
        assert!(output(&broken).expect_err("no scope").contains("no row"));
        assert!(output("").expect_err("empty").contains("[[error]]"));
    }
}
