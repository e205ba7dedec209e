//! A client that follows a script: the production client over any [`Net`], with its own reconnecting. The simulator
//! and the tests on real processes use the same one; it is the client that writes the trace. What it says is in
//! `commands`, what no client should say in `bad`, what is wrong with its line in [`link`].

mod bad;
mod commands;
pub mod link;
mod renewal;
mod stranger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use arq::client::{Client, ClientEvent, Core, CoreOptions, Frame, Repeat, SubOptions, Target, command_json};
use bytes::Bytes;
use prost::Message as _;
use proto::json::Grant;
use proto::{Code, MessageId, RoomId, v1};
use tokio::time::{Instant, sleep_until, timeout};
use voltron_core::tasks::timeout_at;
use voltron_core::trace::{self, Hash16, Record};
use voltron_core::{Ids, Net, WallClock};

use crate::scenario::Verb;
use crate::seed::Draw;
use commands::Versions;
use link::{Manner, PIECE_MAX, Rough, Switch};
pub use renewal::Renewal;
pub use stranger::Token;

/// The longest wait for a stream and its handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The first pause after a failed connection; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A client whose link was in trouble does what it missed all at once; trouble that comes later than this is left out, else
/// one trouble follows the other until long after the run.
const TROUBLE_LATE_MAX: Duration = Duration::from_secs(1);
/// How many unanswered commands are kept to repeat one of them later.
const REMEMBERED: usize = 64;
/// How many finished commands are kept to repeat one of them: more than a room remembers of one user.
const FINISHED: usize = 512;
/// How many more commands than a connection may send at once make a flood, and the most that a flood has.
const FLOOD_BEYOND: u32 = 8;
const FLOOD_MAX: u32 = 200;

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
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Its name in the trace.
    pub name: String,
    /// What its deeds are drawn from.
    pub seed: u64,
    /// Its JWT.
    pub token: String,
    /// What that grants, for the trace; none: the trace does not say.
    pub grants: Vec<Grant>,
    /// A text or a value is longer by up to so many bytes.
    pub padding: u32,
    /// Sends only what depends on nothing but the room's own past.
    pub plain: bool,
    /// Tokens that nobody should take.
    pub strange: Vec<Token>,
    /// Tokens to present on a living connection.
    pub renewals: Vec<Renewal>,
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

/// How a client asks for its rooms.
const WISH: SubOptions = SubOptions { since: None, history: 0, presence: proto::json::Presence::Off, persist: true };

