//! Memory for outgoing messages: each is written to the end of a chunk and split off, so that many share one
//! allocation. A chunk whose messages are all gone is used again; with a second one in reserve, steady traffic
//! allocates nothing. An idle connection gives both back.

use bytes::{Bytes, BytesMut};

const CHUNK_MIN: usize = 2 << 10;
const CHUNK_MAX: usize = 64 << 10;

/// Two chunks, each doubling with use from 2 to 64 KiB: they grow until one of them is free when the other is full. A
/// message larger than that gets a chunk of its own size, which stays like the others until [`Arena::release`].
#[derive(Default)]
pub(crate) struct Arena {
    current: Chunk,
    spare: Chunk,
    /// Chunks that were allocated.
    #[cfg(test)]
    made: u32,
}

#[derive(Default)]
struct Chunk {
    rest: BytesMut,
    /// As it was allocated.
    size: usize,
}

impl Chunk {
    /// Room for `need` bytes: what is left of it, or all of it if nothing that was written there lives any more.
    fn fits(&mut self, need: usize) -> bool {
        self.rest.capacity() >= need || self.rest.try_reclaim(need)
    }
}

impl Arena {
    /// A buffer with room for `need` bytes at least. Write to it, then [`Arena::take`].
    pub(crate) fn begin(&mut self, need: usize) -> &mut BytesMut {
        debug_assert!(self.current.rest.is_empty(), "every message was taken");
        if !self.current.fits(need) {
            std::mem::swap(&mut self.current, &mut self.spare);
            if !self.current.fits(need) {
                // The larger one stays: else a small chunk, free again after a few messages, would keep its place and
                // the large ones be allocated over and over.
                if self.spare.size < self.current.size {
                    std::mem::swap(&mut self.current, &mut self.spare);
                }
                let size = (self.spare.size * 2).clamp(CHUNK_MIN, CHUNK_MAX).max(need);
                self.current = Chunk { rest: BytesMut::with_capacity(size), size };
                #[cfg(test)]
                {
                    self.made += 1;
                }
            }
        }
        &mut self.current.rest
    }

    /// What was written.
    pub(crate) fn take(&mut self) -> Bytes {
        self.current.rest.split().freeze()
    }

    /// Gives the memory back; messages that still live keep theirs.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn messages_keep_their_bytes_while_chunks_are_reused() {
        let mut arena = Arena::default();
        let mut held = VecDeque::new();
        for i in 0..10_000u32 {
            arena.begin(100).extend_from_slice(&[i as u8; 100]);
            held.push_back((i as u8, arena.take()));
            if held.len() > 50 {
                let (byte, bytes) = held.pop_front().expect("not empty");
                assert!(bytes.len() == 100 && bytes.iter().all(|b| *b == byte));
            }
        }
        assert!(arena.current.size.max(arena.spare.size) <= CHUNK_MAX);
        arena.begin(CHUNK_MAX * 3).extend_from_slice(&[1; CHUNK_MAX * 3]);
        assert_eq!(arena.take().len(), CHUNK_MAX * 3, "one message may be larger than a chunk");
    }

    #[test]
    fn steady_traffic_stays_in_the_same_two_chunks() {
        for (len, in_flight) in [(100, 16), (235, 16), (235, 250), (1000, 50), (60_000, 1)] {
            let (mut arena, mut held) = (Arena::default(), VecDeque::new());
            let mut made = 0;
            for i in 0..10_000 {
                arena.begin(len).resize(len, 0);
                held.push_back(arena.take());
                if held.len() > in_flight {
                    held.pop_front();
                }
                if i == 2_000 {
                    made = arena.made;
                }
            }
            assert_eq!(arena.made, made, "{len} B, {in_flight} in flight");
        }
    }
}
