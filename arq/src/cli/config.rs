//! `arq config`: checks and renders `arqon.toml`.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use shield::Startup;
use spine::{Storage, StreamSpec, bytes as size};
use voltron_core::config::{self, Config};

use super::input;
use crate::failure::{Exit, Failure};

/// Checks and renders arqon.toml, the one configuration file.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Checks a file: every key, its type, its range, and the files it names. Exit code 1 if anything is wrong.
    ///
    /// It checks what `shield serve` checks, as the user and in the folder it runs in. A file that is not on this machine is
    /// only noted.
    Check {
        /// The file.
        #[arg(default_value = config::FILE)]
        file: PathBuf,
        /// Demand that the files it names are here: for the machine that serves.
        #[arg(long)]
        files: bool,
    },
    /// Prints the configuration, every key with its documentation.
    Render {
        /// In which form.
        #[arg(default_value = "toml")]
        form: Form,
        /// The file. Left out: the defaults.
        file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Form {
    /// A whole arqon.toml.
    Toml,
    /// What the Brain reads: Erlang terms.
    Brain,
    /// The table of keys for the manual, in Markdown; independent of FILE.
    Docs,
}

pub(super) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Check { file, files } => check(&file, files),
        Command::Render { form, file } => {
            let config = file.map_or_else(|| Ok(Config::default()), |file| load(&file))?;
            let text = match form {
                Form::Toml => config.render_toml(),
                Form::Brain => config.render_brain(),
                Form::Docs => config::render_docs(),
            };
            input::bytes(text.as_bytes())?;
            Ok(Exit::Good)
        }
    }
}

fn check(file: &Path, files: bool) -> Result<Exit, Failure> {
    let config = load(file)?;
    let mut notes = config.warnings();
    let (missing, wrong): (Vec<_>, Vec<_>) =
        Startup::problems(&config).into_iter().partition(|problem| problem.missing() && !files);
    if !wrong.is_empty() {
        let lines: Vec<String> = wrong.iter().map(|problem| format!("{}: {problem}", file.display())).collect();
        return Err(Failure::new(Exit::CheckFailed, lines.join("\n")));
    }
    notes.extend(missing.iter().map(|problem| format!("{problem}; a Shield does not start without it")));
    if let Ok(startup) = Startup::load(&config) {
        notes.extend(startup.notes());
    }
    for note in notes {
        input::note(&format!("note: {note}"));
    }
    input::line(&format!("{} is good", file.display()))?;
    input::line(&reserved(&config))?;
    Ok(Exit::Good)
}

/// What the streams reserve when they are made, whatever they hold: a broker with less makes only some of them (10047).
fn reserved(config: &Config) -> String {
    let nats = &config.nats;
    let copies = usize::try_from(nats.replicas).unwrap_or(1);
    let streams = StreamSpec::all(nats.logs, copies, nats.log_max_bytes);
    let on_disk = streams.iter().filter(|stream| stream.storage == Storage::File);
    let one = on_disk.map(|stream| stream.max_bytes).fold(0, u64::saturating_add);
    let all = one.saturating_mul(nats.replicas.into());
    format!(
        "[nats] reserves {} of disk, {} log stream(s) of {} each, on every server that keeps a copy of all: {} with {} \
         cop{} in all",
        size(one),
        nats.logs,
        size(nats.log_max_bytes),
        size(all),
        nats.replicas,
        if nats.replicas == 1 { "y" } else { "ies" },
    )
}

fn load(file: &Path) -> Result<Config, Failure> {
    let readable = file.is_file();
    Config::load(file).map_err(|error| {
        let failure = Failure::new(if readable { Exit::CheckFailed } else { Exit::BadUse }, error.to_string());
        if readable {
            failure.help("`arq config render docs` lists every key with its type, unit, default and range.")
        } else {
            failure.help("`arq config render > arqon.toml` writes one with every default.")
        }
    })
}
