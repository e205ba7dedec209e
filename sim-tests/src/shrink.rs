//! Shrinking: the smallest plan that still fails, by delta debugging (Zeller, Hildebrandt: Simplifying and Isolating
//! Failure-Inducing Input, IEEE TSE 2002). What can be left out is left out, in this order, until nothing more goes or the
//! time is over: time to settle, faults and steps, the end of the run, operations, clients, rooms and hosts, lengths.
//!
//! Which plans fail is a [`Jury`]'s to say; the search itself runs nothing.

mod cut;

use std::fmt;
use std::future::Future;

use crate::plan::Plan;
use crate::scenario::Span;

/// Says which plans fail the way that is looked for.
pub trait Jury {
    /// The first of `candidates` that fails, with its number from 0 on; `None` if all hold, or time is over. Candidates
    /// are asked for as they are needed, and may be tried at once.
    fn first(
        &mut self,
        candidates: &mut (dyn Iterator<Item = Plan> + Send),
    ) -> impl Future<Output = Result<Option<(usize, Plan)>, String>>;

    /// True once no more is tried.
    fn spent(&self) -> bool;

    /// Told after every pass that made the plan smaller.
    fn smaller(&mut self, pass: &str, size: &Size);
}

/// How large a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Faults and scripted steps.
    pub faults: usize,
    /// Operations of clients.
    pub operations: usize,
    /// Clients.
    pub clients: u32,
    /// Rooms over all tenants.
    pub rooms: u32,
    /// Shields.
    pub shields: u32,
    /// Brains.
    pub brains: u32,
    /// Both phases, milliseconds of virtual time.
    pub virtual_ms: u64,
}

impl Size {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Self {
        let world = &plan.world;
        Self {
            faults: plan.fault.len() + plan.step.len(),
            operations: plan.op.len(),
            clients: world.clients,
            rooms: world.rooms * world.tenants,
            shields: world.shields,
            brains: world.brains,
            virtual_ms: world.run.0.as_ms() + world.settle.0.as_ms(),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, operations, clients, rooms, shields, brains, virtual_ms } = self;
        let s = |n: usize| if n == 1 { "" } else { "s" };
        let n = |n: u32| s(usize::try_from(n).unwrap_or(2));
        write!(
            f,
            "{faults} fault{}, {operations} operation{}, {clients} client{}, {rooms} room{}, {shields} Shield{}, {brains} Brain{}, {:.1} s",
            s(*faults),
            s(*operations),
            n(*clients),
            n(*rooms),
            n(*shields),
            n(*brains),
            *virtual_ms as f64 / 1e3
        )
    }
}

/// What is known of the failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// When the violated record was written; what came later cannot have caused it.
    pub at: Option<Span>,
    /// The promise is about what must be reached in the end: then the time for it is not shortened, or every plan would fail.
    pub in_the_end: bool,
}

/// The smallest plan found.
pub async fn shrink<J: Jury>(plan: Plan, known: Known, jury: &mut J) -> Result<Plan, String> {
    let mut search = Search { plan, jury, in_the_end: known.in_the_end };
    // What the scenario promises to reach is nothing that a smaller one must.
    search.plan.expect = Default::default();
    if let Some(at) = known.at {
        search.one_of("end of the run", |plan| cut::ends(plan, &[at.as_ms() + 50, at.as_ms() + 1_000])).await?;
    }
    loop {
        let before = search.plan.clone();
        // First what makes every later run shorter.
        search.shorter_settling().await?;
        search.without("faults", cut::troubles, cut::without_troubles).await?;
        search.shorter_run().await?;
        search.without("operations", |plan| plan.op.len(), cut::without_ops).await?;
        search.one_of("idle time", cut::earlier).await?;
        search.without("clients", |plan| plan.world.clients as usize, cut::without_clients).await?;
        search.one_of("rooms", cut::one_room).await?;
        search.without("rooms", |plan| plan.world.rooms as usize, cut::without_rooms).await?;
        search.fewer_hosts().await?;
        search.shorter_faults().await?;
        search.shorter_run().await?;
        if search.jury.spent() || search.plan == before {
            break;
        }
    }
    search.one_of("times in whole steps", cut::rounded).await?;
    Ok(search.plan)
}

struct Search<'a, J> {
    plan: Plan,
    jury: &'a mut J,
    in_the_end: bool,
}

impl<J: Jury> Search<'_, J> {
    /// Takes the first of these that fails; true if one did.
    async fn one_of(&mut self, pass: &str, make: impl Fn(&Plan) -> Vec<Plan>) -> Result<bool, String> {
        let candidates = make(&self.plan).into_iter().filter(|plan| *plan != self.plan && can_run(plan));
        let candidates: Vec<Plan> = candidates.collect();
        let Some((_, found)) = self.jury.first(&mut candidates.into_iter()).await? else { return Ok(false) };
        self.plan = found;
        self.jury.smaller(pass, &Size::of(&self.plan));
        Ok(true)
    }

    /// ddmin over a list of the plan: leaves out all of it, then halves, quarters … down to single items.
    async fn without(
        &mut self,
        pass: &str,
        count: impl Fn(&Plan) -> usize,
        cut: impl Fn(&Plan, std::ops::Range<usize>) -> Plan + Send + Sync,
    ) -> Result<(), String> {
        let mut chunk = count(&self.plan);
        while chunk > 0 {
            let mut from = 0;
            while from < count(&self.plan) && !self.jury.spent() {
                let (plan, all) = (&self.plan, count(&self.plan));
                let starts = (from..all).step_by(chunk);
                let cut = &cut;
                let mut candidates = starts
                    .map(move |start| (start, cut(plan, start..(start + chunk).min(all))))
                    .filter(|(_, candidate)| candidate != plan && can_run(candidate));
                let mut tried = Vec::new();
                let mut noted = candidates.by_ref().map(|(start, candidate)| {
                    tried.push(start);
                    candidate
                });
                let found = self.jury.first(&mut noted).await?;
                let Some((number, found)) = found else { break };
                // What stood before it was tried with what is now gone; it comes up again in the next round.
                from = tried.get(number).copied().unwrap_or(all);
                self.plan = found;
                self.jury.smaller(pass, &Size::of(&self.plan));
            }
            chunk = if chunk > 1 { chunk.div_ceil(2).min(count(&self.plan).max(1)) } else { 0 };
        }
        Ok(())
    }

    async fn shorter_run(&mut self) -> Result<(), String> {
        let parts = |plan: &Plan| {
            let run = plan.world.run.0.as_ms();
            let last = cut::last_ms(plan).saturating_add(200);
            cut::ends(plan, &[run / 8, run / 4, run / 2, run * 3 / 4, last, run * 9 / 10])
        };
        while self.one_of("end of the run", parts).await? {}
        Ok(())
    }

    async fn fewer_hosts(&mut self) -> Result<(), String> {
        while self.one_of("hosts", cut::fewer_hosts).await? {}
        Ok(())
    }

    async fn shorter_faults(&mut self) -> Result<(), String> {
        while self.one_of("lengths of faults", cut::shorter_faults).await? {}
        Ok(())
    }

    async fn shorter_settling(&mut self) -> Result<(), String> {
        if !self.in_the_end {
            while self.one_of("time to settle", cut::shorter_settling).await? {}
        }
        Ok(())
    }
}

/// A world of at least one of everything, in which the plan names only what is there.
fn can_run(plan: &Plan) -> bool {
    let world = &plan.world;
    [world.shields, world.brains, world.tenants, world.rooms, world.clients].iter().all(|count| *count > 0)
        && plan.check().is_ok()
}

#[cfg(test)]
mod tests;
