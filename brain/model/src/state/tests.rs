use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::dedupe::USER_ENTRIES;

fn event(seq: u64, at: i64, body: Body) -> v1::Event {
    v1::Event { epoch: 9, seq, at, body: Some(body), ..v1::Event::default() }
}

fn apply(state: &mut State, event: &v1::Event) {
    state.apply(&v1::Envelope::default(), event);
}

fn body(seq: u64, at: i64) -> impl Strategy<Value = Body> {
    let key = prop::sample::select(vec!["a", "b", "c", "a-longer-key"]);
    let ttl = prop_oneof![Just(0_i64), 1..100_000_i64];
    prop_oneof![
        4 => (key.clone(), 0..40_000_usize, ttl.clone()).prop_map(move |(key, len, ttl)| Body::KeySet(v1::KeySet {
            key: key.into(),
            value: vec![7; len].into(),
            ver: seq,
            expires_at: if ttl > 0 { at + ttl } else { 0 },
        })),
        2 => key.prop_map(|key| Body::KeyDeleted(v1::KeyDeleted { key: key.into(), expired: false })),
        1 => ttl.prop_map(move |ttl| Body::Locked(v1::Locked {
            mode: v1::LockMode::All.into(),
            reason: "because".into(),
            until: if ttl > 0 { at + ttl } else { 0 },
            user: "ann".into(),
        })),
        1 => Just(Body::Unlocked(v1::Unlocked { expired: false })),
        1 => Just(Body::Closed(v1::Closed { reason: "of a later version".into() })),
    ]
}

proptest! {
    #[test]
    fn a_state_survives_its_encoding_and_its_parts_hold_every_key(
        bodies in prop::collection::vec(body(3, 1_760_000_000_000), 0..40),
    ) {
        let mut state = State::default();
        for (i, body) in bodies.into_iter().enumerate() {
            apply(&mut state, &event(i as u64 + 1, 1_760_000_000_000, body));
        }
        let encoded = state.encode(1_760_000_000_000);
        prop_assert!(encoded.encoded_len() <= state.bytes() + 32);
        let decoded = State::decode(&RoomState::decode(encoded.encode_to_vec().as_slice()).unwrap(), USER_ENTRIES);
        prop_assert_eq!(&decoded, &state);

        let parts = state.parts();
        prop_assert!(parts.iter().rev().skip(1).all(|part| !part.last) && parts.last().unwrap().last);
        let keys: Vec<_> = parts.iter().flat_map(|part| part.entries.iter().map(|set| set.key.clone())).collect();
        prop_assert_eq!(keys, state.keys().map(|(key, _)| key.to_owned()).collect::<Vec<_>>());
    }
}

#[test]
fn a_take_over_begins_every_ttl_anew() {
    let mut state = State::default();
    let set = v1::KeySet { key: "k".into(), ver: 1, expires_at: 1500, ..v1::KeySet::default() };
    apply(&mut state, &event(1, 1000, Body::KeySet(set)));
    assert_eq!((state.next_end(), state.ended(1499).len(), state.ended(1500).len()), (Some(1500), 0, 1));
    let mut state = State::decode(&state.encode(1000), USER_ENTRIES);
    state.renew(4000);
    assert_eq!((state.next_end(), state.ended(4499).len()), (Some(4500), 0));
    assert_eq!(state.ended(4500), vec![Ended::Key("k".into())]);
}

#[test]
fn full_values_make_parts_of_at_most_64_kib() {
    let mut state = State::default();
    for n in 0..31 {
        let value = vec![1; VALUE_BYTES_MAX].into();
        let set = v1::KeySet { key: format!("key-{n:03}"), value, ver: n, expires_at: 0 };
        apply(&mut state, &event(n + 1, 1, Body::KeySet(set)));
    }
    assert!(state.bytes() <= STATE_BYTES_MAX);
    let parts = state.parts();
    assert!(parts.len() > 8);
    assert!(parts.iter().all(|part| part.encoded_len() + 512 <= PART_BYTES_MAX));
    assert!(parts.iter().enumerate().all(|(i, part)| part.part == i as u32));
}
