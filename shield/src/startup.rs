//! Everything that a Shield needs besides its sockets and the broker, read and checked once. `shield serve` starts from
//! it and `arq config check` runs it, so that a file that is called good is one that is served.

use std::fs::OpenOptions;
use std::path::Path;

use voltron_core::config::{Auth, Config, Log, Nats};

use crate::auth::{Keys, KeysError};

/// What a configuration's files hold.
pub struct Startup {
    /// What tokens are checked with.
    pub keys: Keys,
    /// The NATS user and its password.
    pub credentials: Option<(String, String)>,
}

/// Why a Shield cannot start with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// No key, or a file without one.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A file cannot be read.
    #[error("[{section}] {key} {path}: {why}")]
    File {
        /// The section of the key that names it.
        section: &'static str,
        /// That key.
        key: &'static str,
        /// As configured.
        path: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// The trace has no place.
    #[error("[log] trace_file {path}: {why}")]
    Trace {
        /// As configured.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StartupError {
    /// True if a file is not there at all: another machine may hold it.
    pub fn missing(&self) -> bool {
        let (Self::Keys(KeysError::File { why, .. }) | Self::File { why, .. }) = self else { return false };
        why.kind() == std::io::ErrorKind::NotFound
    }
}

impl Startup {
    /// Reads and checks every file that `config` names for a Shield; fails with the first of [`Startup::problems`].
    pub fn load(config: &Config) -> Result<Self, StartupError> {
        let keys = keys(&config.auth)?;
        let credentials = credentials(&config.nats)?;
        trace_file(&config.log)?;
        Ok(Self { keys, credentials })
    }

    /// Everything that stops a Shield from starting with this configuration.
    pub fn problems(config: &Config) -> Vec<StartupError> {
        // Each file alone, so that one that is missing hides no other.
        let set = Auth { hs256_secret_file: None, ..config.auth.clone() };
        let secret = Auth { jwks_file: None, ..config.auth.clone() };
        let mut found: Vec<StartupError> =
            [set, secret].iter().filter_map(|auth| Keys::load(auth).err()).map(StartupError::from).collect();
        if found.is_empty() {
            found.extend(keys(&config.auth).err());
        }
        found.extend(credentials(&config.nats).err());
        found.extend(trace_file(&config.log).err());
        found
    }

    /// What an operator should know although the Shield starts.
    pub fn notes(&self) -> Vec<String> {
        self.keys.skipped().iter().map(|skipped| format!("[auth] jwks_file: {skipped}")).collect()
    }
}

fn keys(auth: &Auth) -> Result<Keys, StartupError> {
    let keys = Keys::load(auth)?;
    keys.check()?;
    Ok(keys)
}

fn credentials(nats: &Nats) -> Result<Option<(String, String)>, StartupError> {
    let (Some(user), Some(path)) = (&nats.user, &nats.password_file) else { return Ok(None) };
    let failed = |why| StartupError::File { section: "nats", key: "password_file", path: path.clone(), why };
    let password = std::fs::read_to_string(path).map_err(failed)?;
    Ok(Some((user.clone(), password.trim().to_owned())))
}

/// The file is there and can be appended to, or its folder is there. A check makes no file.
fn trace_file(log: &Log) -> Result<(), StartupError> {
    let Some(path) = &log.trace_file else { return Ok(()) };
    let failed = |why: String| Err(StartupError::Trace { path: path.clone(), why });
    match OpenOptions::new().append(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) if !folder.is_dir() => failed(format!("there is no folder {}", folder.display())),
                _ => Ok(()),
            }
        }
        Err(error) => failed(error.to_string()),
    }
}
