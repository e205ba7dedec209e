//! The heads of rooms that fell silent a moment ago, told in heartbeats: so a Shield notices that the last republish of a
//! room was lost on its way.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
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
pub(crate) struct Tails(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    moved: BTreeMap<u64, (Tail, Instant)>,
    /// The room told last, if not all could be told: the next heartbeat begins after it.
    told: Option<u64>,
}

impl Tails {
    /// An entry was committed.
    pub(crate) fn moved(&self, room: &RoomKey, epoch: u64, term: u64, pos: u64) {
        let room = room_hash(room);
        let tail = Tail { room, epoch, term, pos, diff_n: 0 };
        self.lock().moved.insert(room, (tail, Instant::now()));
    }

    /// The tails whose last entry is one to three `round`s old; older ones are forgotten. Ascending by room, from where
    /// the last heartbeat had to stop: more than fit into one take turns.
    pub(crate) fn settled(&self, round: Duration) -> Vec<Tail> {
        if mutant!(NoTailDigest) {
            return Vec::new();
        }
        let mut tails = self.lock();
        tails.moved.retain(|_, (_, moved)| moved.elapsed() <= round * 3);
        let settled = |(_, (tail, moved)): (&u64, &(Tail, Instant))| (moved.elapsed() >= round).then_some(*tail);
        let told = tails.told.unwrap_or(u64::MAX);
        let after = tails.moved.range((Excluded(told), Unbounded)).filter_map(settled);
        let before = tails.moved.range(..=told).filter_map(settled);
        let mut some: Vec<Tail> = after.chain(before).take(TAILS_MAX + 1).collect();
        let more = some.len() > TAILS_MAX;
        some.truncate(TAILS_MAX);
        tails.told = some.last().filter(|_| more).map(|tail| tail.room);
        some
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proto::{RoomId, TenantId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn more_tails_than_fit_take_turns() {
        let tails = Tails::default();
        let round = Duration::from_secs(1);
        let tenant = TenantId::parse("t").unwrap();
        let rooms = TAILS_MAX + TAILS_MAX / 2;
        for n in 0..rooms {
            tails.moved(&RoomKey::new(tenant.clone(), RoomId::parse(&format!("r{n}")).unwrap()), 1, 1, 1);
        }
        assert!(tails.settled(round).is_empty(), "they may have moved on");
        tokio::time::advance(round).await;
        let (first, second) = (tails.settled(round), tails.settled(round));
        assert_eq!((first.len(), second.len()), (TAILS_MAX, TAILS_MAX));
        let told: BTreeSet<u64> = first.iter().chain(&second).map(|tail| tail.room).collect();
        assert_eq!(told.len(), rooms, "two heartbeats tell all of them");
        tokio::time::advance(round * 3).await;
        assert!(tails.settled(round).is_empty(), "and then they are forgotten");
    }
}
