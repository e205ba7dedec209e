//! One `u64` seed, many streams: every purpose draws from its own, so that one more draw here shifts nothing there.
//!
//! ```
//! use sim_tests::seed::Draw;
//! let mut traffic = Draw::new(7, "traffic");
//! let first = traffic.below(100);
//! assert_eq!(Draw::new(7, "traffic").below(100), first);
//! assert_ne!(Draw::new(7, "faults").u64(), Draw::new(7, "traffic").u64());
//! ```

use sha2::{Digest, Sha256};

/// A number that only `parts` determine: SplitMix64's finish over each in turn. For the hot paths of the engine, where
/// nothing depends on who could guess it.
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9E37_79B9_7F4A_7C15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// A stream of numbers that only (seed, name) determine: SHA-256 in counter mode.
#[derive(Clone, Debug)]
pub struct Draw {
    key: [u8; 32],
    counter: u64,
}

impl Draw {
    /// The stream called `name` of this seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"arqon.sim/draw\0");
        hash.update(seed.to_le_bytes());
        hash.update(name.as_bytes());
        Self { key: hash.finalize().into(), counter: 0 }
    }

    /// The next number.
    pub fn u64(&mut self) -> u64 {
        let block = self.block(self.counter);
        self.counter += 1;
        u64::from_le_bytes(block[..8].try_into().expect("a digest has 32 bytes"))
    }

    /// One of `0..n`; 0 if `n` is 0. The bias of the remainder is below 2^-32 for the sizes used here.
    pub fn below(&mut self, n: u64) -> u64 {
        self.u64() % n.max(1)
    }

    /// One of `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `percent` of 100 draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "nothing to pick from");
        let at = self.below(items.len() as u64);
        &items[usize::try_from(at).expect("below the length")]
    }

    /// Fills `out` with the bytes of draw number `counter`, whatever was drawn before.
    pub fn fill_at(&self, counter: u64, out: &mut [u8]) {
        for (part, chunk) in out.chunks_mut(32).enumerate() {
            let mut hash = Sha256::new();
            hash.update(self.block(counter));
            hash.update((part as u64).to_le_bytes());
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }

    fn block(&self, counter: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(counter.to_le_bytes());
        hash.finalize().into()
    }
}
