//! Memory for outgoing messages: each is written to the end of a chunk and split off, so that many share one
//! allocation. A chunk whose messages are all gone is used again; with a second one in reserve, steady traffic
//! allocates nothing. An idle connection gives both back.

use bytes::{Bytes, BytesMut};

const CHUNK_MIN: usize = 2 << 10;
const CHUNK_MAX: usize = 64 << 10;

/// Two chunks of 2 KiB, doubling with use to 64 KiB.
#[derive(Default)]
pub(crate) struct Arena {
    current: BytesMut,
    spare: BytesMut,
    size: usize,
}

impl Arena {
    /// A buffer with room for `need` bytes at least. Write to it, then [`Arena::take`].
    pub(crate) fn begin(&mut self, need: usize) -> &mut BytesMut {
        debug_assert!(self.current.is_empty(), "every message was taken");
        if self.current.capacity() < need && !self.current.try_reclaim(need) {
            std::mem::swap(&mut self.current, &mut self.spare);
            if self.current.capacity() < need && !self.current.try_reclaim(need) {
                self.size = (self.size * 2).clamp(CHUNK_MIN, CHUNK_MAX);
                self.current = BytesMut::with_capacity(self.size.max(need));
            }
        }
        &mut self.current
    }

    /// What was written.
    pub(crate) fn take(&mut self) -> Bytes {
        self.current.split().freeze()
    }

    /// Gives the memory back; messages that still live keep theirs.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bytes_while_chunks_are_reused() {
        let mut arena = Arena::default();
        let mut held = std::collections::VecDeque::new();
        for i in 0..10_000u32 {
            arena.begin(100).extend_from_slice(&[i as u8; 100]);
            held.push_back((i as u8, arena.take()));
            if held.len() > 50 {
                let (byte, bytes) = held.pop_front().expect("not empty");
                assert!(bytes.len() == 100 && bytes.iter().all(|b| *b == byte));
            }
        }
        assert!(arena.size <= CHUNK_MAX);
        arena.begin(CHUNK_MAX * 3).extend_from_slice(&[1; CHUNK_MAX * 3]);
        assert_eq!(arena.take().len(), CHUNK_MAX * 3, "one message may be larger than a chunk");
    }
}
