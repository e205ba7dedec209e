//! Draws what goes wrong. Every kind of fault has streams of its own: one that is left out shifts no other.

use super::WorldPlan;
use crate::scenario::{
    Aim, BrokerFault, ClockFault, DelayFault, Drawn, Fault, FaultKind, Faults, HostFault, LinkFault, LinkWords, One,
    Scenario, Shape, Shift, Span, Target, Word,
};
use crate::seed::Draw;

/// How often and how long, in milliseconds, where a file leaves it open.
type Millis = (u64, u64);

impl Scenario {
    pub(super) fn draw_faults(&self, world: &WorldPlan, seed: u64) -> Vec<Fault> {
        let faults = self.faults.clone().unwrap_or_else(|| swarm(seed));
        let mut drawing = Drawing { world, seed, all: Vec::new() };

        let broker = [
            (FaultKind::PowerCut, faults.power_cut, (8_000, 20_000), (200, 3_000)),
            (FaultKind::LoseStore, faults.lose_store, (8_000, 20_000), (200, 3_000)),
            (FaultKind::LoseAck, faults.lose_ack, (3_000, 10_000), (200, 2_000)),
            (FaultKind::LoseRepublish, faults.lose_republish, (3_000, 10_000), (200, 2_000)),
            (FaultKind::Undecided, faults.undecided, (3_000, 10_000), (200, 2_000)),
            (FaultKind::NoResponders, faults.no_responders, (3_000, 10_000), (200, 2_000)),
        ];
        for (kind, fault, every, lasts) in broker {
            let Some(fault) = fault else { continue };
            let target = Some(Drawn::Pinned(Target("broker".into())));
            drawing.hosts(kind, &HostFault { target, every: fault.every, lasts: fault.lasts }, None, every, lasts);
        }
        let links = [
            (FaultKind::Hold, faults.hold, (3_000, 10_000), (50, 1_500)),
            (FaultKind::Partition, faults.partition, (8_000, 20_000), (1_000, 6_000)),
            (FaultKind::Reset, faults.reset, (3_000, 10_000), (1, 1)),
            (FaultKind::Silence, faults.silence, (6_000, 15_000), (2_000, 12_000)),
        ];
        for (kind, fault, every, lasts) in links {
            if let Some(fault) = fault {
                drawing.links(kind, &fault, None, every, lasts);
            }
        }
        if let Some(DelayFault { between, every, lasts, shape, by }) = faults.delay {
            let by = by.unwrap_or_else(|| shifts("5ms", "400ms"));
            let fault = LinkFault { between, every, lasts, shape };
            drawing.links(FaultKind::Delay, &fault, Some(by), (3_000, 10_000), (500, 6_000));
        }
        let hosts = [
            (FaultKind::Crash, faults.crash, (6_000, 15_000), (500, 4_000)),
            (FaultKind::Pause, faults.pause, (5_000, 15_000), (200, 6_000)),
            (FaultKind::Drain, faults.drain, (8_000, 20_000), (2_000, 8_000)),
            (FaultKind::Stall, faults.stall, (4_000, 12_000), (500, 6_000)),
            (FaultKind::Trickle, faults.trickle, (4_000, 12_000), (5_000, 15_000)),
            (FaultKind::SlowConsumer, faults.slow_consumer, (3_000, 10_000), (1, 1)),
            (FaultKind::Captured, faults.captured, (2_000, 6_000), (500, 2_000)),
        ];
        for (kind, fault, every, lasts) in hosts {
            if let Some(fault) = fault {
                drawing.hosts(kind, &fault, None, every, lasts);
            }
        }
        for (kind, fault) in [(FaultKind::Skew, faults.skew), (FaultKind::Drift, faults.drift)] {
            if let Some(ClockFault { target, every, lasts, by }) = fault {
                let by = by.unwrap_or_else(|| shifts("-5s", "5s"));
                let fault = HostFault { target, every, lasts };
                drawing.hosts(kind, &fault, Some(by), (4_000, 12_000), (1_000, 8_000));
            }
        }

        drawing.all.sort_by(|a, b| (a.at.0, &a.id).cmp(&(b.at.0, &b.id)));
        drawing.all
    }
}

/// Which kinds there are, where a file leaves that open: each is drawn by itself.
fn swarm(seed: u64) -> Faults {
    let on = |name: &str, percent: u64| Draw::new(seed, &format!("faults/swarm/{name}")).chance(percent);
    let link = |name, percent| on(name, percent).then(LinkFault::default);
    let host = |name, percent| on(name, percent).then(HostFault::default);
    let clock = |name, percent| on(name, percent).then(ClockFault::default);
    let broker = |name, percent| on(name, percent).then(BrokerFault::default);
    Faults {
        hold: link("hold", 40),
        partition: link("partition", 40),
        reset: link("reset", 40),
        silence: link("silence", 20),
        delay: on("delay", 20).then(DelayFault::default),
        crash: host("crash", 40),
        pause: host("pause", 20),
        drain: host("drain", 20),
        stall: host("stall", 20),
        trickle: host("trickle", 10),
        slow_consumer: host("slow-consumer", 15),
        skew: clock("skew", 20),
        drift: clock("drift", 15),
        power_cut: broker("power-cut", 25),
        lose_store: broker("lose-store", 10),
        lose_ack: broker("lose-ack", 25),
        lose_republish: broker("lose-republish", 25),
        undecided: broker("undecided", 25),
        no_responders: broker("no-responders", 20),
        // What it does to a room lasts for longer than a swarmed world.
        captured: None,
    }
}

