//! What a room promises, as a sequential program: written from ROOMS §2 alone, a third time, and without a look at the
//! model. It judges and applies one operation at a time, and knows that it may not know: a room whose beginning is not
//! in the trace has unknown keys until something is learned about them.
//!
//! Left open, for the page or the trace does not say it: how large values are (so `value_too_large` and `state_quota`
//! are believed), and which reason is told first when several hold.

use std::collections::BTreeMap;

use proto::Code;

/// A place in a room's log: epoch, seq.
pub(super) type Place = (u64, u64);

/// The most keys that a room holds.
const KEYS_MAX: usize = 256;

/// What a lock forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Join,
    Write,
    All,
}

/// What is known of a key or of the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known<T> {
    Unknown,
    Nothing,
    Is(T),
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) ver: u64,
    pub(super) h: String,
    pub(super) ttl: bool,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lock {
    pub(super) mode: Mode,
    pub(super) user: String,
    pub(super) ttl: bool,
}

/// What one may do in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) say: bool,
    pub(super) state: bool,
    pub(super) moderate: bool,
}

/// An operation on a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Say,
    Set {
        key: String,
        h: String,
        ttl: bool,
        expect: Option<u64>,
    },
    Delete {
        key: String,
        expect: Option<u64>,
    },
    Lock {
        mode: Option<Mode>,
        ttl: bool,
    },
    Unlock {
        force: bool,
    },
    /// A key's ttl ended: the room's own.
    KeyEnded {
        key: String,
    },
    /// The lock's ttl ended: the room's own.
    LockEnded,
    /// Touches neither keys nor lock.
    Other,
}

/// An operation and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) op: Op,
    pub(super) if_head: Option<Place>,
    pub(super) user: String,
    /// `None`: the trace does not say.
    pub(super) rights: Option<Rights>,
}

/// What a `get` showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reading {
    /// Key → version and hash of the value.
    pub(super) keys: BTreeMap<String, (u64, String)>,
    pub(super) lock: Option<(Mode, String)>,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "join" => Some(Self::Join),
            "write" => Some(Self::Write),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

fn bars_write(lock: &Known<Lock>) -> bool {
    matches!(lock, Known::Is(lock) if lock.mode != Mode::Join)
}

/// `None` if the call may succeed at this state; else why it must not.
pub(super) fn must_refuse(state: &State, call: &Call) -> Option<String> {
    let Call { op, if_head, user, rights } = call;
    if let (Some(rights), Some(lacks)) = (rights, lacking(op)) {
        if lacks(rights) {
            return Some(format!("{user} has no right to it"));
        }
        if !rights.moderate && bars_write(&state.lock) {
            return Some(format!("the room was locked and {user} is no moderator"));
        }
    }
    if if_head.is_some_and(|head| head != state.head) {
        return Some(format!("the head was {:?} and not if_head", state.head));
    }
    match op {
        Op::Set { key, expect, .. } => mismatch(state, key, *expect),
        Op::Delete { key, expect } => match state.key(key) {
            Known::Nothing => Some(format!("there was no key {key}")),
            _ => mismatch(state, key, *expect),
        },
        Op::Lock { mode: None, .. } => Some("a lock needs a mode".to_owned()),
        Op::Unlock { force } => match state.lock.clone() {
            Known::Nothing => Some("there was no lock".to_owned()),
            Known::Is(lock) if lock.user != *user && !force => Some(format!("it is the lock of {}", lock.user)),
            _ => None,
        },
        Op::KeyEnded { key } => match state.key(key) {
            Known::Nothing => Some(format!("there was no key {key}")),
            Known::Is(slot) if !slot.ttl => Some(format!("key {key} was to stay for ever")),
            _ => None,
        },
        Op::LockEnded => match state.lock.clone() {
            Known::Nothing => Some("there was no lock".to_owned()),
            Known::Is(lock) if !lock.ttl => Some("the lock was to stay until it is undone".to_owned()),
            _ => None,
        },
        Op::Say | Op::Lock { .. } | Op::Other => None,
    }
}

