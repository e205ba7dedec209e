//! A client that follows a script: the production client over any [`Net`], with its own reconnecting. The simulator
//! and the tests on real processes use the same one; it is the client that writes the trace.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arq::client::{Client, ClientEvent, Core, CoreOptions, Frame, Repeat, SubOptions, Target, command_json};
use bytes::Bytes;
use prost::Message as _;
use proto::{MessageId, RoomId, v1};
use tokio::time::{Instant, sleep_until, timeout};
use voltron_core::tasks::timeout_at;
use voltron_core::trace::{self, Hash16, Record};
use voltron_core::{Ids, Net, WallClock};

use crate::scenario::Verb;

/// The longest wait for a stream and its handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The first pause after a failed connection; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many unanswered commands are kept to repeat one of them later.
const REMEMBERED: usize = 64;

/// What one client does when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Since the client's start.
    pub at: Duration,
    /// What.
    pub verb: Verb,
    /// Index into [`Script::rooms`].
    pub room: usize,
}

/// One client's part.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name in the trace.
    pub name: String,
    /// Its JWT.
    pub token: String,
    /// `host:port` of every Shield, in the order in which this client tries them.
    pub shields: Vec<String>,
    /// Subscribed from the start on.
    pub rooms: Vec<RoomId>,
    /// Ascending by time.
    pub deeds: VecDeque<Deed>,
    /// When it goes home, since its start.
    pub ends: Duration,
    /// Goes home earlier: once everything is done and answered, and nothing came for so long.
    pub quiet: Option<Duration>,
}

/// Repeats for as long as a room can tell a repeat, and no longer: a run is shorter than 120 s of unbroken outage.
fn repeat() -> Repeat {
    Repeat { sends: 60, pause: Duration::from_millis(50), pause_max: Duration::from_secs(1), ..Repeat::default() }
}

/// Plays one script to its end.
pub async fn play<N: Net, C: WallClock, I: Ids>(net: N, clock: C, ids: I, script: Script) {
    let mut core = Core::new(CoreOptions { repeat: repeat(), ..CoreOptions::new(&script.name) }, clock.clone(), ids);
    for room in &script.rooms {
        core.subscribe(room, SubOptions { persist: true, ..SubOptions::default() });
    }
    let start = Instant::now();
    let ends = start + script.ends;
    let mut player = Player {
        start,
        clock,
        script,
        tenant: String::new(),
        said: 0,
        open: BTreeMap::new(),
        finished: None,
        home: false,
    };
    let mut shield = 0;
    let mut failures = 0;
    while Instant::now() < ends && !player.home {
        let (back, next, well) = player.connection(&net, core, shield, ends).await;
        core = back;
        shield = next;
        failures = if well { 0 } else { failures + 1 };
        let pause = PAUSE.saturating_mul(1 << u32::min(failures, 8)).min(PAUSE_MAX);
        sleep_until((Instant::now() + pause).min(ends)).await;
    }
}

struct Player<C> {
    start: Instant,
    clock: C,
    script: Script,
    /// As the last HELLO said.
    tenant: String,
    said: u64,
    /// Sent and not finished: what it takes to build the same bytes again.
    open: BTreeMap<MessageId, Sent>,
    finished: Option<Sent>,
    home: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    message_id: MessageId,
    room: RoomId,
    timestamp: i64,
    command: v1::Command,
}

