//! `arqon.toml`: one file, one schema, read by every process. Strict: a key that is not in the schema is refused with its
//! place and the nearest known key, and so is a value of the wrong type or out of its range.
//!
//! ```
//! use voltron_core::config::Config;
//!
//! let config = Config::parse("[server]\nport = 4000\n\n[policy]\ndefault = \"none\"\n").expect("a good file");
//! assert_eq!(config.server.port, 4000);
//!
//! let refused = Config::parse("[server]\nprot = 4000\n\n[policy]\ndefault = \"none\"\n").expect_err("a typing error");
//! assert_eq!(refused.to_string(), "arqon.toml:2:1: unknown key `prot` in [server]; did you mean `port`?");
//! ```
//!
//! The schema stands in [`schema`] alone; the structs, their defaults, the documentation of `arq config render` and the
//! checks are made from it. No environment variable is read.

mod check;
mod erlang;
mod error;
mod names;
mod read;
mod render;
pub mod schema;
mod value;

pub use error::{ConfigError, Fault, Problem};
pub use names::{authority, nats_url};
pub use schema::{Auth, Brain, Config, Drain, Http, Key, Limits, Log, Nats, Policy, Section, Server, Shield, sections};
pub use value::{DefaultPolicy, Isolation, LogFormat, LogLevel, PolicyMode, Signatures};

/// The file's usual name.
pub const FILE: &str = "arqon.toml";

/// The longest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

impl Config {
    /// Reads a configuration from text; errors name the file `arqon.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::parse_named(FILE, text)
    }

    /// Reads a configuration from text; errors name the file `name`.
    ///
    /// All problems of a file are reported at once, in the order of their places.
    pub fn parse_named(name: &str, text: &str) -> Result<Self, ConfigError> {
        read::read(text).map_err(|problems| ConfigError::new(name, problems))
    }

    /// Reads a configuration file of at most [`FILE_BYTES_MAX`] bytes.
    pub fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        use std::io::Read as _;
        let name = path.display().to_string();
        let unreadable = |why: std::io::Error| ConfigError::new(&name, vec![Problem::unreadable(why.to_string())]);
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
        }
        Self::parse_named(&name, &text)
    }

    /// The whole configuration as TOML with every key, its help, unit, default and range; [`Config::parse`] reads it back
    /// to an equal value.
    pub fn render_toml(&self) -> String {
        render::toml(self)
    }

    /// The Brain's part as Erlang terms, for `file:consult/1`: one property list, strings as binaries, an unset key as
    /// the atom `undefined`.
    pub fn render_brain(&self) -> String {
        erlang::brain(self)
    }

    /// What an operator should know although the file is good, e.g. that everything passes the policy.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }
}

/// The secret in a file of `[auth] hs256_secret_file`. A secret is bytes. White space around a text is what an editor or
/// `echo` left there, and is ignored; a file that is no UTF-8 is taken as it is, for its last byte may well be a line feed.
pub fn secret(file: &[u8]) -> &[u8] {
    if std::str::from_utf8(file).is_ok() { file.trim_ascii() } else { file }
}

/// Every key with its type, unit, default, range and help, as a Markdown table: what `arq config render docs` prints.
pub fn render_docs() -> String {
    render::docs()
}

#[cfg(test)]
mod tests;
