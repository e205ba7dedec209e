//! What is wrong in the world at a moment, as the trace tells it: oracles that forbid something "where no fault is" ask
//! here. A trouble of the *servers* concerns a Shield, a Brain, the broker or a link between two of them; any other one is
//! a trouble of the *edge*: a client, or its link to a Shield.

use std::collections::{BTreeMap, BTreeSet};

use voltron_core::trace::{Line, Record};

/// Open troubles and the end of the last one.
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// True: it concerns the servers.
    open: BTreeMap<String, bool>,
    /// Troubles by which nothing is lost.
    harmless: BTreeSet<String>,
    /// When the last trouble of the servers began or ended, microseconds.
    servers: Option<u64>,
    /// The same for any trouble.
    any: Option<u64>,
    /// The last record of a trouble of the servers by which something may be lost.
    pub(super) cause: Option<u64>,
}

impl Calm {
    /// Takes a line over; every line must be shown.
    pub(super) fn see(&mut self, line: &Line) {
        match &line.record {
            Record::Fault { id, target, kind } => {
                let servers = of_servers(target);
                self.open.insert(id.clone(), servers);
                // A node that speaks in a Shield's name loses nothing of what is stored.
                if kind == "captured" {
                    self.harmless.insert(id.clone());
                }
                self.moved(line, servers, !self.harmless.contains(id));
            }
            Record::Heal { id } => {
                if let Some(servers) = self.open.remove(id) {
                    self.moved(line, servers, !self.harmless.contains(id));
                }
            }
            Record::Crash { .. } | Record::Start { .. } | Record::TailLost { .. } | Record::Drain { .. } => {
                self.moved(line, true, true);
            }
            _ => {}
        }
    }

    fn moved(&mut self, line: &Line, servers: bool, lossy: bool) {
        self.any = Some(line.t);
        if servers {
            self.servers = Some(line.t);
            self.cause = if lossy { Some(line.n) } else { self.cause };
        }
    }

    /// True if nothing has been wrong with the servers for `us` microseconds; what never was wrong is calm.
    pub(super) fn servers(&self, t: u64, us: u64) -> bool {
        !self.open.values().any(|servers| *servers) && self.servers.is_none_or(|last| last + us <= t)
    }

    /// True if nothing at all has been wrong for `us` microseconds.
    pub(super) fn everywhere(&self, t: u64, us: u64) -> bool {
        self.open.is_empty() && self.any.is_none_or(|last| last + us <= t)
    }
}

/// `client-3` and `client-3 | shield-1` are the edge's, `shield-1` and `shield-1 | broker` are not.
fn of_servers(target: &str) -> bool {
    target.split('|').all(|side| side.split(',').any(|host| !host.trim().starts_with("client")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_servers_if_both_ends_are() {
        for target in ["shield-1", "brain-2", "broker", "shield-1, shield-2 | broker", "client-1, shield-1"] {
            assert!(of_servers(target), "{target}");
        }
        for target in ["client-3", "clients-1 | shield-1, shield-2", "shield-1 | client-3"] {
            assert!(!of_servers(target), "{target}");
        }
    }

    #[test]
    fn a_trouble_lasts_beyond_its_end() {
        let mut calm = Calm::default();
        assert!(calm.servers(0, 5) && calm.everywhere(0, 5));
        let mut at = |t: u64, record: Record| {
            calm.see(&Line { v: 1, n: t, t, host: "harness".into(), record });
            (calm.servers(t + 1, 5), calm.servers(t + 5, 5), calm.everywhere(t + 5, 5))
        };
        let fault =
            |id: &str, target: &str| Record::Fault { id: id.into(), kind: "hold".into(), target: target.into() };
        assert_eq!(at(10, fault("a", "client-1 | shield-1")), (true, true, false));
        assert_eq!(at(20, fault("b", "shield-1 | broker")), (false, false, false));
        assert_eq!(at(30, Record::Heal { id: "b".into() }), (false, true, false));
        assert_eq!(at(40, Record::Heal { id: "a".into() }), (true, true, true));
        assert_eq!(calm.cause, Some(30));
    }
}
