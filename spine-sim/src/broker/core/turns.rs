//! Which member of a queue group has a message: drawn from the seed, the group, the subject and how many messages of that
//! subject came before. What is said on other subjects shifts nothing, so that two runs that differ in one tenant's
//! traffic can be compared.

use super::mix;

/// Counters of messages; a group's subjects share them by hash, so the table never grows. Two subjects that meet in one
/// counter only make each other's choices less alike.
const COUNTERS: usize = 1024;

#[derive(Debug)]
pub(super) struct Turns(Box<[u64; COUNTERS]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Box::new([0; COUNTERS]))
    }
}

impl Turns {
    /// A number that picks the member, modulo their count.
    pub(super) fn next(&mut self, seed: u64, group: &[u8], subject: &[u8]) -> u64 {
        let hash = |name: &[u8]| name.iter().fold(0_u64, |hash, byte| mix(hash ^ u64::from(*byte)));
        let name = mix(hash(group) ^ hash(subject).rotate_left(1));
        let had = &mut self.0[name as usize % COUNTERS];
        *had += 1;
        mix(seed ^ mix(name ^ mix(*had)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_subjects_shift_nothing() {
        let (mut alone, mut beside) = (Turns::default(), Turns::default());
        for n in 0..64 {
            beside.next(1, b"brains", b"open.t.t2");
            assert_eq!(alone.next(1, b"brains", b"open.t.t1"), beside.next(1, b"brains", b"open.t.t1"), "{n}");
        }
    }

    #[test]
    fn every_member_has_its_share() {
        let mut turns = Turns::default();
        let mut had = [0; 3];
        for _ in 0..300 {
            had[turns.next(7, b"brains", b"open.t.t1") as usize % 3] += 1;
        }
        assert!(had.iter().all(|had| *had > 60), "{had:?}");
    }
}
