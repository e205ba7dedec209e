//! Whether the peer of a connection lives, as plain data.
//!
//! 1. A ping is queued every `ping`. Its deadline runs from its writing: what stands before it in the queue is the
//!    server's debt, and a slow link works it off without being dead.
//! 2. Any bytes read since the ping was written are a sign of life, and so is write progress ([`Metered`]).
//! 3. A peer that gives neither within `pong` after the writing is dead.
//! 4. A socket that takes nothing for `stall` is dead, too: a slow reader if it still talks, else a peer that is gone.
//!
//! [`Metered`]: super::metered::Metered

use std::time::Duration;

use tokio::time::Instant;
use voltron_core::mutant;

/// A ping that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    None,
    Queued,
    Written(Instant),
}

/// What the stream below knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// When it last read bytes.
    pub(super) heard: Instant,
    /// Since when it can write nothing.
    pub(super) blocked: Option<Instant>,
    /// When it last wrote bytes that had had to wait.
    pub(super) progress: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Fine,
    /// A ping must be queued.
    Ping,
    /// No answer to a ping.
    Dead,
    /// The peer talks and reads nothing.
    Slow,
}

#[derive(Clone, Debug)]
pub(super) struct Pulse {
    ping: Duration,
    pong: Duration,
    stall: Duration,
    ping_at: Instant,
    pending: Ping,
}

impl Pulse {
    pub(super) fn new(ping: Duration, pong: Duration, stall: Duration, first: Instant) -> Self {
        Self { ping, pong, stall, ping_at: first, pending: Ping::None }
    }

    /// Everything that was queued before has left for the socket.
    pub(super) fn written(&mut self, now: Instant) {
        if self.pending == Ping::Queued {
            self.pending = Ping::Written(now);
        }
    }

    /// What is due now.
    pub(super) fn beat(&mut self, now: Instant, signs: Signs) -> Beat {
        if let Ping::Written(at) = self.pending
            && signs.heard >= at
        {
            self.pending = Ping::None;
        }
        if let Some((_, end)) = self.deadline(signs).filter(|(by, _)| now >= *by) {
            return end;
        }
        if now < self.ping_at {
            return Beat::Fine;
        }
        self.ping_at = now + self.ping;
        if self.pending != Ping::None {
            return Beat::Fine;
        }
        self.pending = if mutant!(PongFromQueueing) { Ping::Written(now) } else { Ping::Queued };
        Beat::Ping
    }

    /// When to look again, as long as the signs stay as they are.
    pub(super) fn next(&self, signs: Signs) -> Instant {
        self.deadline(signs).map_or(self.ping_at, |(by, _)| by.min(self.ping_at))
    }

    /// When the peer counts as dead, and as what. While the socket is blocked the stall alone decides: the peer may be
    /// reading what stands before the ping.
    fn deadline(&self, signs: Signs) -> Option<(Instant, Beat)> {
        let signs =
            if mutant!(PongFromQueueing) { Signs { blocked: None, progress: signs.heard, ..signs } } else { signs };
        match (signs.blocked, self.pending) {
            (Some(since), _) if signs.heard >= since => Some((since + self.stall, Beat::Slow)),
            (Some(since), _) => Some((since + self.stall, Beat::Dead)),
            (None, Ping::Written(at)) if signs.heard < at => Some((at.max(signs.progress) + self.pong, Beat::Dead)),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn pulse(start: Instant) -> (Pulse, Signs) {
        (Pulse::new(S(25), S(10), S(30), start + S(25)), Signs { heard: start, blocked: None, progress: start })
    }

    #[test]
    fn the_deadline_runs_from_the_writing_of_the_ping() {
        let start = Instant::now();
        let (mut pulse, mut signs) = pulse(start);
        assert_eq!((pulse.beat(start + S(24), signs), pulse.next(signs)), (Beat::Fine, start + S(25)));
        assert_eq!(pulse.beat(start + S(25), signs), Beat::Ping);
        assert_eq!(pulse.beat(start + S(49), signs), Beat::Fine, "it stands in the queue");
        assert_eq!(pulse.beat(start + S(50), signs), Beat::Fine, "one ping at a time");
        pulse.written(start + S(60));
        assert_eq!((pulse.beat(start + S(69), signs), pulse.next(signs)), (Beat::Fine, start + S(70)));
        let mut dead = pulse.clone();
        assert_eq!(dead.beat(start + S(70), signs), Beat::Dead);
        signs.progress = start + S(65);
        assert_eq!(pulse.beat(start + S(70), signs), Beat::Fine, "write progress is life");
        signs.heard = start + S(71);
        assert_eq!(pulse.beat(start + S(80), signs), Beat::Ping, "answered, and the next one is due");
    }

    #[test]
    fn no_write_progress_is_death() {
        let start = Instant::now();
        let (mut pulse, mut signs) = pulse(start);
        signs.blocked = Some(start + S(1));
        assert_eq!((pulse.beat(start + S(30), signs), pulse.next(signs)), (Beat::Ping, start + S(31)));
        assert_eq!(pulse.clone().beat(start + S(31), signs), Beat::Dead, "silent and blocked");
        signs.heard = start + S(20);
        assert_eq!(pulse.clone().beat(start + S(31), signs), Beat::Slow, "it talks and reads nothing");
        signs.blocked = Some(start + S(28));
        assert_eq!(pulse.beat(start + S(31), signs), Beat::Fine, "the socket took some meanwhile");
    }
}
