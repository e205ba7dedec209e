//! The checker on histories that are known to be good or bad, by the log's order and by search alike.

use super::history::{History, Operation, Outcome};
use super::search::{self, Found};
use super::spec::{self, Call, Mode, Op, Place, Reading, Rights, State};
use super::{judge, order};
use crate::oracles::Findings;

mod epochs;
mod random;

const E: u64 = 7;

/// A history under construction; times are records.
#[derive(Clone, Default)]
struct Tale(Vec<Operation>);

fn member() -> Rights {
    Rights { say: true, state: true, moderate: false }
}

fn moderator() -> Rights {
    Rights { moderate: true, ..member() }
}

fn set(key: &str, h: &str, expect: Option<u64>) -> Op {
    Op::Set { key: key.into(), h: h.into(), ttl: false, expect }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into(), expect: None }
}

fn lock(mode: Mode) -> Op {
    Op::Lock { mode: Some(mode), ttl: false }
}

fn shown(at: u64, keys: &[(&str, u64, &str)], lock: Option<(Mode, &str)>) -> Outcome {
    let keys = keys.iter().map(|(key, ver, h)| ((*key).to_owned(), (*ver, (*h).to_owned()))).collect();
    let lock = lock.map(|(mode, user)| (mode, user.to_owned()));
    Outcome::Read { at: (E, at), shown: Some(Reading { keys, lock }) }
}

const fn stored(seq: u64) -> Outcome {
    Outcome::Stored((E, seq))
}

const fn refused(code: u32, ver: u64) -> Outcome {
    Outcome::Refused { code, ver }
}

const CONFLICT: u32 = 5005;
const NOT_FOUND: u32 = 5009;
const LOCKED: u32 = 5003;
const DENIED: u32 = 2004;

impl Tale {
    /// Users whose name begins with `m` are moderators.
    fn by(mut self, user: &str, from: u64, to: u64, op: Op, outcome: Outcome) -> Self {
        let rights = Some(if user.starts_with('m') { moderator() } else { member() });
        let call = Call { op, if_head: None, user: user.into(), rights };
        let responded = (outcome != Outcome::Open).then_some(to);
        let name = format!("operation {}", self.0.len() + 1);
        self.0.push(Operation { invoked: from, responded, n: to, call, outcome, name });
        self
    }

    fn itself(mut self, n: u64, op: Op, seq: u64) -> Self {
        let call = Call { op, if_head: None, user: String::new(), rights: None };
        let name = "the room".to_owned();
        self.0.push(Operation { invoked: 0, responded: None, n, call, outcome: stored(seq), name });
        self
    }

    fn history(&self) -> History {
        History { operations: self.0.clone(), fresh: true, ..History::default() }
    }

    /// What the order of the log says, then what the search says; they must not differ.
    #[track_caller]
    fn holds(&self) -> bool {
        let history = self.history();
        let mut found = Findings::default();
        order::check("t/r", &history, &mut found);
        let searched = search::search(&history);
        let by_order = found.violations.is_empty();
        assert_ne!(searched, Found::Unknown);
        assert_eq!(by_order, searched == Found::Order, "{:?} but {searched:?}", found.violations);
        by_order
    }

    #[track_caller]
    fn accepted(&self) {
        assert!(self.holds());
    }

    /// The text of the first objection.
    #[track_caller]
    fn rejected(&self, says: &str) {
        assert!(!self.holds(), "accepted");
        let mut found = Findings::default();
        order::check("t/r", &self.history(), &mut found);
        let first = found.violations.iter().min_by_key(|violation| violation.n).map(|one| one.what.clone());
        assert!(first.as_ref().is_some_and(|first| first.contains(says)), "{first:?}");
    }
}

fn tale() -> Tale {
    Tale::default()
}

