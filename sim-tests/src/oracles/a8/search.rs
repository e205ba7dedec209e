//! The search for an order, where no log tells it: Wing and Gong's, with Lowe's memory of the (done, state) pairs that
//! led nowhere. Places do for this specification what a partition by key does for others: an answer names its place, so
//! two orders differ only in which unanswered command, or which end of a ttl, filled a place that nobody named.
//!
//! Bounded by [`STATES_MAX`]; beyond it the history counts as unknown.

use std::collections::BTreeSet;

use super::history::{History, Operation, Outcome};
use super::spec::{self, Call, Op, Place, State};

/// How many (done, state) pairs are looked at.
pub(super) const STATES_MAX: usize = 20_000;
/// The longest history that is searched.
pub(super) const OPERATIONS_MAX: usize = 4096;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An order.
    Order,
    /// There is none. The index of the first answer that no order reached.
    None(usize),
    /// Too much to look at.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    /// One bit an operation.
    done: Vec<u64>,
    state: State,
}

impl Node {
    fn has(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn put(&mut self, index: usize) {
        self.done[index / 64] |= 1 << (index % 64);
    }
}

/// Searches an order of a history within one epoch.
pub(super) fn search(history: &History) -> Found {
    let mut operations: Vec<(usize, &Operation)> = history.operations.iter().enumerate().collect();
    operations.sort_by_key(|(_, operation)| (operation.invoked, operation.n));
    if operations.len() > OPERATIONS_MAX {
        return Found::Unknown;
    }
    let named: BTreeSet<Place> = operations.iter().filter_map(|(_, operation)| named(operation)).collect();
    let begin = begin(history, &operations);
    let mut stack = vec![Node { done: vec![0; operations.len().div_ceil(64)], state: begin }];
    let mut seen = BTreeSet::new();
    let mut best = (0, 0);
    while let Some(mut node) = stack.pop() {
        settle(&mut node, &operations);
        let open = open(&node, &operations);
        let due = |index: &&usize| operations[**index].1.outcome != Outcome::Open;
        let Some(stuck) = open.iter().filter(due).min_by_key(|index| end(operations[**index].1)) else {
            return Found::Order;
        };
        let limit = end(operations[*stuck].1);
        let ended = operations.len() - open.len();
        if ended >= best.0 {
            best = (ended, operations[*stuck].0);
        }
        let next = (node.state.head.0, node.state.head.1 + 1);
        let free = !named.contains(&next);
        for index in open.into_iter().rev() {
            let operation = operations[index].1;
            let fits = match operation.outcome {
                Outcome::Stored(at) => at == next,
                Outcome::Open => free,
                _ => false,
            };
            if fits && operation.invoked < limit && spec::must_refuse(&node.state, &operation.call).is_none() {
                let mut after = node.clone();
                after.put(index);
                after.state.apply(&operation.call);
                remember(&mut seen, &mut stack, after);
            }
        }
        if free {
            for op in node.state.may_end() {
                let mut after = node.clone();
                after.state.apply(&own(op));
                remember(&mut seen, &mut stack, after);
            }
        }
        if seen.len() > STATES_MAX {
            return Found::Unknown;
        }
    }
    Found::None(best.1)
}

fn remember(seen: &mut BTreeSet<Node>, stack: &mut Vec<Node>, node: Node) {
    if seen.insert(node.clone()) {
        stack.push(node);
    }
}

/// Nothing that began after this can come before it.
fn end(operation: &Operation) -> u64 {
    operation.responded.unwrap_or(u64::MAX)
}

/// What the room does by itself.
fn own(op: Op) -> Call {
    Call { op, if_head: None, user: String::new(), rights: None }
}

const fn named(operation: &Operation) -> Option<Place> {
    match operation.outcome {
        Outcome::Stored(at) => Some(at),
        _ => None,
    }
}

/// The state before everything: of a room that was made while the trace ran, or of one that is unknown and stands just
/// below the lowest place that is told.
fn begin(history: &History, operations: &[(usize, &Operation)]) -> State {
    let told = operations.iter().filter_map(|(_, operation)| match operation.outcome {
        Outcome::Stored((epoch, seq)) => Some((epoch, seq.saturating_sub(1))),
        Outcome::Read { at, .. } => Some(at),
        _ => None,
    });
    let lowest = told.min().unwrap_or((0, 0));
    if history.fresh { State::empty((lowest.0, 0)) } else { State::unknown(lowest) }
}

/// Puts every answer that changed nothing, can come now and is right now, in its place: to take it later gains nothing.
fn settle(node: &mut Node, operations: &[(usize, &Operation)]) {
    loop {
        let open = open(node, operations);
        let limit = open.iter().map(|index| end(operations[*index].1)).min().unwrap_or(u64::MAX);
        let ready = open.into_iter().find(|index| {
            let operation = operations[*index].1;
            let right = match &operation.outcome {
                Outcome::Refused { code, ver } => spec::may_refuse(&node.state, &operation.call, *code, *ver),
                Outcome::Passed => spec::must_refuse(&node.state, &operation.call).is_none(),
                Outcome::Read { at, shown } => {
                    *at == node.state.head
                        && shown.as_ref().is_none_or(|shown| spec::differs(&node.state, shown).is_none())
                }
                Outcome::Stored(_) | Outcome::Open => false,
            };
            right && operation.invoked < limit
        });
        let Some(index) = ready else { return };
        if let Outcome::Read { shown: Some(shown), .. } = &operations[index].1.outcome {
            node.state.learn(shown);
        }
        node.put(index);
    }
}

/// Operations that are not done.
fn open(node: &Node, operations: &[(usize, &Operation)]) -> Vec<usize> {
    (0..operations.len()).filter(|index| !node.has(*index)).collect()
}
