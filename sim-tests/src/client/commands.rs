//! What a client's deed says: keys, values and expectations, each drawn from (seed, client, time of the deed), so that
//! leaving out one operation of a plan changes no other.

use std::collections::BTreeMap;

use proto::json::Since;
use proto::v1::{self, LockMode, command::Op};

use crate::scenario::Verb;
use crate::seed::Draw;

/// Keys that the clients of a room share.
const KEYS: u64 = 5;

/// Key versions that a client has been told, per (room, key).
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(BTreeMap<(String, String), u64>);

impl Versions {
    /// Takes over what an answer says of the key that a command was about.
    pub(super) fn told(&mut self, room: &str, command: &v1::Command, code: u32, seq: u64, ver: u64) {
        let (key, ver) = match (&command.op, code) {
            (Some(Op::Set(set)), 0) => (&set.key, seq),
            (Some(Op::Delete(delete)), 0) => (&delete.key, 0),
            (Some(Op::Set(v1::Set { key, .. }) | Op::Delete(v1::Delete { key, .. })), _) if ver > 0 => (key, ver),
            _ => return,
        };
        self.0.insert((room.to_owned(), key.clone()), ver);
    }

    fn of(&self, room: &str, key: &str) -> Option<u64> {
        self.0.get(&(room.to_owned(), key.to_owned())).copied()
    }
}

/// The command of a deed; `None` for a deed that is none. `text` tells it from all others. A plain one depends on nothing
/// but its own room's past: no expectation, and nothing that ends by itself.
pub(super) fn command(
    verb: Verb,
    draw: &mut Draw,
    text: String,
    room: &str,
    versions: &Versions,
    head: Option<Since>,
    plain: bool,
) -> Option<v1::Command> {
    let key = format!("key-{}", draw.below(KEYS));
    let mut expect = || match draw.below(10) {
        0..5 => None,
        5 | 6 => Some(0),
        _ => versions.of(room, &key),
    };
    let mut command = match verb {
        Verb::Publish => arq::client::say("text", text),
        Verb::Whisper => v1::Command { ephemeral: true, ..arq::client::say("text", text) },
        Verb::Set => {
            let expect = expect();
            let ttl_ms = if draw.chance(20) { draw.between(200, 4_000) } else { 0 };
            arq::client::op(Op::Set(v1::Set { key, value: text.into(), ttl_ms, expect }))
        }
        Verb::Delete => {
            let expect = expect();
            arq::client::op(Op::Delete(v1::Delete { key, expect }))
        }
        Verb::Lock => {
            let mode = *draw.pick(&[LockMode::Join, LockMode::Write, LockMode::Write, LockMode::All]);
            // One that keeps subscribers out must end by itself: else nobody comes to the head after healing.
            let for_ever = mode == LockMode::Write && draw.chance(25);
            let ttl_ms = if for_ever { 0 } else { draw.between(200, 3_000) };
            arq::client::op(Op::Lock(v1::Lock { mode: mode.into(), reason: text, ttl_ms }))
        }
        Verb::Unlock => arq::client::op(Op::Unlock(v1::Unlock { force: draw.chance(50) })),
        _ => return None,
    };
    if !command.ephemeral && draw.chance(4) {
        command.if_head = head.map(|head| v1::Head { epoch: head.epoch, seq: head.seq });
    }
    if plain {
        command.if_head = None;
        match &mut command.op {
            Some(Op::Set(set)) => (set.ttl_ms, set.expect) = (0, None),
            Some(Op::Delete(delete)) => delete.expect = None,
            Some(Op::Lock(lock)) => lock.ttl_ms = 0,
            _ => {}
        }
    }
    Some(command)
}
