//! Cleans up behind a process that died: the folder it made for itself, and the server it ran. A shell reads a pipe whose
//! other end this process holds; the system closes that end however the process dies, `kill -9` included.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{ServerError, io_error};

/// `$1` is the folder. The id is used only while its process still names the folder in its arguments: by the time of the
/// end another process may have it.
const SCRIPT: &str = r#"
pid=
while read -r word value; do
  case "$word" in
    pid) pid=$value ;;
    done) exit 0 ;;
  esac
done
if [ -n "$pid" ]; then
  arguments=$(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null || ps -o args= -p "$pid")
  case "$arguments" in
    *"$1"*)
      kill -KILL "$pid"
      tries=0
      while kill -0 "$pid" 2> /dev/null && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done ;;
  esac
fi
rm -rf -- "$1"
"#;

/// Held by the process that owns a folder. Dropped, it only ends itself: the owner cleans up while it lives.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// Removes `folder` if this process dies.
    ///
    /// # Errors
    /// The shell cannot be started.
    pub fn new(folder: &Path) -> Result<Self, ServerError> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "leash"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal must not end the leash before its owner.
            .process_group(0)
            .spawn()
            .map_err(io_error("cannot start its leash"))?;
        Ok(Self { shell })
    }

    /// Kills this process, too, which must name the folder in its arguments. The last one told is the one that counts.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn holds(&mut self, pid: u32) -> Result<(), ServerError> {
        self.say(&format!("pid {pid}\n")).map_err(io_error("cannot tell its leash"))
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        let Some(input) = &mut self.shell.stdin else { return Ok(()) };
        input.write_all(line.as_bytes()).and_then(|()| input.flush())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // If the shell was killed there is nothing left to end.
        let _ = self.say("done\n");
        let _ = self.shell.wait();
    }
}
