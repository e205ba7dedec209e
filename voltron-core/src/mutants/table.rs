//! The table of planted bugs. To add one: a variant of [`Mutant`], a row here, `mutant!(…)` where it sits.
//!
//! Bugs of the Brain sit in the core that it shares with the simulator (`brain/model`) or in its Rust shell
//! (`brain/shell`). There is none of presence and of policy modules: those parts do not exist yet.

use super::{Finder, Mutant, Planted};

/// A bug that the swarm must find.
const fn swarm(name: &'static str, mutant: Mutant, part: &'static str, oracles: &'static [&'static str]) -> Planted {
    Planted { name, mutant, part, finder: Finder::Swarm, oracles, mark: None, own: None }
}

/// A bug that this scenario must find.
const fn scenario(
    name: &'static str,
    mutant: Mutant,
    part: &'static str,
    scenario: &'static str,
    oracles: &'static [&'static str],
) -> Planted {
    Planted { name, mutant, part, finder: Finder::Scenario(scenario), oracles, mark: None, own: None }
}

/// A bug that a test must find.
const fn test(
    name: &'static str,
    mutant: Mutant,
    part: &'static str,
    target: &'static str,
    test: &'static str,
) -> Planted {
    let finder = Finder::Test { target, name: test };
    Planted { name, mutant, part, finder, oracles: &[], mark: None, own: None }
}

/// Something of the machine that leaks into the Shield: two runs of one seed differ.
const fn leak(name: &'static str, mutant: Mutant) -> Planted {
    Planted { name, mutant, part: "shield", finder: Finder::Meta, oracles: &[], mark: None, own: None }
}

