//! The search on plans that are judged by a rule instead of a run.

use super::*;
use crate::scenario::{Scenario, Verb};

struct Rule<F> {
    fails: F,
    asked: usize,
    most: usize,
}

impl<F: Fn(&Plan) -> bool> Jury for Rule<F> {
    async fn first(
        &mut self,
        candidates: &mut (dyn Iterator<Item = Plan> + Send),
    ) -> Result<Option<(usize, Plan)>, String> {
        for (number, plan) in candidates.enumerate() {
            if self.spent() {
                return Ok(None);
            }
            self.asked += 1;
            if (self.fails)(&plan) {
                return Ok(Some((number, plan)));
            }
        }
        Ok(None)
    }

    fn spent(&self) -> bool {
        self.asked >= self.most
    }

    fn smaller(&mut self, _pass: &str, _size: &Size) {}
}

fn plan() -> Plan {
    let text = r#"
        about = "Much of everything."
        [world]
        shields = 3
        brains = 3
        tenants = 1
        rooms = 4
        clients = 12
        run = "40s"
        settle = "20s"
        [faults.crash]
        target = ["brain", "shield"]
        every = "1s..3s"
        lasts = "500ms"
        [faults.hold]
        between = "brain | broker"
        every = "1s..2s"
        lasts = "300ms"
    "#;
    Scenario::parse(text).unwrap().plan("much", 11).unwrap()
}

fn found<F: Fn(&Plan) -> bool>(known: Known, most: usize, fails: F) -> (Plan, usize) {
    let whole = plan();
    assert!(fails(&whole), "the whole plan fails");
    let mut jury = Rule { fails, asked: 0, most };
    let work = shrink(whole, known, &mut jury);
    let small = futures_util::FutureExt::now_or_never(work).unwrap().unwrap();
    assert!((jury.fails)(&small) && small.check().is_ok(), "{small:?}");
    (small, jury.asked)
}

/// Fails if a Brain is crashed and somebody repeats a command and somebody else resumes.
fn needs_three(plan: &Plan) -> bool {
    let says = |verb: Verb| plan.op.iter().filter(|op| op.r#do == verb).map(|op| op.client).collect::<Vec<_>>();
    let crashed = plan.fault.iter().any(|fault| fault.target.starts_with("brain-") && !fault.target.contains('|'));
    crashed && says(Verb::Repeat).iter().any(|one| says(Verb::Resume).iter().any(|other| one != other))
}

#[test]
fn only_what_matters_is_left() {
    let (small, asked) = found(Known::default(), 10_000, needs_three);
    let size = Size::of(&small);
    assert_eq!((size.faults, size.operations, size.clients, size.rooms), (1, 2, 2, 1), "{size}");
    assert_eq!((size.shields, small.world.settle.0), (1, Span::ms(500)), "{size}");
    assert!(asked < 600, "{asked} runs");
}

#[test]
fn a_promise_about_the_end_keeps_its_time() {
    let known = Known { in_the_end: true, ..Known::default() };
    let (small, _) = found(known, 10_000, |plan| !plan.op.is_empty());
    assert_eq!((small.op.len(), small.world.settle.0), (1, Span::ms(20_000)));
}

#[test]
fn it_stops_when_time_is_over_with_what_it_has() {
    let (small, asked) = found(Known::default(), 25, needs_three);
    assert_eq!(asked, 25);
    assert!(Size::of(&small).operations < Size::of(&plan()).operations, "{}", Size::of(&small));
}

#[test]
fn what_came_after_the_violation_goes_first() {
    let known = Known { at: Some(Span::ms(5_000)), ..Known::default() };
    let (small, asked) = found(known, 1, |_| true);
    assert_eq!((asked, small.world.run.0), (1, Span::ms(5_050)));
}

#[test]
fn targets_follow_the_clients_and_hosts_that_stay() {
    let mut plan = plan();
    plan.fault.truncate(2);
    plan.fault[0].target = "client-3".into();
    plan.fault[1].target = "brain-1, brain-3 | broker".into();
    let fewer = cut::without_clients(&plan, 0..2);
    assert_eq!((fewer.fault[0].target.as_str(), fewer.world.clients), ("client-1", 10));
    assert_eq!(cut::without_clients(&plan, 2..3).fault.len(), 1, "whom it struck is gone");
    assert_eq!(cut::fewer_hosts(&plan)[0].fault[1].target, "brain-1 | broker");
}
