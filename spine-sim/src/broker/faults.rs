//! What a harness can make the broker do wrong, each thing that a real one was measured to do.

/// When a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Never.
    #[default]
    Off,
    /// The next so many times.
    Next(u32),
    /// Every n-th time; 0 is never.
    Every(u32, u32),
    /// Always.
    Always,
}

impl Rule {
    /// Every `n`-th time from now on.
    pub const fn every(n: u32) -> Self {
        Self::Every(n, 0)
    }

    /// Counts one occasion: does it strike?
    pub(crate) fn strikes(&mut self) -> bool {
        match self {
            Self::Off | Self::Every(0, _) | Self::Next(0) => false,
            Self::Always => true,
            Self::Next(left) => {
                *left -= 1;
                if *left == 0 {
                    *self = Self::Off;
                }
                true
            }
            Self::Every(n, seen) => {
                *seen = (*seen + 1) % *n;
                *seen == 0
            }
        }
    }
}

/// The broker's faults; all off by default.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A stored message is not republished.
    pub drop_republish: Rule,
    /// A message is stored and its PubAck lost.
    pub lose_ack: Rule,
    /// An append is neither stored nor refused: no answer; a fenced retry on the same subject gets 10164, until
    /// [`Broker::settle_undecided`](crate::Broker::settle_undecided) says what became of it.
    pub undecided: Rule,
    /// A publish without reply to a stream's subject is dropped by the ingest queue.
    pub drop_ingest: Rule,
    /// A repeated `Nats-Msg-Id` is noticed before the fence (as R3 does) and not after it (R1).
    pub dedupe_before_fence: bool,
    /// A crash brings back what a limit per subject had evicted from a file stream, as far as a purge has made room for it.
    pub revive_evicted: Rule,
    /// A request to a subject that has subscribers is answered 503 all the same: interest lags in a cluster.
    pub false_no_responders: Rule,
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn rules() {
        let mut next = Rule::Next(2);
        assert_eq!([next.strikes(), next.strikes(), next.strikes()], [true, true, false]);
        let mut every = Rule::every(3);
        assert_eq!([(); 6].map(|()| every.strikes()), [false, false, true, false, false, true]);
        assert!(!Rule::every(0).strikes() && !Rule::Off.strikes() && Rule::Always.strikes());
    }
}
