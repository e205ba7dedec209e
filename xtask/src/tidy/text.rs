//! Rules on one file's text.

use super::{File, Finding};

/// Files mostly stay below this.
pub(super) const LINES_WARN: usize = 350;
/// No file of code is longer.
pub(super) const LINES_MAX: usize = 500;

/// Words that no file may hold, each with the reason. Split, so that this table does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it, or say in the docs what is not there"),
    (concat!("FIX", "ME"), "finish it, or say in the docs what is not there"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/tmp/", "w/"), "a path of one machine"),
    (concat!("/tmp/", "t/"), "a path of one machine"),
    (concat!("/root", "/"), "a path of one machine"),
    (concat!("/home", "/"), "a path of one machine"),
    (concat!("RUST", "_LOG"), "the level comes from [log] level alone"),
];

/// Where a forbidden word is the subject itself.
const ALLOWED: &[(&str, &str)] = &[
    // Both say that it is not read.
    (concat!("RUST", "_LOG"), "voltron-core/src/telemetry.rs"),
    (concat!("RUST", "_LOG"), "voltron-core/src/trace.rs"),
];

/// Folders whose code may read environment variables: the manual, which is a tool for developers.
// Planted bugs are in no build that anybody runs: the variable makes any test the finder of one.
// CI tells the lockstep test the commit's seed.
const MAY_READ_ENVIRONMENT: &[&str] = &["xtask/", "fuzz/", "voltron-core/src/mutants", "sim-tests/tests/lockstep.rs"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut found = forbidden(file);
    if file.path.ends_with(".rs") {
        found.extend(rust(file));
    }
    if file.path.ends_with(".md") {
        found.extend(no_trailing_space(file));
    }
    if file.path.ends_with("Cargo.toml") {
        found.extend(manifest(file));
    }
    if file.path.starts_with("scenarios/") && file.path.ends_with(".toml") {
        found.extend(
            file.text
                .parse::<toml::Table>()
                .err()
                .map(|error| Finding::error(&file.path, format!("is no TOML: {}", error.message()))),
        );
    }
    found
}

fn forbidden(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let generated = file.path.ends_with(".lock") || file.path.ends_with("package-lock.json");
    for (word, why) in FORBIDDEN.iter().filter(|_| !generated) {
        if ALLOWED.iter().any(|(allowed, path)| allowed == word && *path == file.path) {
            continue;
        }
        for (n, line) in (1..).zip(file.text.lines()) {
            if line.contains(word) {
                found.push(Finding::error(format!("{}:{n}", file.path), format!("{word}: {why}")));
            }
        }
    }
    found
}

fn rust(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        found.push(Finding::error(&file.path, format!("{lines} lines, at most {LINES_MAX}: split it")));
    } else if lines > LINES_WARN {
        found.push(Finding::warning(&file.path, format!("{lines} lines, mostly at most {LINES_WARN}")));
    }
    // What foo/tests.rs is for stands in its path.
    if !file.text.starts_with("//! ") && !file.path.ends_with("/tests.rs") {
        found.push(Finding::error(&file.path, "the first line says what the file is for: `//! …`"));
    }
    // Cargo itself asks for tests/NAME/mod.rs: another file there would be a test of its own.
    if file.path.ends_with("/mod.rs") && !file.path.contains("/tests/") {
        found.push(Finding::error(&file.path, "a module lies in foo.rs and foo/, not in foo/mod.rs"));
    }
    found.extend(selects(file));
    found.extend(prints(file));
    if !MAY_READ_ENVIRONMENT.iter().any(|folder| file.path.starts_with(folder)) && !is_build_or_test(&file.path) {
        for (n, line) in (1..).zip(file.text.lines()) {
            if line.contains("env::var") {
                let what = "no magic environment variables: make it a key of arqon.toml";
                found.push(Finding::error(format!("{}:{n}", file.path), what));
            }
        }
    }
    found
}

/// Where code may use the print macros: the manual and examples, which nobody runs as a server, and tests.
const MAY_PRINT: &[&str] = &["xtask/", "fuzz/"];

/// The print macros panic when the reader of standard output or standard error is gone.
fn prints(file: &File) -> Vec<Finding> {
    if MAY_PRINT.iter().any(|folder| file.path.starts_with(folder))
        || is_build_or_test(&file.path)
        || file.path.contains("/examples/")
        || file.path.starts_with("spine/src/contract")
    {
        return Vec::new();
    }
    let macros = [concat!("print", "!("), concat!("println", "!(")];
    let lines = (1..).zip(file.text.lines()).filter(|(_, line)| {
        let code = line.trim_start();
        !code.starts_with("//") && macros.iter().any(|name| code.contains(name))
    });
    let what = "a print macro panics when nobody reads; use voltron_core::console";
    lines.map(|(n, _)| Finding::error(format!("{}:{n}", file.path), what)).collect()
}

