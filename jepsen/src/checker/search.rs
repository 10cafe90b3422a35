//! The search for an order of one register's operations that explains what they saw (Wing and
//! Gong, "Testing and verifying concurrent objects", 1993, with the memory of Lowe, "Testing for
//! linearizability", 2017).
//!
//! An operation is chosen among those that begin before the first answer that is still to come;
//! if an answer is reached whose operation was not chosen, the last choice was wrong. What was
//! chosen already, and the content it led to, is remembered, so that no such state is entered
//! twice. A state is remembered as 128 bits that every operation in it has a share in: that
//! two states share them is less likely than that the machine errs.
//!
//! Five things are without loss, and keep the search short:
//! 1. What only sees is chosen as soon as it can be, and never taken back for something else.
//! 2. So is a write of what nobody sees, where nobody who is left sees what it replaces.
//! 3. A content is not replaced while somebody must still see it and nobody can put it again.
//! 4. An uncertain change is chosen only right before what sees it, or sees something else than
//!    what was there.
//! 5. Of uncertain changes that do the same, the one that began first is chosen first. All contents
//!    that nobody asks for are the same.

use std::collections::{BTreeMap, BTreeSet};

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

    /// What was known of it at `line`; nothing if that says nothing.
    #[must_use]
    pub fn known_at(&self, line: u64) -> Option<Self> {
        if self.ends <= line {
            return Some(*self);
        }
        let may_be = self.begins < line && self.action.written().is_some();
        may_be.then_some(Self { ends: u64::MAX, ..*self })
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
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
    let operations = alike(relevant(operations));
    let mut search = Search::new(&operations);
    let found = loop {
        if search.open == 0 {
            break Found::Order;
        }
        if search.entered.len() >= states_max {
            break Found::Unknown;
        }
        if !search.advance() {
            break Found::None;
        }
    };
    Searched { found, states: search.entered.len() }
}

/// The first answer up to which there is no order of `operations`, which have none.
#[must_use]
pub fn first_without(operations: &[Operation], states_max: usize) -> u64 {
    let mut answers: Vec<u64> =
        operations.iter().filter(|one| one.is_certain()).map(|one| one.ends).collect();
    answers.sort_unstable();
    let has_order = |line: u64| {
        let known: Vec<Operation> =
            operations.iter().filter_map(|one| one.known_at(line)).collect();
        search(&known, states_max).found != Found::None
    };
    let first = answers.partition_point(|line| has_order(*line));
    answers.get(first).or(answers.last()).copied().unwrap_or(0)
}

/// Without what is certain to make no difference: uncertain writes of what was never seen. One
/// may still have been what a condition was not met by, so where there is such a one all stay.
fn relevant(operations: &[Operation]) -> Vec<Operation> {
    let mut kept = operations.to_vec();
    if kept.iter().any(|one| matches!(one.action, Action::Unlike(_))) {
        return kept;
    }
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

/// A content that no operation asks for.
const NOBODYS: Content = Some(u64::MAX);

/// The same operations, with one content in place of all that nobody asks for.
fn alike(mut operations: Vec<Operation>) -> Vec<Operation> {
    let asked: BTreeSet<Content> =
        operations.iter().filter_map(|one| one.action.asks_for()).collect();
    for operation in &mut operations {
        match &mut operation.action {
            Action::Write(new) | Action::Swap(_, new) if !asked.contains(new) => *new = NOBODYS,
            _ => {}
        }
    }
    operations
}

/// A place in the list of lines.
#[derive(Clone, Copy)]
struct Line {
    operation: usize,
    is_answer: bool,
    next: usize,
    previous: usize,
}

/// Whether something else may be chosen instead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Free,
    /// Any order that there is can be changed into one with this choice.
    Forced,
}

struct Choice {
    operation: usize,
    manner: Manner,
    before: Content,
    demand_before: Demand,
}

/// What the last choice asks of the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Nothing,
    /// To see what was put: it is there for that alone.
    Sight,
}

