//! Checks what depends on the drawn world: hosts, clients and rooms that a plan names exist.

use super::{Plan, WorldPlan};
use crate::scenario::{One, ScenarioError, Target};

impl WorldPlan {
    fn check_host(&self, host: &str) -> Result<(), ScenarioError> {
        let known = ["shield", "brain", "client", "broker"].map(|group| self.hosts(&Target(group.into()))).concat();
        if known.iter().any(|known| known == host) {
            return Ok(());
        }
        Err(ScenarioError::Meaning(format!("this world has no host `{host}`: it has {}", known.join(", "))))
    }
}

impl Plan {
    /// Checks what depends on the drawn world.
    pub fn check(&self) -> Result<(), ScenarioError> {
        for (index, op) in self.op.iter().enumerate() {
            let fits = (1..=self.world.clients).contains(&op.client) && (1..=self.world.rooms).contains(&op.room);
            if !fits {
                return Err(ScenarioError::Meaning(format!(
                    "[[op]] number {}: client {} room {} is outside of a world with {} clients and {} rooms a tenant",
                    index + 1,
                    op.client,
                    op.room,
                    self.world.clients,
                    self.world.rooms
                )));
            }
        }
        for fault in &self.fault {
            let hosts = match fault.sides() {
                Some((left, right)) if fault.kind.of_links() => [left, right].concat(),
                None if !fault.kind.of_links() => vec![fault.target.clone()],
                _ => {
                    let of = if fault.kind.of_links() { "a link such as \"brain-1 | broker\"" } else { "a host" };
                    let what = format!("fault {}: the target of {} is {of}", fault.id, fault.kind.name());
                    return Err(ScenarioError::Meaning(what));
                }
            };
            hosts.iter().try_for_each(|host| self.world.check_host(host))?;
        }
        for step in &self.step {
            let act = &step.r#do;
            let rooms = self.world.rooms * self.world.tenants;
            let named = [act.room, step.when.spine_append.as_ref().map(|append| append.room)];
            if let Some(room) = named.into_iter().flatten().find(|room| !(1..=rooms).contains(room)) {
                return Err(ScenarioError::Meaning(format!("a step names room {room}: this world has {rooms}")));
            }
            for One(target) in [&act.crash, &act.restart].into_iter().flatten() {
                if matches!(target.0.as_str(), "client" | "clients-1" | "clients-2") {
                    return Err(ScenarioError::Meaning("the hosts of clients cannot crash: reset their links".into()));
                }
                self.world.hosts(target).iter().try_for_each(|host| self.world.check_host(host))?;
            }
            for One(link) in [&act.hold, &act.cut, &act.heal, &act.reset].into_iter().flatten() {
                let (left, right) = self.world.sides(link);
                [left, right].concat().iter().try_for_each(|host| self.world.check_host(host))?;
            }
        }
        Ok(())
    }
}
