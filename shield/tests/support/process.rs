//! The `shield` binary as a child: its folder with a configuration, its lines, its listeners, its end.

use std::io::{PipeWriter, pipe};
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::SECRET;
use super::world::LIMIT;

/// A folder with what a Shield reads.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A configuration on free ports, with an HS256 secret, a broker that is not there and these lines more.
    pub fn config(&self, more: &str) -> PathBuf {
        let secret = self.write("secret", SECRET);
        let auth = format!("[auth]\nhs256_secret_file = {:?}\n", secret.display().to_string());
        self.config_with(&auth, more)
    }

    /// The same with another `[auth]`.
    pub fn config_with(&self, auth: &str, more: &str) -> PathBuf {
        let text = format!(
            "server.host = \"127.0.0.1\"\nserver.port = 0\nhttp.port = 0\npolicy.default = \"none\"\n\
             nats.urls = [\"nats://127.0.0.1:1\"]\ndrain.spread_s = 0\ndrain.exit_s = 5\n{auth}{more}"
        );
        self.write("arqon.toml", text.as_bytes())
    }
}

/// A pipe without a reader.
pub fn closed_pipe() -> PipeWriter {
    pipe().unwrap().1
}

/// A running Shield; killed when dropped.
pub struct Served {
    child: Child,
    out: Option<Lines<BufReader<ChildStdout>>>,
    err: Option<Lines<BufReader<ChildStderr>>>,
    pub ws: String,
    pub http: String,
}

impl Served {
    /// Starts it. A given pipe takes the place of standard output or of standard error.
    pub async fn start(config: &PathBuf, words: &[&str], out: Option<PipeWriter>, err: Option<PipeWriter>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shield"));
        command.arg("serve").arg("--config").arg(config).args(words).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(out.map_or_else(Stdio::piped, Stdio::from)).stderr(err.map_or_else(Stdio::piped, Stdio::from));
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().map(|out| BufReader::new(out).lines());
        let err = child.stderr.take().map(|err| BufReader::new(err).lines());
        Self { child, out, err, ws: String::new(), http: String::new() }
    }

    /// One that serves with this configuration, its addresses known.
    pub async fn ready(config: &PathBuf) -> Self {
        let mut served = Self::start(config, &["--json"], None, None).await;
        served.says_where().await;
        served
    }

    /// Reads its addresses from its line of JSON.
    pub async fn says_where(&mut self) {
        let line = tokio::time::timeout(LIMIT, self.out.as_mut().unwrap().next_line()).await.unwrap().unwrap();
        let Some(line) = line else { panic!("it does not serve: {}", self.rest().await) };
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let authority = |key: &str| line[key].as_str().unwrap().split('/').nth(2).unwrap().to_owned();
        (self.ws, self.http) = (authority("ws"), authority("http"));
    }

    /// Reads its log up to a line with this word, which it returns; the line of its addresses makes them known.
    pub async fn logs(&mut self, word: &str) -> String {
        let err = self.err.as_mut().unwrap();
        loop {
            let line = tokio::time::timeout(LIMIT, err.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("its log ends without {word:?}"));
            if line.contains("listening") {
                let word =
                    |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
                (self.ws, self.http) = (word("ws="), word("http="));
            }
            if line.contains(word) {
                return line;
            }
        }
    }

    /// The rest of its log.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(err) = &mut self.err
            && let Ok(Some(line)) = err.next_line().await
        {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    /// A stream to its WebSocket listener.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.ws).await.unwrap()
    }

    /// The body of a page of its operators' listener.
    pub async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
    }

    /// SIGHUP: it reads its files again.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// SIGTERM; its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }

    /// Its exit code and log, when it ends by itself.
    pub async fn refused(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends in time").unwrap();
        (status.code(), self.rest().await)
    }
}
