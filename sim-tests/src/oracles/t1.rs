//! T1: nothing of a tenant reaches another, and every subject on the wire has the shape of the taxonomy (CONTRACT §3).
//! G2: the tenant of a stored command is that of its sender's token.
//!
//! T1 looks at every delivery, answer and subject; G2 at every commit of the log whose command was seen being sent.

use std::collections::BTreeMap;

use proto::{RoomId, TenantId};
use voltron_core::trace::{Line, Record};

use super::{Findings, Oracle, is_log};

#[derive(Default)]
pub(super) struct Apart {
    tenants: BTreeMap<String, String>,
}

impl Oracle for Apart {
    fn name(&self) -> &'static str {
        "T1"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, .. } => {
                self.tenants.insert(c.clone(), tenant.clone());
            }
            // The answer to what the client does not know as its own names no room.
            Record::Ack { room, .. } if room.is_empty() => {}
            Record::Recv { c, room, .. } | Record::Ack { c, room, .. } | Record::Got { c, room, .. } => {
                let own = self.tenants.get(c).map_or("", String::as_str);
                found.check("T1", line.n, tenant_of(room) == own, || {
                    format!("{c} belongs to tenant {own:?} and was told of {room}")
                });
            }
            Record::Pub { subject, .. } | Record::Append { subject, .. } => {
                found.check("T1", line.n, is_ours(subject), || format!("{subject:?} is no subject of ours"));
            }
            _ => {}
        }
    }
}

fn tenant_of(room: &str) -> &str {
    room.split_once('/').map_or("", |(tenant, _)| tenant)
}

/// One of the subjects that messages of rooms travel on or are stored under.
fn is_ours(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let number = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
    let room = |t: &str, r: &str| TenantId::parse(t).is_ok() && RoomId::parse(r).is_ok();
    match tokens[..] {
        ["in" | "out", "t", tenant, "r", r] => room(tenant, r),
        ["log" | "snap", p, "t", tenant, "r", r] => number(p) && room(tenant, r),
        ["gen", index] => number(index),
        ["open", "t", tenant] => TenantId::parse(tenant).is_ok(),
        ["ban", "t", tenant, "u", _] => TenantId::parse(tenant).is_ok(),
        ["pres", p] => number(p),
        _ => false,
    }
}

#[derive(Default)]
pub(super) struct TokensTenant {
    tenants: BTreeMap<String, String>,
    /// Message id: the tenants whose users sent it.
    senders: BTreeMap<String, Vec<String>>,
}

impl Oracle for TokensTenant {
    fn name(&self) -> &'static str {
        "G2"
    }

    fn see(&mut self, line: &Line, found: &mut Findings) {
        match &line.record {
            Record::Open { c, tenant, .. } => {
                self.tenants.insert(c.clone(), tenant.clone());
            }
            Record::Send { c, m, .. } => {
                if let Some(tenant) = self.tenants.get(c) {
                    let senders = self.senders.entry(m.clone()).or_default();
                    if !senders.contains(tenant) {
                        senders.push(tenant.clone());
                    }
                }
            }
            Record::Commit { room, m, .. } if is_log(line) && !m.is_empty() => {
                let Some(senders) = self.senders.get(m) else { return };
                let tenant = tenant_of(room);
                found.check("G2", line.n, senders.iter().any(|sender| sender == tenant), || {
                    format!("{room} holds command {m}, whose sender's token says {}", senders.join(", "))
                });
            }
            _ => {}
        }
    }
}
