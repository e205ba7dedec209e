//! Load on a stack while something bad is done to it, and the judgement afterwards: the log is read from the stream, and
//! the simulator's oracles judge the trace of the clients. Every acknowledged command is in the log exactly once, at its
//! place (A1), every client got every event in order (A5), the same bytes as everybody and the log (A6).

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::{RoomId, RoomKey, TenantId};
use sim_tests::client::link::Switch;
use sim_tests::client::{self, Deed, Script};
use sim_tests::real::{Stack, StackOptions};
use sim_tests::scenario::Verb;
use sim_tests::trace::{self, Trace};
use sim_tests::verdict::Counts;
use sim_tests::{logbook, oracles};
use tokio::time::{Instant, timeout};
use voltron_core::{OsIds, SystemClock, TcpNet, WallClock as _};

/// Clients that come back send what they owe at once.
pub(crate) const LIMITS: &str = "[limits]\npub_per_s = 1000\npub_burst = 2000";

const CLIENTS: u64 = 8;
/// 8 clients, one command every 40 ms: 200/s.
const PAUSE: Duration = Duration::from_millis(40);
/// How long the last repeats may take.
const SETTLE: Duration = Duration::from_secs(30);

/// How much is sent, and where.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) rooms: u64,
    pub(crate) lasts: Duration,
}

impl Load {
    fn commands_each(self) -> u128 {
        self.lasts.as_millis() / PAUSE.as_millis()
    }

    fn scripts(self, stack: &Stack) -> Vec<Script> {
        let now_s = SystemClock.now_ms() / 1000;
        (1..=CLIENTS)
            .map(|n| Script {
                name: format!("client-{n}"),
                token: stack.token("acme", &format!("u{n}"), now_s),
                shields: vec![stack.address()],
                rooms: (1..=self.rooms).map(room).collect(),
                deeds: (0..self.commands_each())
                    .map(|k| Deed {
                        at: PAUSE * u32::try_from(k).unwrap(),
                        verb: if k % 5 == 4 { Verb::Set } else { Verb::Publish },
                        room: usize::try_from((n + u64::try_from(k).unwrap()) % self.rooms).unwrap(),
                    })
                    .collect(),
                ends: self.lasts + SETTLE,
                quiet: Some(Duration::from_millis(1500)),
                ..Script::default()
            })
            .collect()
    }
}

fn room(n: u64) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

/// The stack, or a test that fails with what to do.
pub(crate) async fn start(options: StackOptions<'_>) -> Stack {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Stack::start(&root, options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Sends while `nemesis` does what it does, waits until all is answered, and judges. The trace of the clients, with the log
/// at its end, is in the file that it names.
pub(crate) async fn under(load: Load, stack: &mut Stack, nemesis: impl AsyncFnOnce(&mut Stack)) -> PathBuf {
    let begun = Instant::now();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.jsonl", load.name));
    let stopwatch = move || u64::try_from(begun.elapsed().as_micros()).ok();
    let trace = Trace::new(Box::new(stopwatch), Some(&file)).unwrap();
    // On one thread, so that all clients' records have one order.
    let _guard = tracing::subscriber::set_default(trace.collector(None));

    let players: Vec<_> = load
        .scripts(stack)
        .into_iter()
        .map(|script| tokio::spawn(client::play(TcpNet, SystemClock, OsIds, script, Switch::default())))
        .collect();
    nemesis(stack).await;
    let missing = client::all(players, load.lasts + SETTLE + Duration::from_secs(10)).await;

    let spine = stack.operator();
    let (mut valid, mut void) = (0, 0);
    for n in 1..=load.rooms {
        let key = RoomKey::new(TenantId::parse("acme").unwrap(), room(n));
        let log = timeout(Duration::from_secs(30), logbook::read(&spine, &key)).await.expect("within 30 s").unwrap();
        (valid, void) = (valid + log.valid, void + log.void);
        log.records.into_iter().for_each(|record| trace.push(oracles::LOG_HOST, record));
    }
    trace.flush().unwrap();

    // From the file, as `cargo sim check` reads it.
    let lines = trace::read(&file).unwrap();
    let judgement = oracles::judge(&lines, &[]);
    let counts = Counts::of(&lines);
    println!(
        "{} in {:.0} s: sent {}, acked {}, refused {}, unknown {}, in log {} ({valid} valid entries, {void} void)",
        load.name,
        begun.elapsed().as_secs_f64(),
        counts.sent,
        counts.acked,
        counts.refused,
        counts.unknown,
        counts.in_log
    );
    println!("checks: {:?}", judgement.checks);
    let told =
        || format!("{:?}\ntrace: cargo sim check {}\n{}", judgement.violations, file.display(), stack.last_words());
    assert!(judgement.held(), "{}", told());
    assert_eq!(missing, 0, "clients did not come to an end: {}", told());
    let all = u64::try_from(u128::from(CLIENTS) * load.commands_each()).unwrap();
    // Some set with an expectation that another client broke: refused for good, which is an answer, too.
    assert!(
        counts.acked + counts.refused >= all * 9 / 10 && counts.acked >= all * 3 / 4,
        "of {all} commands at least nine in ten are answered in the end, and three in four applied: {counts:?}\n{}",
        told()
    );
    assert!(counts.in_log >= counts.acked);
    file
}
