//! How a command ends: its exit code, and a text that says what to do next.

use std::fmt;
use std::process::ExitCode;

use proto::Code;
use proto::error::Scope;

use arq::client::{ConnectError, SessionError};

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Good = 0,
    /// It ran, and what it checked does not hold.
    CheckFailed = 1,
    /// It was called wrongly.
    BadUse = 2,
    /// A service cannot be reached.
    Unreachable = 3,
    /// A token, a right or a policy said no.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// What an answer with this code means for the caller.
    pub(crate) fn of(code: u32) -> Self {
        match code {
            0 => Self::Good,
            2000..=3999 | 4000..=4099 | 4300..=4399 | 5011 => Self::Refused,
            4100..=4299 | 6000..=6999 => Self::Unreachable,
            _ => Self::CheckFailed,
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What is wrong.
    pub(crate) text: String,
    /// The stable code, if there is one; its help is printed.
    pub(crate) code: Option<Code>,
    /// What to do next, where no code says it.
    pub(crate) help: Option<String>,
}

impl Failure {
    /// A failure without a stable code.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), code: None, help: None }
    }

    /// The command was called wrongly.
    pub(crate) fn bad_use(text: impl Into<String>) -> Self {
        Self::new(Exit::BadUse, text)
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the stable code.
    #[must_use]
    pub(crate) const fn code(mut self, code: Option<Code>) -> Self {
        self.code = code;
        self
    }

    /// A refusal with this number. `text` is the other side's own, and may be empty.
    pub(crate) fn refused(what: &str, number: u32, text: &str) -> Self {
        let code = known(number);
        let text = match (text.is_empty(), code) {
            (false, _) => text,
            (true, Some(code)) => code.message(),
            (true, None) => "no reason was given",
        };
        Self::new(Exit::of(number), format!("{what}: {text}")).code(code)
    }
}

/// The code with this number.
pub(crate) fn known(number: u32) -> Option<Code> {
    u16::try_from(number).ok().and_then(Code::from_u16)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.text)?;
        if let Some(code) = self.code {
            write!(f, "\n  code: {code}")?;
        }
        let help = self.help.as_deref().or(self.code.map(Code::help));
        help.map_or(Ok(()), |help| write!(f, "\n  help: {help}"))
    }
}

impl std::error::Error for Failure {}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::Unreachable { .. } => Self::new(Exit::Unreachable, text)
                .help("Is a server running there? `arq dev` starts one and prints its URL and a token."),
            SessionError::Target(_) => Self::bad_use(text),
            SessionError::Refused { source: ConnectError::Refused { status, code, .. }, .. } => {
                let code = code.and_then(Code::from_u16);
                let exit = if matches!(status, 401 | 403) { Exit::Refused } else { Exit::Unreachable };
                let failure = Self::new(exit, text).code(code);
                match (code, status) {
                    (None, 404) => failure.help("Arqon listens at the path /v1/ws: is that in --url?"),
                    _ => failure,
                }
            }
            SessionError::Refused { .. } => Self::new(Exit::Unreachable, text),
            SessionError::Closed { code, .. } => {
                let known = Code::from_u16(code).filter(|code| code.scope() == Scope::Close);
                Self::new(Exit::of(code.into()), text).code(known)
            }
        }
    }
}
