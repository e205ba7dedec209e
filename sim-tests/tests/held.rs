//! Group commit: while one append of a room is held for a second, 500 commands arrive there. They stand in a handful of
//! entries, and each is acknowledged once. The production shell on a simulated network, in virtual time, with the model's
//! cores and with the Elixir ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brain_shell::BrainParts;
use brain_shell::cores::{Cores, Model};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use prost::Message as _;
use proto::internal::{LogEntry, Open, Opened};
use proto::sender::SenderRef;
use proto::v1::{self, envelope::Payload};
use proto::{NodeId, Pattern, Rights, RoomKey, Subject};
use sim_tests::engine::turmoil::TurmoilNet;
use sim_tests::engine::{Deciders as _, SimClock, SimIds};
use sim_tests::lockstep::cores::Driver;
use sim_tests::lockstep::link::{Driven, Link};
use spine::{Delivery, Message, Spine as _, SpineOptions, StreamSeq, UserSpec, Via};
use spine_sim::{Broker, BrokerOptions, Rule, SimSpine, User};
use tokio::time::{Instant, sleep, timeout};
use voltron_core::config::Config;
use voltron_core::metrics::Metrics;
use voltron_core::{Net as _, WallClock as _};

const SEED: u64 = 1;
const PASSWORD: &str = "simulated";
const COMMANDS: u16 = 500;
/// The room remembers 256 commands of each user.
const USERS: u16 = 10;
const HELD: Duration = Duration::from_secs(1);
/// The most entries that the commands may stand in.
const ENTRIES_MAX: usize = 4;

type Sim = SimSpine<TurmoilNet>;

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn spine(net: &TurmoilNet, user: &UserSpec, inbox: &str) -> Sim {
    let options = SpineOptions::of_user("nats://broker:4222", user, inbox);
    Sim::connect(net.clone(), options, SimIds::new(SEED, &user.name))
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Answers that came while the append was held.
    early: usize,
    /// How many commands each entry with any of them holds.
    entries: Vec<usize>,
    /// Each command's place, as it was acknowledged.
    acked: BTreeMap<Bytes, u64>,
    /// And as it stands in the log.
    stored: BTreeMap<Bytes, u64>,
}

/// Plays it: a broker, a Brain on these cores, and what a Shield does.
fn held(cores: Arc<dyn Cores>) -> Outcome {
    let mut sim = turmoil::Builder::new()
        .rng_seed(SEED)
        .simulation_duration(Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(6))
        .build();
    let (brain, shield) = (node("brain-1"), node("shield-1"));
    let (writer, speaker) = (UserSpec::writer(&brain, PASSWORD), UserSpec::speaker(&brain, PASSWORD));
    let users = [&writer, &speaker, &UserSpec::shield(&shield, PASSWORD)].map(User::from).to_vec();
    let broker = Broker::new(BrokerOptions { users, ..BrokerOptions::new(SimClock::new(0), SEED) });

    let (net, serving) = (TurmoilNet, broker.clone());
    sim.host("broker", move || {
        let (net, broker) = (net.clone(), serving.clone());
        async move {
            let listener = net.bind("0.0.0.0:4222").await?;
            broker.serve(listener, pending()).await?;
            Ok(())
        }
    });
    let net = TurmoilNet;
    sim.host("brain-1", move || {
        let parts = BrainParts {
            writer: spine(&net, &writer, "_INBOX.w.brain-1"),
            speaker: spine(&net, &speaker, "_INBOX.b.brain-1"),
            node: brain.clone(),
            clock: SimClock::new(0),
            ids: SimIds::new(SEED, "brain-1"),
            config: Config::default(),
            metrics: Metrics::new(),
        };
        let cores = Arc::clone(&cores);
        async move { Ok(brain_shell::run_on(cores, parts, pending()).await?) }
    });
    let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let (put, net) = (Arc::clone(&outcome), TurmoilNet);
    sim.client("shield-1", async move {
        let spine = spine(&net, &UserSpec::shield(&shield, PASSWORD), "_INBOX.s.shield-1");
        *put.lock().unwrap() = Some(Shield::new(spine).await.play(&broker).await);
        Ok(())
    });
    sim.run().unwrap();
    let outcome = outcome.lock().unwrap().take();
    outcome.expect("the client came to its end")
}

/// What a Shield does, by hand.
struct Shield {
    spine: Sim,
    slots: <Sim as spine::Spine>::Sub,
    room: RoomKey,
}