fn is_build_or_test(path: &str) -> bool {
    path.ends_with("/build.rs") || path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// `tokio::select!` chooses at random unless it is `biased`.
fn selects(file: &File) -> Vec<Finding> {
    let opening = concat!("select", "! {");
    let mut found = Vec::new();
    let mut lines = (1..).zip(file.text.lines()).peekable();
    while let Some((n, line)) = lines.next() {
        let Some((before, after)) = line.split_once(opening) else { continue };
        if before.trim_start().starts_with("//") {
            continue;
        }
        let first = if after.trim().is_empty() { lines.peek().map_or("", |(_, next)| next) } else { after };
        if !first.trim_start().starts_with("biased;") {
            found.push(Finding::error(format!("{}:{n}", file.path), "select without `biased;` is not repeatable"));
        }
    }
    found
}

fn manifest(file: &File) -> Vec<Finding> {
    let Ok(manifest) = file.text.parse::<toml::Table>() else {
        return vec![Finding::error(&file.path, "is no TOML")];
    };
    // A workspace of its own (fuzz) has no workspace to take its lints from.
    let member = manifest.contains_key("package") && !manifest.contains_key("workspace");
    let inherits = |key: &str| {
        let value = manifest.get("lints").and_then(|lints| lints.get(key));
        value.and_then(toml::Value::as_bool) == Some(true)
    };
    if member && !inherits("workspace") {
        return vec![Finding::error(&file.path, "take the workspace's lints: [lints] workspace = true")];
    }
    Vec::new()
}

fn no_trailing_space(file: &File) -> Vec<Finding> {
    let at = (1..).zip(file.text.lines()).find(|(_, line)| line.ends_with([' ', '\t']));
    at.map(|(n, _)| Finding::error(format!("{}:{n}", file.path), "white space at the end of the line"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|finding| finding.place + ": " + &finding.what).collect()
    }

    #[track_caller]
    fn finds(path: &str, text: &str, part: &str) {
        let found = found(path, text);
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
    }

    #[test]
    fn a_good_file_passes() {
        assert_eq!(found("a/src/lib.rs", "//! What it is for.\nfn f() {}\n"), [""; 0]);
        assert_eq!(found("README.md", "# Title\n"), [""; 0]);
        assert_eq!(found("a/Cargo.toml", "[package]\nname = \"a\"\n[lints]\nworkspace = true\n"), [""; 0]);
        assert_eq!(found("fuzz/Cargo.toml", "[package]\nname = \"a\"\n[workspace]\n"), [""; 0]);
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for (word, _) in FORBIDDEN {
            finds("a.txt", &format!("first\nsecond {word}\n"), "a.txt:2: ");
        }
    }

    #[test]
    fn rust_files() {
        finds("a.rs", "fn f() {}\n", "what the file is for");
        assert_eq!(found("a/src/b/tests.rs", "use super::*;\n"), [""; 0]);
        finds("a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_MAX)), "split it");
        finds("a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_WARN)), "mostly at most");
        finds("a/mod.rs", "//! A.\n", "foo.rs and foo/");
        assert_eq!(found("a/tests/common/mod.rs", "//! A.\n"), [""; 0]);
        finds("a/src/a.rs", "//! A.\nstd::env::var(\"A\");\n", "arqon.toml");
        assert_eq!(found("xtask/src/a.rs", "//! A.\nstd::env::var(\"A\");\n"), [""; 0]);
    }

    #[test]
    fn print_macros_are_for_tests() {
        let text =
            format!("//! A.\n//! {}\nfn f() {{ e{} }}\n", concat!("println", "!(1)"), concat!("println", "!(1)"));
        finds("a/src/main.rs", &text, "a/src/main.rs:3: a print macro");
        for path in ["a/tests/b.rs", "a/examples/b.rs", "xtask/src/a.rs", "a/benches/b.rs"] {
            assert_eq!(found(path, &text), [""; 0]);
        }
    }

    #[test]
    fn selects_are_biased() {
        let text = |body: &str| format!("//! A.\ntokio::select{}{body}", "! {");
        assert_eq!(found("a.rs", &text("\n    biased;\n    x = y => {}\n}\n")), [""; 0]);
        assert_eq!(found("a.rs", &text(" biased; x = y => {} }\n")), [""; 0]);
        finds("a.rs", &text("\n    x = y => {}\n}\n"), "a.rs:2: select");
        finds("a.rs", &text(" x = y => {} }\n"), "a.rs:2: select");
    }

    #[test]
    fn manifests_scenarios_and_pages() {
        finds("a/Cargo.toml", "[package]\nname = \"a\"\n", "workspace = true");
        finds("a/Cargo.toml", "[package\n", "no TOML");
        finds("scenarios/a.toml", "[world\n", "no TOML");
        finds("a.md", "one\ntwo \n", "a.md:2: white space");
    }
}