impl<C: WallClock> Player<C> {
    /// One connection. Returns the core, the Shield to try next, and whether this one was greeted.
    async fn connection<N: Net, I: Ids>(
        &mut self,
        net: &N,
        core: Core<C, I>,
        shield: usize,
        ends: Instant,
    ) -> (Core<C, I>, usize, bool) {
        let address = &self.script.shields[shield % self.script.shields.len()];
        let target =
            Target { url: format!("ws://{address}/v1/ws"), token: Some(self.script.token.clone()), client_id: None };
        let deadline = (Instant::now() + CONNECT_LIMIT).min(ends);
        let stream = match timeout_at(deadline, net.connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => return (core, shield + 1, false),
        };
        let mut client = match Client::connect(stream, &target, core).await {
            Ok(client) => client,
            Err((_, core)) => return (core, shield + 1, false),
        };
        let mut greeted = false;
        loop {
            let due = self.script.deeds.front().map(|deed| self.start + deed.at);
            let done = due.is_none() && client.core().waiting() == 0;
            let leaves = self.script.quiet.filter(|_| done).map_or(ends, |quiet| ends.min(Instant::now() + quiet));
            tokio::select! {
                biased;
                () = sleep_until(leaves) => {
                    // A goodbye, so that the Shield forgets this client at once.
                    self.home = true;
                    for event in client.close(Duration::from_millis(200)).await {
                        self.note(&event);
                    }
                    return (client.into_core(), shield, true);
                }
                () = sleep_until(due.unwrap_or(ends)), if due.is_some() && greeted => {
                    if self.act(&mut client) == Next::Elsewhere {
                        return (client.into_core(), shield + 1, true);
                    }
                }
                event = client.next() => match event {
                    Some(ClientEvent::Hello(hello)) => {
                        greeted = true;
                        self.tenant = hello.tenant;
                    }
                    Some(event) => self.note(&event),
                    None => return (client.into_core(), shield + usize::from(!greeted), greeted),
                }
            }
        }
    }

    fn act<S, I>(&mut self, client: &mut Client<S, C, I>) -> Next
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
        I: Ids,
    {
        let Some(deed) = self.script.deeds.pop_front() else { return Next::Here };
        let Some(room) = self.script.rooms.get(deed.room).cloned() else { return Next::Here };
        self.said += 1;
        let text = format!("{} {}", self.script.name, self.said);
        let command = match deed.verb {
            Verb::Publish => arq::client::say("text", text),
            Verb::Set => arq::client::set(format!("key-{}", self.said % 5), text),
            Verb::Resume => return Next::Elsewhere,
            Verb::Repeat => {
                if let Some(sent) = &self.finished {
                    client.raw(Frame::Binary(again(sent)));
                    trace::emit(|| Record::Send {
                        c: self.script.name.clone(),
                        m: sent.message_id.to_string(),
                        room: format!("{}/{}", self.tenant, sent.room),
                        h: Hash16::of(&sent.command.encode_to_vec()),
                        op: command_json(&sent.command),
                    });
                }
                return Next::Here;
            }
        };
        let timestamp = self.clock.now_ms();
        if let Ok(message_id) = client.publish(&room, command.clone(), true) {
            if self.open.len() == REMEMBERED {
                self.open.pop_first();
            }
            self.open.insert(message_id, Sent { message_id, room, timestamp, command });
        }
        Next::Here
    }

    fn note(&mut self, event: &ClientEvent) {
        if let ClientEvent::Ack(ack) = event
            && !ack.repeating
            && let Some(sent) = self.open.remove(&ack.message_id)
            && ack.code == 0
        {
            self.finished = Some(sent);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Here,
    Elsewhere,
}

/// The frame of a command that was sent before, byte for byte.
fn again(sent: &Sent) -> Bytes {
    let envelope = v1::Envelope {
        room_id: sent.room.as_str().to_owned(),
        timestamp: sent.timestamp,
        message_id: Bytes::copy_from_slice(&sent.message_id.0),
        ack_requested: true,
        payload: Some(v1::envelope::Payload::Cmd(sent.command.clone())),
        ..v1::Envelope::default()
    };
    proto::frame::publish(&envelope.encode_to_vec())
}

/// Waits for `play` of many clients, at most `limit`. Returns how many did not come home.
pub async fn all(players: Vec<tokio::task::JoinHandle<()>>, limit: Duration) -> usize {
    let deadline = Instant::now() + limit;
    let mut missing = 0;
    for player in players {
        let left = deadline.saturating_duration_since(Instant::now());
        missing += usize::from(!matches!(timeout(left, player).await, Ok(Ok(()))));
    }
    missing
}
