//! How often each operation is drawn, and with what: chosen so that a thousand histories reach the whole table. Shrinking
//! goes towards the first of each choice.

use brain_model::decide::TTL_MAX_MS;
use proptest::prelude::*;

use super::{
    Ask, At, Clock, CursorIs, Damage, Dress, Expect, Foreign, HeadIs, Heritage, History, Loss, Many, Op, Setup, Since,
    To,
};

fn at() -> impl Strategy<Value = At> {
    // Mostly the first: two owners of one room are the interesting case, not two rooms.
    (0..3_u8, prop_oneof![5 => Just(0_u8), 1 => 1..3_u8]).prop_map(|(node, room)| At { node, room })
}

fn rights() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 2 => 1..7_u8]
}

fn head() -> impl Strategy<Value = HeadIs> {
    prop_oneof![10 => Just(HeadIs::Any), 1 => Just(HeadIs::Right), 1 => Just(HeadIs::Wrong)]
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        20 => Just(Clock::Off(0)),
        3 => (-125_000..35_000).prop_map(Clock::Off),
        2 => Just(Clock::Old),
        1 => Just(Clock::First),
        1 => Just(Clock::Last),
    ]
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        40 => Just(To::Slot), 3 => Just(To::Single), 1 => Just(To::Brain), 1 => Just(To::Log), 1 => Just(To::Nowhere),
        1 => (0..8_u8).prop_map(To::Odd),
    ]
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![8 => Just(Expect::Any), 2 => Just(Expect::Absent), 3 => Just(Expect::Right), 2 => Just(Expect::Wrong)]
}

fn ttl() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(0), 5 => 1..3000_u64, 1 => Just(u64::MAX), 1 => TTL_MAX_MS - 1..TTL_MAX_MS + 2]
}

fn key() -> impl Strategy<Value = u8> {
    prop_oneof![12 => 0..4_u8, 2 => 200..=205_u8]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![40 => 0..60_u32, 4 => 16_380..16_390_u32, 1 => 60_000..70_000_u32]
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        10 => (prop_oneof![60 => size(), 1 => 200_000..530_000_u32], 0..70_u8).prop_map(|(bytes, word)| Ask::Say { bytes, word }),
        4 => (size(), 0..70_u8).prop_map(|(bytes, word)| Ask::Shout { bytes, word }),
        14 => (key(), size(), ttl(), expect(), prop::bool::weighted(0.05))
            .prop_map(|(key, bytes, ttl_ms, expect, shout)| Ask::Set { key, bytes, ttl_ms, expect, shout }),
        5 => (key(), expect(), prop::bool::weighted(0.05)).prop_map(|(key, expect, shout)| Ask::Delete { key, expect, shout }),
        4 => (0..5_u8, prop_oneof![6 => 0..20_u16, 1 => 255..260_u16], ttl()).prop_map(|(mode, reason, ttl_ms)| Ask::Lock { mode, reason, ttl_ms }),
        3 => any::<bool>().prop_map(|force| Ask::Unlock { force }),
        1 => (0..15_u8).prop_map(Ask::Later),
        1 => Just(Ask::Nothing),
        4 => Just(Ask::Get),
        8 => (since(), prop_oneof![3 => Just(0), 1 => 1..300_u16], cursor(), prop::bool::weighted(0.2))
            .prop_map(|(since, history, cursor, leave_only)| Ask::Sync { since, history, cursor, leave_only }),
        1 => Just(Ask::Silence),
    ]
}

fn since() -> impl Strategy<Value = Since> {
    prop_oneof![
        3 => Just(Since::Never), 5 => (0..8_u8).prop_map(Since::Back), 1 => Just(Since::Ahead), 1 => Just(Since::OtherEpoch)
    ]
}

