//! Each way to break the canonical rule, applied to commands that were canonical: the view refuses every one, at the
//! envelope and within the command.

use proptest::prelude::*;
use proto::Code;
use proto::canonical::{Field, Message, table};
use proto::view::{CMD, EnvelopeView};

use crate::strategies;
use crate::wire::{Raw, Wire, join, split, tag, varint, wide_varint};

/// Where a mutation happens: the envelope itself, or its command.
#[derive(Clone, Copy, Debug)]
enum Level {
    Envelope,
    Command,
}

/// Applies `change` to the fields of one level and writes the whole again, lengths right.
fn change(bytes: &[u8], level: Level, change: impl FnOnce(&mut Vec<Raw>)) -> Vec<u8> {
    let mut fields = split(bytes);
    match level {
        Level::Envelope => change(&mut fields),
        Level::Command => {
            let cmd = fields.iter_mut().find(|field| field.number == CMD).expect("every command has one");
            let mut inner = split(&cmd.value);
            change(&mut inner);
            cmd.bytes = Wire::new().bytes(CMD, join(&inner)).0;
        }
    }
    join(&fields)
}

fn fields_at(bytes: &[u8], level: Level) -> Vec<Raw> {
    let fields = split(bytes);
    match level {
        Level::Envelope => fields,
        Level::Command => split(&fields.iter().find(|field| field.number == CMD).expect("a command").value),
    }
}

fn raw(bytes: Vec<u8>) -> Raw {
    Raw { number: 0, wire: 0, bytes, value: Vec::new() }
}

fn levels() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Envelope), Just(Level::Command)]
}

fn message(level: Level) -> &'static Message {
    match level {
        Level::Envelope => &table::ENVELOPE,
        Level::Command => &table::COMMAND,
    }
}

#[track_caller]
fn refused(bytes: &[u8], codes: &[Code]) -> Result<(), TestCaseError> {
    let error = EnvelopeView::client(bytes).expect_err("refused");
    prop_assert!(codes.contains(&error.code), "{error}");
    crate::oracle::envelope(bytes);
    Ok(())
}

const NON_CANONICAL: &[Code] = &[Code::NonCanonicalEnvelope];