/// The right that an operation needs, as the test for its absence.
fn lacking(op: &Op) -> Option<fn(&Rights) -> bool> {
    match op {
        Op::Say => Some(|rights| !rights.say),
        Op::Set { .. } | Op::Delete { .. } => Some(|rights| !rights.state),
        Op::Lock { .. } | Op::Unlock { .. } => Some(|rights| !rights.moderate),
        Op::KeyEnded { .. } | Op::LockEnded | Op::Other => None,
    }
}

fn mismatch(state: &State, key: &str, expect: Option<u64>) -> Option<String> {
    let ver = version(state, key)?;
    let expect = expect.filter(|expect| *expect != ver)?;
    Some(format!("key {key} had version {ver} and not {expect}"))
}

/// 0: absent; `None`: not known.
fn version(state: &State, key: &str) -> Option<u64> {
    match state.key(key) {
        Known::Unknown => None,
        Known::Nothing => Some(0),
        Known::Is(slot) => Some(slot.ver),
    }
}

/// True if a refusal with this code, and this `ver`, is right at this state.
pub(super) fn may_refuse(state: &State, call: &Call, code: u32, told: u64) -> bool {
    match code_of(code) {
        Some(Code::VersionConflict) => {
            if call.if_head.is_some_and(|head| head != state.head) {
                return true;
            }
            let (Op::Set { key, expect: Some(expect), .. } | Op::Delete { key, expect: Some(expect) }) = &call.op
            else {
                return false;
            };
            version(state, key).is_none_or(|ver| ver != *expect && ver == told)
        }
        Some(Code::NotFound) => match &call.op {
            Op::Delete { key, .. } => !matches!(state.key(key), Known::Is(_)),
            Op::Unlock { .. } => !matches!(state.lock.clone(), Known::Is(_)),
            _ => false,
        },
        Some(Code::RoomLocked) => {
            let barred = bars_write(&state.lock) || state.lock == Known::Unknown;
            barred && !call.rights.is_some_and(|rights| rights.moderate)
        }
        Some(Code::PermissionDenied) => {
            let lacks = lacking(&call.op).is_none_or(|lacks| call.rights.is_none_or(|rights| lacks(&rights)));
            let anothers = match (&call.op, state.lock.clone()) {
                (Op::Unlock { force: false }, Known::Is(lock)) => lock.user != call.user,
                (Op::Unlock { force: false }, Known::Unknown) => true,
                _ => false,
            };
            lacks || anothers
        }
        // The count is known at best; the bytes are not.
        Some(Code::StateQuota) => matches!(call.op, Op::Set { .. }),
        _ => true,
    }
}

/// True if the room itself says no with this code, by what it holds.
pub(super) fn is_rooms_word(code: u32) -> bool {
    matches!(
        code_of(code),
        Some(Code::VersionConflict | Code::NotFound | Code::RoomLocked | Code::PermissionDenied | Code::StateQuota)
    )
}

/// True if the frame that was answered with this code may have been, or may yet be, applied.
pub(super) fn leaves_open(code: u32) -> bool {
    code_of(code) == Some(Code::OutcomeUnknown)
}

fn code_of(code: u32) -> Option<Code> {
    u16::try_from(code).ok().and_then(Code::from_u16)
}