fn cursor() -> impl Strategy<Value = CursorIs> {
    prop_oneof![
        4 => Just(CursorIs::Absent), 4 => Just(CursorIs::Right), 1 => Just(CursorIs::Ahead),
        1 => Just(CursorIs::OtherChain), 1 => Just(CursorIs::OlderEpoch), 1 => Just(CursorIs::Beyond),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => Just(Damage::None),
        3 => any::<u16>().prop_map(Damage::Cut),
        4 => (any::<u16>(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        2 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert { at, byte }),
        1 => Just(Damage::Double),
        2 => prop_oneof![1..70_u16, 990..1010_u16].prop_map(Damage::Field),
        1 => (60..70_u8).prop_map(Damage::Many),
        3 => (0..10_u8).prop_map(Damage::Fault),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        4 => Just(Loss::Unheard), 3 => Just(Loss::Never), 4 => Just(Loss::Later), 2 => Just(Loss::Beaten),
        2 => Just(Loss::BeatenByItself), 1 => Just(Loss::Full), 1 => Just(Loss::Unavailable),
        1 => Just(Loss::TooBig), 2 => (1..4_u8).prop_map(Loss::Stale),
    ]
}

fn foreign() -> impl Strategy<Value = Foreign> {
    prop::sample::select(vec![
        Foreign::TakeOver,
        Foreign::SameTerm,
        Foreign::Tombstone,
        Foreign::End,
        Foreign::LowerTerm,
        Foreign::WrongChain,
        Foreign::WrongPrev,
        Foreign::UnknownKind,
        Foreign::Garbage,
        Foreign::Empty,
    ])
}

fn many() -> impl Strategy<Value = Many> {
    prop_oneof![
        1 => Just(Many::Gets), 2 => Just(Many::Opens), 3 => (2..40_u16).prop_map(Many::Says),
        1 => (250..300_u16).prop_map(Many::Says), 1 => (2..4_u8).prop_map(Many::Big),
    ]
}

fn usual() -> impl Strategy<Value = Op> {
    let both = || prop::bool::weighted(0.3);
    prop_oneof![
        50 => (at(), 1..4_u8).prop_map(|(at, times)| Op::Call { at, times }),
        12 => Just(Op::Settle),
        40 => (at(), 0..5_u8, rights(), ask(), head(), clock(),
               prop_oneof![8 => Just(Dress::Plain), 1 => Just(Dress::Full), 1 => Just(Dress::Foreign)], to(), both())
            .prop_map(|(at, user, rights, ask, head, clock, dress, to, both)| {
                Op::Send { at, user, rights, ask, head, clock, dress, to, both }
            }),
        9 => (at(), any::<u16>(), prop::bool::weighted(0.1), both())
            .prop_map(|(at, which, altered, both)| Op::Repeat { at, which, altered, both }),
        6 => (at(), prop::bool::weighted(0.8), to()).prop_map(|(at, create, to)| Op::Open { at, create, to }),
        12 => (at(), loss()).prop_map(|(at, how)| Op::Lose { at, how }),
        12 => (1..700_u32).prop_map(|ms| Op::Pass { ms }),
        4 => (1..4_u8).prop_map(|times| Op::Rest { times }),
    ]
}

fn rare() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (at(), any::<u16>(), damage()).prop_map(|(at, which, damage)| Op::Bad { at, which, damage }),
        2 => (at(), rights(), head(), clock(), prop::bool::weighted(0.2))
            .prop_map(|(at, rights, head, clock, known)| Op::Mixed { at, rights, head, clock, known }),
        1 => (at(), many()).prop_map(|(at, of)| Op::Flood { at, of }),
        8 => (0..3_u8).prop_map(|room| Op::Late { room }),
        4 => (at(), foreign()).prop_map(|(at, entry)| Op::Foreign { at, entry }),
        2 => (0..4_u8).prop_map(|lost| Op::PowerCut { lost }),
        2 => (0..3_u8).prop_map(|room| Op::ForgetGen { room }),
        5 => (0..3_u8).prop_map(|node| Op::Reconnect { node }),
        2 => (2000..200_000_u32).prop_map(|ms| Op::Pass { ms }),
        2 => at().prop_map(|at| Op::Wake { at }),
        3 => (0..3_u8, -25_000..25_000_i32).prop_map(|(node, ms)| Op::Jump { node, ms }),
        3 => (0..3_u8).prop_map(|node| Op::Crash { node }),
        2 => at().prop_map(|at| Op::Stop { at }),
        3 => (0..3_u8, any::<bool>()).prop_map(|(room, full)| Op::Full { room, full }),
        3 => (at(), any::<u8>()).prop_map(|(at, token)| Op::Stray { at, token }),
        1 => at().prop_map(|at| Op::Deposed { at }),
        1 => at().prop_map(|at| Op::Locked { at }),
        1 => at().prop_map(|at| Op::Stopped { at }),
        10 => (any::<u16>(), any::<u8>(), damage()).prop_map(|(which, name, damage)| Op::Code { which, name, damage }),
        6 => (any::<u16>(), damage()).prop_map(|(which, damage)| Op::Forward { which, damage }),
        6 => (0..3_u8, 0..6_u8, 0..3_u8, prop_oneof![9 => Just(2_u8), 1 => 0..4_u8], prop::bool::weighted(0.1), 0..12_u8)
            .prop_map(|(node, from, incarnation, kind, draining, cut)| Op::Beat { node, from, incarnation, kind, draining, cut }),
        3 => (0..3_u8, any::<u8>(), prop::option::of(0..6_u8)).prop_map(|(node, room, last)| Op::Rank { node, room, last }),
    ]
}

/// Any history.
pub fn history() -> impl Strategy<Value = History> {
    // A full window or state is loaded as slowly as a hundred others: few histories have one.
    let heritage = prop_oneof![
        115 => Just(Heritage::Empty),
        1 => Just(Heritage::Bytes),
        1 => Just(Heritage::Window),
        28 => prop::sample::select(vec![
            Heritage::Keys, Heritage::User, Heritage::Tombstone, Heritage::Ahead, Heritage::End, Heritage::Refuted,
            Heritage::Unanchored,
        ]),
    ];
    let setup = (1..=3_u8, 1..=3_u8, 0..4_u8, heritage, prop::bool::weighted(0.1));
    let setup = setup.prop_map(|(nodes, rooms, rules, heritage, unserved)| Setup {
        nodes,
        rooms,
        rules,
        heritage,
        served: !unserved,
    });
    let op = prop_oneof![3000 => usual(), 1000 => rare(), 2 => at().prop_map(|at| Op::Huge { at })];
    (setup, prop::collection::vec(op, 1..120)).prop_map(|(setup, ops)| History { setup, ops })
}