/// Operations that were not chosen, as to one content.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Must see it.
    see: usize,
    /// May see it.
    may_see: usize,
    /// Put it, or may.
    put: usize,
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Place 0 is before the first line; the list ends where it returns to it.
    lines: Vec<Line>,
    /// Where each operation begins and ends in `lines`; an uncertain one has no end, 0.
    places: Vec<(usize, usize)>,
    /// Of each uncertain operation the one that must be chosen before it.
    earlier: Vec<Option<usize>>,
    is_chosen: Vec<bool>,
    left: BTreeMap<Content, Left>,
    /// Certain operations that were not chosen; of these, those that see something else.
    open: usize,
    unlike: usize,
    /// Where to look on, and for what manner of choice.
    cursor: usize,
    looking: Manner,
    content: Content,
    demand: Demand,
    share: u128,
    chosen: Vec<Choice>,
    entered: BTreeSet<u128>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let (lines, places) = list(operations);
        let mut search = Self {
            operations,
            cursor: lines[0].next,
            lines,
            places,
            earlier: earlier(operations),
            is_chosen: vec![false; operations.len()],
            left: BTreeMap::new(),
            open: 0,
            unlike: 0,
            looking: Manner::Forced,
            content: None,
            demand: Demand::Nothing,
            share: 0,
            chosen: Vec::new(),
            entered: BTreeSet::new(),
        };
        for operation in 0..operations.len() {
            search.count(operation, Counted::Left);
        }
        search
    }

    /// Looks at one line: chooses its operation, passes it, or takes the last choice back; false
    /// if there is none to take back.
    fn advance(&mut self) -> bool {
        let line = self.lines[self.cursor];
        if self.cursor == 0 || line.is_answer {
            if self.looking == Manner::Free {
                return self.take_back();
            }
            self.looking = Manner::Free;
            self.cursor = self.lines[0].next;
            return true;
        }
        match self.after(line.operation) {
            Some(after) => self.choose(line.operation, after),
            None => self.cursor = line.next,
        }
        true
    }

    /// The content after `operation`, if it may be chosen in the manner that is looked for.
    fn after(&mut self, operation: usize) -> Option<Content> {
        let action = self.operations[operation].action;
        if self.is_forced(operation) != (self.looking == Manner::Forced) {
            return None;
        }
        let after = action.apply(self.content)?;
        if self.looking == Manner::Forced {
            return Some(after);
        }
        let waits = self.earlier[operation].is_some_and(|earlier| !self.is_chosen[earlier]);
        let unseen = self.demand == Demand::Sight && action.seen().is_none();
        if waits || unseen || self.is_needed(operation, after) {
            return None;
        }
        let state = self.state_with(operation, after);
        self.entered.insert(state).then_some(after)
    }

    /// Whether nothing is lost if this is chosen now, if it can be.
    fn is_forced(&self, operation: usize) -> bool {
        match self.operations[operation].action {
            Action::Read(_) | Action::Unlike(_) => true,
            Action::Write(new) => {
                let here = self.left.get(&self.content).copied().unwrap_or_default();
                new == NOBODYS
                    && self.operations[operation].is_certain()
                    && self.unlike == 0
                    && here.see + here.may_see == 0
            }
            Action::Swap(..) => false,
        }
    }

    /// Whether the content that `operation` would replace must be seen by another, and cannot be
    /// put again.
    fn is_needed(&self, operation: usize, after: Content) -> bool {
        let here = self.left.get(&self.content).copied().unwrap_or_default();
        let sees_it = self.operations[operation].is_certain()
            && self.operations[operation].action.seen().is_some();
        after != self.content && here.put == 0 && here.see > usize::from(sees_it)
    }

    fn demanded_by(&self, operation: usize) -> Demand {
        let operation = &self.operations[operation];
        let changes = operation.action.written().is_some();
        if changes && !operation.is_certain() { Demand::Sight } else { Demand::Nothing }
    }

    fn state_with(&self, operation: usize, content: Content) -> u128 {
        let content = content.map_or(0, |number| number.wrapping_add(1) | 1 << 63);
        let demand = u64::from(self.demanded_by(operation) == Demand::Sight) << 62;
        self.share ^ share_of(operation) ^ spread(content ^ demand ^ 0x25a5_a5a5_a5a5_a5a5)
    }

    fn choose(&mut self, operation: usize, after: Content) {
        self.chosen.push(Choice {
            operation,
            manner: self.looking,
            before: self.content,
            demand_before: self.demand,
        });
        self.content = after;
        self.demand = self.demanded_by(operation);
        self.share ^= share_of(operation);
        self.is_chosen[operation] = true;
        self.count(operation, Counted::Chosen);
        let (begin, end) = self.places[operation];
        self.lift(begin);
        if end != 0 {
            self.lift(end);
        }
        self.looking = Manner::Forced;
        self.cursor = self.lines[0].next;
    }

    fn take_back(&mut self) -> bool {
        while let Some(choice) = self.chosen.pop() {
            let operation = choice.operation;
            self.content = choice.before;
            self.demand = choice.demand_before;
            self.share ^= share_of(operation);
            self.is_chosen[operation] = false;
            self.count(operation, Counted::Left);
            let (begin, end) = self.places[operation];
            if end != 0 {
                self.restore(end);
            }
            self.restore(begin);
            if choice.manner == Manner::Free {
                self.cursor = self.lines[begin].next;
                return true;
            }
        }
        false
    }

    fn count(&mut self, operation: usize, as_what: Counted) {
        let Operation { action, .. } = self.operations[operation];
        let certain = self.operations[operation].is_certain();
        let add = |count: &mut usize| match as_what {
            Counted::Left => *count += 1,
            Counted::Chosen => *count -= 1,
        };
        if certain {
            add(&mut self.open);
        }
        if let Action::Unlike(_) = action {
            add(&mut self.unlike);
        }
        if let Some(seen) = action.seen() {
            let left = self.left.entry(seen).or_default();
            add(if certain { &mut left.see } else { &mut left.may_see });
        }
        if let Some(new) = action.written() {
            add(&mut self.left.entry(new).or_default().put);
        }
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

#[derive(Clone, Copy)]
enum Counted {
    Left,
    Chosen,
}

/// The lines in their order, linked to a ring, and where each operation's are.
fn list(operations: &[Operation]) -> (Vec<Line>, Vec<(usize, usize)>) {
    let mut told: Vec<(u64, usize, bool)> = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        told.push((operation.begins, number, false));
        if operation.is_certain() {
            told.push((operation.ends, number, true));
        }
    }
    told.sort_unstable();
    let count = told.len();
    let mut lines = vec![Line { operation: 0, is_answer: false, next: 0, previous: count }];
    let mut places = vec![(0, 0); operations.len()];
    for (place, (_, operation, is_answer)) in told.into_iter().enumerate() {
        let next = if place + 1 == count { 0 } else { place + 2 };
        lines.push(Line { operation, is_answer, next, previous: place });
        lines[place].next = place + 1;
        let (begin, end) = &mut places[operation];
        *(if is_answer { end } else { begin }) = place + 1;
    }
    (lines, places)
}

/// Of each uncertain operation the last one that began before it and does the same.
fn earlier(operations: &[Operation]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> =
        (0..operations.len()).filter(|place| !operations[*place].is_certain()).collect();
    order.sort_by_key(|place| operations[*place].begins);
    let mut last: BTreeMap<Action, usize> = BTreeMap::new();
    let mut earlier = vec![None; operations.len()];
    for place in order {
        earlier[place] = last.insert(operations[place].action, place);
    }
    earlier
}

fn share_of(operation: usize) -> u128 {
    spread(operation as u64)
}

fn spread(number: u64) -> u128 {
    let high = mix(number ^ 0x6a09_e667_f3bc_c908);
    (u128::from(high) << 64) | u128::from(mix(high ^ number.rotate_left(32)))
}
