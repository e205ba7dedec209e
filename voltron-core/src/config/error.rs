//! What is wrong with a configuration file, and where.

use std::fmt;

/// A file that cannot be used, with every problem found in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    file: String,
    problems: Vec<Problem>,
}

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both from 1, the column in characters; `None` if it belongs to the file as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is no TOML.
    #[error("{0}")]
    Syntax(String),
    /// A table that is no section.
    #[error("unknown section [{name}]{}", hint(.near, "[", "]"))]
    UnknownSection {
        /// As written.
        name: String,
        /// The nearest known section, if one is near.
        near: Option<&'static str>,
    },
    /// A key that the section does not have.
    #[error("unknown key `{key}` in [{section}]{}", hint(.near, "`", "`"))]
    UnknownKey {
        /// The section it stands in.
        section: &'static str,
        /// As written.
        key: String,
        /// The nearest known key, `section.key` if it belongs to another section.
        near: Option<String>,
    },
    /// A key outside of any section.
    #[error("key `{key}` stands outside of any section{}", hint(.near, "`", "`"))]
    OutsideSections {
        /// As written.
        key: String,
        /// Where a key of that name belongs.
        near: Option<String>,
    },
    /// The value does not fit the key.
    #[error("[{section}] {key}: {why}")]
    Value {
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A key that must be written.
    #[error("[{section}] {key} must be written: {help}")]
    Missing {
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What to write.
        help: &'static str,
    },
    /// Values that are good alone but not together.
    #[error("{0}")]
    Together(String),
}

fn hint(near: &Option<impl fmt::Display>, open: &str, close: &str) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean {open}{near}{close}?"))
}

impl Problem {
    /// A file that cannot be read.
    pub(super) fn unreadable(why: String) -> Self {
        Self { place: None, fault: Fault::Unreadable(why) }
    }
}

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place.unwrap_or((usize::MAX, 0)));
        Self { file: file.to_owned(), problems }
    }

    /// The file's name as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Everything that is wrong, in the order of the places; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some((line, column)) = problem.place {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", problem.fault)?;
        }
        Ok(())
    }
}
