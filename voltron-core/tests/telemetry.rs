//! The process-wide set-up: one per process, so it has a test binary of its own.

use voltron_core::config::Log;
use voltron_core::telemetry::{self, TelemetryError};
use voltron_core::trace::{Line, Record, emit};

#[test]
fn the_trace_file_is_whole_once_the_guard_is_dropped() {
    let folder = std::env::temp_dir().join(format!("arqon-telemetry-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("trace.jsonl");
    let log = Log { trace_file: Some(path.display().to_string()), ..Log::default() };

    let guard = telemetry::init(&log, "brain-2").expect("the first set-up of this process");
    assert!(matches!(telemetry::init(&Log::default(), "again"), Err(TelemetryError::Twice)));
    for seq in 0..1000 {
        emit(|| Record::TailLost { from: seq, to: seq });
    }

    let counted = guard.panics();
    assert!(std::thread::Builder::new().spawn(|| panic!("on purpose")).expect("a thread").join().is_err());
    assert_eq!(counted.get(), 1);
    drop(guard);

    let text = std::fs::read_to_string(&path).expect("the trace file");
    let read: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(read.len(), 1000);
    for (n, line) in (0..).zip(&read) {
        assert_eq!((line.n, line.host.as_str(), &line.record), (n, "brain-2", &Record::TailLost { from: n, to: n }));
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder is ours");
}
