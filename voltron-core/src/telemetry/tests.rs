//! Tests of log lines and the trace. Each runs its own subscriber as this thread's default.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::trace::{Line, Record, emit};

/// What was written, shared with the writer that a subscriber owns.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics while it writes").clone()).expect("lines are text")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while it writes").write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One subscriber at a time, as in production: tracing caches per process whether anybody listens at a place, and two
/// that come and go at once can leave that cache wrong.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `body` under what `init` would install, and returns its log lines and trace lines.
fn run(log: &Log, traced: bool, body: impl FnOnce()) -> (String, String) {
    let _alone = alone();
    let (lines, trace) = (Written::default(), Written::default());
    let writer = lines.clone();
    let sink = traced.then(|| Arc::new(LineSink::new("shield-1", trace.clone())));
    tracing::subscriber::with_default(subscriber(log, move || writer.clone(), sink.clone()), body);
    if let Some(sink) = sink {
        sink.flush().expect("memory takes every write");
    }
    (lines.text(), trace.text())
}

/// Standard error whose reader is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_is_not_written_is_counted_once() {
    let _alone = alone();
    for format in LogFormat::ALL {
        let dropped = Counter::default();
        let log = Log { level: LogLevel::Info, format: format.1, ..Log::default() };
        let lines = Lines { device: || Closed, dropped: dropped.clone() };
        tracing::subscriber::with_default(subscriber(&log, lines, None::<Arc<LineSink<Vec<u8>>>>), || {
            tracing::info!(room = "a/b", "one");
            tracing::warn!("two");
            tracing::debug!("not written at this level");
        });
        assert_eq!(dropped.get(), 2, "{format:?}");
    }
}

fn mark() -> Record {
    Record::Mark { name: "shield.gap".into() }
}

#[test]
fn without_a_trace_file_a_record_is_never_built() {
    for level in LogLevel::ALL {
        let built = AtomicUsize::new(0);
        let log = Log { level: level.1, ..Log::default() };
        run(&log, false, || {
            emit(|| {
                built.fetch_add(1, Ordering::Relaxed);
                mark()
            });
            assert!(!tracing::enabled!(target: "arqon.trace", tracing::Level::TRACE), "{level:?}");
        });
        assert_eq!(built.load(Ordering::Relaxed), 0, "{level:?}");
    }
}

#[test]
fn the_trace_is_complete_at_every_log_level() {
    for level in LogLevel::ALL {
        let log = Log { level: level.1, ..Log::default() };
        let (lines, trace) = run(&log, true, || {
            for _ in 0..3 {
                emit(mark);
                tracing::trace!(target: "other", "not a record");
            }
        });
        let read: Vec<Line> = trace.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        assert_eq!(read.iter().map(|line| line.n).collect::<Vec<_>>(), [0, 1, 2], "{level:?}");
        assert!(read.iter().all(|line| line.v == 1 && line.host == "shield-1" && line.record == mark()), "{read:?}");
        assert!(read.is_sorted_by_key(|line| line.t));
        assert!(!lines.contains("shield.gap"), "a record is no log line: {lines}");
        assert_eq!(lines.contains("not a record"), level.1 == LogLevel::Trace, "{level:?}");
    }
}

#[test]
fn the_level_and_the_format_come_from_the_configuration() {
    let say = || {
        tracing::info!(port = 4000, "listening");
        tracing::debug!("a detail");
    };
    let text = run(&Log::default(), false, say).0;
    assert!(text.contains("INFO") && text.contains("listening port=4000"), "{text}");
    assert!(!text.contains("a detail") && !text.contains('\u{1b}'), "{text:?}");

    let json = run(&Log { level: LogLevel::Debug, format: LogFormat::Json, ..Log::default() }, false, say).0;
    let read: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.len(), 2, "{json}");
    assert_eq!(
        (&read[0]["message"], &read[0]["port"], &read[0]["level"]),
        (&"listening".into(), &4000.into(), &"INFO".into())
    );
}

#[test]
fn a_failing_file_ends_the_trace_and_says_so() {
    /// Takes some bytes, then fails for good.
    struct Full(Written, usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = self.1.checked_sub(1).ok_or_else(|| io::Error::other("no space left"))?;
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let trace = Written::default();
    let sink = Arc::new(LineSink::new("h", Full(trace.clone(), 2)));
    let _alone = alone();
    tracing::subscriber::with_default(subscriber(&Log::default(), io::sink, Some(sink.clone())), || {
        for _ in 0..5_000 {
            emit(mark);
        }
    });
    assert!(sink.flush().is_err(), "the end of the trace is not silent");
    let whole = trace.text();
    let whole = &whole[..whole.rfind('\n').expect("some lines were written")];
    let read: Vec<Line> = whole.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
    assert!(!read.is_empty() && read.iter().enumerate().all(|(i, line)| line.n == i as u64));
}

#[test]
fn a_trace_file_that_cannot_be_opened_is_an_error() {
    let log = Log { trace_file: Some("/dev/null/trace.jsonl".into()), ..Log::default() };
    let error = init(&log, "shield-1").err().expect("a file cannot lie below a device");
    assert!(error.to_string().starts_with("[log] trace_file /dev/null/trace.jsonl: "), "{error}");
}