/// Plays one script to its end, over a link with this switch.
pub async fn play<N: Net, C: WallClock, I: Ids>(net: N, clock: C, ids: I, script: Script, switch: Switch) {
    for grant in &script.grants {
        trace::emit(|| Record::Grant { c: script.name.clone(), m: grant.m.clone(), a: grant.a.clone() });
    }
    let mut core = Core::new(CoreOptions { repeat: repeat(), ..CoreOptions::new(&script.name) }, clock.clone(), ids);
    for room in &script.rooms {
        core.subscribe(room, WISH);
    }
    let start = Instant::now();
    let ends = start + script.ends;
    let mut player = Player {
        start,
        clock,
        script,
        switch,
        tenant: String::new(),
        limit: 0,
        said: 0,
        open: BTreeMap::new(),
        versions: Versions::default(),
        finished: VecDeque::new(),
        away: BTreeSet::new(),
        burst: 0,
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
    switch: Switch,
    /// As the last HELLO said.
    tenant: String,
    /// The most bytes of a message, as the last HELLO said.
    limit: usize,
    said: u64,
    /// Sent and not finished: what it takes to build the same bytes again.
    open: BTreeMap<MessageId, Sent>,
    versions: Versions,
    /// Oldest first.
    finished: VecDeque<Sent>,
    /// Left, and not come back to.
    away: BTreeSet<RoomId>,
    /// PUBs at once, as the last HELLO said.
    burst: u32,
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
            Ok(Ok(stream)) => Rough::new(stream, &self.switch),
            Ok(Err(_)) | Err(_) => return (core, shield + 1, false),
        };
        self.switch.manner(Manner::Whole);
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
                    match self.act(net, &mut client) {
                        Next::Here => {}
                        Next::Again => return (client.into_core(), shield, true),
                        Next::Elsewhere => return (client.into_core(), shield + 1, true),
                    }
                }
                event = client.next() => match event {
                    Some(ClientEvent::Hello(hello)) => {
                        greeted = true;
                        self.burst = hello.limits.pub_burst;
                        self.tenant = hello.tenant;
                        self.limit = usize::try_from(hello.limits.message_bytes).unwrap_or(usize::MAX);
                    }
                    Some(event) => self.note(&event),
                    None => return (client.into_core(), shield + usize::from(!greeted), greeted),
                }
            }
        }
    }

    /// Tells the trace what is wrong with this client's link from now on, and when it no longer is.
    fn trouble(&self, kind: &str, lasts: Duration) {
        let (id, target) = (format!("{}-{kind}-{}", self.script.name, self.said), self.script.name.clone());
        trace::emit(|| Record::Fault { id: id.clone(), kind: kind.to_owned(), target });
        voltron_core::tasks::spawn(async move {
            tokio::time::sleep(lasts).await;
            trace::emit(|| Record::Heal { id });
        });
    }

    /// What makes the text of the deed at this time longer: by a draw of its own, so that it changes no other.
    fn padding(&self, at: Duration) -> String {
        let mut draw = Draw::new(self.script.seed, &format!("padding/{}/{}", self.script.name, at.as_micros()));
        let length = draw.below(u64::from(self.script.padding) + 1);
        ".".repeat(usize::try_from(length).unwrap_or_default())
    }

    fn act<N: Net, S, I>(&mut self, net: &N, client: &mut Client<S, C, I>) -> Next
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
        I: Ids,
    {
        let Some(deed) = self.script.deeds.pop_front() else { return Next::Here };
        let Some(room) = self.script.rooms.get(deed.room).cloned() else { return Next::Here };
        let late = Instant::now().saturating_duration_since(self.start + deed.at);
        if matches!(deed.verb, Verb::Stall | Verb::Silence) && late > TROUBLE_LATE_MAX {
            return Next::Here;
        }
        let mut draw = Draw::new(self.script.seed, &format!("deed/{}/{}", self.script.name, deed.at.as_micros()));
        self.said += 1;
        let text = format!("{} {}{}", self.script.name, self.said, self.padding(deed.at));
        let head = client.cursor(&room);
        if let Some(command) =
            commands::command(deed.verb, &mut draw, text, room.as_str(), &self.versions, head, self.script.plain)
        {
            self.send(client, room, command);
            return Next::Here;
        }
        let ms = |draw: &mut Draw, low, high| Duration::from_millis(draw.between(low, high));
        match deed.verb {
            Verb::Resume => return Next::Elsewhere,
            Verb::HangUp => return Next::Again,
            Verb::Get => drop(client.get(&room)),
            Verb::Repeat => self.repeat(client, &mut draw),
            Verb::Leave => self.leave(client, &room, &mut draw),
            Verb::Renew => self.renew(client, &mut draw),
            Verb::Flood => {
                for n in 0..self.burst.saturating_add(FLOOD_BEYOND).min(FLOOD_MAX) {
                    let text = format!("{} {} of a flood, {n}", self.script.name, self.said);
                    self.send(client, room.clone(), arq::client::say("text", text));
                }
            }
            Verb::Stall => {
                let lasts = ms(&mut draw, 200, 4_000);
                self.switch.stall(lasts);
                self.trouble("stall", lasts);
            }
            Verb::Silence => {
                let lasts = ms(&mut draw, 200, 8_000);
                self.switch.silence(lasts);
                self.trouble("silence", lasts);
            }
            Verb::Pieces => self.switch.manner(if draw.chance(50) {
                Manner::Pieces(usize::try_from(draw.between(1, 32)).unwrap_or(PIECE_MAX))
            } else {
                Manner::Heaps(ms(&mut draw, 5, 200))
            }),
            Verb::Bad => self.misbehave(client, &room, &mut draw),
            Verb::Stranger => {
                if let (Some(token), Some(address)) = (
                    self.script.strange.get(usize::try_from(draw.below(self.script.strange.len() as u64)).unwrap_or(0)),
                    self.script.shields.first(),
                ) {
                    let name = format!("{}.stranger-{}", self.script.name, self.said);
                    let ids = client.core().ids().clone();
                    voltron_core::tasks::spawn(stranger::knock(
                        net.clone(),
                        self.clock.clone(),
                        ids,
                        name,
                        address.clone(),
                        token.clone(),
                    ));
                }
            }
            Verb::Publish | Verb::Whisper | Verb::Set | Verb::Delete | Verb::Lock | Verb::Unlock => {}
        }
        Next::Here
    }

    fn send<S, I: Ids>(&mut self, client: &mut Client<S, C, I>, room: RoomId, command: v1::Command)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        let timestamp = self.clock.now_ms();
        if let Ok(message_id) = client.publish(&room, command.clone(), true) {
            if self.open.len() == REMEMBERED {
                self.open.pop_first();
            }
            self.open.insert(message_id, Sent { message_id, room, timestamp, command });
        }
    }

    /// Leaves, and comes back in the same moment or at the next such deed.
    fn leave<S, I: Ids>(&mut self, client: &mut Client<S, C, I>, room: &RoomId, draw: &mut Draw)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        if !self.away.remove(room) {
            client.unsubscribe(room);
            if draw.chance(50) {
                self.away.insert(room.clone());
                return;
            }
        }
        client.subscribe(room, WISH);
    }

    /// Presents another token, and records what that must meet.
    fn renew<S, I: Ids>(&self, client: &mut Client<S, C, I>, draw: &mut Draw)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        if self.script.renewals.is_empty() {
            return;
        }
        let renewal = draw.pick(&self.script.renewals);
        renewal.told_as(&self.script.name);
        client.authenticate(&renewal.token);
    }

    fn repeat<S, I: Ids>(&self, client: &mut Client<S, C, I>, draw: &mut Draw)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        let last = self.finished.len().saturating_sub(1);
        let at = if draw.chance(60) { last } else { usize::try_from(draw.below(last as u64 + 1)).unwrap_or(last) };
        let Some(sent) = self.finished.get(at) else { return };
        client.raw(Frame::Binary(again(sent)));
        trace::emit(|| Record::Send {
            c: self.script.name.clone(),
            m: sent.message_id.to_string(),
            room: format!("{}/{}", self.tenant, sent.room),
            h: Hash16::of(&sent.command.encode_to_vec()),
            op: command_json(&sent.command),
        });
    }

    /// Sends what no client should, and records what that must meet.
    fn misbehave<S, I: Ids>(&self, client: &mut Client<S, C, I>, room: &RoomId, draw: &mut Draw)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    {
        let mut id = [0; 16];
        client.core().ids().fill("bad-message", &mut id);
        let (now_ms, id, limit) = (self.clock.now_ms(), MessageId(id), self.limit);
        let parts = bad::Parts { room, now_ms, id, ask: self.said, limit };
        let bad = bad::draw(draw, &parts);
        trace::emit(|| Record::Bad {
            c: self.script.name.clone(),
            m: bad.m.map(|id| id.to_string()).unwrap_or_default(),
            what: bad.what.to_owned(),
            codes: bad.codes.iter().map(|code| code.as_u16()).collect(),
        });
        client.raw(bad.frame);
    }

    fn note(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Err { code, .. } => told(&self.script.name, *code),
            // A mere reminder that the token ends soon answers nothing.
            ClientEvent::Auth(result) if result.refresh != Some(true) => {
                told(&self.script.name, result.code.unwrap_or(0));
            }
            ClientEvent::Stray { id, code } if *id >= bad::ASKED_FROM => {
                told(&self.script.name, u16::try_from(*code).unwrap_or(u16::MAX));
            }
            _ => {}
        }
        let ClientEvent::Ack(ack) = event else { return };
        if ack.repeating {
            return;
        }
        let Some(sent) = self.open.remove(&ack.message_id) else { return };
        self.versions.told(sent.room.as_str(), &sent.command, ack.code, ack.seq, ack.ver);
        // An ephemeral one is not deduplicated: its repeat would be another.
        if ack.code == 0 && ack.seq > 0 {
            if self.finished.len() == FINISHED {
                self.finished.pop_front();
            }
            self.finished.push_back(sent);
        }
    }
}

/// An ERR that something this client sent has brought about: not those that tell of the server's own troubles.
fn told(c: &str, code: u16) {
    if ![Code::Stale, Code::Current].iter().any(|own| own.as_u16() == code) {
        trace::emit(|| Record::Told { c: c.to_owned(), code });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Here,
    Again,
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
