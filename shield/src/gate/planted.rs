//! What the gate's planted bugs do ([`voltron_core::mutants`]); never called in a build without them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::{RoomId, RoomKey, Subject, TenantId, v1};

use super::Room;
use crate::route::Route;

/// A room of no name, whose rights are those of every room.
pub(super) fn anywhere() -> RoomId {
    RoomId::parse("anywhere").expect("letters")
}

/// The subjects of a room whose name was never checked; `None` if the name is good, or no subject can hold it.
pub(super) fn unchecked(tenant: &TenantId, name: &str) -> Option<Arc<Route>> {
    if RoomId::parse(name).is_ok() {
        return None;
    }
    let input = Subject::from_wire(Bytes::from(format!("in.t.{tenant}.r.{name}"))).ok()?;
    let mut route = Route::new(RoomKey::new(tenant.clone(), anywhere()));
    route.input = input;
    Some(Arc::new(route))
}

/// Takes the envelope's word for whose command it is.
pub(super) fn move_to(tenant: &mut TenantId, claimed: &str, rooms: &mut BTreeMap<Box<str>, Room>) {
    if let Ok(claimed) = TenantId::parse(claimed)
        && claimed != *tenant
    {
        *tenant = claimed;
        rooms.clear();
    }
}

/// A command as this build would write it: what it does not know is gone.
pub(super) fn encoded(command: &[u8]) -> Vec<u8> {
    v1::Command::decode(command).map(|command| command.encode_to_vec()).unwrap_or_default()
}
