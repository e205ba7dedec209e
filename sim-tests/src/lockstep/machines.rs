//! The Rust side of `lockstep.proto`: the reference model behind it. Locally it says what every machine must answer; as
//! a process of its own it is the twin that the driver is tested with.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use brain_model::placement::{Living, Peers, ranked};
use brain_model::{Identity, Now, Room, Rules};
use prost::Message as _;
use proto::internal::Heartbeat;
use proto::lockstep::{self as ls, effect::Effect as Said, step::Input as Given};
use proto::view::EnvelopeView;
use proto::{NodeId, RoomKey};

use super::codecs;
use super::wire::{self, Place};

/// Every machine that was made and not replaced since.
#[derive(Default)]
pub struct Machines {
    rooms: BTreeMap<Place, Room>,
    peers: BTreeMap<Place, Peers>,
}

impl Machines {
    /// One step.
    pub fn step(&mut self, step: ls::Step) -> ls::StepReply {
        let place = Place { node: step.node, key: step.key.to_vec() };
        let answer = match step.machine() {
            ls::Machine::Room => self.room(place, step),
            ls::Machine::Placement => self.placement(place, step),
            ls::Machine::Codec => Ok(codec(step.input)),
            ls::Machine::Unknown => Err("no such machine"),
        };
        answer.unwrap_or_else(|error| ls::StepReply { error: error.into(), ..ls::StepReply::default() })
    }

    fn room(&mut self, place: Place, mut step: ls::Step) -> Result<ls::StepReply, &'static str> {
        if let Some(reset) = step.reset.take() {
            self.rooms.insert(place.clone(), new_room(&reset).ok_or("not a core that a shell could make")?);
        }
        let room = self.rooms.get_mut(&place).ok_or("no such core: reset makes one")?;
        let now = Now { wall_ms: step.wall_ms, mono_ms: step.mono_ms };
        let effects = match step.input.take() {
            Some(input) => room.step(now, wire::taken(input).ok_or("not a room's input")?),
            None => Vec::new(),
        };
        Ok(wire::reply(effects, room, &step))
    }

    fn placement(&mut self, place: Place, step: ls::Step) -> Result<ls::StepReply, &'static str> {
        if let Some(reset) = &step.reset {
            self.peers.insert(place.clone(), Peers::new(reset.down_after_ms));
        }
        let peers = self.peers.get_mut(&place).ok_or("no such peers: reset makes them")?;
        let said = match step.input {
            None => None,
            Some(Given::Heard(heard)) => Some(Said::Heard(beat(peers, &heard.beat, step.mono_ms))),
            Some(Given::Lives(_)) => Some(Said::Ranking(ranking(peers.living(step.mono_ms)))),
            Some(Given::Rank(rank)) => Some(Said::Ranking(order(rank)?)),
            Some(_) => return Err("not an input of placement"),
        };
        Ok(ls::StepReply { effects: said.map(wire::effect).into_iter().collect(), ..ls::StepReply::default() })
    }
}

fn new_room(reset: &ls::Reset) -> Option<Room> {
    let key = RoomKey::new(reset.tenant.parse().ok()?, reset.room.parse().ok()?);
    let (me, rules) = (reset.identity.as_ref()?, reset.rules.as_ref()?);
    let me = Identity { node: NodeId::parse(&me.node).ok()?, incarnation: me.incarnation, session: me.session };
    let rules = Rules {
        idle_ms: rules.idle_ms,
        snapshot_entries: rules.snapshot_entries,
        snapshot_bytes: rules.snapshot_bytes,
        trim_age_ms: rules.trim_age_ms,
        dedupe: usize::try_from(rules.dedupe).ok()?,
    };
    Some(Room::new(key, me, rules))
}

fn beat(peers: &mut Peers, bytes: &[u8], mono_ms: u64) -> ls::HeardBeat {
    let beat = Heartbeat::decode(bytes);
    ls::HeardBeat { brain: beat.is_ok_and(|beat| peers.heard(&beat, mono_ms)) }
}

fn order(rank: ls::Rank) -> Result<ls::Ranking, &'static str> {
    let (Ok(tenant), Ok(room)) = (rank.tenant.parse(), rank.room.parse()) else { return Err("not a room") };
    let living = wire::living(rank.living).ok_or("not a node")?;
    Ok(ranking(ranked(&RoomKey::new(tenant, room), rank.last_writer, living)))
}

fn ranking(living: Vec<Living>) -> ls::Ranking {
    ls::Ranking { living: living.iter().map(wire::alive).collect() }
}

fn codec(input: Option<Given>) -> ls::StepReply {
    let said = match input {
        Some(Given::Code(code)) => codecs::find(&code.name).map(|codec| Said::Coded(codec.coded(&code.body))),
        Some(Given::Forward(forward)) => Some(Said::Forwarded(forwarded(&forward.body))),
        _ => None,
    };
    match said {
        Some(said) => ls::StepReply { effects: vec![wire::effect(said)], ..ls::StepReply::default() },
        None => ls::StepReply { error: "not an input of the codec".into(), ..ls::StepReply::default() },
    }
}

fn forwarded(body: &[u8]) -> ls::Forwarded {
    let bytes = |slice: &[u8]| slice.to_vec().into();
    match EnvelopeView::forwarded(body) {
        Ok(view) => ls::Forwarded {
            ok: true,
            message_id: (!view.message_id.is_empty()).then(|| bytes(view.message_id)),
            trace_id: view.trace_id.into(),
            tenant_id: view.tenant_id.into(),
            room_id: view.room_id.into(),
            timestamp: view.timestamp,
            ack_requested: view.ack_requested,
            signature: bytes(view.signature),
            payload_field: view.payload.field,
            payload: bytes(view.payload.bytes),
            sender: bytes(view.sender.unwrap_or_default()),
            ..ls::Forwarded::default()
        },
        Err(error) => ls::Forwarded {
            code: error.code.as_u16().into(),
            detail: error.detail.into(),
            message_id: error.message_id.map(|id| bytes(&id.0)),
            field: error.field,
            at: error.at as u64,
            ..ls::Forwarded::default()
        },
    }
}

/// Serves one connection at `socket`, and says `ready` on standard output once it listens: what the Elixir cores do.
///
/// # Errors
/// If the socket cannot be made, or the connection breaks within a frame.
pub fn serve(socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    writeln!(io::stdout(), "ready")?;
    let (mut stream, _) = listener.accept()?;
    let mut machines = Machines::default();
    let mut length = [0; 4];
    loop {
        match stream.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let batch = ls::Batch::decode(bytes::Bytes::from(frame)).map_err(io::Error::other)?;
        let replies = batch.steps.into_iter().map(|step| machines.step(step)).collect();
        let body = ls::BatchReply { replies }.encode_to_vec();
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&body)?;
    }
}
