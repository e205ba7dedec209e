//! The simulated broker on real TCP, with nats-server's basic flags, for whoever starts a `nats-server` in a script.
//!
//! ```text
//! spine-sim -p 4222 -js -sd /tmp/streams
//! ```
//!
//! Streams live in memory unless `-sd` names a directory. SIGTERM or SIGINT ends it; streams are synced then.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use spine_sim::{Broker, BrokerOptions, User};
use tokio::signal::unix::{SignalKind, signal};
use voltron_core::{Ids, Listener, Net, OsIds, SystemClock, TcpNet, WallClock, console};

/// A NATS broker (core and a JetStream subset) for development and tests.
#[derive(Debug, Parser)]
#[command(name = "spine-sim", version = spine_sim::SERVER_VERSION, disable_help_flag = true)]
struct Flags {
    /// Address to bind; nats-server binds all, this binds loopback unless told otherwise.
    #[arg(short = 'a', long = "addr", alias = "net", default_value = "127.0.0.1")]
    addr: String,
    /// Port to bind; 0 is nats-server's default of 4222, -1 a free one.
    #[arg(short = 'p', long = "port", default_value_t = 4222, allow_negative_numbers = true)]
    port: i32,
    /// Directory for file streams (also -sd). Without it they live in memory.
    #[arg(long = "store_dir")]
    store_dir: Option<PathBuf>,
    /// JetStream is always on; the flag (also -js) is taken for nats-server's sake.
    #[arg(long = "jetstream")]
    jetstream: bool,
    /// File to write the process id to.
    #[arg(short = 'P', long = "pid")]
    pid: Option<PathBuf>,
    /// File to log to, instead of standard error.
    #[arg(short = 'l', long = "log")]
    log: Option<PathBuf>,
    /// Directory to write a `.ports` file into, as nats-server does.
    #[arg(long = "ports_file_dir")]
    ports_file_dir: Option<PathBuf>,
    /// The user that may connect; together with --pass.
    #[arg(long = "user", requires = "pass")]
    user: Option<String>,
    /// Its password.
    #[arg(long = "pass", requires = "user")]
    pass: Option<String>,
    /// Determines every choice the broker makes; drawn if not given.
    #[arg(long = "seed")]
    seed: Option<u64>,
    /// Print help.
    #[arg(short = 'h', long = "help", action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// nats-server's flags take one dash for long names too.
fn normalised(args: impl Iterator<Item = String>) -> Vec<String> {
    args.map(|arg| match arg.as_str() {
        "-sd" => "--store_dir".into(),
        "-js" => "--jetstream".into(),
        _ => match arg.strip_prefix('-') {
            Some(rest)
                if rest.len() > 2
                    && rest.starts_with(|c: char| c.is_ascii_lowercase())
                    && !rest[1..].starts_with('=') =>
            {
                format!("--{rest}")
            }
            _ => arg,
        },
    })
    .collect()
}

/// Log lines in nats-server's form.
struct Log(Box<dyn Write>);

impl Log {
    fn line(&mut self, text: impl Display) {
        let now = SystemClock.now_ms().div_euclid(1000);
        // A log that cannot be written is no reason to stop serving.
        let _ = writeln!(self.0, "[{}] {now} [INF] {text}", std::process::id());
        let _ = self.0.flush();
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse_from(normalised(std::env::args()));
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::note(&format!("spine-sim: {error}"));
            ExitCode::from(1)
        }
    }
}

async fn run(flags: Flags) -> io::Result<()> {
    let mut log = Log(match &flags.log {
        Some(path) => Box::new(File::options().create(true).append(true).open(path).map_err(at(path))?),
        None => Box::new(io::stderr()),
    });
    log.line(format_args!("Starting spine-sim, which behaves as nats-server {}", spine_sim::SERVER_VERSION));
    let mut options = BrokerOptions::new(SystemClock, flags.seed.unwrap_or_else(|| OsIds.u64("broker")));
    if let (Some(user), Some(pass)) = (&flags.user, &flags.pass) {
        options.users = vec![User::new(user, pass)];
    }
    let broker = match &flags.store_dir {
        Some(dir) => Broker::with_store(options, dir).map_err(at(dir))?,
        None => Broker::new(options),
    };
    let port = match flags.port {
        -1 => 0,
        0 => 4222,
        port => u16::try_from(port).map_err(|_| io::Error::other("the port must be -1 … 65535"))?,
    };
    let listener = TcpNet
        .bind(&format!("{}:{port}", flags.addr))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind {}:{port}: {error}", flags.addr)))?;
    let addr = Listener::local_addr(&listener)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    if let Some(path) = &flags.pid {
        std::fs::write(path, std::process::id().to_string()).map_err(at(path))?;
    }
    if let Some(dir) = &flags.ports_file_dir {
        let path = dir.join(format!("spine-sim_{}.ports", std::process::id()));
        std::fs::write(&path, format!("{{\n\t\"nats\": [\n\t\t\"nats://{addr}\"\n\t]\n}}")).map_err(at(&path))?;
    }
    log.line(format_args!("Listening for client connections on {addr}"));
    log.line("Server is ready");
    broker
        .serve(listener, async {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await?;
    log.line("Server Exiting..");
    Ok(())
}

fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_nats_server_are_understood() {
        let line =
            "spine-sim -a 127.0.0.1 -p -1 -js -sd /tmp/x -P a.pid -l a.log --user u --pass p -ports_file_dir /tmp";
        let flags = Flags::parse_from(normalised(line.split(' ').map(str::to_owned)));
        assert_eq!((flags.port, flags.jetstream), (-1, true));
        assert_eq!(flags.store_dir, Some(PathBuf::from("/tmp/x")));
        assert_eq!(flags.ports_file_dir, Some(PathBuf::from("/tmp")));
        assert_eq!(flags.user.as_deref(), Some("u"));
    }
}
