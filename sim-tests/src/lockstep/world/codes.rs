//! The machines beside the room: codecs, the gate, and who should serve a room.

use bytes::Bytes;
use prost::Message as _;
use proto::internal::Heartbeat;
use proto::lockstep::{self as ls, effect::Effect as Said, step::Input as Given};

use super::{World, room_key};
use crate::lockstep::codecs;
use crate::lockstep::ops::Damage;
use crate::lockstep::wire::{self, Place};

/// Heard for the last time so long ago, a node is down.
const DOWN_AFTER_MS: u64 = 900;

impl World<'_> {
    fn other(&mut self, node: usize, machine: ls::Machine, input: Given) {
        let place = Place { node: node as u64, key: Vec::new() };
        let mut step = wire::step(&place, machine, self.now(node));
        if machine == ls::Machine::Placement && !std::mem::replace(&mut self.beaten[node], true) {
            step.reset = Some(ls::Reset { down_after_ms: DOWN_AFTER_MS, ..ls::Reset::default() });
        }
        step.input = Some(input);
        let reply = self.machines.step(step.clone());
        for effect in &reply.effects {
            self.cover.other(effect);
        }
        self.push(step, reply);
    }

    /// Bytes of the history through a codec: mostly their own, sometimes another's.
    pub(super) fn code(&mut self, which: u16, name: u8, damage: Damage) {
        let body = self.damaged(which, damage);
        let all = codecs::ALL.len();
        // Envelope, Ack, LogEntry, SyncReply and RoomSnapshot are what was seen.
        let usual = ["arqon.v1.Envelope", "arqon.v1.Ack", "arqon.internal.v1.LogEntry", "arqon.internal.v1.SyncReply"];
        let name = match usize::from(name) {
            n if n >= 2 * all => "arqon.internal.v1.RoomSnapshot",
            n if n >= all => usual[n % usual.len()],
            n => codecs::ALL[n].name,
        };
        self.other(0, ls::Machine::Codec, Given::Code(ls::Code { name: name.into(), body }));
    }

    pub(super) fn forward(&mut self, which: u16, damage: Damage) {
        let body = self.damaged(which, damage);
        self.other(0, ls::Machine::Codec, Given::Forward(ls::Forward { body }));
    }

    pub(super) fn beat(&mut self, node: u8, from: u8, incarnation: u8, kind: u8, draining: bool, cut: u8) {
        let node = usize::from(node) % self.nodes.len();
        let beat = Heartbeat {
            node: if from == 5 { "no.node".into() } else { format!("brain-{from}") },
            kind: kind.into(),
            incarnation: u64::from(from) << 60 | u64::from(incarnation),
            n: 3,
            draining,
            ..Heartbeat::default()
        };
        let mut bytes = beat.encode_to_vec();
        if cut == 1 {
            bytes.truncate(bytes.len().saturating_sub(3));
        }
        self.other(node, ls::Machine::Placement, Given::Heard(ls::Heard { beat: Bytes::from(bytes) }));
    }

    pub(super) fn rank(&mut self, node: u8, room: u8, last: Option<u8>) {
        let node = usize::from(node) % self.nodes.len();
        self.other(node, ls::Machine::Placement, Given::Lives(ls::Lives {}));
        let said = self.script.replies.last().and_then(|reply| reply.effects.first()?.effect.clone());
        let living = if let Some(Said::Ranking(lives)) = said { lives.living } else { Vec::new() };
        let key = room_key(room.into());
        let rank = ls::Rank {
            tenant: key.tenant.as_str().into(),
            room: if room > 2 { format!("room-{room}") } else { key.room.as_str().into() },
            last_writer: last.map(|from| u64::from(from) << 60),
            living,
        };
        self.other(node, ls::Machine::Placement, Given::Rank(rank));
    }
}
