//! What the tokens of clients grant, as `grant` records say.

use std::collections::BTreeMap;

use voltron_core::trace::Record;

/// By client: a pattern of room names, and the actions that it grants.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<String, Vec<(String, Vec<String>)>>);

impl Grants {
    /// Takes a record over.
    pub(super) fn see(&mut self, record: &Record) {
        if let Record::Grant { c, m, a } = record {
            self.0.entry(c.clone()).or_default().push((m.clone(), a.clone()));
        }
    }

    /// Whether this client may do this in `tenant/room`; `None`: the trace does not say.
    pub(super) fn has(&self, c: &str, room: &str, action: &str) -> Option<bool> {
        let room = room.split_once('/').map_or(room, |(_, room)| room);
        let fits = |m: &str| m.strip_suffix('*').map_or(m == room, |prefix| room.starts_with(prefix));
        let granted = |(m, a): &(String, Vec<String>)| fits(m) && a.iter().any(|granted| granted == action);
        Some(self.0.get(c)?.iter().any(granted))
    }
}
