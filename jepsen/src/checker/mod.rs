//! Whether a history keeps what the store promises: pure functions over its lines.
//!
//! # Invariants
//! 1. What is reported violates the promise under *every* reading of the unknown outcomes.
//! 2. Order is that of the history's lines, never of a node's clock: a call comes before another
//!    only if its answer stands above the other's beginning.
//! 3. A check that could not be made is [`Finding::Unknown`], never [`Finding::Holds`].

pub mod call;
pub mod content;
pub mod counter;
pub mod last_write;
pub mod linearizable;
pub mod listing;
pub mod progress;
pub mod register;
pub mod regular;
pub mod search;
pub mod set;
pub mod siblings;
pub mod suite;
pub mod witness;

use serde::Serialize;

use crate::history::Entry;

/// Violations that a verdict shows; it counts all of them.
const SHOWN_MAX: usize = 50;

/// What a checker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// The promise was kept, and the history could have shown otherwise.
    Holds,
    /// It was broken.
    Violated,
    /// The history does not tell.
    Unknown,
}

/// One breach of a promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// Of which key.
    pub key: Option<String>,
    /// What happened, for people.
    pub what: String,
    /// The lines that prove it, as few as were found, in their order.
    pub witness: Vec<Entry>,
}

/// What one checker says of one history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Which promise.
    pub checker: &'static str,
    /// Whether it was kept.
    pub finding: Finding,
    /// The first breaches.
    pub violations: Vec<Violation>,
    /// How many there were.
    pub violated: usize,
    /// Why it is unknown, in whole or in part.
    pub doubts: Vec<String>,
    /// What else was counted, in reading order.
    pub figures: Vec<(String, String)>,
}

impl Verdict {
    /// A verdict that nothing speaks against yet.
    #[must_use]
    pub const fn new(checker: &'static str) -> Self {
        Self {
            checker,
            finding: Finding::Holds,
            violations: Vec::new(),
            violated: 0,
            doubts: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Notes a breach.
    pub fn violate(&mut self, violation: Violation) {
        self.finding = Finding::Violated;
        self.violated += 1;
        if self.violations.len() < SHOWN_MAX {
            self.violations.push(violation);
        }
    }

    /// Notes that something could not be told. What is violated stays so.
    pub fn doubt(&mut self, why: impl Into<String>) {
        if self.finding == Finding::Holds {
            self.finding = Finding::Unknown;
        }
        self.doubts.push(why.into());
    }

    /// Notes a figure.
    pub fn figure(&mut self, name: &str, value: impl ToString) {
        self.figures.push((name.to_owned(), value.to_string()));
    }
}

impl Violation {
    /// A breach that these calls prove.
    #[must_use]
    pub fn of<'a>(
        key: Option<&str>,
        what: impl Into<String>,
        calls: impl IntoIterator<Item = &'a call::Call<'a>>,
    ) -> Self {
        let mut witness: Vec<Entry> = calls.into_iter().flat_map(call::Call::lines).collect();
        witness.sort_by_key(|entry| entry.index);
        witness.dedup_by_key(|entry| entry.index);
        Self { key: key.map(str::to_owned), what: what.into(), witness }
    }
}
