//! Everything that a Shield needs besides its sockets and the broker, read and checked once. `shield serve` starts from
//! it and `arq config check` runs it, so that a file that is called good is one that is served.

use voltron_core::config::Config;

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

impl Startup {
    /// Reads and checks every file that `config` names for a Shield. What a file need not hold for a start but an operator
    /// should know is in [`Startup::notes`].
    pub fn load(config: &Config) -> Result<Self, StartupError> {
        let keys = Keys::load(&config.auth)?;
        keys.check()?;
        let credentials = match (&config.nats.user, &config.nats.password_file) {
            (Some(user), Some(path)) => {
                let password = std::fs::read_to_string(path).map_err(|why| StartupError::File {
                    section: "nats",
                    key: "password_file",
                    path: path.clone(),
                    why,
                })?;
                Some((user.clone(), password.trim().to_owned()))
            }
            _ => None,
        };
        if let Some(path) = &config.log.trace_file {
            trace_file(path).map_err(|why| StartupError::Trace { path: path.clone(), why })?;
        }
        Ok(Self { keys, credentials })
    }

    /// What an operator should know although the Shield starts.
    pub fn notes(&self) -> Vec<String> {
        self.keys.skipped().iter().map(|skipped| format!("[auth] jwks_file: {skipped}")).collect()
    }
}

/// The file is there and can be appended to, or its folder is there. A check makes no file.
fn trace_file(path: &str) -> Result<(), String> {
    match std::fs::OpenOptions::new().append(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = std::path::Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.is_dir() => Err(format!("there is no folder {}", folder.display())),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}
