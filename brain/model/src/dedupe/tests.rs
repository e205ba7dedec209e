use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn user(n: u64) -> UserId {
    format!("user-{n}").parse().unwrap()
}

fn id(n: u64) -> MessageId {
    MessageId(u128::from(n).to_be_bytes())
}

fn seen(n: u64, timestamp: i64) -> Seen {
    Seen { id: id(n), epoch: 1_760_000_000_000, seq: n, timestamp, fingerprint: n + 1 }
}

#[test]
fn a_repeat_gets_its_place_and_an_evicted_one_is_refused_for_good() {
    let mut window = Dedupe::default();
    let ann = user(1);
    let count = USER_ENTRIES as u64 + 10;
    for n in 1..=count {
        assert_eq!(window.judge(&ann, &id(n), n as i64, 0), Verdict::New);
        window.record(&ann, seen(n, n as i64), 0);
    }
    assert_eq!(window.len(), USER_ENTRIES);
    for n in 1..=10 {
        assert_eq!(window.judge(&ann, &id(n), n as i64, 0), Verdict::Expired, "in a forgotten range");
    }
    for n in 11..=count {
        assert_eq!(window.judge(&ann, &id(n), n as i64, 0), Verdict::Repeat(seen(n, n as i64)));
    }
    assert_eq!(window.judge(&user(2), &id(5), 5, 0), Verdict::New, "ids are a user's own");
}

#[test]
fn too_old_is_refused_and_silent_users_leave() {
    let mut window = Dedupe::default();
    let at = 10_000_000;
    assert_eq!(window.judge(&user(1), &id(1), at - WINDOW_MS, at), Verdict::New);
    assert_eq!(window.judge(&user(1), &id(1), at - WINDOW_MS - 1, at), Verdict::Expired);
    window.record(&user(1), seen(1, at), at);
    window.record(&user(2), seen(2, at + 5), at);
    window.sweep(at + FORGET_MS);
    assert_eq!(window.len(), 2);
    window.sweep(at + FORGET_MS + 1);
    assert_eq!(window.len(), 1);
    assert_eq!(window.judge(&user(1), &id(1), at, at + FORGET_MS + 1), Verdict::Expired, "refused, not forgotten");
    window.sweep(at + FORGET_MS + 6);
    assert_eq!((window.len(), window.bytes()), (0, 0));
}

#[test]
fn a_full_window_says_busy_and_never_outgrows_its_bound() {
    let mut window = Dedupe::default();
    let mut n = 0;
    let full = loop {
        n += 1;
        let name = user(n / 100);
        match window.judge(&name, &id(n), 1_760_000_000_000 + n as i64, 0) {
            Verdict::New => window.record(&name, seen(n, 1_760_000_000_000 + n as i64), 0),
            other => break other,
        }
    };
    assert_eq!(full, Verdict::Full);
    assert!(window.len() > 5000, "{}", window.len());
    assert!(window.bytes() <= ROOM_BYTES_MAX && window.len() <= ROOM_ENTRIES_MAX);
}

#[test]
fn the_oldest_arrival_is_evicted_and_a_clock_behind_all_evicted_ones_is_judged() {
    let mut window = Dedupe::new(3);
    let (ann, at) = (user(1), 1_000_000);
    for (n, timestamp) in [(1, at), (2, at + 10), (3, at - 50), (4, at + 11), (5, at + 12)] {
        assert_eq!(window.judge(&ann, &id(n), timestamp, at), Verdict::New);
        window.record(&ann, seen(n, timestamp), at);
    }
    for (n, timestamp) in [(1, at), (2, at + 10)] {
        assert_eq!(window.judge(&ann, &id(n), timestamp, at), Verdict::Expired, "{n} was forgotten");
    }
    assert_eq!(window.judge(&ann, &id(3), at - 50, at), Verdict::Repeat(seen(3, at - 50)), "lowest, but not oldest");
    for timestamp in [at - 20_000, at - 1, at + 1, at + 9, at + 11] {
        assert_eq!(window.judge(&ann, &id(9), timestamp, at), Verdict::New, "{timestamp} was never forgotten");
    }
}