#[test]
fn what_happens_in_turn_and_at_once_is_accepted() {
    tale()
        .by("a", 1, 10, set("k", "x", Some(0)), stored(1))
        .by("b", 2, 9, set("k", "y", Some(0)), refused(CONFLICT, 1))
        .by("c", 3, 30, Op::Other, shown(2, &[("k", 2, "z")], None))
        .by("a", 11, 40, set("k", "z", Some(1)), stored(2))
        .by("m1", 41, 50, lock(Mode::Write), stored(3))
        .by("b", 42, 60, Op::Say, refused(LOCKED, 0))
        .by("m2", 51, 52, Op::Say, stored(4))
        .by("m2", 53, 54, Op::Unlock { force: false }, refused(DENIED, 0))
        .by("m2", 55, 56, Op::Unlock { force: true }, stored(5))
        .by("b", 57, 61, delete("k"), stored(6))
        .by("b", 62, 63, delete("k"), refused(NOT_FOUND, 0))
        .by("b", 64, 65, Op::Other, shown(6, &[], None))
        .accepted();
}

#[test]
fn a_get_that_shows_less_than_what_had_been_told_is_stale() {
    let tale = tale().by("a", 1, 2, set("k", "x", None), stored(1)).by("a", 3, 4, set("k", "y", None), stored(2));
    tale.clone().by("b", 5, 6, Op::Other, shown(1, &[("k", 1, "x")], None)).rejected("began after operation 2");
    tale.clone().by("b", 3, 6, Op::Other, shown(1, &[("k", 1, "x")], None)).accepted();
    tale.by("b", 5, 6, Op::Other, shown(2, &[("k", 1, "x")], None)).rejected("key k had version 2");
}

#[test]
fn two_gets_do_not_go_backwards() {
    let tale = tale().by("a", 1, 20, set("k", "x", None), stored(1));
    let seen = shown(1, &[("k", 1, "x")], None);
    tale.clone().by("b", 2, 3, Op::Other, seen.clone()).by("c", 4, 5, Op::Other, shown(0, &[], None)).rejected("shows");
    tale.by("b", 2, 6, Op::Other, seen).by("c", 4, 5, Op::Other, shown(0, &[], None)).accepted();
}

#[test]
fn a_lost_update_shows() {
    tale()
        .by("a", 1, 2, set("k", "x", None), stored(1))
        .by("b", 3, 4, set("k", "y", None), stored(2))
        .by("c", 5, 6, Op::Other, shown(2, &[("k", 1, "x")], None))
        .rejected("key k had version 2 with y, and version 1 with x was shown");
    tale()
        .by("a", 1, 2, set("k", "x", None), stored(1))
        .by("c", 5, 6, Op::Other, shown(1, &[], None))
        .rejected("key k was there and not shown");
}

#[test]
fn an_expectation_is_honoured_once() {
    tale()
        .by("a", 1, 9, set("k", "x", Some(0)), stored(1))
        .by("b", 2, 8, set("k", "y", Some(0)), stored(2))
        .rejected("key k had version 1 and not 0");
    tale()
        .by("a", 1, 2, set("k", "x", None), stored(1))
        .by("b", 3, 4, set("k", "y", Some(9)), stored(2))
        .rejected("key k had version 1 and not 9");
}

#[test]
fn a_lock_holds_for_all_but_moderators() {
    let locked = |mode| tale().by("m1", 1, 2, lock(mode), stored(1));
    locked(Mode::Write).by("a", 3, 4, Op::Say, stored(2)).rejected("the room was locked and a is no moderator");
    locked(Mode::All).by("a", 3, 4, set("k", "x", None), stored(2)).rejected("the room was locked");
    locked(Mode::All).by("a", 3, 4, Op::Say, Outcome::Passed).rejected("let through");
    locked(Mode::Write).by("m2", 3, 4, Op::Say, stored(2)).accepted();
    locked(Mode::Join).by("a", 3, 4, Op::Say, stored(2)).accepted();
    locked(Mode::Join).by("a", 3, 4, Op::Say, refused(LOCKED, 0)).rejected("refused with 5003");
    tale().by("a", 3, 4, lock(Mode::All), stored(1)).rejected("a has no right to it");
    tale().by("m1", 3, 4, lock(Mode::All), refused(DENIED, 0)).rejected("refused with 2004");
    locked(Mode::All).by("m2", 3, 4, Op::Unlock { force: false }, stored(2)).rejected("it is the lock of m1");
    locked(Mode::All).by("b", 3, 4, Op::Other, shown(1, &[], None)).rejected("no lock was shown");
}

