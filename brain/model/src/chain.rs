//! The chain of a room's log: which entry may follow which, how terms and epochs grow, how an entry is known as mine.
//!
//! A stream position alone is no proof: after a lost tail it is handed out again, and an old owner's write passes the
//! fence. So every entry names the position *and* the hash of its predecessor; what does not fit is void for everyone
//! alike.

use bytes::Bytes;
use proto::internal::LogEntry;
use sha2::{Digest, Sha256};

/// The most events of one entry.
pub const ENTRY_EVENTS_MAX: usize = 256;
/// The most bytes of one entry.
pub const ENTRY_BYTES_MAX: usize = 512 * 1024;

/// First 8 bytes of the SHA-256 of an entry's bytes, little-endian.
pub fn chain(entry: &[u8]) -> u64 {
    first_8(Sha256::new_with_prefix(entry))
}

/// Tells what a sender said under a message id from anything else: first 8 bytes of the SHA-256 of the sender's timestamp
/// (8 bytes, little-endian) and of the command's bytes, little-endian. Never 0, which stands for unknown.
pub fn fingerprint(timestamp: i64, command: &[u8]) -> u64 {
    first_8(Sha256::new_with_prefix(timestamp.to_le_bytes()).chain_update(command)).max(1)
}

fn first_8(hash: Sha256) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// The 16 bytes of `LogEntry.entry_id`: the writing process, and a number it never uses twice.
pub fn entry_id(incarnation: u64, counter: u64) -> Bytes {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&incarnation.to_le_bytes());
    id[8..].copy_from_slice(&counter.to_le_bytes());
    Bytes::copy_from_slice(&id)
}

/// Which process wrote an entry; `None` if the id is malformed.
pub fn writer(entry: &LogEntry) -> Option<u64> {
    let first: [u8; 8] = entry.entry_id.get(..8)?.try_into().ok()?;
    (entry.entry_id.len() == 16).then(|| u64::from_le_bytes(first))
}

/// Where a room's log stands: what the next entry must fit to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Of the last valid entry; 0: there is none.
    pub epoch: u64,
    /// Of the last valid entry. A counter: never falls, never reused, not even across epochs.
    pub term: u64,
    /// Of the last event of this epoch; 0: none yet.
    pub seq: u64,
    /// Position of the last valid entry.
    pub pos: u64,
    /// Chain of the last valid entry.
    pub chain: u64,
    /// Position of the last message, void ones included: what the next append must expect.
    pub fence: u64,
    /// Generation of the last valid entry.
    pub gen_id: u64,
    /// The room's clock, ms: never falls.
    pub at: i64,
    /// True if the last valid entry is a tombstone.
    pub deleted: bool,
}

/// Why an entry counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// It cannot be decoded, or says nothing that this version knows.
    Unreadable,
    /// `prev` is not the position of the room's preceding message.
    Position,
    /// `prev_chain` is not the chain of the last valid entry.
    Chain,
    /// (epoch, term) falls.
    Term,
}

impl Tail {
    /// True if `entry`, as the next message of the room, is valid; else why it is void.
    pub fn accepts(&self, entry: &LogEntry) -> Result<(), Void> {
        if entry.prev != self.fence {
            return Err(Void::Position);
        }
        if entry.prev_chain != self.chain {
            return Err(Void::Chain);
        }
        if (entry.epoch, entry.term) < (self.epoch, self.term) {
            return Err(Void::Term);
        }
        Ok(())
    }

    /// The epoch that begins after this tail: above every known one, near the wall clock so that it also rises when
    /// the whole log is lost.
    pub fn next_epoch(&self, now_ms: i64) -> u64 {
        self.epoch.saturating_add(1).max(u64::try_from(now_ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_with_and_without_a_clock() {
        let tail = Tail { epoch: 500, ..Tail::default() };
        assert_eq!(tail.next_epoch(400), 501);
        assert_eq!(tail.next_epoch(900), 900);
        assert_eq!(tail.next_epoch(-5), 501);
        assert_eq!(Tail::default().next_epoch(0), 1);
    }

    #[test]
    fn an_entry_must_fit_in_position_chain_and_term() {
        let tail = Tail { epoch: 5, term: 3, pos: 8, chain: 77, fence: 9, ..Tail::default() };
        let good = LogEntry { epoch: 5, term: 3, prev: 9, prev_chain: 77, ..LogEntry::default() };
        assert_eq!(tail.accepts(&good), Ok(()));
        assert_eq!(tail.accepts(&LogEntry { prev: 8, ..good.clone() }), Err(Void::Position));
        assert_eq!(tail.accepts(&LogEntry { prev_chain: 78, ..good.clone() }), Err(Void::Chain));
        assert_eq!(tail.accepts(&LogEntry { term: 2, ..good.clone() }), Err(Void::Term));
        assert_eq!(tail.accepts(&LogEntry { epoch: 6, term: 1, ..good }), Ok(()), "a higher epoch outranks the term");
    }

    #[test]
    fn entry_ids_tell_their_writer() {
        let entry = LogEntry { entry_id: entry_id(0xfeed, 3), ..LogEntry::default() };
        assert_eq!(writer(&entry), Some(0xfeed));
        assert_eq!(writer(&LogEntry::default()), None);
    }
}
