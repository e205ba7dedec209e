//! The operations on a room against the order of its log. Every effect has a place, so what is left to find is a moment
//! for each answer that changed nothing: an exact check, in time that grows with the history.
//!
//! 1. Each stored operation must be legal where it stands, given all before it.
//! 2. What was invoked after something else had ended stands above it.
//! 3. Each refusal, pass and `get` has a state in its interval at which it is right. The lowest such state is taken, in
//!    the order of the answers: it binds those that come later the least.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Operation, Outcome};
use super::spec::{self, Place, State};
use crate::oracles::{Findings, place};

/// Checks a room's history.
pub(super) fn check(room: &str, history: &History, found: &mut Findings) {
    let Some(effects) = effects(room, history, found) else { return };
    let moments = walk(room, history, &effects, found);
    in_time(room, history, &moments, found);
}

/// Stored operations by place.
fn effects<'h>(room: &str, history: &'h History, found: &mut Findings) -> Option<BTreeMap<Place, &'h Operation>> {
    let mut effects: BTreeMap<Place, &Operation> = BTreeMap::new();
    let mut single = true;
    for operation in &history.operations {
        if let Outcome::Stored(at) = operation.outcome {
            let other = effects.insert(at, operation);
            found.check("A8", operation.n, other.is_none(), || {
                let other = other.map_or("", |other| other.name.as_str());
                format!("{} and {other} both have the place {} of {room}", operation.name, place(at))
            });
            single &= other.is_none();
        }
    }
    single.then_some(effects)
}

/// Steps through all places and notes, for each operation that changed nothing, the states at which it is right.
fn walk(
    room: &str,
    history: &History,
    effects: &BTreeMap<Place, &Operation>,
    found: &mut Findings,
) -> Vec<BTreeSet<Place>> {
    let operations = &history.operations;
    let mut reads: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        if let Outcome::Read { at, .. } = operation.outcome {
            reads.entry(at).or_default().push(index);
        }
    }
    let points = points(history, effects, &reads);
    let first = points.iter().map(|point| point.0).find(|epoch| *epoch > 0);
    let mut moments = vec![BTreeSet::new(); operations.len()];
    let mut waiting = Windows::new(operations);
    let mut state = if history.fresh { State::empty((0, 0)) } else { State::unknown((0, 0)) };
    for point in points {
        if point.0 != state.head.0 {
            let base = (point.0, 0);
            let empty = history.fresh && first == Some(point.0);
            state = if empty { State::empty(base) } else { State::unknown(base) };
        }
        if let Some(operation) = effects.get(&point) {
            if state.head.1 + 1 != point.1 {
                state = State::unknown((point.0, point.1 - 1));
            }
            let wrong = spec::must_refuse(&state, &operation.call);
            found.check("A8", operation.n, wrong.is_none(), || {
                let why = wrong.unwrap_or_default();
                format!("{} is at {} of {room}, where it must fail: {why}", operation.name, place(point))
            });
            state.apply(&operation.call);
        } else if point.1 > state.head.1 {
            state = State::unknown(point);
        }
        for index in reads.get(&point).into_iter().flatten() {
            moments[*index].insert(point);
            if let Outcome::Read { shown: Some(shown), .. } = &operations[*index].outcome {
                let wrong = spec::differs(&state, shown);
                let name = &operations[*index].name;
                found.check("A8", operations[*index].n, wrong.is_none(), || {
                    let why = wrong.unwrap_or_default();
                    format!("{name} of {room} at {} showed what was not: {why}", place(point))
                });
                state.learn(shown);
            }
        }
        for index in waiting.at(point) {
            let call = &operations[*index].call;
            let right = match operations[*index].outcome {
                Outcome::Refused { code, ver } => spec::may_refuse(&state, call, code, ver),
                _ => spec::must_refuse(&state, call).is_none(),
            };
            if right {
                moments[*index].insert(point);
            }
        }
    }
    moments
}

/// Every place with a state of its own: effects, reads, the beginning of each epoch, and where something may be missing.
fn points(
    history: &History,
    effects: &BTreeMap<Place, &Operation>,
    reads: &BTreeMap<Place, Vec<usize>>,
) -> BTreeSet<Place> {
    let mut points: BTreeSet<Place> = effects.keys().chain(reads.keys()).copied().collect();
    let known: Vec<Place> = points.iter().copied().collect();
    points.insert((0, 0));
    for (index, (epoch, seq)) in known.iter().enumerate() {
        points.insert((*epoch, 0));
        let next = known.get(index + 1);
        match next {
            Some((same, next)) if same == epoch && *next > seq + 1 => points.insert((*epoch, seq + 1)),
            Some((same, _)) if same == epoch => false,
            // What an epoch stored last may be lost, which the next one announces.
            Some(_) => points.insert((*epoch, u64::MAX - 1)),
            None if history.lossy => points.insert((*epoch, u64::MAX - 1)),
            None => false,
        };
    }
    points.extend(history.epochs.iter().map(|epoch| (*epoch, 0)));
    points
}

/// Which operations could have their moment at a place, as the walk comes by.
struct Windows {
    /// By lowest place, descending: (lowest, highest, index).
    later: Vec<(Place, Place, usize)>,
    open: Vec<(Place, usize)>,
    now: Vec<usize>,
}

