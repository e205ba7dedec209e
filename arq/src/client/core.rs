//! The client's protocol, without a socket: frames in, events and frames out. It reads no clock but the injected one
//! and draws no randomness but the injected one, so the same inputs give the same outputs.
//!
//! What it holds is bounded: [`Core::COMMANDS_MAX`] commands without an outcome, 128 rooms as the server allows, and
//! the last 1,024 settled ids (to name the room of a late answer).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use proto::frame::{self, ServerFrame};
use proto::json::{GetRequest, GetResult, Hello, Since, SubRequest, UnsubRequest};
use proto::signature::SigningKey;
use proto::{MessageId, RoomId, RoomKey, TenantId, v1};
use tokio::time::Instant;
use voltron_core::trace::{self, Hash16, Record};
use voltron_core::{Ids, WallClock};

use super::envelope;
use super::event::{Acked, ClientEvent, Delivered, Repeat, SubOptions};
use super::record::{command_json, state_json};
use super::rooms::{self, Room, Standing, Step};

mod commands;
mod receive;
#[cfg(test)]
mod tests;

use commands::Commands;

/// How a client behaves, apart from where it connects to.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The client's name in the trace.
    pub name: String,
    /// When commands are repeated.
    pub repeat: Repeat,
    /// Signs every command.
    pub signer: Option<SigningKey>,
}

impl CoreOptions {
    /// A client with this name, the default repeats and no signature.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), repeat: Repeat::default(), signer: None }
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} commands wait for their outcome: take events before sending more", COMMANDS_MAX)]
pub struct Full;

const COMMANDS_MAX: usize = 4096;

/// One WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Binary.
    Binary(Bytes),
    /// Text.
    Text(String),
}

/// The client's side of `arqon.v1`, across any number of connections.
#[derive(Debug)]
pub struct Core<C, I> {
    options: CoreOptions,
    clock: C,
    ids: I,
    hello: Option<Box<Hello>>,
    /// When the last HELLO came.
    greeted: Option<Instant>,
    rooms: BTreeMap<RoomId, Room>,
    /// With the parts of the answer that have come.
    gets: BTreeMap<u64, (RoomId, Option<GetResult>)>,
    commands: Commands,
    next_id: u64,
    frames: VecDeque<Frame>,
    events: VecDeque<ClientEvent>,
}

impl<C: WallClock, I: Ids> Core<C, I> {
    /// How many commands may wait for an outcome at once.
    pub const COMMANDS_MAX: usize = COMMANDS_MAX;

    /// A client that was never connected.
    pub const fn new(options: CoreOptions, clock: C, ids: I) -> Self {
        Self {
            options,
            clock,
            ids,
            hello: None,
            greeted: None,
            rooms: BTreeMap::new(),
            gets: BTreeMap::new(),
            commands: Commands::new(),
            next_id: 0,
            frames: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The server's greeting, while connected.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// The source of randomness, for the one who reconnects.
    pub const fn ids(&self) -> &I {
        &self.ids
    }

    /// How many commands wait for their outcome.
    pub fn waiting(&self) -> usize {
        self.commands.len()
    }

    /// How far this client has read in a room it wants to be in.
    pub fn cursor(&self, room: &RoomId) -> Option<Since> {
        self.rooms.get(room)?.cursor
    }

    /// Takes a command; it leaves as soon as there is a connection. Its bytes are built then, once, and every repeat
    /// sends the same.
    pub fn publish(&mut self, room: &RoomId, command: v1::Command, ack: bool, now: Instant) -> Result<MessageId, Full> {
        let mut id = [0; 16];
        self.ids.fill("message", &mut id);
        let message_id = MessageId(id);
        self.commands.add(message_id, room.clone(), command, ack)?;
        self.send_ready(now);
        Ok(message_id)
    }

    /// Sends these bytes as they are; nothing is remembered. For tests of what a server refuses, and of `HB`.
    pub fn raw(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Asks for a room's events, now and after each reconnect, until [`Core::unsubscribe`] or a final refusal.
    pub fn subscribe(&mut self, room: &RoomId, options: SubOptions) {
        let wish = self.rooms.entry(room.clone()).or_insert_with(|| Room::new(options));
        wish.options = options;
        if options.since.is_some() {
            wish.cursor = options.since;
        }
        if self.hello.is_some() {
            self.ask(room);
        }
    }

    /// Leaves a room. Unsubscribed follows, at once if the client was not in it.
    pub fn unsubscribe(&mut self, room: &RoomId) {
        let connected = self.hello.is_some();
        let Some(wish) = self.rooms.get_mut(room) else { return };
        let told = matches!(wish.standing, Standing::In | Standing::Asked { .. });
        if connected && told {
            wish.stands(Standing::Leaving);
            trace::emit(|| Record::Leave { c: self.options.name.clone(), room: self.full_name(room) });
            self.push(frame::UNSUB, &UnsubRequest { room: room.as_str().to_owned() });
        } else {
            self.rooms.remove(room);
            self.left(room, 0, String::new(), false);
        }
    }

    /// Asks for a room's state, current. Lost with the connection: ask again after Closed.
    pub fn get(&mut self, room: &RoomId) -> Option<u64> {
        self.hello.as_ref()?;
        let id = self.fresh_id();
        self.gets.insert(id, (room.clone(), None));
        trace::emit(|| Record::Get { c: self.options.name.clone(), id, room: self.full_name(room) });
        let request = proto::json::TextOp::Get(GetRequest { id, room: room.as_str().to_owned() });
        self.push(frame::SUB, &request);
        Some(id)
    }

    /// Presents a new token on the living connection.
    pub fn authenticate(&mut self, token: &str) {
        if self.hello.is_some() {
            self.push(frame::AUTH, &proto::json::AuthRequest { token: token.to_owned() });
        }
    }

    /// The connection is over. Commands without an outcome and wanted rooms are kept for the next one.
    pub fn closed(&mut self, code: u16, reason: &str) {
        self.frames.clear();
        let left: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, wish)| wish.standing == Standing::Leaving)
            .map(|(room, _)| room.clone())
            .collect();
        for room in left {
            self.rooms.remove(&room);
            self.left(&room, 0, String::new(), false);
        }
        let conn = self.hello.take().map(|hello| hello.conn);
        trace::emit(|| Record::Shut { c: self.options.name.clone(), conn: conn.unwrap_or_default(), code });
        for wish in self.rooms.values_mut() {
            wish.out();
        }
        self.gets.clear();
        for (message_id, room) in self.commands.disconnected(self.options.repeat) {
            self.events.push_back(ClientEvent::Unanswered { message_id, room });
        }
        self.events.push_back(ClientEvent::Closed { code, reason: reason.to_owned() });
    }

    /// The next frame to send.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// The next event to tell.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When [`Core::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Instant> {
        self.hello.as_ref()?;
        let rooms = self.rooms.values().filter_map(|wish| match wish.standing {
            Standing::Later(at) => Some(at),
            _ => None,
        });
        rooms.chain(self.commands.next_tick()).min()
    }

