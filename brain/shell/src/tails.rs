//! The heads of rooms that fell silent a moment ago, told in heartbeats: so a Shield notices that the last republish of a
//! room was lost on its way.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::RoomKey;
use proto::internal::Tail;
use proto::subject::room_hash;
use tokio::time::Instant;
use voltron_core::mutant;

/// The most tails of one heartbeat: about 400 KiB.
const TAILS_MAX: usize = 8192;

#[derive(Default)]
pub(crate) struct Tails(Mutex<BTreeMap<u64, (Tail, Instant)>>);

impl Tails {
    /// An entry was committed.
    pub(crate) fn moved(&self, room: &RoomKey, epoch: u64, term: u64, pos: u64) {
        let room = room_hash(room);
        let tail = Tail { room, epoch, term, pos, diff_n: 0 };
        self.lock().insert(room, (tail, Instant::now()));
    }

    /// The tails whose last entry is one to three `round`s old, ascending by room; older ones are forgotten.
    pub(crate) fn settled(&self, round: Duration) -> Vec<Tail> {
        if mutant!(NoTailDigest) {
            return Vec::new();
        }
        let mut tails = self.lock();
        tails.retain(|_, (_, moved)| moved.elapsed() <= round * 3);
        let settled = tails.values().filter(|(_, moved)| moved.elapsed() >= round);
        settled.take(TAILS_MAX).map(|(tail, _)| *tail).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (Tail, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
