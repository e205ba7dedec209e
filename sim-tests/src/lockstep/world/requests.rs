//! The bytes that a Shield would forward: commands, syncs and gets, by users with all sorts of rights.

use brain_model::chain::Tail;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::sender::SenderRef;
use proto::v1::{self, command::Op, system_signal::Ask as Asked};
use proto::view::{CMD, SIGNAL};
use proto::{Rights, RoomKey};

use super::damage::put_field;
use super::{World, room_key};
use crate::lockstep::ops::{Ask, At, Clock, CursorIs, Dress, Expect, HeadIs, Since, To};

/// Of a room's five users.
const USERS: [&str; 4] = ["ann", "bob", "cid", "d-4_X"];
const RIGHTS: [u32; 8] = [127, 3, 4, 0, 7, 127 - 16, u32::MAX, 16];
/// Larger than an entry.
const HUGE: usize = 530_000;

/// A message id from a small number.
pub(super) fn message_id(n: u64) -> [u8; 16] {
    (u128::from(n) | 0xa5 << 120).to_be_bytes()
}

fn user_name(user: u8) -> String {
    USERS.get(usize::from(user)).map_or_else(|| "x".repeat(128), |name| (*name).to_owned())
}

fn key_name(key: u8) -> String {
    match key {
        200 => String::new(),
        201 => "k".repeat(128),
        202 => "k".repeat(129),
        203 => "\u{e9}t\u{e9}".into(),
        204 => "\u{1f511}".repeat(32),
        205 => "Z".into(),
        n => format!("k{n}"),
    }
}

fn filled(bytes: u32, id: u64) -> Bytes {
    vec![b'a' + (id % 26) as u8; bytes as usize].into()
}

/// What this version does not offer yet, by the names of the schema.
const LATER: [&str; 15] = [
    "pl_insert",
    "pl_remove",
    "pl_move",
    "pl_clear",
    "pl_select",
    "play",
    "pause",
    "seek",
    "kick",
    "ban",
    "unban",
    "mute",
    "unmute",
    "configure",
    "close",
];

fn later(n: u8) -> (&'static str, Op) {
    let n = usize::from(n) % LATER.len();
    let op = match n {
        0 => Op::PlInsert(v1::PlaylistInsert { after: Some(String::new()), expect: Some(0), ..Default::default() }),
        1 => Op::PlRemove(v1::PlaylistRemove::default()),
        2 => Op::PlMove(v1::PlaylistMove { id: "a".into(), after: None, expect: Some(3) }),
        3 => Op::PlClear(v1::PlaylistClear::default()),
        4 => Op::PlSelect(v1::PlaylistSelect::default()),
        5 => Op::Play(v1::Play { pos_ms: Some(0) }),
        6 => Op::Pause(v1::Pause { pos_ms: Some(u64::MAX) }),
        7 => Op::Seek(v1::Seek { pos_ms: 5 }),
        8 => Op::Kick(v1::Kick { user: "bob".into(), reason: "why".into() }),
        9 => Op::Ban(v1::Ban { user: "bob".into(), until: -1, ..Default::default() }),
        10 => Op::Unban(v1::Unban::default()),
        11 => Op::Mute(v1::Mute { user: "bob".into(), until: i64::MAX, ..Default::default() }),
        12 => Op::Unmute(v1::Unmute { user: "bob".into() }),
        13 => Op::Configure(v1::Configure { options: Some(v1::RoomOptions { slow_mode_ms: 5, presence: 1 }) }),
        _ => Op::Close(v1::Close { reason: "over".into() }),
    };
    (LATER[n], op)
}

