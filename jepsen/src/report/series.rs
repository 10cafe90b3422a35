//! Calls over time, node by node.

use std::collections::BTreeMap;

use super::quantiles::Quantiles;
use crate::checker::call::Call;
use crate::history::Kind;

/// Steps that a series has at most; a longer history has longer ones.
const STEPS_MAX: u64 = 180;

/// Nanoseconds of a step, but for long histories.
const STEP: u64 = 1_000_000_000;

/// How calls ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With the answer that was due, be it that a condition was not met.
    pub served: usize,
    /// With a failure: they certainly did nothing.
    pub refused: usize,
    /// In doubt.
    pub unknown: usize,
}

impl Counts {
    /// Counts one call.
    pub fn count(&mut self, call: &Call<'_>) {
        if call.was_served() {
            self.served += 1;
        } else if call.outcome() == Kind::Fail {
            self.refused += 1;
        } else {
            self.unknown += 1;
        }
    }

    /// All of them.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.served + self.refused + self.unknown
    }

    /// How many of a hundred were served; nothing if nobody asked.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        let asked = self.asked();
        (asked > 0).then(|| 100.0 * ratio(self.served, asked))
    }

    /// The same in words; rounded down, so that 100 % means all.
    #[must_use]
    pub fn percent_told(&self) -> String {
        let floor = |percent: f64| (percent * 10.0).floor() / 10.0;
        self.percent().map_or_else(|| "none".to_owned(), |of| format!("{:.1} %", floor(of)))
    }

    /// Together with others.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            served: self.served + other.served,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// The one as a part of the other.
#[must_use]
pub fn ratio(part: usize, whole: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}

/// How long a call took that was served, in nanoseconds.
#[must_use]
pub fn served_after(call: &Call<'_>) -> Option<u64> {
    let end = call.end.filter(|_| call.was_served())?;
    Some(end.time.saturating_sub(call.begin.time))
}

/// Calls over time. A call belongs to the step in which it began.
#[derive(Clone, Debug)]
pub struct Series {
    /// Nanoseconds of a step.
    pub step: u64,
    /// How calls through each node ended, step by step. Node 0: no particular one.
    pub nodes: BTreeMap<usize, Vec<Counts>>,
    /// How long calls took that were served, step by step.
    pub times: Vec<Option<Quantiles>>,
}

impl Series {
    /// The series of all calls of a history.
    #[must_use]
    pub fn of(calls: &[Call<'_>], begins: u64, ends: u64) -> Self {
        let span = ends.saturating_sub(begins);
        let step = span.div_ceil(STEPS_MAX).max(1).next_multiple_of(STEP);
        let place = |time: u64| {
            usize::try_from(time.saturating_sub(begins).min(span) / step).unwrap_or_default()
        };
        let steps = place(ends) + 1;
        let mut nodes: BTreeMap<usize, Vec<Counts>> = BTreeMap::new();
        let mut times = vec![Vec::new(); steps];
        for call in calls {
            let at = place(call.begin.time);
            let node = nodes.entry(call.begin.node.unwrap_or(0));
            let counts = node.or_insert_with(|| vec![Counts::default(); steps]);
            if let Some(counts) = counts.get_mut(at) {
                counts.count(call);
            }
            if let Some(times) = times.get_mut(at) {
                times.extend(served_after(call));
            }
        }
        let times = times.iter_mut().map(|times| Quantiles::of(times)).collect();
        Self { step, nodes, times }
    }

    /// How many steps there are.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.times.len()
    }

    /// When a step begins, in nanoseconds from the first line.
    #[must_use]
    pub const fn begin_of(&self, step: usize) -> u64 {
        self.step.saturating_mul(step as u64)
    }
}

/// What a node is called.
#[must_use]
pub fn name(node: usize) -> String {
    if node == 0 { "any".to_owned() } else { format!("n{node}") }
}
