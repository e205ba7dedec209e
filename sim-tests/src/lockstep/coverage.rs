//! Which cells of the table a run reached: every command with every outcome, every input, every effect and note. A cell
//! that nobody reached is a failure, and so is one that was thought impossible and was reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use brain_model::{Effect, Input, Note, Outcome, Why};
use proto::Code;
use proto::lockstep::{self as ls, effect::Effect as Said};

/// One table of cells.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    cells: BTreeMap<(&'static str, String), u64>,
}

/// What this version offers.
const OPS: [&str; 6] = ["say", "shout", "set", "delete", "lock", "unlock"];
/// What it does not yet.
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
/// What a command can come to.
const OUTCOMES: [&str; 18] = [
    "stored",
    "sent",
    "duplicate",
    "bad_command",
    "unsupported_operation",
    "permission_denied",
    "busy",
    "message_too_big",
    "room_locked",
    "version_conflict",
    "state_quota",
    "value_too_large",
    "not_found",
    "outcome_expired",
    "message_id_reused",
    "ttl_too_long",
    "unavailable",
    "log_full",
];

/// Cells that cannot be, with the reason.
const IMPOSSIBLE: &[(&[&str], &[&str], &str)] = &[
    (&["say", "set", "delete", "lock", "unlock"], &["sent"], "only what is ephemeral is sent and not stored"),
    (&["say", "shout", "set", "delete", "lock", "unlock", "nothing"], &["unsupported_operation"], "it is offered"),
    (
        &["shout"],
        &["stored", "duplicate", "outcome_expired", "message_id_reused"],
        "what is not stored is not deduplicated, so no repeat is known and none too old",
    ),
    (&["shout"], &["message_too_big"], "what is not stored need not fit an entry"),
    (&["say", "shout", "delete", "lock", "unlock"], &["state_quota", "value_too_large"], "it adds no key"),
    (&["say", "shout", "delete", "unlock"], &["ttl_too_long"], "it lasts for ever or not at all"),
    (&["say", "shout", "set", "lock"], &["not_found"], "it needs nothing that could be missing"),
    (&["unlock"], &["bad_command"], "it has no argument out of range, and no ephemeral form in these histories"),
    (&["lock", "unlock"], &["room_locked"], "who may lock passes a lock"),
    (
        &LATER,
        &[
            "sent",
            "stored",
            "bad_command",
            "permission_denied",
            "room_locked",
            "version_conflict",
            "state_quota",
            "value_too_large",
            "not_found",
            "message_too_big",
            "ttl_too_long",
        ],
        "it is refused before anything else of it is looked at",
    ),
    (
        &["nothing"],
        &[
            "sent",
            "stored",
            "permission_denied",
            "room_locked",
            "version_conflict",
            "state_quota",
            "value_too_large",
            "not_found",
            "message_too_big",
            "ttl_too_long",
        ],
        "a command without an operation is refused before anything else of it is looked at",
    ),
];

/// What is not a command, with all that it can come to.
const OTHERS: &[(&str, &[&str])] = &[
    ("sync", &["recovered", "snapshot", "history", "leave", "permission_denied", "room_locked", "busy", "unavailable"]),
    ("get", &["snapshot", "permission_denied", "room_locked", "busy", "unavailable", "log_full"]),
    ("open", &["opened", "busy", "room_absent", "unavailable", "log_full"]),
    ("silence", &["bad_command"]),
    ("unreadable", &["malformed_envelope", "non_canonical_envelope", "missing_field", "not_a_command"]),
    (
        "input",
        &[
            "open",
            "open create",
            "message",
            "message without reply",
            "read",
            "read failed",
            "read more",
            "gen_written",
            "appended stored",
            "appended wrong_last",
            "appended unresolved",
            "appended full",
            "appended unavailable",
            "appended too_big",
            "snapshot stored",
            "snapshot wrong_last",
            "snapshot unresolved",
            "snapshot refused",
            "subscribed",
            "subscribed not",
            "reconnected",
            "wake",
            "stop",
        ],
    ),
    (
        "effect",
        &[
            "read generation snapshots",
            "read snapshots",
            "read log",
            "read generation",
            "read generation log",
            "write_gen",
            "append",
            "write_snapshot",
            "trim",
            "subscribe",
            "reply",
            "live",
        ],
    ),
    ("step_down", &["fenced", "absent", "clock_behind", "refused", "idle", "stopped"]),
    (
        "note",
        &[
            "owned",
            "committed",
            "committed own",
            "head",
            "answered",
            "answered duplicate",
            "fenced",
            "unresolved",
            "void",
            "refused malformed_envelope",
            "refused non_canonical_envelope",
            "refused missing_field",
            "refused not_a_command",
            "refused bad_command",
        ],
    ),
    ("placement", &["heard", "heard no brain", "ranked", "ranked nobody"]),
    ("codec", &["decoded", "canonical", "refused"]),
    ("gate", &["accepted", "malformed_envelope", "non_canonical_envelope", "missing_field", "not_a_command"]),
];

