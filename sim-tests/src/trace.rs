//! Collects the product's own trace records into one ordered, hash-chained trace: what the oracles read and what two
//! runs of one seed must agree on, byte for byte.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};
use voltron_core::trace::{Line, Record, line_json};

#[cfg(not(madsim))]
mod collector;
mod layer;

#[cfg(not(madsim))]
pub use collector::{Collector, Logs};
pub use layer::CollectLayer;

/// The longest trace of one run, in records: a run that goes beyond fails instead of filling the memory.
pub const RECORDS_MAX: usize = 2_000_000;

/// Says how many microseconds of the run have passed.
pub type Stopwatch = Box<dyn Fn() -> Option<u64> + Send>;

/// The trace of one run. Clones share it.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    lines: Vec<Line>,
    chain: [u8; 32],
    overflow: bool,
    file: Option<BufWriter<File>>,
    file_error: Option<io::Error>,
    stopwatch: Stopwatch,
    last_t: u64,
}

impl Trace {
    /// An empty trace that takes its time from `stopwatch`, and is also written to `file` as it grows.
    pub fn new(stopwatch: Stopwatch, file: Option<&Path>) -> io::Result<Self> {
        let file = file.map(File::create).transpose()?.map(BufWriter::new);
        let inner =
            Inner { lines: Vec::new(), chain: [0; 32], overflow: false, file, file_error: None, stopwatch, last_t: 0 };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Appends one record of `host`.
    pub fn push(&self, host: &str, record: Record) {
        let json = serde_json::to_string(&record).expect("a record has no maps with other keys than strings");
        self.lock().push(host, &json, record);
    }

    /// Says that `us` microseconds have passed, for records that no host writes.
    pub fn advance(&self, us: u64) {
        self.lock().last_t = us;
    }

    /// The records from number `from` on.
    pub fn since(&self, from: usize) -> Vec<Line> {
        self.lock().lines.get(from..).unwrap_or_default().to_vec()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chained hash of all lines so far, 16 hex digits, or why there is none.
    pub fn hash(&self) -> Result<String, TraceTooLong> {
        let inner = self.lock();
        if inner.overflow {
            return Err(TraceTooLong);
        }
        Ok(inner.chain[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Writes out what is buffered; also reports what failed to be written before.
    pub fn flush(&self) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.file_error.take() {
            Some(error) => Err(error),
            None => inner.file.as_mut().map_or(Ok(()), Write::flush),
        }
    }

    /// A `tracing` layer that feeds this trace. The host is the innermost span called `node`, else `harness`.
    pub fn layer(&self) -> CollectLayer {
        CollectLayer { trace: self.clone() }
    }

    /// The `tracing` subscriber that feeds this trace, where no span names the host; what is no record goes on to `logs`.
    #[cfg(not(madsim))]
    pub fn collector(&self, logs: Option<Logs>) -> Collector {
        Collector::new(self.clone(), logs)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic happens while it is held")
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("records", &self.len()).finish()
    }
}

impl Inner {
    /// `json` is the record's own.
    fn push(&mut self, host: &str, json: &str, record: Record) {
        if self.lines.len() >= RECORDS_MAX {
            self.overflow = true;
            return;
        }
        let t = (self.stopwatch)().unwrap_or(self.last_t);
        let line = Line { v: 1, n: self.lines.len() as u64, t, host: host.to_owned(), record };
        let json = line_json(line.n, t, host, json);
        let mut hash = Sha256::new();
        hash.update(self.chain);
        hash.update(&json);
        self.chain = hash.finalize().into();
        if let Some(file) = &mut self.file {
            let written = file.write_all(json.as_bytes()).and_then(|()| file.write_all(b"\n"));
            if let Err(error) = written {
                self.file_error.get_or_insert(error);
            }
        }
        self.lines.push(line);
    }
}

/// A run wrote more than [`RECORDS_MAX`] records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trace has more than {RECORDS_MAX} records: shorten the scenario, or something loops")]
pub struct TraceTooLong;

/// Why a trace file cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read the trace: {0}")]
    Io(#[from] io::Error),
    /// A line is no record of version 1.
    #[error("line {line} is no trace record: {reason}")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a trace file.
pub fn read(path: &Path) -> Result<Vec<Line>, ReadError> {
    let mut lines = Vec::new();
    for (index, text) in BufReader::new(File::open(path)?).lines().enumerate() {
        let text = text?;
        if text.trim().is_empty() {
            continue;
        }
        let bad = |reason: String| ReadError::Line { line: index + 1, reason };
        let line: Line = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if line.v != 1 {
            return Err(bad(format!("version {} is not 1", line.v)));
        }
        lines.push(line);
    }
    Ok(lines)
}
