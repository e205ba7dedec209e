//! Judges one command against one state: an event, or a refusal with its code. Nothing here changes anything.

use proto::v1::{self, LockMode, command::Op, event::Body};
use proto::{Code, Rights};
use voltron_core::{mark, mutant};

use crate::chain::Tail;
use crate::dedupe::{Seen, Verdict};
use crate::incoming::Command;
use crate::state::{self, KEY_BYTES_MAX, KEYS_MAX, STATE_BYTES_MAX, State, VALUE_BYTES_MAX};

/// The longest reason of a lock, in bytes.
const REASON_BYTES_MAX: usize = 256;
/// The longest type of a `say`, in bytes.
const TYPE_BYTES_MAX: usize = 64;
/// The longest that a key, a lock, a ban or a mute may be asked to last: 366 days, so that a leap year fits. What must
/// last longer lasts until it is ended (0). The bound keeps every end, and every timer to it, far from where a clock or a
/// runtime's timers end: Erlang's take less than 50 days at a time, and so few steps reach any end.
pub const TTL_MAX_MS: u64 = 366 * 86_400_000;
/// How long a sender waits when the window is full: by then some of it may have left.
const BUSY_RETRY_MS: u32 = 1000;

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is stored as this event.
    Event(Body),
    /// It is sent to whoever listens, and not stored.
    Ephemeral(Body),
    /// It was stored before, there.
    Repeat(Seen),
    /// It changes nothing.
    Refuse(Refusal),
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to answer.
    pub code: Code,
    /// For people; empty: the registry's text.
    pub detail: &'static str,
    /// The key's current version, for `version_conflict`.
    pub ver: u64,
    /// When to repeat.
    pub retry_after_ms: u32,
}

impl Refusal {
    /// With no more to say than its code.
    pub const fn plain(code: Code) -> Self {
        Self { code, detail: "", ver: 0, retry_after_ms: 0 }
    }
    const fn because(code: Code, detail: &'static str) -> Self {
        Self { code, detail, ver: 0, retry_after_ms: 0 }
    }
}

