//! Planted bugs: the simulator's own test. `mutant!(Name)` is an inlined `false` without the cargo feature `mutants`,
//! and that feature without debug assertions does not compile, so no release can hold one.
//!
//! Each bug is a row of [`PLANTED`]: where it sits, who must find it, and which oracle must be the one to object. `cargo
//! sim mutants` holds the simulator to that table.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants bugs: it may not be built without debug assertions");

mod table;

pub use table::PLANTED;

/// Every planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Events are sent before the commit that stores them was acknowledged.
    AckBeforeAppend,
    /// A refused fence is taken for success.
    FenceConflictIsSuccess,
    /// The absence of an unresolved commit is taken for failure.
    AbsenceIsFailure,
    /// A repeat within the window is applied again.
    DuplicateApplied,
    /// The Shield delivers past a gap.
    GapIgnored,
    /// What a client missed before it resubscribed is replayed in the wrong order.
    ReorderAfterResubscribe,
    /// An append to the log names no predecessor, so a stale owner's write is stored.
    ExpectationLeftOut,
    /// "Another append is under way" (10164) is taken for a lost conflict.
    UndecidedIsConflict,
    /// A changed generation is no reason for a new epoch: positions and terms are handed out again.
    TermReissued,
    /// The generation is not read again after `owned` was stored.
    GenerationNotReread,
    /// A connection ends without the rest of its frame and without its close code.
    CloseCodeCut,
    /// A ping's deadline runs from its place at the end of the queue, whatever stands before it.
    PongFromQueueing,
    /// A read whose deadline passes gives away what has come.
    PartialReadLost,
    /// A purge names no position, so it takes everything.
    PurgeWithoutSeq,
    /// A snapshot is shared however old it is, and the result of a SUB names its place.
    SharedSnapshotStale,
    /// A Shield believes a heartbeat whoever sent it.
    HeartbeatUnchecked,
    /// The log is trimmed only while the older of the two stored snapshots is itself old enough.
    TrimLooksAtTheOlder,
    /// A snapshot whose append failed is the last one of its owner.
    SnapshotGivenUp,
    /// The snapshot that an epoch begins with takes the place of another owner's.
    AnchorOvertakes,
    /// A snapshot does not say how long ttls are.
    SnapshotWithoutTtls,
    /// A snapshot is written only when nothing waits.
    SnapshotAtRestOnly,
    /// Heartbeats name no heads of rooms that fell silent.
    NoTailDigest,
    /// Who takes a room over has forgotten which commands were applied.
    DedupeLostInFailover,
    /// A command's answer goes wherever the command says.
    ReplyUnchecked,
    /// A room's name enters a subject as the client wrote it.
    RoomIdUnchecked,
    /// The tenant is the envelope's, not the token's.
    TenantFromEnvelope,
    /// A signature is verified over the command as this build would encode it.
    SignatureOverReencoded,
    /// The fan-out of a room waits for its slowest reader.
    ReaderBlocksFanOut,
    /// What waits for a reader is not bounded.
    OutboxUnbounded,
    /// A token's end is not looked at once it has opened a connection.
    TokenCheckedOnce,
    /// A Shield that drains does not wait for the answers under way.
    DrainDropsAcks,
    /// A lost connection to the broker is tried again without a pause.
    ReconnectWithoutBackOff,
    /// The Shield sends each command from a task of its own, so that none holds up the reading of the next.
    CommandInOwnTask,
    /// The Shield stamps a command with the machine's date, past its `WallClock`.
    WallClockRead,
    /// The Shield names a connection with the machine's entropy, past its `Ids`.
    BareEntropy,
    /// The streams are made at the start of a Brain, and never again.
    StreamsEnsuredOnce,
    /// A SUB that is refused is never answered.
    SubUnanswered,
    /// The Spine subscription of a room that nobody follows any more never ends.
    SubscriptionLeaked,
    /// A heartbeat that confirms where a room stands sends its subscribers away.
    GapForNothing,
    /// The broker republishes what it stored in another order.
    RepublishReordered,
    /// A ttl ends up to a second before its time.
    TtlEndsEarly,
    /// Ephemeral events go to whoever asked for the room, admitted or not.
    LiveToAll,
    /// The Shield's fan-out goes through a `HashMap`.
    HashMapOrder,
}

