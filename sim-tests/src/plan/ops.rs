//! Draws what clients do. Every client has a stream of its own.

use super::WorldPlan;
use crate::scenario::{Drawn, One, Op, Scenario, Span, Twin, Verb};
use crate::seed::Draw;

impl Scenario {
    pub(super) fn draw_ops(&self, world: &WorldPlan, seed: u64) -> Vec<Op> {
        let mut weights = Draw::new(seed, "traffic/weights");
        let mut weight = |value: &Option<Drawn<u32>>, swarm: (u32, u32)| match value {
            Some(value) => value.draw(&mut weights),
            // Swarmed: off in one run of three.
            None if weights.chance(33) => 0,
            None => Drawn::Range(swarm.0, swarm.1).draw(&mut weights),
        };
        let mut verbs = [
            (Verb::Publish, weight(&self.traffic.publish, (20, 80))),
            (Verb::Set, weight(&self.traffic.set, (5, 40))),
            (Verb::Repeat, weight(&self.traffic.repeat, (1, 10))),
            (Verb::Resume, weight(&self.traffic.resume, (1, 5))),
            (Verb::Delete, weight(&self.traffic.delete, (1, 15))),
            (Verb::Lock, weight(&self.traffic.lock, (1, 4))),
            (Verb::Unlock, weight(&self.traffic.unlock, (1, 4))),
            (Verb::Get, weight(&self.traffic.get, (2, 20))),
            (Verb::Whisper, weight(&self.traffic.whisper, (2, 20))),
            (Verb::HangUp, weight(&self.traffic.hang_up, (1, 3))),
            (Verb::Stall, weight(&self.traffic.stall, (1, 2))),
            (Verb::Silence, weight(&self.traffic.silence, (1, 2))),
            (Verb::Pieces, weight(&self.traffic.pieces, (1, 3))),
            (Verb::Bad, weight(&self.traffic.bad, (1, 5))),
            (Verb::Stranger, weight(&self.traffic.stranger, (1, 2))),
            (Verb::Leave, weight(&self.traffic.leave, (1, 4))),
            (Verb::Renew, weight(&self.traffic.renew, (1, 2))),
            // Heavy: only where a scenario asks for it.
            (Verb::Flood, weight(&self.traffic.flood, (0, 0))),
        ];
        if verbs[0].1 + verbs[1].1 == 0 {
            // Without a command there is nothing to repeat and nothing to judge.
            verbs[0].1 = 1;
        }
        let total: u64 = verbs.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let every = self.traffic.every.clone().unwrap_or(Drawn::Range(Span::ms(50), Span::ms(800)));
        let mut draw = Draw::new(seed, "traffic/listeners");
        let listeners = self.traffic.listeners.as_ref().map_or(0, |listeners| listeners.draw(&mut draw));
        let mut ops = Vec::new();
        for client in 1..=world.clients.saturating_sub(listeners) {
            let mut draw = Draw::new(seed, &format!("traffic/client-{client}"));
            // The first second is for connecting; the last one too short for an answer.
            let mut at = Span::ms(1_000 + draw.below(500));
            while at < world.run.0 {
                let mut left = draw.below(total);
                let verb = verbs.iter().find(|(_, weight)| {
                    let hit = left < u64::from(*weight);
                    left = left.saturating_sub(u64::from(*weight));
                    hit
                });
                let verb = verb.map_or(Verb::Publish, |(verb, _)| *verb);
                let room = u32::try_from(draw.between(1, u64::from(world.rooms))).unwrap_or(1);
                let op = Op { at: One(at), client, r#do: verb, room };
                ops.extend(match &self.twin {
                    Some(twin) => comparable(op, twin, world),
                    None => Some(op),
                });
                at = Span::ms(at.as_ms() + every.draw(&mut draw).as_ms().max(1));
            }
        }
        ops.sort_by_key(|op| (op.at.0, op.client));
        ops
    }
}

/// As it may be in a run that is compared with its twin: one writer a room, and only who will be silent misbehaves.
fn comparable(op: Op, twin: &Twin, world: &WorldPlan) -> Option<Op> {
    let subject = twin.silence.as_ref().is_some_and(|tenant| *tenant == world.tenant_of(op.client));
    match op.r#do {
        Verb::Bad | Verb::Stranger | Verb::Pieces | Verb::Stall | Verb::Silence => subject.then_some(op),
        // Who is away misses what the others' lists hold.
        Verb::Leave | Verb::Renew | Verb::Flood => subject.then_some(op),
        Verb::Publish | Verb::Set | Verb::Delete | Verb::Lock | Verb::Unlock | Verb::Repeat => {
            // The first clients of a tenant have a room each, the others listen.
            let own = (op.client - 1) / world.tenants + 1;
            (own <= world.rooms).then_some(Op { room: own, ..op })
        }
        Verb::Get | Verb::Whisper | Verb::Resume | Verb::HangUp => Some(op),
    }
}