#[test]
fn the_ninth_range_closes_the_smallest_gap_of_several_the_lowest() {
    let mut ranges = Ranges::default();
    let told = |ranges: &Ranges| ranges.iter().map(|range| (range.lo, range.hi)).collect::<Vec<_>>();
    for lo in [0, 100, 200, 280, 400, 480, 600, 700] {
        ranges.add(Range { lo, hi: lo });
    }
    ranges.add(Range { lo: 1, hi: 1 });
    assert_eq!(told(&ranges)[0], (0, 1), "neighbours are one without a loss");
    ranges.add(Range { lo: 900, hi: 900 });
    let merged = [(0, 1), (100, 100), (200, 280), (400, 400), (480, 480), (600, 600), (700, 700), (900, 900)];
    assert_eq!(told(&ranges), merged);
    ranges.add(Range { lo: 90, hi: 500 });
    assert_eq!(told(&ranges), [(0, 1), (90, 500), (600, 600), (700, 700), (900, 900)]);
    assert_eq!(ranges.drop_below(601), Some(600));
    assert_eq!(told(&ranges), [(700, 700), (900, 900)]);
    ranges.add(Range { lo: i64::MIN, hi: i64::MIN });
    ranges.add(Range { lo: i64::MAX, hi: i64::MAX });
    ranges.add(Range { lo: i64::MIN, hi: i64::MAX });
    assert_eq!(told(&ranges), [(i64::MIN, i64::MAX)]);
}

#[test]
fn a_range_that_the_rooms_clock_refuses_anyway_is_dropped_and_its_user_leaves_in_time() {
    let mut window = Dedupe::new(1);
    let (ann, at) = (user(1), 10_000_000);
    window.record(&ann, seen(1, at + 30_000), at);
    window.record(&ann, seen(2, at), at);
    assert_eq!(window.encode()[0].ranges, [DedupeRange { lo: at + 30_000, hi: at + 30_000 }]);
    window.sweep(at + FORGET_MS + 1);
    assert_eq!(window.len(), 1, "its newest command is remembered by its range alone");
    let later = at + 30_000 + WINDOW_MS + 1;
    assert_eq!(window.judge(&ann, &id(1), at + 30_000, later - 1), Verdict::Expired);
    window.record(&ann, seen(3, at + 31_000), later);
    assert_eq!(window.encode()[0].ranges, [], "both are too old for every judge to come");
    let again = Dedupe::decode(&window.encode(), 1, later);
    assert_eq!(again, window);
}

#[test]
fn a_floor_from_before_there_were_ranges_refuses_everything_up_to_it() {
    let (ann, at) = (user(1), 10_000_000);
    let entry = DedupeEntry { message_id: id(1).0.to_vec().into(), seq: 1, timestamp: at, epoch: 9, fingerprint: 0 };
    let old = |floor| DedupeUser { user: "user-1".into(), floor, entries: vec![entry.clone()], ranges: vec![] };
    let window = Dedupe::decode(&[old(at - 5)], USER_ENTRIES, at);
    assert_eq!(window.judge(&ann, &id(7), at - 5, at), Verdict::Expired);
    assert_eq!(window.judge(&ann, &id(7), at - WINDOW_MS, at), Verdict::Expired);
    assert_eq!(window.judge(&ann, &id(7), at - 4, at), Verdict::New);
    assert_eq!(window.encode()[0].ranges, [DedupeRange { lo: i64::MIN, hi: at - 5 }]);
    assert_eq!(window.encode()[0].floor, at - 5, "who knows no ranges is as safe");
    let window = Dedupe::decode(&[old(i64::MIN)], USER_ENTRIES, at);
    assert_eq!(window.judge(&ann, &id(7), at - WINDOW_MS, at), Verdict::New);
}

#[test]
fn a_snapshot_that_remembers_more_than_the_limit_is_cut_to_it_safely() {
    let (ann, at) = (user(1), 10_000_000);
    let mut window = Dedupe::default();
    for n in 0..20 {
        window.record(&ann, seen(n, at + n as i64 * 10), at);
    }
    let smaller = Dedupe::decode(&window.encode(), 4, at);
    assert_eq!((smaller.len(), smaller.limit()), (4, 4));
    for n in 0..16 {
        assert_eq!(smaller.judge(&ann, &id(n), at + n as i64 * 10, at), Verdict::Expired);
    }
    assert_eq!(smaller.judge(&ann, &id(99), at - 1, at), Verdict::New);
    let larger = Dedupe::decode(&window.encode(), 1000, at);
    assert_eq!(larger.encode(), window.encode());
}