/// A planted bug: what it is, and what must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its name on the command line.
    pub name: &'static str,
    /// The switch in the code.
    pub mutant: Mutant,
    /// The folder that holds it.
    pub part: &'static str,
    /// Who must find it.
    pub finder: Finder,
    /// The oracles that may object first; another one is as bad as none. Empty for finders without oracles.
    pub oracles: &'static [&'static str],
    /// The mark of the branch that the bug sits behind: a run that never reached it could not find the bug.
    pub mark: Option<&'static str>,
    /// A scenario that finds it within three seeds, for bugs that the finder may need many for.
    pub own: Option<&'static str>,
}

/// Who finds a planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// The generic swarm (`scenarios/swarm.toml`).
    Swarm,
    /// The named scenario.
    Scenario(&'static str),
    /// Two processes of one seed (`cargo sim meta`): it breaks determinism.
    Meta,
    /// The named scenario under madsim's shuffled scheduler alone.
    Madsim(&'static str),
    /// A test that passes, and fails with the bug on (`ARQON_MUTANT=NAME cargo test …`).
    Test {
        /// The target: a file below `tests/`, or `lib` for unit tests.
        target: &'static str,
        /// The test's whole name.
        name: &'static str,
    },
}

/// The environment variable that turns a bug on in a build that holds them.
pub const VARIABLE: &str = "ARQON_MUTANT";

impl Mutant {
    /// The bug of this name.
    pub fn named(name: &str) -> Option<&'static Planted> {
        PLANTED.iter().find(|planted| planted.name == name)
    }
}

#[cfg(feature = "mutants")]
mod active {
    use super::Mutant;
    use std::sync::{LazyLock, OnceLock};

    static ACTIVE: OnceLock<Mutant> = OnceLock::new();

    /// From the environment: so any test of any crate can be run with a bug on, as its finder.
    static GIVEN: LazyLock<Option<Mutant>> = LazyLock::new(|| {
        let name = std::env::var(super::VARIABLE).ok()?;
        Some(Mutant::named(&name).unwrap_or_else(|| panic!("{}={name}: no such bug", super::VARIABLE)).mutant)
    });

    /// Turns one bug on for the rest of this process: the first one asked for. False if this build holds no planted
    /// bugs, or another one is on.
    pub fn turn_on(mutant: Mutant) -> bool {
        *ACTIVE.get_or_init(|| mutant) == mutant
    }

    /// True if this bug is on.
    pub fn on(mutant: Mutant) -> bool {
        ACTIVE.get().or(GIVEN.as_ref()) == Some(&mutant)
    }
}
#[cfg(feature = "mutants")]
pub use active::{on, turn_on};

/// False: this build holds no planted bugs.
#[cfg(not(feature = "mutants"))]
pub const fn turn_on(_mutant: Mutant) -> bool {
    false
}

/// Always false: this build holds no planted bugs.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

/// True if the named bug is planted and on.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::on($crate::mutants::Mutant::$name)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_one_name_that_says_what_it_is() {
        for (i, planted) in PLANTED.iter().enumerate() {
            let name = planted.name;
            let words = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]);
            assert_eq!(words.collect::<String>(), format!("{:?}", planted.mutant));
            assert!(PLANTED.iter().skip(i + 1).all(|other| other.mutant != planted.mutant), "{name} stands twice");
            assert!(planted.mark.is_none_or(crate::marks::known), "{name} names no mark of ours");
            let judged = matches!(planted.finder, Finder::Swarm | Finder::Scenario(_) | Finder::Madsim(_));
            assert_eq!(judged, !planted.oracles.is_empty(), "{name}: oracles judge runs, and runs alone");
        }
    }

    /// No bug is on before one is turned on; afterwards only that one is. One test, as the choice is the process's.
    #[test]
    fn only_the_chosen_bug_is_on() {
        assert!(PLANTED.iter().all(|planted| !on(planted.mutant)));
        assert!(!crate::mutant!(GapIgnored));
        #[cfg(feature = "mutants")]
        {
            turn_on(Mutant::GapIgnored);
            assert!(crate::mutant!(GapIgnored));
            assert!(!crate::mutant!(AckBeforeAppend));
        }
    }
}