impl World<'_> {
    fn tail(&self, at: At) -> Tail {
        self.cores.get(&self.place(at)).map_or_else(Tail::default, |core| core.room.committed().tail)
    }

    fn timestamp(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Off(ms) => self.wall_ms() + i64::from(ms),
            Clock::Old => self.wall_ms() - 400_000,
            Clock::First => i64::MIN,
            Clock::Last => i64::MAX,
        }
    }

    fn expected(&self, at: At, key: &str, expect: Expect) -> Option<u64> {
        let core = self.cores.get(&self.place(at));
        let ver = core.and_then(|core| core.room.committed().state.get(key)).map_or(0, |slot| slot.ver);
        match expect {
            Expect::Any => None,
            Expect::Absent => Some(0),
            Expect::Right => Some(ver),
            Expect::Wrong => Some(ver.wrapping_add(7)),
        }
    }

    fn operation(&self, at: At, ask: &Ask, id: u64) -> (&'static str, v1::Command) {
        let (row, op, ephemeral) = match *ask {
            Ask::Say { bytes, word } | Ask::Shout { bytes, word } => {
                let say = v1::Say { data: filled(bytes, id), r#type: "t".repeat(usize::from(word)) };
                let shout = matches!(ask, Ask::Shout { .. });
                (if shout { "shout" } else { "say" }, Some(Op::Say(say)), shout)
            }
            Ask::Set { key, bytes, ttl_ms, expect, shout } => {
                let key = key_name(key);
                let expect = self.expected(at, &key, expect);
                ("set", Some(Op::Set(v1::Set { key, value: filled(bytes, id), ttl_ms, expect })), shout)
            }
            Ask::Delete { key, expect, shout } => {
                let key = key_name(key);
                let expect = self.expected(at, &key, expect);
                ("delete", Some(Op::Delete(v1::Delete { key, expect })), shout)
            }
            Ask::Lock { mode, reason, ttl_ms } => {
                let lock = v1::Lock { mode: mode.into(), reason: "r".repeat(usize::from(reason)), ttl_ms };
                ("lock", Some(Op::Lock(lock)), false)
            }
            Ask::Unlock { force } => ("unlock", Some(Op::Unlock(v1::Unlock { force })), false),
            Ask::Later(n) => {
                let (row, op) = later(n);
                (row, Some(op), false)
            }
            Ask::Nothing | Ask::Get | Ask::Sync { .. } | Ask::Silence => ("nothing", None, false),
        };
        (row, v1::Command { ephemeral, op, ..v1::Command::default() })
    }

    /// A request of a fresh id: its row in the table, its id, its bytes.
    #[allow(clippy::too_many_arguments, reason = "one for each word of the operation")]
    pub(super) fn request(
        &mut self,
        at: At,
        user: u8,
        rights: u8,
        ask: &Ask,
        head: HeadIs,
        clock: Clock,
        dress: Dress,
    ) -> (&'static str, u64, Bytes) {
        self.ids += 1;
        let id = self.ids;
        let (row, body) = match self.signal(at, ask) {
            Some((row, signal)) => (row, self.sealed(at, user, rights, 0, None, SIGNAL, signal.encode_to_vec(), dress)),
            None => self.command(at, user, rights, ask, head, clock, dress, id),
        };
        (row, id, body)
    }

    #[allow(clippy::too_many_arguments, reason = "one for each word of the operation")]
    fn command(
        &self,
        at: At,
        user: u8,
        rights: u8,
        ask: &Ask,
        head: HeadIs,
        clock: Clock,
        dress: Dress,
        id: u64,
    ) -> (&'static str, Bytes) {
        let (row, mut command) = self.operation(at, ask, id);
        let tail = self.tail(at);
        command.if_head = match head {
            HeadIs::Any => None,
            HeadIs::Right => Some(v1::Head { epoch: tail.epoch, seq: tail.seq }),
            HeadIs::Wrong => Some(v1::Head { epoch: tail.epoch, seq: tail.seq.wrapping_add(3) }),
        };
        let timestamp = self.timestamp(clock);
        (row, self.sealed(at, user, rights, timestamp, Some(id), CMD, command.encode_to_vec(), dress))
    }

    fn signal(&self, at: At, ask: &Ask) -> Option<(&'static str, v1::SystemSignal)> {
        let tail = self.tail(at);
        let (row, ask) = match *ask {
            Ask::Get => ("get", Some(Asked::Get(v1::Get {}))),
            Ask::Silence => ("silence", None),
            Ask::Sync { since, history, cursor, leave_only } => {
                let since = match since {
                    Since::Never => None,
                    Since::Back(n) => Some((tail.epoch, tail.seq.saturating_sub(n.into()))),
                    Since::Ahead => Some((tail.epoch, tail.seq.saturating_add(5))),
                    Since::OtherEpoch => Some((tail.epoch.wrapping_sub(1), tail.seq)),
                };
                let sync = v1::Sync {
                    since: since.map(|(epoch, seq)| v1::Head { epoch, seq }),
                    history: history.into(),
                    shield: shield_cursor(&tail, cursor),
                    leave_only,
                    ..v1::Sync::default()
                };
                ("sync", Some(Asked::Sync(sync)))
            }
            _ => return None,
        };
        Some((row, v1::SystemSignal { ask, ..v1::SystemSignal::default() }))
    }

    #[allow(clippy::too_many_arguments, reason = "one for each part of an envelope")]
    fn sealed(
        &self,
        at: At,
        user: u8,
        rights: u8,
        timestamp: i64,
        id: Option<u64>,
        field: u32,
        mut payload: Vec<u8>,
        dress: Dress,
    ) -> Bytes {
        match dress {
            Dress::Foreign => put_field(&mut payload, 500, b"of a later version"),
            Dress::Huge => put_field(&mut payload, 900, &vec![7; HUGE]),
            Dress::Plain | Dress::Full => {}
        }
        let key: RoomKey = room_key(self.place(at).1);
        let full = dress == Dress::Full;
        let envelope = v1::Envelope {
            trace_id: if full {
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()
            } else {
                String::new()
            },
            room_id: key.room.as_str().into(),
            timestamp,
            message_id: id.map(|id| message_id(id).to_vec().into()).unwrap_or_default(),
            ack_requested: true,
            signature: if full { vec![9; 64].into() } else { Bytes::new() },
            ..v1::Envelope::default()
        };
        let mut bytes = envelope.encode_to_vec();
        put_field(&mut bytes, field, &payload);
        if dress == Dress::Foreign {
            put_field(&mut bytes, 40, b"");
            put_field(&mut bytes, 999, b"x");
        }
        let user = user_name(user);
        let mut bytes = BytesMut::from(bytes.as_slice());
        let sender = SenderRef {
            user: &user,
            conn: "c1",
            rights: Rights(RIGHTS[usize::from(rights) % RIGHTS.len()]),
            public_key: if full { &[5; 32] } else { &[] },
            redacted_by: if full { b"policy" } else { b"" },
            ..SenderRef::default()
        };
        proto::sender::append(&mut bytes, &sender);
        bytes.freeze()
    }

    /// Any kind of request, by number.
    pub(super) fn any_ask(&self, n: u16) -> Ask {
        match n % 23 {
            0 => Ask::Say { bytes: 2, word: 1 },
            1 => Ask::Shout { bytes: 2, word: 1 },
            2 => Ask::Set { key: 1, bytes: 2, ttl_ms: 0, expect: Expect::Any, shout: false },
            3 => Ask::Delete { key: 1, expect: Expect::Any, shout: false },
            4 => Ask::Lock { mode: 1, reason: 1, ttl_ms: 0 },
            5 => Ask::Unlock { force: true },
            6 => Ask::Nothing,
            7 => Ask::Get,
            8..23 => Ask::Later((n % 23 - 8) as u8),
            _ => Ask::Silence,
        }
    }

    /// Another command under an id that was used.
    pub(super) fn under(&mut self, at: At, user: u8, id: u64, which: u16) -> (&'static str, u64, Bytes) {
        let ask = match self.any_ask(which) {
            Ask::Get => Ask::Nothing,
            ask => ask,
        };
        let dress = by_id_alone((which / 23).is_multiple_of(2));
        let (row, body) = self.command(at, user, 0, &ask, HeadIs::Any, Clock::Off(0), dress, id);
        (row, id, body)
    }

    /// One of every command, alike in everything else; `known`: all under the id of one that was sent before.
    pub(super) fn mixed(&mut self, at: At, rights: u8, head: HeadIs, clock: Clock, known: bool) {
        let old = self.sent.iter().rev().find(|sent| sent.row == "say" || sent.row == "set").map(|s| (s.user, s.id));
        for n in 0..23 {
            let ask = self.any_ask(n);
            let (row, body) = match old.filter(|_| known && !matches!(ask, Ask::Get)) {
                Some((user, id)) => {
                    self.command(at, user, rights, &ask, head, clock, by_id_alone(id.is_multiple_of(2)), id)
                }
                None => {
                    let (row, id, body) = self.request(at, 3, rights, &ask, head, clock, Dress::Plain);
                    self.sent.push(super::Sent { row, user: 3, id, body: body.clone() });
                    (row, body)
                }
            };
            self.deliver(at, row, body, To::Slot, false);
        }
        let sync = Ask::Sync { since: Since::Never, history: 0, cursor: CursorIs::Absent, leave_only: false };
        let (row, _, body) = self.request(at, 3, rights, &sync, head, clock, Dress::Plain);
        self.deliver(at, row, body, To::Slot, false);
    }
}

fn shield_cursor(tail: &Tail, cursor: CursorIs) -> Option<v1::Cursor> {
    let right = v1::Cursor { epoch: tail.epoch, term: tail.term, pos: tail.pos, chain: tail.chain };
    Some(match cursor {
        CursorIs::Absent => return None,
        CursorIs::Right => right,
        CursorIs::Ahead => v1::Cursor { pos: tail.pos.saturating_add(3), ..right },
        CursorIs::OtherChain => v1::Cursor { chain: tail.chain ^ 1, ..right },
        CursorIs::OlderEpoch => v1::Cursor { epoch: tail.epoch.saturating_sub(1), ..right },
        CursorIs::Beyond => v1::Cursor { epoch: u64::MAX, term: u64::MAX, ..right },
    })
}

/// What a policy rewrote is told from others by its id alone: another command under that id is a repeat.
fn by_id_alone(redacted: bool) -> Dress {
    if redacted { Dress::Full } else { Dress::Plain }
}
