//! The gate on arbitrary input: never looser than prost, never panics, accepts what an honest client sends.

use proptest::prelude::*;
use prost::Message as _;
use proto::canonical::{self, table};
use proto::v1;
use proto::view::EnvelopeView;

use crate::{oracle, strategies};

proptest! {
    #[test]
    fn what_an_honest_client_encodes_is_accepted_and_read_as_prost_reads_it(envelope in strategies::envelope()) {
        let bytes = envelope.encode_to_vec();
        let view = EnvelopeView::client(&bytes).expect("canonical");
        oracle::same(&view, &envelope);
        oracle::envelope(&bytes);
    }

    #[test]
    fn unknown_fields_of_a_newer_client_are_carried(bytes in strategies::encoded(), unknown in strategies::unknown()) {
        let longer = [&bytes[..], &unknown].concat();
        let view = EnvelopeView::client(&longer).expect("32..=999 are for newer clients");
        prop_assert_eq!(view, EnvelopeView::client(&bytes).expect("canonical"));
        oracle::envelope(&longer);
    }

    #[test]
    fn an_envelope_cut_short_is_refused_at_every_length(bytes in strategies::encoded()) {
        for length in 0..bytes.len() {
            prop_assert!(EnvelopeView::client(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
    }

    /// With unknown fields behind the payload a cut can fall between two of them; then only they are missing.
    #[test]
    fn a_cut_never_changes_what_is_read(bytes in strategies::encoded(), unknown in strategies::unknown()) {
        let longer = [&bytes[..], &unknown].concat();
        let whole = EnvelopeView::client(&longer).expect("canonical");
        for length in 0..longer.len() {
            match EnvelopeView::client(&longer[..length]) {
                Ok(view) => prop_assert_eq!(view, whole),
                Err(_) => continue,
            }
            prop_assert!(length >= bytes.len());
        }
    }

    #[test]
    fn one_changed_byte_never_makes_the_view_looser(
        mut bytes in strategies::encoded(), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let at = at.index(bytes.len());
        bytes[at] = to;
        oracle::envelope(&bytes);
    }

    #[test]
    fn a_byte_put_in_or_taken_out_never_makes_the_view_looser(
        mut bytes in strategies::encoded(), at in any::<prop::sample::Index>(), new in proptest::option::of(any::<u8>())
    ) {
        let at = at.index(bytes.len());
        match new {
            Some(byte) => bytes.insert(at, byte),
            None => drop(bytes.remove(at)),
        }
        oracle::envelope(&bytes);
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        oracle::envelope(&bytes);
        oracle::frame(&bytes);
    }

    #[test]
    fn a_sender_of_any_content_is_appended_exactly(
        bytes in strategies::encoded(),
        (user, conn) in (strategies::room_id(), ".{0,30}"),
        (client, policy, key, redacted) in
            (strategies::blob(17), strategies::blob(9), strategies::blob(33), strategies::blob(9)),
        (rights, received_at, meta) in (any::<u32>(), any::<i64>(), strategies::blob(300)),
    ) {
        let sender = proto::sender::SenderRef {
            user: &user, conn: &conn, client: &client, rights: proto::Rights(rights), policy: &policy,
            public_key: &key, redacted_by: &redacted, received_at, meta: &meta,
        };
        let mut appended = bytes::BytesMut::from(&bytes[..]);
        proto::sender::append(&mut appended, &sender);
        let expected = v1::Envelope {
            sender: Some(oracle::owned(&sender)),
            ..v1::Envelope::decode(&bytes[..]).expect("ours")
        };
        prop_assert_eq!(&appended[..], &expected.encode_to_vec()[..], "byte for byte what prost would write");
        let view = EnvelopeView::forwarded(&appended).expect("canonical");
        oracle::same(&view, &expected);
    }

    #[test]
    fn what_a_room_says_is_canonical(
        room in strategies::room_id(), (epoch, seq, at) in any::<(u64, u64, i64)>(), data in strategies::blob(100),
        members in 0..5_usize
    ) {
        use v1::event::Body;
        let member = v1::Member { user: "u".into(), metas: vec![data.clone(), "{}".into()], count: 2 };
        let bodies = [
            Body::Said(v1::Said { data: data.clone(), r#type: "text".into() }),
            Body::Diff(v1::PresenceDiff { term: 1, n: 2, joined: vec![member; members], ..Default::default() }),
            Body::Snapshot(v1::Snapshot {
                last: true,
                entries: vec![v1::KeySet { key: "k".into(), value: data, ver: seq, expires_at: at }; members],
                ..Default::default()
            }),
        ];
        for body in bodies {
            let event = v1::Event { epoch, seq, at, body: Some(body), ..Default::default() };
            let envelope = v1::Envelope {
                room_id: room.clone(),
                payload: Some(v1::envelope::Payload::Event(event)),
                ..Default::default()
            };
            let bytes = envelope.encode_to_vec();
            oracle::same(&EnvelopeView::delivered(&bytes).expect("canonical"), &envelope);
            prop_assert!(EnvelopeView::client(&bytes).is_err());
        }
    }
}

#[test]
fn nesting_is_bounded_by_the_schema() {
    assert!((3..=6).contains(&table::DEPTH_MAX), "{}", table::DEPTH_MAX);
    // A command within a command within … is bytes of an unknown field, or refused: there is nothing to recurse into.
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        deep = crate::wire::Wire::new().bytes(21, &deep).0;
        deep.truncate(60_000);
    }
    assert!(canonical::check(&table::ENVELOPE, &deep).is_err());
}

#[test]
fn the_tables_hold_the_whole_schema() {
    use prost_types::FileDescriptorSet;
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).expect("our own");
    let file = set.file.iter().find(|file| file.package() == "arqon.v1").expect("envelope.proto");
    let envelope = file.message_type.iter().find(|message| message.name() == "Envelope").expect("Envelope");
    let rows: Vec<_> = table::ENVELOPE.fields.iter().map(|field| (field.number, field.name)).collect();
    let mut fields: Vec<_> = envelope.field.iter().map(|field| (field.number() as u32, field.name())).collect();
    fields.sort_unstable();
    assert_eq!(rows, fields);
    for field in table::ENVELOPE.fields {
        assert_eq!(field.oneof != 0, (20..=22).contains(&field.number), "{}", field.name);
    }
    // `optional` makes a oneof of its own in the descriptor; it is none to the rule.
    assert!(table::SET.fields.iter().all(|field| field.oneof == 0));
    assert_eq!(table::COMMAND.fields.iter().filter(|field| field.oneof != 0).count(), 20);
}
