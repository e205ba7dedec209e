//! Measures the way of a message, PUB to event back at its sender, through real processes (Shield, nats-server, Brain shell),
//! beside a bare NATS request and reply at the same rate in the same run. With the argument `elixir`, through the Elixir
//! Brain.
//!
//! Open loop: operations start by the clock, whether earlier ones have come back or not, and a latency counts from the
//! moment at which the operation was due (so a stall counts against everything that it delayed). Only what the timer of
//! this program itself is late by, up to [`TIMER_SLACK`], is not counted: it wakes once a millisecond.
//!
//! Prints a table in Markdown. Run it by `cargo xtask bench echo`, which builds everything in release.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arq::client::{Client, ClientEvent, Core, CoreOptions, SubOptions, Target, say};
use hdrhistogram::Histogram;
use proto::{MessageId, RoomId};
use sim_tests::real::{BrainKind, Stack, StackOptions};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use voltron_core::{Net as _, OsIds, SystemClock, TcpNet, WallClock as _};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Operations a second.
const RATES: [u64; 2] = [1_000, 10_000];
/// Connections, each with a room of its own.
const CONNECTIONS: u64 = 20;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// How long the last answers may take.
const TAIL: Duration = Duration::from_secs(10);
const TIMER_SLACK: Duration = Duration::from_millis(2);
const PAYLOAD: usize = 100;

/// What one rate gave.
struct Measured {
    sent: u64,
    latency_us: Histogram<u64>,
}

impl Measured {
    fn new() -> Result<Self, Failure> {
        Ok(Self { sent: 0, latency_us: Histogram::new_with_bounds(1, 120_000_000, 3)? })
    }

    fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.sent += other.sent;
        self.latency_us.add(&other.latency_us)?;
        Ok(())
    }

    fn row(&self, what: &str, rate: u64) -> String {
        let at = |quantile: f64| {
            let us = self.latency_us.value_at_quantile(quantile);
            format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
        };
        format!(
            "| {what} | {rate} | {} | {} | {} | {} | {} |",
            self.sent,
            self.sent - self.latency_us.len().min(self.sent),
            at(0.5),
            at(0.99),
            at(0.999)
        )
    }
}

/// When operation `k` of one of `lanes` sources is due, and from when its latency counts.
struct Schedule {
    begin: Instant,
    gap: Duration,
    next: u64,
    count: u64,
    warm: u64,
}

impl Schedule {
    fn new(begin: Instant, rate: u64, lane: u64, lanes: u64) -> Self {
        let gap = Duration::from_nanos(1_000_000_000 * lanes / rate);
        let count = |span: Duration| span.as_nanos() / gap.as_nanos();
        let (warm, all) = (count(WARM_UP), count(WARM_UP + MEASURED));
        let begin = begin + gap * u32::try_from(lane).unwrap_or(0) / u32::try_from(lanes).unwrap_or(1);
        Self { begin, gap, next: 0, count: u64::try_from(all).unwrap_or(0), warm: u64::try_from(warm).unwrap_or(0) }
    }

    fn over(&self) -> bool {
        self.next >= self.count
    }

    /// Operations that are due: how each counts (`None`: it only warms up).
    fn due(&mut self, now: Instant) -> Vec<Option<Instant>> {
        let mut due = Vec::new();
        while !self.over() {
            let at = self.begin + self.gap * u32::try_from(self.next).unwrap_or(u32::MAX);
            if at > now {
                break;
            }
            let from = if now - at <= TIMER_SLACK { now } else { at };
            due.push((self.next >= self.warm).then_some(from));
            self.next += 1;
        }
        due
    }
}