/// Judges `command` at the room's time `at`, as the event `tail.seq + 1`.
pub fn decide(state: &State, tail: &Tail, at: i64, command: &Command) -> Decision {
    match judge(state, tail, at, command) {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn judge(state: &State, tail: &Tail, at: i64, command: &Command) -> Result<Decision, Refusal> {
    if !command.ephemeral {
        match state.dedupe.judge(&command.caller.user, &command.id, command.timestamp, at) {
            Verdict::New => {}
            Verdict::Repeat(_) if mutant!(DuplicateApplied) => {}
            Verdict::Repeat(seen) if !command.repeats(&seen) => {
                return Err(Refusal::plain(Code::MessageIdReused));
            }
            Verdict::Repeat(seen) => {
                mark!("brain.dedupe-hit");
                return Ok(Decision::Repeat(seen));
            }
            Verdict::Expired => {
                mark!("brain.outcome-expired");
                return Err(Refusal::plain(Code::OutcomeExpired));
            }
            Verdict::Full => {
                mark!("brain.dedupe-full");
                return Err(Refusal { retry_after_ms: BUSY_RETRY_MS, ..Refusal::plain(Code::Busy) });
            }
        }
    }
    let op = command.op.as_ref().ok_or(Refusal::because(Code::BadCommand, "the command names no operation"))?;
    let needs = match op {
        Op::Say(_) => Rights::PUB,
        Op::Set(_) | Op::Delete(_) => Rights::STATE,
        Op::Lock(_) | Op::Unlock(_) => Rights::MOD,
        _ => return Err(Refusal::plain(Code::UnsupportedOperation)),
    };
    let rights = command.caller.rights;
    if !rights.has(needs) {
        return Err(Refusal::plain(Code::PermissionDenied));
    }
    if command.ephemeral && !matches!(op, Op::Say(_)) {
        return Err(Refusal::because(Code::BadCommand, "only say can be ephemeral"));
    }
    if command.if_head.is_some_and(|head| (head.epoch, head.seq) != (tail.epoch, tail.seq)) {
        return Err(Refusal::because(Code::VersionConflict, "the room's head is not if_head"));
    }
    if !rights.has(Rights::MOD) && state.lock().is_some_and(state::LockState::bars_write) {
        return Err(Refusal::plain(Code::RoomLocked));
    }
    let body = match op {
        Op::Say(say) => said(say)?,
        Op::Set(set) => key_set(state, tail, at, set)?,
        Op::Delete(delete) => key_deleted(state, delete)?,
        Op::Lock(lock) => locked(at, command, lock)?,
        Op::Unlock(unlock) => unlocked(state, command, unlock)?,
        _ => return Err(Refusal::plain(Code::UnsupportedOperation)),
    };
    Ok(if command.ephemeral { Decision::Ephemeral(body) } else { Decision::Event(body) })
}

fn said(say: &v1::Say) -> Result<Body, Refusal> {
    if say.r#type.len() > TYPE_BYTES_MAX {
        return Err(Refusal::because(Code::BadCommand, "say.type is at most 64 bytes"));
    }
    Ok(Body::Said(v1::Said { data: say.data.clone(), r#type: say.r#type.clone() }))
}

/// `expect`: absent = any, 0 = must not exist, n = must equal the key's version.
fn expected(state: &State, key: &str, expect: Option<u64>) -> Result<(), Refusal> {
    let ver = state.get(key).map_or(0, |slot| slot.ver);
    match expect {
        Some(expect) if expect != ver => {
            Err(Refusal { ver, ..Refusal::because(Code::VersionConflict, "the key has another version") })
        }
        _ => Ok(()),
    }
}

fn key_set(state: &State, tail: &Tail, at: i64, set: &v1::Set) -> Result<Body, Refusal> {
    if set.key.is_empty() || set.key.len() > KEY_BYTES_MAX || set.value.len() > VALUE_BYTES_MAX {
        return Err(Refusal::plain(Code::ValueTooLarge));
    }
    expected(state, &set.key, set.expect)?;
    let old = state.get(&set.key);
    if old.is_none() && state.len() >= KEYS_MAX {
        return Err(Refusal::because(Code::StateQuota, "a room has at most 256 keys"));
    }
    let freed = old.map_or(0, |slot| state::slot_cost(&set.key, slot.value.len()));
    if state.bytes() - freed + state::slot_cost(&set.key, set.value.len()) > STATE_BYTES_MAX {
        return Err(Refusal::because(Code::StateQuota, "a room's state is at most 512 KiB"));
    }
    Ok(Body::KeySet(v1::KeySet {
        key: set.key.clone(),
        value: set.value.clone(),
        ver: tail.seq.saturating_add(1),
        expires_at: end_after(at, set.ttl_ms)?,
    }))
}

/// When what lasts for `ttl_ms` from `at` on ends; 0: never.
fn end_after(at: i64, ttl_ms: u64) -> Result<i64, Refusal> {
    match ttl_ms {
        0 => Ok(0),
        1..=TTL_MAX_MS => Ok(state::after(at, ttl_ms)),
        _ => Err(Refusal::plain(Code::TtlTooLong)),
    }
}

fn key_deleted(state: &State, delete: &v1::Delete) -> Result<Body, Refusal> {
    expected(state, &delete.key, delete.expect)?;
    if state.get(&delete.key).is_none() {
        return Err(Refusal::plain(Code::NotFound));
    }
    Ok(Body::KeyDeleted(v1::KeyDeleted { key: delete.key.clone(), expired: false }))
}

fn locked(at: i64, command: &Command, lock: &v1::Lock) -> Result<Body, Refusal> {
    let mode = LockMode::try_from(lock.mode).unwrap_or(LockMode::None);
    if mode == LockMode::None {
        return Err(Refusal::because(Code::BadCommand, "lock.mode is join, write or all"));
    }
    if lock.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::because(Code::BadCommand, "lock.reason is at most 256 bytes"));
    }
    Ok(Body::Locked(v1::Locked {
        mode: mode.into(),
        reason: lock.reason.clone(),
        until: end_after(at, lock.ttl_ms)?,
        user: command.caller.user.as_str().into(),
    }))
}

fn unlocked(state: &State, command: &Command, unlock: &v1::Unlock) -> Result<Body, Refusal> {
    let Some(lock) = state.lock() else { return Err(Refusal::plain(Code::NotFound)) };
    if lock.user != command.caller.user.as_str() && !unlock.force {
        return Err(Refusal::because(Code::PermissionDenied, "another moderator locked the room: unlock with force"));
    }
    Ok(Body::Unlocked(v1::Unlocked { expired: false }))
}
