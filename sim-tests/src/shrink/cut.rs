//! What can be taken out of a plan. Each cut gives a plan that may be wrong (a step that names a room that is gone): the
//! search asks [`Plan::check`] before it tries one.

use std::ops::Range;

use crate::plan::Plan;
use crate::scenario::{Fault, One, Op, Span};

/// The least time of a phase, ms: a world needs that long to begin.
const PHASE_MS_MIN: u64 = 500;
/// When the first clients act, ms: by then they are connected.
const READY_MS: u64 = 1_000;

/// Faults and scripted steps.
pub(super) fn troubles(plan: &Plan) -> usize {
    plan.fault.len() + plan.step.len()
}

pub(super) fn without_troubles(plan: &Plan, gone: Range<usize>) -> Plan {
    let faults = plan.fault.len();
    let mut plan = plan.clone();
    let mut at = 0;
    let mut stays = || {
        at += 1;
        !gone.contains(&(at - 1))
    };
    plan.fault.retain(|_| stays());
    debug_assert!(plan.fault.len() <= faults);
    plan.step.retain(|_| stays());
    plan
}

pub(super) fn without_ops(plan: &Plan, gone: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    plan.op.drain(gone);
    plan
}

/// Clients that are not there: the ones after them move up. Not all of them: somebody must be told something.
pub(super) fn without_clients(plan: &Plan, gone: Range<usize>) -> Plan {
    let gone = gone.start as u32 + 1..gone.end as u32 + 1;
    let number = |client: u32| moved(client, &gone);
    let mut plan = plan.clone();
    plan.op = plan.op.iter().filter_map(|op| Some(Op { client: number(op.client)?, ..op.clone() })).collect();
    rename(&mut plan.fault, |host| renumbered(host, "client-", number));
    plan.world.clients = plan.world.clients.saturating_sub(gone.end - gone.start);
    plan
}

/// All that happens, happens in one room.
pub(super) fn one_room(plan: &Plan) -> Vec<Plan> {
    let mut plan = plan.clone();
    plan.op.iter_mut().for_each(|op| op.room = 1);
    plan.world.rooms = 1;
    vec![plan]
}