impl Windows {
    fn new(operations: &[Operation]) -> Self {
        let bounds = Bounds::of(operations);
        let changeless = |operation: &Operation| matches!(operation.outcome, Outcome::Refused { .. } | Outcome::Passed);
        let mut later: Vec<_> = operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| changeless(operation))
            .map(|(index, operation)| (bounds.low(operation.invoked), bounds.high(operation.n), index))
            .collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        Self { later, open: Vec::new(), now: Vec::new() }
    }

    fn at(&mut self, point: Place) -> &[usize] {
        while let Some((_, high, index)) = self.later.pop_if(|(low, ..)| *low <= point) {
            self.open.push((high, index));
        }
        self.open.retain(|(high, _)| *high >= point);
        self.now = self.open.iter().map(|(_, index)| *index).collect();
        &self.now
    }
}

/// What places alone say: the highest that had been told before a record, the lowest of what was asked after it.
struct Bounds {
    /// (n of the answer, highest place so far), ascending.
    told: Vec<(u64, Place)>,
    /// (n of the asking, highest state that one asked from there on still allows), ascending.
    allowed: Vec<(u64, Place)>,
}

impl Bounds {
    fn of(operations: &[Operation]) -> Self {
        let mut told = Vec::new();
        let mut allowed = Vec::new();
        for operation in operations {
            let (at, below) = match operation.outcome {
                Outcome::Stored(at) => (at, before(at)),
                Outcome::Read { at, .. } => (at, at),
                _ => continue,
            };
            told.extend(operation.responded.map(|n| (n, at)));
            allowed.push((operation.invoked, below));
        }
        told.sort_unstable();
        allowed.sort_unstable();
        let mut highest = (0, 0);
        for (_, at) in &mut told {
            highest = highest.max(*at);
            *at = highest;
        }
        let mut lowest = (u64::MAX, u64::MAX);
        for (_, at) in allowed.iter_mut().rev() {
            lowest = lowest.min(*at);
            *at = lowest;
        }
        Self { told, allowed }
    }

    fn low(&self, invoked: u64) -> Place {
        let index = self.told.partition_point(|(n, _)| *n < invoked);
        index.checked_sub(1).map_or((0, 0), |index| self.told[index].1)
    }

    fn high(&self, responded: u64) -> Place {
        let index = self.allowed.partition_point(|(n, _)| *n <= responded);
        self.allowed.get(index).map_or((u64::MAX, u64::MAX), |(_, at)| *at)
    }
}

/// The highest state that an effect at this place leaves to those before it.
const fn before((epoch, seq): Place) -> Place {
    (epoch, seq.saturating_sub(1))
}

/// Goes through all askings and answers in their order and gives each answer that changed nothing its moment.
fn in_time(room: &str, history: &History, moments: &[BTreeSet<Place>], found: &mut Findings) {
    let operations = &history.operations;
    let bounds = Bounds::of(operations);
    let mut turns: Vec<(u64, bool, usize)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.invoked > 0 {
            turns.push((operation.invoked, true, index));
        }
        turns.extend(operation.responded.map(|n| (n, false, index)));
    }
    turns.sort_unstable();
    let mut floor: (Place, Option<usize>) = ((0, 0), None);
    let mut floors = vec![floor; operations.len()];
    for (n, begins, index) in turns {
        let operation = &operations[index];
        if begins {
            floors[index] = floor;
            continue;
        }
        let (low, cause) = floors[index];
        let earlier = || cause.map_or_else(String::new, |cause| operations[cause].name.clone());
        let at = match operation.outcome {
            Outcome::Stored(at) => {
                found.check("A8", n, at > low, || {
                    let name = &operation.name;
                    format!(
                        "{name} began after {} had ended at {}, and is at {} of {room}",
                        earlier(),
                        place(low),
                        place(at)
                    )
                });
                Some(at)
            }
            Outcome::Read { at, .. } => {
                found.check("A8", n, at >= low, || {
                    let name = &operation.name;
                    format!(
                        "{name} of {room} began after {} had ended at {}, and shows {}",
                        earlier(),
                        place(low),
                        place(at)
                    )
                });
                Some(at)
            }
            Outcome::Refused { .. } | Outcome::Passed => {
                let high = bounds.high(n);
                let moment = if low <= high { moments[index].range(low..=high).next().copied() } else { None };
                found.check("A8", n, moment.is_some(), || {
                    let told = match operation.outcome {
                        Outcome::Refused { code, ver } => format!("refused with {code} (ver {ver})"),
                        _ => "let through".to_owned(),
                    };
                    let (from, to) = (place(low), place(high));
                    format!("{} was {told}, which is right at no state of {room} from {from} to {to}", operation.name)
                });
                moment
            }
            Outcome::Open => None,
        };
        if let Some(at) = at.filter(|at| *at > floor.0) {
            floor = (at, Some(index));
        }
    }
    // Who was never told where its command went could not have been told a place below what had been.
    for (operation, (low, cause)) in operations.iter().zip(&floors) {
        if let (Outcome::Stored(at), None) = (&operation.outcome, operation.responded)
            && operation.invoked > 0
        {
            found.check("A8", operation.n, at > low, || {
                let earlier = cause.map_or("", |cause| operations[cause].name.as_str());
                let name = &operation.name;
                format!("{name} began after {earlier} had ended at {}, and is at {} of {room}", place(*low), place(*at))
            });
        }
    }
}