/// `None` if a `get` may show this at this state; else what differs.
pub(super) fn differs(state: &State, reading: &Reading) -> Option<String> {
    for (key, (ver, h)) in &reading.keys {
        match state.key(key) {
            Known::Is(slot) if (slot.ver, &slot.h) != (*ver, h) => {
                return Some(format!(
                    "key {key} had version {} with {}, and version {ver} with {h} was shown",
                    slot.ver, slot.h
                ));
            }
            Known::Nothing => return Some(format!("there was no key {key}, and version {ver} of it was shown")),
            _ => {}
        }
    }
    if let Some(hidden) = state.keys().find(|key| !reading.keys.contains_key(*key)) {
        return Some(format!("key {hidden} was there and not shown"));
    }
    if reading.keys.len() > KEYS_MAX {
        return Some(format!("{} keys were shown, a room holds {KEYS_MAX}", reading.keys.len()));
    }
    match (state.lock.clone(), &reading.lock) {
        (Known::Is(lock), Some((mode, user))) if (lock.mode, &lock.user) != (*mode, user) => {
            Some(format!("{} had locked it ({:?}), and {mode:?} of {user} was shown", lock.user, lock.mode))
        }
        (Known::Is(lock), None) => Some(format!("{} had locked it, and no lock was shown", lock.user)),
        (Known::Nothing, Some((mode, user))) => Some(format!("there was no lock, and {mode:?} of {user} was shown")),
        _ => None,
    }
}

/// A state that can be stepped forward.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) head: Place,
    whole: bool,
    keys: BTreeMap<String, Option<Slot>>,
    lock: Known<Lock>,
}

impl State {
    /// A room that was just made.
    pub(super) const fn empty(head: Place) -> Self {
        Self { head, whole: true, keys: BTreeMap::new(), lock: Known::Nothing }
    }

    /// A room of which nothing is known.
    pub(super) const fn unknown(head: Place) -> Self {
        Self { head, whole: false, keys: BTreeMap::new(), lock: Known::Unknown }
    }

    /// Applies a call that succeeded, at the place after the head.
    pub(super) fn apply(&mut self, call: &Call) {
        let ver = self.head.1 + 1;
        self.head.1 = ver;
        match &call.op {
            Op::Set { key, h, ttl, .. } => {
                self.keys.insert(key.clone(), Some(Slot { ver, h: h.clone(), ttl: *ttl }));
            }
            Op::Delete { key, .. } | Op::KeyEnded { key } => {
                if self.whole {
                    self.keys.remove(key);
                } else {
                    self.keys.insert(key.clone(), None);
                }
            }
            Op::Lock { mode: Some(mode), ttl } => {
                self.lock = Known::Is(Lock { mode: *mode, user: call.user.clone(), ttl: *ttl });
            }
            Op::Unlock { .. } | Op::LockEnded => self.lock = Known::Nothing,
            Op::Say | Op::Lock { mode: None, .. } | Op::Other => {}
        }
    }

    /// Takes over what a `get` showed here, where it was not known. Nobody saw whether it has a ttl: it may.
    pub(super) fn learn(&mut self, reading: &Reading) {
        for (key, (ver, h)) in &reading.keys {
            let shown = Some(Slot { ver: *ver, h: h.clone(), ttl: true });
            self.keys.entry(key.clone()).or_insert(shown);
        }
        self.keys.retain(|_, slot| slot.is_some());
        self.whole = true;
        if self.lock == Known::Unknown {
            let lock = reading.lock.clone().map(|(mode, user)| Lock { mode, user, ttl: true });
            self.lock = lock.map_or(Known::Nothing, Known::Is);
        }
    }

    /// What may end by itself here.
    pub(super) fn may_end(&self) -> Vec<Op> {
        let keys = self.keys.iter().filter(|(_, slot)| slot.as_ref().is_some_and(|slot| slot.ttl));
        let lock = matches!(&self.lock, Known::Is(lock) if lock.ttl).then_some(Op::LockEnded);
        keys.map(|(key, _)| Op::KeyEnded { key: key.clone() }).chain(lock).collect()
    }

    fn key(&self, key: &str) -> Known<Slot> {
        match self.keys.get(key) {
            Some(Some(slot)) => Known::Is(slot.clone()),
            Some(None) => Known::Nothing,
            None if self.whole => Known::Nothing,
            None => Known::Unknown,
        }
    }

    /// Keys that are surely there.
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(|(_, slot)| slot.is_some()).map(|(key, _)| key.as_str())
    }
}