/// Rooms that are not there, in every tenant.
pub(super) fn without_rooms(plan: &Plan, gone: Range<usize>) -> Plan {
    let gone = gone.start as u32 + 1..gone.end as u32 + 1;
    let (rooms, left) = (plan.world.rooms, plan.world.rooms.saturating_sub(gone.end - gone.start));
    let over_tenants = |room: u32| Some((room - 1) / rooms * left + moved((room - 1) % rooms + 1, &gone)?);
    let mut plan = plan.clone();
    plan.op = plan.op.iter().filter_map(|op| Some(Op { room: moved(op.room, &gone)?, ..op.clone() })).collect();
    plan.step.retain_mut(|step| {
        let named = [step.r#do.room.as_mut(), step.when.spine_append.as_mut().map(|append| &mut append.room)];
        named.into_iter().flatten().all(|room| over_tenants(*room).map(|new| *room = new).is_some())
    });
    plan.world.rooms = left;
    plan
}

/// One Brain, Shield or tenant less. What only struck that one goes with it.
pub(super) fn fewer_hosts(plan: &Plan) -> Vec<Plan> {
    let without = |group: &str, last: u32, less: fn(&mut Plan)| {
        let gone = format!("{group}-{last}");
        let mut plan = plan.clone();
        rename(&mut plan.fault, |host| (host != gone).then(|| host.to_owned()));
        less(&mut plan);
        plan
    };
    vec![
        without("brain", plan.world.brains, |plan| plan.world.brains -= 1),
        without("shield", plan.world.shields, |plan| plan.world.shields -= 1),
        without("tenant", plan.world.tenants, |plan| plan.world.tenants -= 1),
    ]
}

/// The run ends at one of these times, and with it what was planned for later.
pub(super) fn ends(plan: &Plan, ends_ms: &[u64]) -> Vec<Plan> {
    let mut ends_ms: Vec<u64> = ends_ms.iter().map(|ms| (*ms).max(PHASE_MS_MIN)).collect();
    ends_ms.sort_unstable();
    ends_ms.dedup();
    let shorter = ends_ms.into_iter().filter(|ms| *ms < plan.world.run.0.as_ms());
    shorter
        .map(|ms| {
            let end = Span::ms(ms);
            let mut plan = plan.clone();
            plan.world.run = One(end);
            plan.op.retain(|op| op.at.0 < end);
            plan.fault.retain(|fault| fault.at.0 < end);
            plan.step.retain(|step| step.when.at.as_ref().is_none_or(|at| at.0 < end));
            plan
        })
        .collect()
}

/// Everything happens so much earlier that the first thing happens as soon as a world of its size is ready.
pub(super) fn earlier(plan: &Plan) -> Vec<Plan> {
    let ops = plan.op.iter().map(|op| op.at.0.as_ms());
    let faults = plan.fault.iter().map(|fault| fault.at.0.as_ms());
    let steps = plan.step.iter().filter_map(|step| step.when.at.as_ref()).map(|at| at.0.as_ms());
    let first = ops.chain(faults).chain(steps).min().unwrap_or(0);
    let by = |ms: u64| {
        let sooner = |time: &mut One<Span>| *time = One(Span::ms(time.0.as_ms().saturating_sub(ms)));
        let mut plan = plan.clone();
        plan.op.iter_mut().for_each(|op| sooner(&mut op.at));
        plan.fault.iter_mut().for_each(|fault| sooner(&mut fault.at));
        plan.step.iter_mut().filter_map(|step| step.when.at.as_mut()).for_each(sooner);
        sooner(&mut plan.world.run);
        plan
    };
    [first.saturating_sub(READY_MS), first.saturating_sub(2 * READY_MS)]
        .into_iter()
        .filter(|ms| *ms > 0)
        .map(by)
        .collect()
}

/// When the last thing happens that the plan knows the time of, ms.
pub(super) fn last_ms(plan: &Plan) -> u64 {
    let ops = plan.op.iter().map(|op| op.at.0.as_ms());
    let faults = plan.fault.iter().map(|fault| fault.at.0.as_ms() + fault.lasts.0.as_ms());
    ops.chain(faults).max().unwrap_or(0)
}

/// Every fault half as long, then each by itself.
pub(super) fn shorter_faults(plan: &Plan) -> Vec<Plan> {
    let half = |fault: &mut Fault| {
        let ms = fault.lasts.0.as_ms();
        if ms > 50 {
            fault.lasts = One(Span::ms(ms / 2));
        }
    };
    let mut all = plan.clone();
    all.fault.iter_mut().for_each(half);
    let each = (0..plan.fault.len()).map(|at| {
        let mut plan = plan.clone();
        half(&mut plan.fault[at]);
        plan
    });
    std::iter::once(all).chain(each).collect()
}

pub(super) fn shorter_settling(plan: &Plan) -> Vec<Plan> {
    let settle = plan.world.settle.0.as_ms();
    let shorter = [settle / 16, settle / 4, settle / 2].map(|ms| ms.max(PHASE_MS_MIN));
    let shorter = shorter.into_iter().filter(|ms| *ms < settle);
    shorter
        .map(|ms| {
            let mut plan = plan.clone();
            plan.world.settle = One(Span::ms(ms));
            plan
        })
        .collect()
}

/// Times that are easier to read.
pub(super) fn rounded(plan: &Plan) -> Vec<Plan> {
    let to = |unit: u64| {
        let round = |time: &mut One<Span>| *time = One(Span::ms((time.0.as_ms() / unit * unit).max(unit)));
        let mut plan = plan.clone();
        plan.op.iter_mut().for_each(|op| round(&mut op.at));
        for fault in &mut plan.fault {
            round(&mut fault.at);
            round(&mut fault.lasts);
        }
        plan
    };
    vec![to(100), to(10)]
}

/// The number that `n` has once `gone` are not there; `None` if it is one of them.
fn moved(n: u32, gone: &Range<u32>) -> Option<u32> {
    if n < gone.start { Some(n) } else { n.checked_sub(gone.end).map(|beyond| gone.start + beyond) }
}

fn renumbered(host: &str, group: &str, number: impl Fn(u32) -> Option<u32>) -> Option<String> {
    match host.strip_prefix(group).and_then(|n| n.parse().ok()) {
        Some(n) => Some(format!("{group}{}", number(n)?)),
        None => Some(host.to_owned()),
    }
}

/// Gives the hosts of all targets new names; a fault that loses a whole side goes.
fn rename(faults: &mut Vec<Fault>, name: impl Fn(&str) -> Option<String>) {
    faults.retain_mut(|fault| {
        let sides = fault.target.split('|').map(|side| {
            let hosts: Vec<String> = side.split(',').filter_map(|host| name(host.trim())).collect();
            hosts.join(", ")
        });
        let sides: Vec<String> = sides.collect();
        fault.target = sides.join(" | ");
        sides.iter().all(|side| !side.is_empty())
    });
}