#[test]
fn what_is_not_there_is_not_deleted() {
    tale().by("a", 1, 2, delete("k"), stored(1)).rejected("there was no key k");
    let tale = tale().by("a", 1, 2, set("k", "x", None), stored(1));
    tale.clone().by("a", 3, 4, delete("k"), refused(NOT_FOUND, 0)).rejected("refused with 5009");
    tale.clone().by("b", 1, 4, delete("k"), refused(NOT_FOUND, 0)).accepted();
    let gone = tale.by("a", 3, 4, delete("k"), stored(2));
    gone.by("b", 5, 6, Op::Other, shown(2, &[("k", 1, "x")], None)).rejected("there was no key k");
}

#[test]
fn a_refusal_needs_a_state_in_its_time() {
    let tale = tale().by("a", 1, 2, set("k", "x", None), stored(1)).by("a", 3, 4, set("k", "y", None), stored(2)).by(
        "a",
        7,
        8,
        set("k", "z", None),
        stored(3),
    );
    tale.clone().by("b", 5, 6, set("k", "w", Some(9)), refused(CONFLICT, 2)).accepted();
    tale.clone().by("b", 5, 6, set("k", "w", Some(9)), refused(CONFLICT, 1)).rejected("5005 (ver 1)");
    tale.clone().by("b", 5, 6, set("k", "w", Some(9)), refused(CONFLICT, 3)).rejected("5005 (ver 3)");
    tale.clone().by("b", 2, 6, set("k", "w", Some(9)), refused(CONFLICT, 1)).accepted();
    tale.by("b", 5, 6, set("k", "w", Some(2)), refused(CONFLICT, 2)).rejected("5005 (ver 2)");
}

#[test]
fn a_refusal_binds_those_that_come_after_it() {
    // The first refusal is right from version 2 on only, so the second cannot be at version 1.
    let tale = tale().by("a", 1, 2, set("k", "x", None), stored(1)).by("a", 3, 30, set("k", "y", None), stored(2));
    let conflict = |ver| refused(CONFLICT, ver);
    let twice = |first, second| {
        tale.clone().by("b", 4, 5, set("k", "w", Some(9)), conflict(first)).by(
            "b",
            6,
            7,
            set("k", "w", Some(9)),
            conflict(second),
        )
    };
    twice(1, 2).accepted();
    twice(2, 1).rejected("5005 (ver 1)");
}

#[test]
fn what_ended_is_before_what_began_later() {
    tale().by("a", 1, 2, Op::Say, stored(2)).by("b", 3, 4, Op::Say, stored(1)).rejected("began after operation 1");
    tale().by("a", 1, 4, Op::Say, stored(2)).by("b", 3, 5, Op::Say, stored(1)).accepted();
}

#[test]
fn only_what_has_a_ttl_ends() {
    let ended = Op::KeyEnded { key: "k".into() };
    tale().by("a", 1, 2, set("k", "x", None), stored(1)).itself(3, ended.clone(), 2).rejected("was to stay for ever");
    let with_ttl = Op::Set { key: "k".into(), h: "x".into(), ttl: true, expect: None };
    let good = tale().by("a", 1, 2, with_ttl, stored(1)).itself(3, ended.clone(), 2);
    good.clone().by("b", 4, 5, Op::Other, shown(2, &[], None)).accepted();
    good.itself(6, ended, 3).rejected("there was no key k");
}

