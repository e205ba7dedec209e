//! Draws what goes wrong. Every kind of fault has a stream of its own: one that is left out shifts no other.

use super::WorldPlan;
use crate::scenario::{
    BrokerFault, Drawn, Fault, FaultKind, HostFault, LinkFault, LinkWords, One, Scenario, Shape, Span, Target, Word,
};
use crate::seed::Draw;

impl Scenario {
    pub(super) fn draw_faults(&self, world: &WorldPlan, seed: u64) -> Vec<Fault> {
        let mut on = Draw::new(seed, "faults/swarm");
        let swarmed = self.faults.is_none();
        let faults = self.faults.clone().unwrap_or_default();
        let mut choose_link =
            |given: Option<LinkFault>| given.or_else(|| (swarmed && on.chance(50)).then(LinkFault::default));
        let (hold, partition, reset) =
            (choose_link(faults.hold), choose_link(faults.partition), choose_link(faults.reset));
        let crash = faults.crash.or_else(|| (swarmed && on.chance(50)).then(HostFault::default));

        let mut choose_broker =
            |given: Option<BrokerFault>| given.or_else(|| (swarmed && on.chance(30)).then(BrokerFault::default));
        let broker = [
            (FaultKind::LoseAck, choose_broker(faults.lose_ack)),
            (FaultKind::LoseRepublish, choose_broker(faults.lose_republish)),
            (FaultKind::Undecided, choose_broker(faults.undecided)),
        ];

        let mut all = Vec::new();
        for (kind, fault) in broker {
            let Some(fault) = fault else { continue };
            let mut draw = Draw::new(seed, &format!("faults/{}", kind.name()));
            let (every, lasts) = (spans(&fault.every, (3_000, 10_000)), spans(&fault.lasts, (200, 2_000)));
            for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
                let id = format!("{}-{}", kind.name(), index + 1);
                all.push(Fault { id, kind, target: "broker".into(), at: One(at), lasts: One(lasts) });
            }
        }
        if let Some(hold) = hold {
            draw_links(&mut all, FaultKind::Hold, &hold, world, seed, ((3_000, 10_000), (50, 1_500)));
        }
        if let Some(partition) = partition {
            draw_links(&mut all, FaultKind::Partition, &partition, world, seed, ((8_000, 20_000), (1_000, 6_000)));
        }
        if let Some(reset) = reset {
            draw_links(&mut all, FaultKind::Reset, &reset, world, seed, ((3_000, 10_000), (1, 1)));
        }
        if let Some(crash) = crash {
            draw_crashes(&mut all, &crash, world, seed);
        }
        all.sort_by(|a, b| (a.at.0, &a.id).cmp(&(b.at.0, &b.id)));
        all
    }
}

type Millis = (u64, u64);

fn spans(value: &Option<Drawn<Span>>, swarm: Millis) -> Drawn<Span> {
    value.clone().unwrap_or(Drawn::Range(Span::ms(swarm.0), Span::ms(swarm.1)))
}

/// The times of one kind of fault: never two at once, and all over before the run is.
fn times(world: &WorldPlan, draw: &mut Draw, every: &Drawn<Span>, lasts: &Drawn<Span>) -> Vec<(Span, Span)> {
    let end = world.run.0.as_ms();
    let mut at = every.draw(draw).as_ms().max(1);
    let mut found = Vec::new();
    loop {
        let length = lasts.draw(draw).as_ms().max(1);
        if at + length >= end {
            return found;
        }
        found.push((Span::ms(at), Span::ms(length)));
        at += length + every.draw(draw).as_ms().max(1);
    }
}

fn draw_links(
    all: &mut Vec<Fault>,
    kind: FaultKind,
    fault: &LinkFault,
    world: &WorldPlan,
    seed: u64,
    swarm: (Millis, Millis),
) {
    let mut draw = Draw::new(seed, &format!("faults/{}", kind.name()));
    let anywhere = ["brain | broker", "shield | broker", "client | shield"];
    let between = fault
        .between
        .clone()
        .unwrap_or_else(|| Drawn::OneOf(anywhere.iter().filter_map(|words| LinkWords::parse(words)).collect()));
    let shapes =
        fault.shape.clone().unwrap_or_else(|| Drawn::OneOf(Shape::ALL.iter().map(|(_, shape)| *shape).collect()));
    let (every, lasts) = (spans(&fault.every, swarm.0), spans(&fault.lasts, swarm.1));
    for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
        let (mut left, right) = world.sides(&between.draw(&mut draw));
        let shape = shapes.draw(&mut draw);
        let keep = match shape {
            Shape::All => left.len(),
            Shape::IsolateOne | Shape::OneWay => 1,
            Shape::Halves => left.len().div_ceil(2),
        };
        while left.len() > keep.max(1) {
            let out = usize::try_from(draw.below(left.len() as u64)).unwrap_or(0);
            left.remove(out);
        }
        let kind = if kind == FaultKind::Partition && shape == Shape::OneWay { FaultKind::OneWay } else { kind };
        let target = format!("{} | {}", left.join(", "), right.join(", "));
        all.push(Fault { id: format!("{}-{}", kind.name(), index + 1), kind, target, at: One(at), lasts: One(lasts) });
    }
}

fn draw_crashes(all: &mut Vec<Fault>, fault: &HostFault, world: &WorldPlan, seed: u64) {
    let mut draw = Draw::new(seed, "faults/crash");
    let anyone = ["shield", "brain", "broker"].map(|group| Target(group.into()));
    let targets = fault.target.clone().unwrap_or_else(|| Drawn::OneOf(anyone.to_vec()));
    let (every, lasts) = (spans(&fault.every, (6_000, 15_000)), spans(&fault.lasts, (500, 4_000)));
    for (index, (at, lasts)) in times(world, &mut draw, &every, &lasts).into_iter().enumerate() {
        let hosts = world.hosts(&targets.draw(&mut draw));
        if hosts.is_empty() {
            continue;
        }
        let target = draw.pick(&hosts).clone();
        let id = format!("crash-{}", index + 1);
        all.push(Fault { id, kind: FaultKind::Crash, target, at: One(at), lasts: One(lasts) });
    }
}