fn spans(value: &Option<Drawn<Span>>, swarm: Millis) -> Drawn<Span> {
    value.clone().unwrap_or(Drawn::Range(Span::ms(swarm.0), Span::ms(swarm.1)))
}

fn shifts(low: &str, high: &str) -> Drawn<Shift> {
    let shift = |text| Shift::parse(text).expect("a duration of this file");
    Drawn::Range(shift(low), shift(high))
}

/// The faults drawn so far.
struct Drawing<'a> {
    world: &'a WorldPlan,
    seed: u64,
    all: Vec<Fault>,
}

impl Drawing<'_> {
    /// The times of one kind of fault: never two at once, and all over before the run is.
    fn times(&self, draw: &mut Draw, every: &Drawn<Span>, lasts: &Drawn<Span>) -> Vec<(Span, Span)> {
        let end = self.world.run.0.as_ms();
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

    fn links(
        &mut self,
        kind: FaultKind,
        fault: &LinkFault,
        by: Option<Drawn<Shift>>,
        swarm_every: Millis,
        swarm_lasts: Millis,
    ) {
        let mut draw = Draw::new(self.seed, &format!("faults/{}", kind.name()));
        let anywhere = ["brain | broker", "shield | broker", "client | shield"];
        let between = fault
            .between
            .clone()
            .unwrap_or_else(|| Drawn::OneOf(anywhere.iter().filter_map(|words| LinkWords::parse(words)).collect()));
        let shapes =
            fault.shape.clone().unwrap_or_else(|| Drawn::OneOf(Shape::ALL.iter().map(|(_, shape)| *shape).collect()));
        let (every, lasts) = (spans(&fault.every, swarm_every), spans(&fault.lasts, swarm_lasts));
        for (index, (at, lasts)) in self.times(&mut draw, &every, &lasts).into_iter().enumerate() {
            let (mut left, right) = self.world.sides(&between.draw(&mut draw), kind.aim());
            let shape = shapes.draw(&mut draw);
            let keep = match shape {
                Shape::All | Shape::Swizzle => left.len(),
                Shape::IsolateOne | Shape::OneWay => 1,
                Shape::Halves => left.len().div_ceil(2),
            };
            while left.len() > keep.max(1) {
                let out = usize::try_from(draw.below(left.len() as u64)).unwrap_or(0);
                left.remove(out);
            }
            let kind = if kind == FaultKind::Partition && shape == Shape::OneWay { FaultKind::OneWay } else { kind };
            let by = by.as_ref().map(|by| One(by.draw(&mut draw)));
            let id = format!("{}-{}", kind.name(), index + 1);
            let right = right.join(", ");
            if shape != Shape::Swizzle {
                let target = format!("{} | {right}", left.join(", "));
                self.all.push(Fault { id, kind, target, at: One(at), lasts: One(lasts), by });
                continue;
            }
            for (part, host) in left.iter().enumerate() {
                // Each begins within the first half and ends within the second.
                let half = lasts.as_ms() / 2;
                let (begins, ends) = (draw.below(half + 1), lasts.as_ms() - draw.below(half + 1));
                let (at, lasts) = (Span::ms(at.as_ms() + begins), Span::ms((ends - begins).max(1)));
                let (id, target) = (format!("{id}.{}", part + 1), format!("{host} | {right}"));
                self.all.push(Fault { id, kind, target, at: One(at), lasts: One(lasts), by: by.clone() });
            }
        }
    }

    fn hosts(
        &mut self,
        kind: FaultKind,
        fault: &HostFault,
        by: Option<Drawn<Shift>>,
        swarm_every: Millis,
        swarm_lasts: Millis,
    ) {
        let mut draw = Draw::new(self.seed, &format!("faults/{}", kind.name()));
        let anyone: &[&str] = match kind.aim() {
            Aim::Client => &["client"],
            Aim::Node => &["shield", "brain"],
            Aim::Shield => &["shield"],
            Aim::Clock => &["shield", "brain", "client", "broker"],
            _ => &["shield", "brain", "broker"],
        };
        let anyone = || Drawn::OneOf(anyone.iter().map(|group| Target((*group).into())).collect());
        let targets = fault.target.clone().unwrap_or_else(anyone);
        let (every, lasts) = (spans(&fault.every, swarm_every), spans(&fault.lasts, swarm_lasts));
        for (index, (at, lasts)) in self.times(&mut draw, &every, &lasts).into_iter().enumerate() {
            let hosts = self.world.named(&targets.draw(&mut draw), kind.aim());
            if hosts.is_empty() {
                continue;
            }
            let target = draw.pick(&hosts).clone();
            let by = by.as_ref().map(|by| One(by.draw(&mut draw)));
            let id = format!("{}-{}", kind.name(), index + 1);
            self.all.push(Fault { id, kind, target, at: One(at), lasts: One(lasts), by });
        }
    }
}
