//! Heads, and epochs that hold nothing yet.

use std::collections::BTreeSet;

use super::*;

#[test]
fn if_head_holds() {
    let mut tale = tale().by("a", 1, 2, Op::Say, stored(1)).by("a", 3, 4, Op::Say, stored(2));
    tale.0[1].call.if_head = Some((E, 1));
    tale.accepted();
    tale.0[1].call.if_head = Some((E, 0));
    tale.rejected("and not if_head");
    tale.0[1].outcome = refused(CONFLICT, 0);
    tale.accepted();
}

/// An owner that could not prove the log begins an epoch, and nothing is stored in it yet.
#[test]
fn an_epoch_without_events_is_a_head_of_its_own() {
    let mut tale = tale().by("a", 1, 2, Op::Say, stored(1)).by("a", 3, 4, Op::Say, refused(CONFLICT, 0));
    tale.0[1].call.if_head = Some((E, 1));
    tale.rejected("right at no state");
    let mut found = Findings::default();
    order::check("t/r", &History { epochs: BTreeSet::from([E, E + 1]), ..tale.history() }, &mut found);
    assert_eq!(found.violations, []);
}