impl Planted {
    /// Behind the branch with this mark.
    const fn behind(self, mark: &'static str) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// Found by this scenario within three seeds.
    const fn own(self, scenario: &'static str) -> Self {
        Self { own: Some(scenario), ..self }
    }
}

/// Every planted bug.
pub const PLANTED: &[Planted] = &[
    swarm("ack-before-append", Mutant::AckBeforeAppend, "brain/model", &["A1", "A8", "A9", "A11", "D2"]).own("split"),
    // Two owners that both believe they wrote: which promise of the log breaks first depends on who listens.
    swarm(
        "fence-conflict-is-success",
        Mutant::FenceConflictIsSuccess,
        "brain/model",
        &["A1", "A3", "A4", "A6", "A7", "A8", "A9", "A11"],
    )
    .behind("brain.take-over")
    .own("split"),
    // The swarm's brokers answer too soon: an entry must stay undecided for longer than a Brain waits.
    scenario("absence-is-failure", Mutant::AbsenceIsFailure, "brain/model", "undecided", &["A8", "A10"]),
    scenario("undecided-is-conflict", Mutant::UndecidedIsConflict, "brain/shell", "undecided", &["A8", "A10"])
        .behind("brain.commit-retried"),
    swarm("duplicate-applied", Mutant::DuplicateApplied, "brain/model", &["A1", "A3"]).behind("brain.dedupe-hit"),
    swarm("gap-ignored", Mutant::GapIgnored, "shield", &["A5"]).behind("shield.gap"),
    swarm("shared-snapshot-stale", Mutant::SharedSnapshotStale, "shield", &["A2"]),
    scenario("heartbeat-unchecked", Mutant::HeartbeatUnchecked, "shield", "captured", &["B2"]),
    swarm("reorder-after-resubscribe", Mutant::ReorderAfterResubscribe, "shield", &["A5"]).behind("shield.resume"),
    // Two owners again, each of whom hears that its entry is stored.
    swarm("expectation-left-out", Mutant::ExpectationLeftOut, "spine", &["A1", "A6", "A7", "A8", "A9", "A11"])
        .behind("brain.take-over")
        .own("split"),
    test(
        "term-reissued",
        Mutant::TermReissued,
        "brain/model",
        "room",
        "a_served_room_outlives_its_generation_and_a_loaded_one_does_not",
    ),
    test(
        "generation-not-reread",
        Mutant::GenerationNotReread,
        "brain/model",
        "room",
        "a_generation_that_changes_during_the_take_over_is_noticed",
    ),
    // No scenario trims: what a trimmed log held is read from it no more, and the oracles would miss it.
    test(
        "purge-without-seq",
        Mutant::PurgeWithoutSeq,
        "spine",
        "contract_sim",
        "jetstream::purge_keeps_the_position_and_later",
    ),
    scenario("trim-looks-at-the-older", Mutant::TrimLooksAtTheOlder, "brain/model", "busy-room", &["L3"]),
    scenario("snapshot-given-up", Mutant::SnapshotGivenUp, "brain/model", "busy-room", &["L3"]),
    scenario("close-code-cut", Mutant::CloseCodeCut, "shield", "slow-reader", &["C1"]),
    scenario("pong-from-queueing", Mutant::PongFromQueueing, "shield", "slow-link", &["Q1"]),
    // Only over a long way does a read reach its deadline.
    scenario("partial-read-lost", Mutant::PartialReadLost, "spine", "far-store", &["B2", "D1"]),
    // A client's next `set` or `get` would not notice: the key is there, and ends when it always would, until its room has
    // another owner.
    scenario("snapshot-without-ttls", Mutant::SnapshotWithoutTtls, "brain/model", "busy-room", &["S1"]),
    // A room rests between two entries too often for the simulator's clients to saturate it.
    test(
        "anchor-overtakes",
        Mutant::AnchorOvertakes,
        "brain/model",
        "snapshots",
        "a_snapshot_of_an_old_state_does_not_bury_what_another_owner_committed",
    ),
    test(
        "snapshot-at-rest-only",
        Mutant::SnapshotAtRestOnly,
        "brain/model",
        "snapshots",
        "a_saturated_room_writes_snapshots",
    ),
    // Shows only if a room's very last republish is lost and nothing touches the room any more. The swarm's rooms are
    // touched to the end: by what clients say, and by the next take-over, reconnect or resume, each of which repairs. Even
    // where everybody fell silent early in 80 % of its runs, and republishes were lost in 40 %, it found 2 in 100 seeds.
    scenario("no-tail-digest", Mutant::NoTailDigest, "brain/shell", "quiet", &["D1"]),
    swarm("dedupe-lost-in-failover", Mutant::DedupeLostInFailover, "brain/model", &["A1", "A3", "S1"])
        .behind("brain.take-over"),
    // Applied all the same: a command that nobody's client sent.
    scenario("reply-unchecked", Mutant::ReplyUnchecked, "brain/model", "captured", &["A4"]),
    scenario("room-id-unchecked", Mutant::RoomIdUnchecked, "shield", "hostile", &["T1"]),
    scenario("tenant-from-envelope", Mutant::TenantFromEnvelope, "shield", "hostile", &["A1", "G2", "T1"]),
    test(
        "signature-over-reencoded",
        Mutant::SignatureOverReencoded,
        "shield",
        "lib",
        "gate::tests::a_signature_covers_the_bytes_as_they_came",
    ),
    scenario("reader-blocks-fan-out", Mutant::ReaderBlocksFanOut, "shield", "slow-reader", &["Q2", "D1"]),
    scenario("outbox-unbounded", Mutant::OutboxUnbounded, "shield", "slow-reader", &["Q1"]),
    test(
        "token-checked-once",
        Mutant::TokenCheckedOnce,
        "shield",
        "edge",
        "an_expired_token_ends_the_connection_unless_renewed",
    ),
    // A test on real sockets mostly has its answer before the drain begins; under heavy traffic some are on their way.
    scenario("drain-drops-acks", Mutant::DrainDropsAcks, "shield", "drain", &["D2"]),
    test(
        "reconnect-without-back-off",
        Mutant::ReconnectWithoutBackOff,
        "spine",
        "lib",
        "nats::backoff::tests::grows_to_its_bound_and_differs_between_names",
    ),
    Planted {
        name: "command-in-own-task",
        mutant: Mutant::CommandInOwnTask,
        part: "shield",
        finder: Finder::Madsim("burst"),
        oracles: &["A11"],
        mark: None,
        own: None,
    },
    // A1: swarm seed 55 fails so with and without this bug; see docs/simulation.md.
    scenario("streams-ensured-once", Mutant::StreamsEnsuredOnce, "brain/shell", "lost-store", &["D1", "M1"]),
    swarm("sub-unanswered", Mutant::SubUnanswered, "shield", &["D1"]),
    swarm("subscription-leaked", Mutant::SubscriptionLeaked, "shield", &["R1"]),
    swarm("gap-for-nothing", Mutant::GapForNothing, "shield", &["B2", "M1"]),
    // Repaired by the Shields, so that no promise is broken: only the repairs themselves show it.
    scenario("republish-reordered", Mutant::RepublishReordered, "spine-sim", "hostile", &["M1"])
        .behind("shield.gap-repaired"),
    swarm("ttl-ends-early", Mutant::TtlEndsEarly, "brain/model", &["L1", "A8"]),
    swarm("live-to-all", Mutant::LiveToAll, "shield", &["E1"]),
    leak("wall-clock-read", Mutant::WallClockRead),
    leak("bare-entropy", Mutant::BareEntropy),
    leak("hash-map-order", Mutant::HashMapOrder),
];
