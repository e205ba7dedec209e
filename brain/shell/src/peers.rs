//! The Brains that were heard lately, and which of them should serve a room. Safety never rests on this choice: two
//! nodes that both believe they own a room are told apart by the log's fence.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::internal::Heartbeat;
use proto::{NodeId, RoomKey};
use tokio::time::Instant;

/// The most nodes remembered.
const PEERS_MAX: usize = 1024;
/// `Heartbeat.kind` of a Brain.
pub(crate) const KIND_BRAIN: u32 = 2;

#[derive(Clone, Debug)]
struct Peer {
    incarnation: u64,
    heard: Instant,
    draining: bool,
}

/// A node that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Living {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
}

#[derive(Debug)]
pub(crate) struct Peers {
    known: BTreeMap<NodeId, Peer>,
    down_after: Duration,
}

impl Peers {
    pub(crate) const fn new(down_after: Duration) -> Self {
        Self { known: BTreeMap::new(), down_after }
    }

    /// A heartbeat arrived; false if it is no Brain's.
    pub(crate) fn heard(&mut self, beat: &Heartbeat, now: Instant) -> bool {
        let Ok(node) = NodeId::parse(&beat.node) else { return false };
        if beat.kind != KIND_BRAIN {
            return false;
        }
        let down_after = self.down_after;
        self.known.retain(|_, peer| now.duration_since(peer.heard) <= down_after * 10);
        if self.known.len() < PEERS_MAX || self.known.contains_key(&node) {
            let peer = Peer { incarnation: beat.incarnation, heard: now, draining: beat.draining };
            self.known.insert(node, peer);
        }
        true
    }

    /// Who lives and takes rooms, ascending by name.
    pub(crate) fn living(&self, now: Instant) -> Vec<Living> {
        let living =
            self.known.iter().filter(|(_, peer)| now.duration_since(peer.heard) <= self.down_after && !peer.draining);
        living.map(|(node, peer)| Living { node: node.clone(), incarnation: peer.incarnation }).collect()
    }
}

/// Who should serve `room`, best first: the writer of its last entry if it lives (ownership is sticky), then by
/// rendezvous hash, so that every node finds the same order without asking.
pub(crate) fn ranked(room: &RoomKey, last_writer: Option<u64>, mut living: Vec<Living>) -> Vec<Living> {
    let weight =
        |node: &NodeId| brain_model::chain::chain(format!("{node}\0{}\0{}", room.tenant, room.room).as_bytes());
    living.sort_by_key(|one| (Some(one.incarnation) != last_writer, std::cmp::Reverse(weight(&one.node))));
    living
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living(n: u64) -> Living {
        Living { node: format!("brain-{n}").parse().unwrap(), incarnation: n }
    }

    #[test]
    fn the_last_writer_comes_first_and_the_rest_in_an_order_all_share() {
        let room = RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap());
        let all: Vec<_> = (1..=5).map(living).collect();
        let mut turned = all.clone();
        turned.reverse();
        let order = ranked(&room, None, all.clone());
        assert_eq!(order, ranked(&room, None, turned));
        for one in &all {
            let sticky = ranked(&room, Some(one.incarnation), all.clone());
            assert_eq!(sticky[0], *one);
            let rest: Vec<_> = order.iter().filter(|other| *other != one).cloned().collect();
            assert_eq!(sticky[1..], rest[..]);
        }
    }

    #[test]
    fn a_silent_or_draining_node_takes_no_rooms() {
        let now = Instant::now();
        let mut peers = Peers::new(Duration::from_secs(3));
        let beat =
            |node: &str, draining| Heartbeat { node: node.into(), kind: KIND_BRAIN, draining, ..Heartbeat::default() };
        assert!(peers.heard(&beat("brain-1", false), now));
        assert!(peers.heard(&beat("brain-2", true), now));
        assert!(!peers.heard(&Heartbeat { kind: 1, ..beat("shield-1", false) }, now));
        assert!(!peers.heard(&beat("no.node", false), now));
        assert_eq!(peers.living(now).len(), 1);
        assert!(peers.living(now + Duration::from_secs(4)).is_empty());
    }
}
