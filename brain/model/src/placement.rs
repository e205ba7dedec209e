//! The Brains that were heard lately, and which of them should serve a room. Safety never rests on this choice: two
//! nodes that both believe they own a room are told apart by the log's fence.

use std::collections::BTreeMap;

use proto::internal::Heartbeat;
use proto::{NodeId, RoomKey};

use crate::chain::chain;

/// The most nodes remembered.
const PEERS_MAX: usize = 1024;
/// `Heartbeat.kind` of a Brain.
pub const KIND_BRAIN: u32 = 2;

#[derive(Clone, Debug)]
struct Peer {
    incarnation: u64,
    heard_ms: u64,
    draining: bool,
}

/// A node that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its name.
    pub node: NodeId,
    /// Which run of it.
    pub incarnation: u64,
}

/// The Brains that were heard. Time is the host's advancing clock, in ms.
#[derive(Clone, Debug)]
pub struct Peers {
    known: BTreeMap<NodeId, Peer>,
    down_after_ms: u64,
}

impl Peers {
    /// Nobody was heard yet. Who is silent for longer than `down_after_ms` is taken for dead.
    pub const fn new(down_after_ms: u64) -> Self {
        Self { known: BTreeMap::new(), down_after_ms }
    }

    /// A heartbeat arrived; false if it is no Brain's. Who was silent for ten times as long as it takes to be dead is
    /// forgotten.
    pub fn heard(&mut self, beat: &Heartbeat, mono_ms: u64) -> bool {
        let Ok(node) = NodeId::parse(&beat.node) else { return false };
        if beat.kind != KIND_BRAIN {
            return false;
        }
        let forget_ms = self.down_after_ms.saturating_mul(10);
        self.known.retain(|_, peer| mono_ms.saturating_sub(peer.heard_ms) <= forget_ms);
        if self.known.len() < PEERS_MAX || self.known.contains_key(&node) {
            let peer = Peer { incarnation: beat.incarnation, heard_ms: mono_ms, draining: beat.draining };
            self.known.insert(node, peer);
        }
        true
    }

    /// Who lives and takes rooms, ascending by name.
    pub fn living(&self, mono_ms: u64) -> Vec<Living> {
        let lives = |peer: &Peer| !peer.draining && mono_ms.saturating_sub(peer.heard_ms) <= self.down_after_ms;
        let living = self.known.iter().filter(|(_, peer)| lives(peer));
        living.map(|(node, peer)| Living { node: node.clone(), incarnation: peer.incarnation }).collect()
    }
}

/// Who should serve `room`, best first: the writer of its last entry if it lives (ownership is sticky), then by
/// rendezvous hash, so that every node finds the same order without asking.
pub fn ranked(room: &RoomKey, last_writer: Option<u64>, mut living: Vec<Living>) -> Vec<Living> {
    let weight = |node: &NodeId| chain(format!("{node}\0{}\0{}", room.tenant, room.room).as_bytes());
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
        let now = 10_000;
        let mut peers = Peers::new(3000);
        let beat =
            |node: &str, draining| Heartbeat { node: node.into(), kind: KIND_BRAIN, draining, ..Heartbeat::default() };
        assert!(peers.heard(&beat("brain-1", false), now));
        assert!(peers.heard(&beat("brain-2", true), now));
        assert!(!peers.heard(&Heartbeat { kind: 1, ..beat("shield-1", false) }, now));
        assert!(!peers.heard(&beat("no.node", false), now));
        assert_eq!(peers.living(now + 3000).len(), 1);
        assert!(peers.living(now + 3001).is_empty());
    }
}
