//! Checks what depends on the drawn world: hosts, clients and rooms that a plan names exist.

use super::{Plan, WorldPlan};
use crate::scenario::{Aim, Deed, Fault, One, ScenarioError, Step, Target, Twin};

impl WorldPlan {
    fn check_host(&self, host: &str, aim: Aim) -> Result<(), ScenarioError> {
        let groups: &[&str] = match aim {
            Aim::Links | Aim::Connections | Aim::Clock => &["shield", "brain", "client", "broker"],
            Aim::Process => &["shield", "brain", "broker"],
            Aim::Node => &["shield", "brain"],
            Aim::Shield => &["shield"],
            Aim::Broker => &["broker"],
            Aim::Client => &[],
        };
        let mut known: Vec<String> =
            groups.iter().flat_map(|group| self.named(&Target((*group).into()), Aim::Links)).collect();
        if matches!(aim, Aim::Connections | Aim::Client) {
            known.extend(self.clients());
        }
        if known.iter().any(|known| known == host) {
            return Ok(());
        }
        if aim == Aim::Links && self.clients().any(|client| client == host) {
            let what = format!("{host} shares its host with others: silence, stall or reset it, or take \"client\"");
            return Err(ScenarioError::Meaning(what));
        }
        Err(ScenarioError::Meaning(format!("this world has no host `{host}`: it has {}", known.join(", "))))
    }

    fn check_all(&self, hosts: &[String], aim: Aim) -> Result<(), ScenarioError> {
        hosts.iter().try_for_each(|host| self.check_host(host, aim))
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
        if let Some(Twin { silence, stall }) = &self.twin {
            let tenants = (1..=self.world.tenants).map(|tenant| format!("t{tenant}"));
            let clients = (1..=self.world.clients).map(|client| format!("client-{client}"));
            let known: Vec<String> = tenants.chain(clients).collect();
            if let Some(unknown) = silence.iter().chain(stall).find(|name| !known.contains(name)) {
                let text = format!("[twin] names {unknown}: this world has {}", known.join(", "));
                return Err(ScenarioError::Meaning(text));
            }
        }
        self.fault.iter().try_for_each(|fault| self.check_fault(fault))?;
        self.step.iter().try_for_each(|step| self.check_step(step))
    }

    fn check_fault(&self, fault: &Fault) -> Result<(), ScenarioError> {
        let (kind, aim) = (fault.kind, fault.kind.aim());
        let bad = |what: String| Err(ScenarioError::Meaning(format!("fault {}: {what}", fault.id)));
        let hosts = match fault.sides() {
            Some((left, right)) if aim.has_sides() => [left, right].concat(),
            None if !aim.has_sides() => vec![fault.target.clone()],
            _ => return bad(format!("the target of {} is {}", kind.name(), aim.expected())),
        };
        if kind.has_measure() != fault.by.is_some() {
            return bad(
                "`by` says how much to delay, skew or drift: it belongs to these three, and they need it".into()
            );
        }
        self.world.check_all(&hosts, aim)
    }

    fn check_step(&self, step: &Step) -> Result<(), ScenarioError> {
        let act = &step.r#do;
        let rooms = self.world.rooms * self.world.tenants;
        let named = [act.room, step.when.spine_append.as_ref().map(|append| append.room)];
        if let Some(room) = named.into_iter().flatten().find(|room| !(1..=rooms).contains(room)) {
            return Err(ScenarioError::Meaning(format!("a step names room {room}: this world has {rooms}")));
        }
        let Some(deed) = act.deed() else { return Ok(()) };
        match deed {
            Deed::Hosts(kind, target) => self.world.check_all(&self.world.named(target, kind.aim()), kind.aim()),
            Deed::Restart(target) => self.world.check_all(&self.world.named(target, Aim::Process), Aim::Process),
            Deed::Resume(target) => {
                let aim = if target.0.starts_with("client") { Aim::Client } else { Aim::Process };
                self.world.check_all(&self.world.named(target, aim), aim)
            }
            Deed::Links(kind, link) => {
                let (left, right) = self.world.sides(link, kind.aim());
                self.world.check_all(&[left, right].concat(), kind.aim())
            }
            Deed::Heal(link) => {
                let (left, right) = self.world.sides(link, Aim::Links);
                self.world.check_all(&[left, right].concat(), Aim::Connections)
            }
        }?;
        match &act.by {
            Some(One(by)) if act.delay.is_some() && by.back => {
                Err(ScenarioError::Meaning("a step delays by less than nothing".into()))
            }
            _ => Ok(()),
        }
    }
}