proptest! {
    #[test]
    fn a_field_twice(bytes in strategies::encoded(), level in levels(), pick in any::<prop::sample::Index>()) {
        let fields = fields_at(&bytes, level);
        prop_assume!(!fields.is_empty());
        let at = pick.index(fields.len());
        let twice = change(&bytes, level, |fields| fields.insert(at, fields[at].clone()));
        refused(&twice, NON_CANONICAL)?;
    }

    #[test]
    fn two_fields_swapped(bytes in strategies::encoded(), level in levels(), pick in any::<prop::sample::Index>()) {
        let fields = fields_at(&bytes, level);
        prop_assume!(fields.len() > 1);
        let at = pick.index(fields.len() - 1);
        refused(&change(&bytes, level, |fields| fields.swap(at, at + 1)), NON_CANONICAL)?;
    }

    #[test]
    fn a_tag_wider_than_it_need_be(
        bytes in strategies::encoded(), level in levels(), pick in any::<prop::sample::Index>(), extra in 1..5_usize
    ) {
        let fields = fields_at(&bytes, level);
        prop_assume!(!fields.is_empty());
        let at = pick.index(fields.len());
        let wide = change(&bytes, level, |fields| {
            let field = &mut fields[at];
            let key = u64::from(field.number << 3 | field.wire);
            let rest = field.bytes[varint(key).len()..].to_vec();
            field.bytes = [wide_varint(key, extra), rest].concat();
        });
        refused(&wide, NON_CANONICAL)?;
    }

    #[test]
    fn a_length_or_number_wider_than_it_need_be(
        bytes in strategies::encoded(), level in levels(), pick in any::<prop::sample::Index>()
    ) {
        let fields = fields_at(&bytes, level);
        prop_assume!(!fields.is_empty());
        let at = pick.index(fields.len());
        let wide = change(&bytes, level, |fields| {
            let field = &mut fields[at];
            let key = tag(field.number, field.wire);
            field.bytes = match field.wire {
                2 => [key, wide_varint(field.value.len() as u64, 1), field.value.clone()].concat(),
                _ => {
                    let mut value = field.value.clone();
                    *value.last_mut().expect("a varint has a byte") |= 0x80;
                    [key, value, vec![0]].concat()
                }
            };
        });
        // Ten bytes are the widest a varint can be; an eleventh is malformed.
        refused(&wide, &[Code::NonCanonicalEnvelope, Code::MalformedEnvelope])?;
    }

    #[test]
    fn an_unknown_number_below_32(bytes in strategies::encoded(), level in levels(), number in 1..32_u32, n in any::<u64>()) {
        prop_assume!(message(level).fields.iter().all(|field| field.number != number));
        let with = change(&bytes, level, |fields| {
            let at = fields.iter().position(|field| field.number > number).unwrap_or(fields.len());
            fields.insert(at, raw(Wire::new().number(number, n).0));
        });
        refused(&with, NON_CANONICAL)?;
    }

    #[test]
    fn a_number_of_the_server(bytes in strategies::encoded(), number in 1000..=0x1fff_ffff_u32, inside in any::<bool>()) {
        let extra = Wire::new().bytes(number, b"x").0;
        if inside {
            refused(&change(&bytes, Level::Command, |fields| fields.push(raw(extra))), NON_CANONICAL)?;
        } else {
            refused(&[bytes, extra].concat(), &[Code::ReservedField])?;
        }
    }

    #[test]
    fn two_members_of_a_oneof(bytes in strategies::encoded(), number in 21..=22_u32) {
        let two = change(&bytes, Level::Envelope, |fields| fields.push(raw(Wire::new().bytes(number, b"").0)));
        refused(&two, NON_CANONICAL)?;
    }

    #[test]
    fn two_operations_in_a_command(bytes in strategies::encoded(), pick in any::<prop::sample::Index>()) {
        let ops: Vec<&Field> = table::COMMAND.fields.iter().filter(|field| field.oneof != 0).collect();
        let second = ops[pick.index(ops.len())].number;
        let fields = fields_at(&bytes, Level::Command);
        prop_assume!(fields.iter().any(|field| field.number >= 10 && field.number != second));
        let two = change(&bytes, Level::Command, |fields| {
            let at = fields.iter().position(|field| field.number > second).unwrap_or(fields.len());
            fields.insert(at, raw(Wire::new().bytes(second, b"").0));
        });
        refused(&two, NON_CANONICAL)?;
    }

    #[test]
    fn a_group(bytes in strategies::encoded(), level in levels(), number in 35..999_u32) {
        let group = [tag(number, 3), tag(number, 4)].concat();
        refused(&change(&bytes, level, |fields| fields.push(raw(group))), NON_CANONICAL)?;
    }

    #[test]
    fn a_wire_type_that_is_not_the_schemas(
        bytes in strategies::encoded(), level in levels(), pick in any::<prop::sample::Index>(), wire in 0..8_u32
    ) {
        let fields = fields_at(&bytes, level);
        prop_assume!(!fields.is_empty());
        let at = pick.index(fields.len());
        prop_assume!(fields[at].wire != wire);
        let other = change(&bytes, level, |fields| {
            let field = &mut fields[at];
            let value: &[u8] = match wire {
                0 | 2 => &[0],
                1 => &[0; 8],
                5 => &[0; 4],
                _ => &[],
            };
            field.bytes = [&tag(field.number, wire), value].concat();
        });
        refused(&other, &[Code::MalformedEnvelope, Code::NonCanonicalEnvelope])?;
    }

    #[test]
    fn more_unknown_fields_than_64(bytes in strategies::encoded(), inside in 0..=64_usize) {
        let unknown = |count: usize| Wire::new().number(100, 1).0.repeat(count);
        let within = change(&bytes, Level::Command, |fields| fields.push(raw(unknown(inside))));
        let most = [&within[..], &unknown(64 - inside)].concat();
        prop_assert!(EnvelopeView::client(&most).is_ok(), "64 in all are allowed");
        refused(&[&most[..], &unknown(1)].concat(), NON_CANONICAL)?;
    }
}