    /// Does what is due: repeats commands, asks for rooms again, gives up on answers.
    pub fn tick(&mut self, now: Instant) {
        if self.hello.is_none() {
            return;
        }
        for (message_id, room, known) in self.commands.expire(now, self.options.repeat) {
            if known {
                self.events.push_back(ClientEvent::Unanswered { message_id, room });
            }
        }
        self.send_ready(now);
        let due: Vec<RoomId> = self
            .rooms
            .iter()
            .filter(|(_, wish)| matches!(wish.standing, Standing::Later(at) if at <= now))
            .map(|(room, _)| room.clone())
            .collect();
        for room in due {
            self.ask(&room);
        }
    }

    /// `tenant/room`, as the trace names rooms.
    fn full_name(&self, room: &RoomId) -> String {
        let tenant = self.hello.as_ref().map_or("", |hello| hello.tenant.as_str());
        match TenantId::parse(tenant) {
            Ok(tenant) => RoomKey::new(tenant, room.clone()).to_string(),
            Err(_) => format!("?/{room}"),
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn push(&mut self, opcode: u8, body: &impl serde::Serialize) {
        self.frames.push_back(Frame::Binary(frame::binary(opcode, body)));
    }

    fn ask(&mut self, room: &RoomId) {
        let id = self.fresh_id();
        let Some(wish) = self.rooms.get_mut(room) else { return };
        let since = wish.since();
        wish.stands(Standing::Asked { id, since });
        let history = wish.history();
        let presence = (wish.options.presence != proto::json::Presence::Off).then_some(wish.options.presence);
        let request = SubRequest { id, room: room.as_str().to_owned(), since, history, presence, format: None };
        trace::emit(|| Record::Want { c: self.options.name.clone(), room: self.full_name(room), id });
        self.push(frame::SUB, &request);
    }

    /// Queues every command that is due, oldest first, building its bytes at the first send.
    fn send_ready(&mut self, now: Instant) {
        let Some(hello) = &self.hello else { return };
        let signer = self.options.signer.as_ref().map(|key| (key, hello.tenant.as_str()));
        let timestamp = self.timestamp(hello, now);
        let sent = self.commands.send(now, self.options.repeat, |id, room, command, ack| {
            let parts = envelope::Parts { room, message_id: id, timestamp, ack, trace_id: "", command };
            envelope::frame(&parts, signer)
        });
        for command in sent {
            trace::emit(|| Record::Send {
                c: self.options.name.clone(),
                m: command.message_id.to_string(),
                room: self.full_name(&command.room),
                h: Hash16::of(&command.command.encode_to_vec()),
                op: command_json(&command.command),
            });
            self.frames.push_back(Frame::Binary(command.bytes));
        }
    }

    /// The server's clock as its HELLO told it, moved on by a clock that never steps. A command that is stamped by a clock
    /// of its own may be refused as too old or too new (2009), or as impossible to tell from a repeat (5010).
    fn timestamp(&self, hello: &Hello, now: Instant) -> i64 {
        match self.greeted {
            Some(greeted) if hello.time > 0 => {
                let since = now.saturating_duration_since(greeted).as_millis();
                hello.time.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
            }
            _ => self.clock.now_ms(),
        }
    }

    fn left(&mut self, room: &RoomId, code: u32, message: String, repeating: bool) {
        trace::emit(|| Record::Unsub { c: self.options.name.clone(), room: self.full_name(room), code });
        self.events.push_back(ClientEvent::Unsubscribed { room: room.clone(), code, message, repeating });
    }
}
