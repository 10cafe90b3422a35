//! The search for an order of one register's operations that explains what they saw (Wing and
//! Gong, "Testing and verifying concurrent objects", 1993, with the memory of Lowe, "Testing for
//! linearizability", 2017).
//!
//! An operation is chosen among those that begin before the first answer that is still to come;
//! if an answer is reached whose operation was not chosen, the last choice was wrong. What was
//! chosen already, and the content it led to, is remembered, so that no such state is entered
//! twice. A state is remembered as 128 bits that every operation in it has a share in: that
//! two states share them is less likely than that the machine errs.

use std::collections::BTreeSet;

use super::register::{Action, Content};
use crate::content::mix;

/// An operation of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The line that begins it.
    pub begins: u64,
    /// The line that ends it; `u64::MAX` if it may take effect at any later time, or never.
    pub ends: u64,
    /// What it does.
    pub action: Action,
}

impl Operation {
    /// Whether it certainly took effect.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        self.ends != u64::MAX
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is such an order.
    Order,
    /// There is none, and none for the lines up to this one either.
    None {
        /// The answer that no order explains.
        line: u64,
    },
    /// It would have taken longer than was allowed.
    Unknown,
}

/// A search that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    /// What was found.
    pub found: Found,
    /// How many states were entered.
    pub states: usize,
}

/// Searches for an order of `operations`, which enters at most `states_max` states.
#[must_use]
pub fn search(operations: &[Operation], states_max: usize) -> Searched {
    let operations = relevant(operations);
    let mut search = Search::new(&operations);
    let found = loop {
        if search.open == 0 {
            break Found::Order;
        }
        if search.entered.len() >= states_max {
            break Found::Unknown;
        }
        if !search.advance() {
            break Found::None { line: search.reached };
        }
    };
    Searched { found, states: search.entered.len() }
}

/// Without what is certain to make no difference: uncertain writes of what was never seen. One
/// may still have been what a condition was not met by, so where there is such a one all stay.
fn relevant(operations: &[Operation]) -> Vec<Operation> {
    let unlike = |one: &Operation| matches!(one.action, Action::Unlike(_));
    if operations.iter().any(unlike) {
        return operations.to_vec();
    }
    let mut kept = operations.to_vec();
    loop {
        let seen: BTreeSet<Content> = kept.iter().filter_map(|one| one.action.seen()).collect();
        let before = kept.len();
        kept.retain(|one| {
            one.is_certain() || one.action.written().is_none_or(|written| seen.contains(&written))
        });
        if kept.len() == before {
            return kept;
        }
    }
}

/// A place in the list of lines.
#[derive(Clone, Copy)]
struct Line {
    number: u64,
    operation: usize,
    is_answer: bool,
    next: usize,
    previous: usize,
}

struct Choice {
    operation: usize,
    before: Content,
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Place 0 is before the first line; the list ends where it returns to it.
    lines: Vec<Line>,
    /// Where each operation begins and ends in `lines`; an uncertain one has no end, 0.
    places: Vec<(usize, usize)>,
    /// Certain operations that were not chosen.
    open: usize,
    /// Where to look on.
    cursor: usize,
    content: Content,
    share: u128,
    chosen: Vec<Choice>,
    entered: BTreeSet<u128>,
    /// The furthest answer that the search came to.
    reached: u64,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let mut told: Vec<(u64, usize, bool)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            told.push((operation.begins, number, false));
            if operation.is_certain() {
                told.push((operation.ends, number, true));
            }
        }
        told.sort_unstable();
        let mut lines =
            vec![Line { number: 0, operation: 0, is_answer: false, next: 0, previous: told.len() }];
        let mut places = vec![(0, 0); operations.len()];
        let count = told.len();
        for (place, (number, operation, is_answer)) in told.into_iter().enumerate() {
            let (here, next) = (place + 1, if place + 1 == count { 0 } else { place + 2 });
            lines.push(Line { number, operation, is_answer, next, previous: place });
            lines[place].next = here;
            let places = &mut places[operation];
            *(if is_answer { &mut places.1 } else { &mut places.0 }) = here;
        }
        let first = lines[0].next;
        let open = operations.iter().filter(|operation| operation.is_certain()).count();
        Self {
            operations,
            lines,
            places,
            open,
            cursor: first,
            content: None,
            share: 0,
            chosen: Vec::new(),
            entered: BTreeSet::new(),
            reached: 0,
        }
    }

    /// Chooses an operation, or takes the last choice back; false if there is none to take back.
    fn advance(&mut self) -> bool {
        let line = self.lines[self.cursor];
        if self.cursor == 0 || line.is_answer {
            self.reached = self.reached.max(line.number);
            return self.take_back();
        }
        let operation = line.operation;
        let after = self.operations[operation].action.apply(self.content);
        match after {
            Some(after) if self.entered.insert(self.state_with(operation, after)) => {
                self.choose(operation, after);
            }
            _ => self.cursor = line.next,
        }
        true
    }

    fn state_with(&self, operation: usize, content: Content) -> u128 {
        let content = content.map_or(0, |number| number.wrapping_add(1));
        self.share ^ share_of(operation) ^ spread(content ^ 0xa5a5_a5a5_a5a5_a5a5)
    }

    fn choose(&mut self, operation: usize, after: Content) {
        self.chosen.push(Choice { operation, before: self.content });
        self.content = after;
        self.share ^= share_of(operation);
        self.open -= usize::from(self.operations[operation].is_certain());
        let (begin, end) = self.places[operation];
        self.lift(begin);
        if end != 0 {
            self.lift(end);
        }
        self.cursor = self.lines[0].next;
    }

    fn take_back(&mut self) -> bool {
        let Some(Choice { operation, before }) = self.chosen.pop() else {
            return false;
        };
        self.content = before;
        self.share ^= share_of(operation);
        self.open += usize::from(self.operations[operation].is_certain());
        let (begin, end) = self.places[operation];
        if end != 0 {
            self.restore(end);
        }
        self.restore(begin);
        self.cursor = self.lines[begin].next;
        true
    }

    fn lift(&mut self, place: usize) {
        let Line { next, previous, .. } = self.lines[place];
        self.lines[previous].next = next;
        self.lines[next].previous = previous;
    }

    fn restore(&mut self, place: usize) {
        let Line { next, previous, .. } = self.lines[place];
        self.lines[previous].next = place;
        self.lines[next].previous = place;
    }
}

fn share_of(operation: usize) -> u128 {
    spread(operation as u64)
}

fn spread(number: u64) -> u128 {
    let high = mix(number ^ 0x6a09_e667_f3bc_c908);
    (u128::from(high) << 64) | u128::from(mix(high ^ number.rotate_left(32)))
}
