//! Entropy as a seam: connection ids, jitter, incarnations. In the simulator each purpose has its own seeded stream.

/// Fills buffers with bytes nobody can guess (or, under simulation, that only the seed determines).
pub trait Ids: Clone + Send + Sync + 'static {
    /// Fills `out`. `purpose` names what for, e.g. `"conn"`, so that one purpose never shifts another's draws.
    fn fill(&self, purpose: &'static str, out: &mut [u8]);

    /// One random `u64`.
    fn u64(&self, purpose: &'static str) -> u64 {
        let mut bytes = [0; 8];
        self.fill(purpose, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The operating system's entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsIds;

impl Ids for OsIds {
    #[allow(clippy::disallowed_methods, reason = "the one place that draws real entropy")]
    fn fill(&self, _purpose: &'static str, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system always has entropy after boot");
    }
}
