//! Why a scenario file cannot be used, with the place and what to do.

use std::path::PathBuf;

/// Why a scenario file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Its text is wrong at one place.
    #[error("line {line}, column {column}: {what}")]
    Text {
        /// From 1 on.
        line: usize,
        /// From 1 on, in characters.
        column: usize,
        /// What is wrong, and what to do.
        what: String,
    },
    /// It contradicts itself.
    #[error("{0}")]
    Meaning(String),
    /// It cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// A TOML error with its place, and the nearest known key for an unknown one.
pub(super) fn placed(text: &str, error: &toml::de::Error) -> ScenarioError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message();
    // serde says: unknown field `x`, expected one of `a`, `b` (or: expected `a` or `b`).
    let what = match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((unknown, rest)) => {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let hint = did_you_mean(unknown, known.iter().copied());
            let hint = if hint.is_empty() { format!("; there are {}", known.join(", ")) } else { hint };
            format!("unknown field `{unknown}`{hint}")
        }
        None => message.to_owned(),
    };
    ScenarioError::Text { line, column, what }
}

/// `; did you mean `x`?` if something near is known, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}