/// Remembers everything, and says of each command what a client may rely on.
#[derive(Default)]
struct Everything {
    /// Of each user, in the order of arrival: id and timestamp.
    applied: BTreeMap<u64, Vec<(u64, i64)>>,
}

/// A history: who sends what (`n` names a command; a small one is repeated often) with which clock, and how far the room's
/// clock moves before it.
fn history() -> impl Strategy<Value = (usize, Vec<(u64, u64, i64, i64)>)> {
    let skew = prop_oneof![4 => -50_i64..50, 2 => -20_100_i64..-19_900, 1 => -125_000_i64..30_000];
    let pass = prop_oneof![6 => 0_i64..40, 1 => 0_i64..3_000, 1 => Just(130_000)];
    let limit = prop_oneof![Just(2_usize), Just(7), Just(64), Just(USER_ENTRIES)];
    (limit, prop::collection::vec((0..3_u64, 0..900_u64, skew, pass), 1..1500))
}

proptest! {
    #[test]
    fn nothing_is_applied_twice_and_nothing_refused_outside_the_rule((limit, commands) in history()) {
        let mut window = Dedupe::new(limit);
        let mut all = Everything::default();
        let mut sent: BTreeMap<(u64, u64), i64> = BTreeMap::new();
        let mut at = 1_760_000_000_000;
        for (who, n, skew, pass) in commands {
            at += pass;
            window.sweep(at);
            // The same command has the same bytes, its timestamp among them, whenever it is sent.
            let timestamp = *sent.entry((who, n)).or_insert(at + skew);
            let applied = all.applied.entry(who).or_default();
            let place = applied.iter().position(|(other, _)| *other == n);
            let verdict = window.judge(&user(who), &id(n), timestamp, at);
            let too_old = timestamp < at - WINDOW_MS;
            match verdict {
                Verdict::New => {
                    prop_assert_eq!(place, None, "{} of {} is applied twice", n, who);
                    window.record(&user(who), seen(n, timestamp), at);
                    applied.push((n, timestamp));
                }
                Verdict::Repeat(was) => {
                    prop_assert!(place.is_some());
                    prop_assert_eq!(was, seen(n, timestamp));
                }
                Verdict::Expired => {
                    // Between forgotten ones, the two included, or too old: and never one of the last `limit`.
                    let forgotten = &applied[..applied.len().saturating_sub(limit)];
                    let low = forgotten.iter().map(|(_, timestamp)| *timestamp).min();
                    let high = forgotten.iter().map(|(_, timestamp)| *timestamp).max();
                    let between = low.is_some_and(|low| low <= timestamp) && high.is_some_and(|high| timestamp <= high);
                    prop_assert!(too_old || between, "{} is refused at {}", timestamp, at);
                    let place = place.filter(|place| !too_old && *place >= applied.len().saturating_sub(limit));
                    prop_assert_eq!(place, None, "one of the last was forgotten");
                    // Fewer holes than ranges: as long as few were forgotten, it is one of their very timestamps.
                    if forgotten.len() <= RANGES_MAX && !too_old {
                        prop_assert!(forgotten.iter().any(|(_, other)| *other == timestamp));
                    }
                }
                Verdict::Full => prop_assert!(false, "three users fill no room"),
            }
            prop_assert!(window.bytes() <= ROOM_BYTES_MAX);
        }
        let encoded = window.encode();
        prop_assert!(encoded.iter().all(|user| user.ranges.len() <= RANGES_MAX && user.entries.len() <= limit));
        prop_assert_eq!(&Dedupe::decode(&encoded, limit, at), &window);
    }

    #[test]
    fn the_window_survives_its_encoding_and_its_size_is_an_upper_bound(
        commands in prop::collection::vec((0..4_u64, 0..5000_u64, -5_i64..2_000_000_000_000), 0..1200),
    ) {
        use prost::Message as _;
        let mut window = Dedupe::default();
        for (name, n, timestamp) in commands {
            if window.judge(&user(name), &id(n), timestamp, i64::MIN) == Verdict::New {
                window.record(&user(name), seen(n, timestamp), i64::MIN);
            }
        }
        let encoded = window.encode();
        prop_assert_eq!(&Dedupe::decode(&encoded, USER_ENTRIES, i64::MIN), &window);
        let bytes = proto::internal::RoomState { dedupe: encoded, ..Default::default() }.encoded_len();
        prop_assert!(bytes <= window.bytes(), "{} > {}", bytes, window.bytes());
    }
}