fn metronome() -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now(), Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// One connection: says something in its own room and waits to hear it.
async fn talk(address: String, token: String, lane: u64, rate: u64, begin: Instant) -> Result<Measured, Failure> {
    let room = RoomId::parse(&format!("bench-{rate}-{lane}"))?;
    let target = Target { url: format!("ws://{address}/v1/ws"), token: Some(token), client_id: None };
    let core = Core::new(CoreOptions::new(format!("bench-{lane}")), SystemClock, OsIds);
    let stream = TcpNet.connect(&address).await?;
    let mut client = Client::connect(stream, &target, core).await.map_err(|(error, _)| error)?;
    // The first command brings the room into being; then the subscription stands.
    client.publish(&room, say("bench", vec![0; PAYLOAD]), true)?;
    client.subscribe(&room, SubOptions { persist: true, ..SubOptions::default() });
    let subscribed = async {
        while let Some(event) = client.next().await {
            if matches!(event, ClientEvent::Subscribed { .. }) {
                return Ok(());
            }
        }
        Err(Failure::from("the connection ended before the subscription stood"))
    };
    timeout(Duration::from_secs(30), subscribed).await??;

    let mut measured = Measured::new()?;
    let mut open: BTreeMap<MessageId, Instant> = BTreeMap::new();
    let mut schedule = Schedule::new(begin, rate, lane, CONNECTIONS);
    let mut ticks = metronome();
    let end = begin + WARM_UP + MEASURED + TAIL;
    while (!schedule.over() || !open.is_empty()) && Instant::now() < end {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                for from in schedule.due(Instant::now()) {
                    let id = client.publish(&room, say("bench", vec![0; PAYLOAD]), true)?;
                    if let Some(from) = from {
                        measured.sent += 1;
                        open.insert(id, from);
                    }
                }
            }
            event = client.next() => match event {
                Some(ClientEvent::Event(event)) => {
                    let id = MessageId::from_slice(&event.envelope.message_id);
                    if let Some(from) = id.and_then(|id| open.remove(&id)) {
                        measured.latency_us.record(u64::try_from(from.elapsed().as_micros())?.max(1))?;
                    }
                }
                Some(_) => {}
                None => return Err("the connection ended".into()),
            },
        }
    }
    client.close(Duration::from_secs(1)).await;
    Ok(measured)
}

async fn echo(stack: &Stack, rate: u64) -> Result<Measured, Failure> {
    // Time enough to connect and to bring the rooms into being.
    let begin = Instant::now() + Duration::from_secs(5);
    let now_s = SystemClock.now_ms() / 1000;
    let talks: Vec<_> = (0..CONNECTIONS)
        .map(|lane| {
            let token = stack.token("bench", &format!("user-{lane}"), now_s);
            tokio::spawn(talk(stack.address(), token, lane, rate, begin))
        })
        .collect();
    let mut all = Measured::new()?;
    for talk in talks {
        all.add(&talk.await??)?;
    }
    Ok(all)
}

/// async-nats at both ends, nothing of ours between.
async fn bare(stack: &Stack, rate: u64) -> Result<Measured, Failure> {
    use futures_util::StreamExt as _;
    let connect = || async {
        let (user, password) = stack.credentials();
        async_nats::ConnectOptions::with_user_and_password(user, password).connect(stack.nats.url()).await
    };
    let (asker, answerer) = (connect().await?, connect().await?);
    let mut questions = answerer.subscribe("bench.echo").await?;
    answerer.flush().await?;
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if let Some(reply) = question.reply
                && answerer.publish(reply, question.payload).await.is_err()
            {
                return;
            }
        }
    });
    let (put, mut take) = tokio::sync::mpsc::unbounded_channel();
    let mut measured = Measured::new()?;
    let mut schedule = Schedule::new(Instant::now() + Duration::from_millis(100), rate, 0, 1);
    let mut ticks = metronome();
    while !schedule.over() {
        ticks.tick().await;
        for from in schedule.due(Instant::now()) {
            measured.sent += u64::from(from.is_some());
            let (asker, put) = (asker.clone(), put.clone());
            tokio::spawn(async move {
                let answered = asker.request("bench.echo", vec![0; PAYLOAD].into()).await;
                if let (Ok(_), Some(from)) = (answered, from) {
                    // The receiver lives until all are done.
                    let _ = put.send(from.elapsed());
                }
            });
        }
    }
    drop(put);
    while let Ok(Some(latency)) = timeout(TAIL, take.recv()).await {
        measured.latency_us.record(u64::try_from(latency.as_micros())?.max(1))?;
    }
    answering.abort();
    Ok(measured)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cores} × {}, load {load} before", model.map_or("unknown processor", |(_, model)| model.trim()))
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let brain = match std::env::args().nth(1).as_deref() {
        None => BrainKind::Shell,
        Some("elixir") => BrainKind::Elixir,
        Some(other) => return Err(format!("no such Brain: {other}").into()),
    };
    let sections = "[limits]\npub_per_s = 100000\npub_burst = 100000";
    let stack = Stack::start(&root, StackOptions { sections, ..StackOptions::new(brain) }).await?;
    println!(
        "{}, commit {}, Brain: {brain:?}, {CONNECTIONS} connections, {PAYLOAD} B of data, {} s a row\n",
        machine(),
        commit(),
        MEASURED.as_secs()
    );
    println!("| | op/s | sent | lost | p50 | p99 | p99.9 |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for rate in RATES {
        println!("{}", bare(&stack, rate).await?.row("bare NATS request and reply", rate));
        println!("{}", echo(&stack, rate).await?.row("PUB → event through Shield, NATS, Brain", rate));
    }
    Ok(())
}
