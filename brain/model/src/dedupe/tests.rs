use proptest::prelude::*;

use super::*;

fn user(n: u64) -> UserId {
    format!("user-{n}").parse().unwrap()
}

fn id(n: u64) -> MessageId {
    MessageId(u128::from(n).to_be_bytes())
}

fn seen(n: u64, timestamp: i64) -> Seen {
    Seen { id: id(n), epoch: 1_760_000_000_000, seq: n, timestamp }
}

#[test]
fn a_repeat_gets_its_place_and_an_evicted_one_is_refused_for_good() {
    let mut window = Dedupe::default();
    let ann = user(1);
    let count = USER_ENTRIES_MAX as u64 + 10;
    for n in 1..=count {
        assert_eq!(window.judge(&ann, &id(n), n as i64, 0), Verdict::New);
        window.record(&ann, seen(n, n as i64));
    }
    assert_eq!(window.len(), USER_ENTRIES_MAX);
    for n in 1..=10 {
        assert_eq!(window.judge(&ann, &id(n), n as i64, 0), Verdict::Expired, "below the floor");
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
    window.record(&user(1), seen(1, at));
    window.record(&user(2), seen(2, at + 5));
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
            Verdict::New => window.record(&name, seen(n, 1_760_000_000_000 + n as i64)),
            other => break other,
        }
    };
    assert_eq!(full, Verdict::Full);
    assert!(window.len() > 5000, "{}", window.len());
    assert!(window.bytes() <= ROOM_BYTES_MAX && window.len() <= ROOM_ENTRIES_MAX);
}

proptest! {
    #[test]
    fn the_window_survives_its_encoding_and_its_size_is_an_upper_bound(
        commands in prop::collection::vec((0..4_u64, 0..5000_u64, -5_i64..2_000_000_000_000), 0..1200),
    ) {
        use prost::Message as _;
        let mut window = Dedupe::default();
        for (name, n, timestamp) in commands {
            if window.judge(&user(name), &id(n), timestamp, i64::MIN) == Verdict::New {
                window.record(&user(name), seen(n, timestamp));
            }
        }
        let encoded = window.encode();
        prop_assert_eq!(&Dedupe::decode(&encoded), &window);
        let bytes = proto::internal::RoomState { dedupe: encoded, ..Default::default() }.encoded_len();
        prop_assert!(bytes <= window.bytes(), "{} > {}", bytes, window.bytes());
    }
}
