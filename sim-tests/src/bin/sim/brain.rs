//! `--brain`: whose cores the simulated Brains decide by. Under madsim it is always the model.

#[cfg(not(madsim))]
use std::path::{Path, PathBuf};

use clap::ValueEnum;
#[cfg(not(madsim))]
use sim_tests::lockstep::cores::Driver;
#[cfg(not(madsim))]
use sim_tests::lockstep::link::{Driven, Link};

#[cfg(not(madsim))]
use crate::lockstep::root;

/// Whose cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Brain {
    /// The reference model's
    #[default]
    Model,
    /// The Elixir Brain's; every step is compared with the model's (X3)
    Elixir,
}

impl Brain {
    const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Elixir => "elixir",
        }
    }

    /// What a command that runs the same again needs; nothing for the model.
    pub(crate) fn argument(self) -> String {
        if self == Self::Model { String::new() } else { format!(" --brain {}", self.name()) }
    }

    /// Connects to the cores that listen there; `None`: the model decides.
    #[cfg(not(madsim))]
    pub(crate) fn driver(self, socket: Option<&Path>) -> Result<Option<Driver>, String> {
        match (self, socket) {
            (Self::Model, _) => Ok(None),
            (Self::Elixir, None) => Err("no socket is named at which the cores listen".to_owned()),
            (Self::Elixir, Some(socket)) => {
                Driver::connect(socket).map(Some).map_err(|error| format!("no cores at {}: {error}", socket.display()))
            }
        }
    }
}

/// The process of the cores, for as long as this value lives: one for every seed of a command.
#[cfg(not(madsim))]
pub(crate) struct Deciding {
    pub(crate) brain: Brain,
    link: Option<Link>,
}

#[cfg(not(madsim))]
impl Deciding {
    /// Starts it; the model needs none.
    pub(crate) fn start(brain: Brain) -> Result<Self, String> {
        let elixir = || Link::start(&Driven::Elixir { root: root(), patches: Vec::new() });
        let link = (brain != Brain::Model).then(elixir).transpose().map_err(|error| error.to_string())?;
        Ok(Self { brain, link })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        self.link.as_ref().map(Link::socket)
    }

    /// The arguments of a process that runs one seed.
    pub(crate) fn arguments(&self) -> Vec<std::ffi::OsString> {
        self.socket().map_or_else(Vec::new, |socket| {
            vec!["--brain".into(), self.brain.name().into(), "--cores".into(), socket.into_os_string()]
        })
    }
}