/// Judged as the oracle does it: by search, for something is open and there is no log.
fn searched(tale: &Tale) -> Findings {
    let mut found = Findings::default();
    judge("t/r", tale.history(), &mut found);
    found
}

#[test]
fn what_was_never_answered_may_fill_a_place_or_not() {
    let open = tale().by("a", 1, 0, set("k", "x", None), Outcome::Open);
    let taken =
        open.clone().by("b", 2, 3, Op::Say, stored(2)).by("b", 4, 5, Op::Other, shown(2, &[("k", 1, "x")], None));
    assert_eq!(searched(&taken).violations, []);
    let late =
        open.clone().by("b", 2, 3, Op::Say, stored(1)).by("b", 4, 5, Op::Other, shown(2, &[("k", 2, "x")], None));
    assert_eq!(searched(&late).violations, []);
    let never = open.clone().by("b", 2, 3, Op::Say, stored(1)).by("b", 4, 5, Op::Other, shown(1, &[], None));
    assert_eq!(searched(&never).violations, []);
    // Nothing can be at place 1 but the open command, and the get does not show it.
    let lost = open.clone().by("b", 2, 3, Op::Say, stored(2)).by("b", 4, 5, Op::Other, shown(2, &[], None));
    assert_eq!(searched(&lost).violations.len(), 1);
    // It had not been sent when place 2 was told.
    let early = tale().by("b", 2, 3, Op::Say, stored(2)).by("a", 4, 0, set("k", "x", None), Outcome::Open);
    assert_eq!(searched(&early).violations.len(), 1);
}

#[test]
fn more_than_the_budget_is_unknown_and_not_a_verdict() {
    // Twelve commands of unknown fate for eleven places: every order of every choice is another state.
    let mut tale = tale();
    for n in 0..14 {
        tale = tale.by("a", 1, 0, set(&format!("k{n}"), "x", None), Outcome::Open);
    }
    let tale = tale.by("b", 2, 3, Op::Say, stored(13)).by("b", 4, 5, Op::Other, shown(13, &[("k0", 99, "x")], None));
    let found = searched(&tale);
    assert_eq!((found.violations.len(), found.unknown), (0, 16));
}

#[test]
fn a_new_epoch_begins_anew() {
    let old = tale().by("a", 1, 2, set("k", "x", None), stored(1));
    let begun = |at: Place, shown: Reading| {
        let mut tale = old.clone().by("b", 3, 4, Op::Other, Outcome::Read { at, shown: Some(shown) });
        tale = tale.by("b", 5, 6, set("k", "y", Some(0)), Outcome::Stored((at.0, at.1 + 1)));
        let mut found = Findings::default();
        order::check("t/r", &tale.history(), &mut found);
        found.violations.len()
    };
    assert_eq!(begun((E + 1, 0), Reading::default()), 0, "what was lost is not there any more");
    let kept = Reading { keys: [("k".to_owned(), (1, "x".to_owned()))].into(), lock: None };
    assert_eq!(begun((E + 1, 0), kept), 1, "what was shown is known from there on");
    assert_eq!(begun((E, 1), Reading::default()), 2);
}

#[test]
fn the_state_knows_what_it_does_not_know() {
    let mut state = State::unknown((E, 4));
    let call = |op| Call { op, if_head: None, user: "a".into(), rights: Some(member()) };
    assert_eq!(spec::must_refuse(&state, &call(delete("k"))), None);
    assert!(spec::may_refuse(&state, &call(delete("k")), NOT_FOUND, 0));
    state.apply(&call(set("k", "x", None)));
    assert!(!spec::may_refuse(&state, &call(delete("k")), NOT_FOUND, 0));
    assert!(spec::must_refuse(&state, &call(set("k", "y", Some(4)))).is_some());
    assert!(spec::must_refuse(&state, &call(set("other", "y", Some(4)))).is_none());
}
