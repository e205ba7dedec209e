//! The process that is driven: started, spoken to over a Unix socket, and ended with this value. One for as many
//! histories, and as many simulated worlds, as there are.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// No batch takes longer on a machine that lives.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Its name in the link's folder.
const SOCKET: &str = "socket";
/// The longest answer taken, in bytes.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Who is held to the model.
#[derive(Clone, Debug)]
pub enum Driven {
    /// The Elixir cores.
    Elixir {
        /// The repository.
        root: PathBuf,
        /// Sources of modules that take the place of the shipped ones.
        patches: Vec<PathBuf>,
    },
    /// The model once more, behind the same socket: the check of this check, and the price of the wire alone.
    Twin {
        /// The `sim` binary.
        sim: PathBuf,
        /// A planted bug, by its name.
        mutant: Option<String>,
    },
}

/// Why the driven process does not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A program that is needed is not installed.
    #[error("`{0}` is not installed: run `cargo xtask setup`")]
    Missing(&'static str),
    /// The cores do not compile.
    #[error("brain/ does not compile:\n{0}")]
    Build(String),
    /// It ended before it was ready, or in the middle.
    #[error("the driven process ended ({0}); its last words:\n{1}")]
    Ended(String, String),
    /// The connection failed.
    #[error("cannot speak with the driven process: {0}")]
    Io(#[from] io::Error),
}

/// The driven process, and the connection that it ends with.
pub struct Link {
    child: Child,
    line: Line,
    folder: TempDir,
}

/// One connection to a driven process, with cores of its own at the other end.
pub struct Line {
    stream: UnixStream,
    frame: Vec<u8>,
}

impl Link {
    /// Starts it and connects.
    ///
    /// # Errors
    /// If it is not installed, does not compile or does not start.
    pub fn start(driven: &Driven) -> Result<Self, LinkError> {
        let folder = tempfile::Builder::new().prefix("arqon-lockstep-").tempdir()?;
        let socket = folder.path().join(SOCKET);
        let words = folder.path().join("stderr");
        let mut command = match driven {
            Driven::Elixir { root, patches } => elixir(root, patches, &socket)?,
            Driven::Twin { sim, mutant } => twin(sim, mutant.as_deref(), &socket),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&words)?);
        let mut child = command.spawn()?;
        let told = child.stdout.take().map(|out| BufReader::new(out).lines().next());
        if !matches!(told, Some(Some(Ok(line))) if line == "ready") {
            let _ = child.kill();
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(LinkError::Ended(status, last_words(folder.path())));
        }
        Ok(Self { child, line: Line::connect(&socket)?, folder })
    }

    /// Where others connect.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// How much processor time it has taken so far; `None`: this system does not say.
    pub fn processor_time(&self) -> Option<Duration> {
        processor_time(&self.child.id().to_string())
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn send(&mut self, body: &[u8]) -> Result<(), LinkError> {
        self.line.send(body).map_err(|error| ended(&self.folder, &error))
    }

    /// The next frame.
    ///
    /// # Errors
    /// If the process has ended, or says nothing for two minutes.
    pub fn receive(&mut self) -> Result<&[u8], LinkError> {
        let folder = &self.folder;
        self.line.receive().map_err(|error| ended(folder, &error))
    }
}

/// The processor time of a process of this user: a number, or `self`.
pub fn processor_time(process: &str) -> Option<Duration> {
    const TICKS_PER_S: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: state first, user and system time as 12th and 13th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS_PER_S))
}

fn ended(folder: &TempDir, error: &io::Error) -> LinkError {
    LinkError::Ended(error.to_string(), last_words(folder.path()))
}

impl Line {
    /// Connects to the process that listens there. Waiting for its answers is the kernel's, so it works where this
    /// process' clocks stand still, too.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream, frame: Vec::new() })
    }

    /// Sends one frame.
    pub fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a frame of more than 4 GiB"))?;
        self.stream.write_all(&length.to_be_bytes())?;
        self.stream.write_all(body)
    }

    /// The next frame.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        self.frame.resize(length, 0);
        self.stream.read_exact(&mut self.frame)?;
        Ok(&self.frame)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It holds nothing that a kill could harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_words(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn twin(sim: &Path, mutant: Option<&str>, socket: &Path) -> Command {
    let mut command = Command::new(sim);
    command.arg("twin").arg(socket);
    if let Some(mutant) = mutant {
        command.args(["--mutant", mutant]);
    }
    command
}

/// What mix made, and nothing of mix: a node that starts in a third of a second.
fn elixir(root: &Path, patches: &[PathBuf], socket: &Path) -> Result<Command, LinkError> {
    let brain = root.join("brain");
    compile(&brain)?;
    let mut command = Command::new("elixir");
    command.env("LANG", "C.UTF-8").current_dir(&brain);
    command.args(["--erl", "+sbwt none +sbwtdcpu none +sbwtdio none", "-pa"]).arg(brain.join(EBIN));
    for patch in patches {
        command.arg("-r").arg(patch);
    }
    command.args(["-e", "Brain.Lockstep.main(System.argv())"]).arg(socket);
    Ok(command)
}

/// Below `brain/`.
pub const EBIN: &str = "_build/dev/lib/brain/ebin";

/// Compiles what is not compiled yet, so that nobody compares with yesterday's cores. One at a time: two builds of mix in
/// one folder load each other's half of the modules, and tests start several at once.
fn compile(brain: &Path) -> Result<(), LinkError> {
    let build = brain.join("_build");
    fs::create_dir_all(&build)?;
    let turn = File::create(build.join("lockstep.lock"))?;
    turn.lock()?;
    let mut mix = Command::new("mix");
    mix.arg("compile").current_dir(brain).env("LANG", "C.UTF-8").env("MIX_ENV", "dev").stdin(Stdio::null());
    match mix.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Err(LinkError::Build(text(&output.stdout) + &text(&output.stderr)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LinkError::Missing("mix")),
        Err(error) => Err(error.into()),
    }
}