impl Shield {
    async fn new(spine: Sim) -> Self {
        spine.link().wait_for(spine::Link::is_up).await.unwrap();
        let slots = spine.subscribe(&Pattern::reply_slots(&node("shield-1")), None, 4096).await.unwrap();
        Self { spine, slots, room: RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap()) }
    }

    async fn play(mut self, broker: &Broker) -> Outcome {
        while !self.opened().await {
            sleep(Duration::from_millis(100)).await;
        }
        // The first entry with a command is not decided, and what comes after it waits.
        broker.faults(|faults| faults.undecided = Rule::Next(1));
        let begun = Instant::now();
        let room = self.room.clone();
        for n in 0..COMMANDS {
            let slot = Subject::reply_slot(&node("shield-1"), n);
            self.spine.publish(&Subject::input(&room), Some(&slot), command(&room, n)).await.unwrap();
        }
        let mut acked = BTreeMap::new();
        while let Ok(message) = timeout(HELD.saturating_sub(begun.elapsed()), self.heard()).await {
            note(message, &mut acked);
        }
        let early = acked.len();
        broker.settle_undecided(true);
        while acked.len() < usize::from(COMMANDS) {
            let message = timeout(Duration::from_secs(5), self.heard()).await;
            note(message.unwrap_or_else(|_| panic!("only {} were answered", acked.len())), &mut acked);
        }
        assert!(timeout(Duration::from_secs(5), self.heard()).await.is_err(), "one answer each");
        let (entries, stored) = self.log().await;
        Outcome { early, entries, acked, stored }
    }

    async fn heard(&mut self) -> Message {
        match self.slots.next().await.unwrap() {
            Delivery::Msg(message) => message,
            Delivery::Lost(count) => panic!("{count} answers lost"),
        }
    }

    /// Asks once for the room to be served.
    async fn opened(&mut self) -> bool {
        let open = Open { room: self.room.room.as_str().into(), create: true, ..Open::default() };
        let slot = Subject::reply_slot(&node("shield-1"), 4095);
        self.spine.publish(&Subject::open(&self.room.tenant), Some(&slot), open.encode_to_vec().into()).await.unwrap();
        let answer = timeout(Duration::from_secs(2), self.heard()).await;
        answer.is_ok_and(|answer| answer.status.is_none() && Opened::decode(answer.body).unwrap().code == 0)
    }

    async fn log(&self) -> (Vec<usize>, BTreeMap<Bytes, u64>) {
        let batch = self.spine.read(&Subject::log(&self.room), StreamSeq(1), 64, Via::Leader).await.unwrap();
        assert!(!batch.more);
        let (mut entries, mut stored) = (Vec::new(), BTreeMap::new());
        for message in batch.entries {
            let entry = LogEntry::decode(message.body).unwrap();
            entries.extend((!entry.envelopes.is_empty()).then_some(entry.envelopes.len()));
            for bytes in entry.envelopes {
                let envelope = v1::Envelope::decode(bytes).unwrap();
                let Some(Payload::Event(event)) = envelope.payload else { panic!("no event") };
                assert_eq!(stored.insert(envelope.message_id, event.seq), None, "stored once");
            }
        }
        (entries, stored)
    }
}

fn note(message: Message, acked: &mut BTreeMap<Bytes, u64>) {
    assert_eq!(message.status, None, "somebody listens");
    let ack = v1::Ack::decode(message.body).unwrap();
    assert_eq!((ack.code, ack.duplicate), (0, false), "{ack:?}");
    assert_eq!(acked.insert(ack.message_id, ack.seq), None, "answered once");
}

/// Command `n`, as a Shield forwards it.
fn command(room: &RoomKey, n: u16) -> Bytes {
    let say = v1::Say { data: vec![b'x'; 100].into(), r#type: "text".into() };
    let envelope = v1::Envelope {
        room_id: room.room.as_str().into(),
        timestamp: SimClock::new(0).now_ms(),
        message_id: (u128::from(n) | 0xa5 << 120).to_be_bytes().to_vec().into(),
        ack_requested: true,
        payload: Some(Payload::Cmd(v1::Command { op: Some(v1::command::Op::Say(say)), ..v1::Command::default() })),
        ..v1::Envelope::default()
    };
    let mut bytes = BytesMut::from(envelope.encode_to_vec().as_slice());
    let user = format!("u{}", n % USERS);
    proto::sender::append(
        &mut bytes,
        &SenderRef { user: &user, conn: "c1", rights: Rights(127), ..SenderRef::default() },
    );
    bytes.freeze()
}

#[track_caller]
fn holds(outcome: &Outcome) {
    println!("{COMMANDS} commands, one append held for {HELD:?}: entries of {:?} commands", outcome.entries);
    assert_eq!(outcome.early, 0, "nothing is answered before its entry is stored");
    assert_eq!(outcome.acked.len(), usize::from(COMMANDS));
    assert_eq!(outcome.acked, outcome.stored, "each stands where it was acknowledged");
    assert!(outcome.entries.len() <= ENTRIES_MAX, "{:?}", outcome.entries);
}

#[test]
fn five_hundred_commands_behind_a_held_append_stand_in_four_entries() {
    let outcome = held(Arc::new(Model));
    holds(&outcome);
    assert_eq!(outcome, held(Arc::new(Model)), "a seed is a run");
}

#[test]
fn and_so_they_do_with_the_elixir_cores_step_by_step_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let link = Link::start(&Driven::Elixir { root, patches: Vec::new() }).unwrap_or_else(|error| panic!("{error}"));
    let driver = Driver::connect(&link.socket()).unwrap();
    let outcome = held(driver.node(1));
    assert_eq!(driver.failed(), None);
    assert!(driver.compared() > u64::from(COMMANDS), "{}", driver.compared());
    holds(&outcome);
    assert_eq!(outcome, held(Arc::new(Model)), "the same run as the model's");
}
