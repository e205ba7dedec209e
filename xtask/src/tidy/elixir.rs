//! Rules on the Brain's Elixir, beside what `mix format` and the compiler already hold it to.

use super::text::{LINES_MAX, LINES_WARN};
use super::{File, Finding};
use crate::generate;

/// Calls that what ships may not hold, each with the reason. Split, so that this table does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("System.", "get_env"), "no magic environment variables: make it a key of arqon.toml"),
    (concat!("System.", "fetch_env"), "no magic environment variables: make it a key of arqon.toml"),
    (concat!("String.", "to_atom"), "atoms are never freed: none is made from what comes from outside"),
    (concat!(":erlang.", "binary_to_atom"), "atoms are never freed: none is made from what comes from outside"),
    (concat!(":erlang.", "list_to_atom"), "atoms are never freed: none is made from what comes from outside"),
    (concat!(":erlang.", "binary_to_term"), "terms from outside can hold anything: decode a message"),
];

pub(super) fn check(file: &File) -> Vec<Finding> {
    if !(file.path.ends_with(".ex") || file.path.ends_with(".exs")) || file.text.starts_with(generate::MARK) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        found.push(Finding::error(&file.path, format!("{lines} lines, at most {LINES_MAX}: split it")));
    } else if lines > LINES_WARN {
        found.push(Finding::warning(&file.path, format!("{lines} lines, mostly at most {LINES_WARN}")));
    }
    // What a test or a script is for stands in its name.
    if file.path.ends_with(".ex") && !file.text.lines().take(3).any(|line| line.trim_start().starts_with("@moduledoc"))
    {
        found.push(Finding::error(&file.path, "the first lines say what the file is for: `@moduledoc`"));
    }
    if file.path.starts_with("brain/lib/") {
        for (n, line) in (1..).zip(file.text.lines()) {
            for (call, why) in FORBIDDEN.iter().filter(|(call, _)| line.contains(call)) {
                found.push(Finding::error(format!("{}:{n}", file.path), format!("{call}: {why}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let found = check(&File { path: path.into(), text: text.into() });
        found.into_iter().map(|finding| finding.place + ": " + &finding.what).collect()
    }

    const HEAD: &str = "defmodule A do\n  @moduledoc \"What it is for.\"\n";

    #[test]
    fn good_files_pass() {
        assert_eq!(found("brain/lib/brain/a.ex", HEAD), [""; 0]);
        assert_eq!(found("brain/test/a_test.exs", "defmodule ATest do\n  Process.sleep(1)\n"), [""; 0]);
        let generated = format!("{} from x\n{}", generate::MARK, "\n".repeat(LINES_MAX));
        assert_eq!(found("brain/lib/brain/code.ex", &generated), [""; 0]);
        assert_eq!(found("a.rs", &"\n".repeat(LINES_MAX + 1)), [""; 0]);
    }

    #[test]
    fn each_rule_bites() {
        for (path, text, part) in [
            ("brain/lib/a.ex", "defmodule A do\n".to_owned(), "@moduledoc"),
            ("brain/lib/a.ex", HEAD.to_owned() + &"\n".repeat(LINES_MAX), "split it"),
            ("brain/test/a_test.exs", "\n".repeat(LINES_WARN + 1), "mostly at most"),
        ] {
            let found = found(path, &text);
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        }
        for (call, why) in FORBIDDEN {
            assert_eq!(
                found("brain/lib/a.ex", &format!("{HEAD}  {call}(x)\n")),
                [format!("brain/lib/a.ex:3: {call}: {why}")]
            );
        }
    }
}