impl Coverage {
    fn hit(&mut self, row: &'static str, column: impl Into<String>) {
        *self.cells.entry((row, column.into())).or_default() += 1;
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (cell, count) in &other.cells {
            *self.cells.entry(cell.clone()).or_default() += count;
        }
    }

    pub(super) fn outcome(&mut self, row: &'static str, code: u32, success: &'static str) {
        self.hit(row, if code == 0 { success.to_owned() } else { name(code) });
    }

    pub(super) fn input(&mut self, input: &Input) {
        let outcome = |what: &str, outcome: &Outcome| {
            let outcome = match outcome {
                Outcome::Stored(_) => "stored",
                Outcome::WrongLast => "wrong_last",
                Outcome::Unresolved => "unresolved",
                Outcome::Full => "full",
                Outcome::Unavailable => "unavailable",
                Outcome::TooBig => "too_big",
            };
            format!("{what} {outcome}")
        };
        let name = match input {
            Input::Open { create: true, .. } => "open create".into(),
            Input::Open { .. } => "open".into(),
            Input::Message { reply: None, .. } => "message without reply".into(),
            Input::Message { .. } => "message".into(),
            Input::Read { found: None, .. } => "read failed".into(),
            Input::Read { found: Some(found), .. } if found.more => "read more".into(),
            Input::Read { .. } => "read".into(),
            Input::GenWritten { .. } => "gen_written".into(),
            Input::Appended { outcome: ended, .. } => outcome("appended", ended),
            Input::SnapshotWritten { outcome: Outcome::Full | Outcome::Unavailable | Outcome::TooBig, .. } => {
                "snapshot refused".into()
            }
            Input::SnapshotWritten { outcome: ended, .. } => outcome("snapshot", ended),
            Input::Subscribed { ok: true, .. } => "subscribed".into(),
            Input::Subscribed { .. } => "subscribed not".into(),
            Input::Reconnected => "reconnected".into(),
            Input::Wake => "wake".into(),
            Input::Stop => "stop".to_owned(),
        };
        self.hit("input", name);
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Read { gen_id, snapshots, log_from, .. } => {
                let words = [(*gen_id, " generation"), (*snapshots, " snapshots"), (log_from.is_some(), " log")];
                let asked: String = words.into_iter().filter(|(asked, _)| *asked).map(|(_, word)| word).collect();
                self.hit("effect", format!("read{asked}"));
            }
            Effect::WriteGen { .. } => self.hit("effect", "write_gen"),
            Effect::Append { .. } => self.hit("effect", "append"),
            Effect::WriteSnapshot { .. } => self.hit("effect", "write_snapshot"),
            Effect::Trim { .. } => self.hit("effect", "trim"),
            Effect::Subscribe { .. } => self.hit("effect", "subscribe"),
            Effect::Reply { .. } => self.hit("effect", "reply"),
            Effect::Live { .. } => self.hit("effect", "live"),
            Effect::StepDown(why) => {
                let why = match why {
                    Why::Fenced => "fenced",
                    Why::Absent => "absent",
                    Why::ClockBehind => "clock_behind",
                    Why::Refused => "refused",
                    Why::Idle => "idle",
                    Why::Stopped => "stopped",
                };
                self.hit("step_down", why);
            }
            Effect::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: &Note) {
        let name = match note {
            Note::Owned { .. } => "owned".into(),
            Note::Committed { message_id: None, .. } => "committed own".into(),
            Note::Committed { .. } => "committed".into(),
            Note::Head { .. } => "head".into(),
            Note::Answered { duplicate: true, .. } => "answered duplicate".into(),
            Note::Answered { .. } => "answered".into(),
            Note::Fenced { .. } => "fenced".into(),
            Note::Unresolved => "unresolved".into(),
            Note::Void { .. } => "void".into(),
            Note::Refused(code) => format!("refused {}", name(code.as_u16().into())),
        };
        self.hit("note", name);
    }

    pub(super) fn other(&mut self, effect: &ls::Effect) {
        match &effect.effect {
            Some(Said::Heard(heard)) => self.hit("placement", if heard.brain { "heard" } else { "heard no brain" }),
            Some(Said::Ranking(order)) => {
                self.hit("placement", if order.living.is_empty() { "ranked nobody" } else { "ranked" });
            }
            Some(Said::Coded(coded)) if !coded.decoded => self.hit("codec", "refused"),
            Some(Said::Coded(coded)) => self.hit("codec", if coded.canonical { "canonical" } else { "decoded" }),
            Some(Said::Forwarded(gate)) if gate.ok => self.hit("gate", "accepted"),
            Some(Said::Forwarded(gate)) => self.hit("gate", name(gate.code)),
            _ => {}
        }
    }

    /// What is wrong with it: cells that must be reached and were not, and cells that cannot be and were.
    pub fn faults(&self) -> Vec<String> {
        let expected = expected();
        let missing = expected.iter().filter(|cell| !self.cells.contains_key(cell)).map(|cell| (cell, "not reached"));
        let reached = self.cells.keys().filter(|cell| !expected.contains(cell)).map(|cell| (cell, "reached, though"));
        let told = |((row, column), what): (&(&str, String), &str)| match why_not(row, column) {
            Some(reason) => format!("{row} × {column}: {what} {reason}"),
            None if what == "not reached" => format!("{row} × {column}: not reached"),
            None => format!("{row} × {column}: reached, and not in the table"),
        };
        missing.chain(reached).map(told).collect()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let expected = expected();
        let mut rows: Vec<&str> = expected.iter().map(|(row, _)| *row).collect();
        rows.dedup();
        for row in rows {
            let _ = write!(text, "{row:<12}");
            for (_, column) in expected.iter().filter(|(of, _)| *of == row) {
                let count = self.cells.get(&(row, column.clone())).copied().unwrap_or(0);
                let _ = write!(text, " {column} {count},");
            }
            text.pop();
            text.push('\n');
        }
        text
    }

    /// How many cells there are, and how many were reached.
    pub fn reached(&self) -> (usize, usize) {
        let expected = expected();
        (expected.iter().filter(|cell| self.cells.contains_key(cell)).count(), expected.len())
    }
}

fn name(code: u32) -> String {
    let known = proto::error::REGISTRY.iter().find(|info| u32::from(info.code.as_u16()) == code);
    known.map_or_else(|| format!("code {code}"), |info| info.name.to_owned())
}

fn why_not(row: &str, column: &str) -> Option<&'static str> {
    let found = IMPOSSIBLE.iter().find(|(rows, columns, _)| rows.contains(&row) && columns.contains(&column));
    found.map(|(_, _, reason)| *reason)
}

/// Every cell, row by row.
fn expected() -> Vec<(&'static str, String)> {
    let commands = OPS.iter().chain(&LATER).chain(&["nothing"]);
    let outcomes = OUTCOMES.iter().copied().chain([Code::NotApplied.info().name]);
    let commands = commands.flat_map(|row| outcomes.clone().map(move |column| (*row, column)));
    let commands = commands.filter(|(row, column)| why_not(row, column).is_none());
    let others = OTHERS.iter().flat_map(|(row, columns)| columns.iter().map(move |column| (*row, *column)));
    commands.chain(others).map(|(row, column)| (row, column.to_owned())).collect()
}
