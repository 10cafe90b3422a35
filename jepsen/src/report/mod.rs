//! What a history shows beside whether promises were kept: who was served when, how fast, and
//! under which faults; as text and as a page (pure).
//!
//! # Invariants
//! 1. What came from outside the program is escaped wherever it is shown (test
//!    `report/page.rs`).
//! 2. A page needs nothing but itself: no scripts, fonts, images or addresses.
//! 3. What a chart shows is also there as words or numbers.
//! 4. A report of the terminal is shorter than [`text::LINES_MAX`] lines.

pub mod chart;
pub mod errors;
pub mod markup;
pub mod page;
pub mod quantiles;
pub mod series;
pub mod strike;
pub mod text;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::call::{Call, calls};
use crate::checker::progress::faults;
use crate::checker::suite::worst;
use crate::checker::{Finding, Verdict};
use crate::history::Entry;

use errors::Mishap;
use quantiles::Quantiles;
use series::{Counts, Series};
use strike::Strike;

/// Everything that a report shows.
#[derive(Clone, Debug)]
pub struct Report {
    /// What this is a report of.
    pub title: String,
    /// What the clients were promised, for people.
    pub promised: String,
    /// The moment of the first line, in nanoseconds.
    pub begins: u64,
    /// The moment of the last.
    pub ends: u64,
    /// How many processes called.
    pub processes: usize,
    /// How all calls ended.
    pub total: Counts,
    /// What the checkers say.
    pub verdicts: Vec<Verdict>,
    /// The faults, in the order of their beginnings.
    pub strikes: Vec<Strike>,
    /// Calls over time.
    pub series: Series,
    /// How each function fared: its counts, and how long those took that were served.
    pub functions: BTreeMap<String, (Counts, Option<Quantiles>)>,
    /// What went wrong, the most frequent first.
    pub mishaps: Vec<Mishap>,
}

impl Report {
    /// The report of a history, of which checkers say `verdicts`.
    ///
    /// # Errors
    /// If this is no history: a line ends what did not begin.
    pub fn of(title: &str, entries: &[Entry], verdicts: Vec<Verdict>) -> anyhow::Result<Self> {
        let calls = calls(entries)?;
        let begins = entries.first().map_or(0, |first| first.time);
        let ends = entries.last().map_or(begins, |last| last.time).max(begins);
        let processes: BTreeSet<&str> =
            calls.iter().map(|call| call.begin.process.as_str()).collect();
        let mut total = Counts::default();
        for call in &calls {
            total.count(call);
        }
        let faults = faults(entries);
        let strikes =
            (1..).zip(&faults).map(|(number, fault)| Strike::of(number, fault, &calls)).collect();
        Ok(Self {
            title: title.to_owned(),
            promised: String::new(),
            begins,
            ends,
            processes: processes.len(),
            total,
            verdicts,
            strikes,
            series: Series::of(&calls, begins, ends),
            functions: functions(&calls),
            mishaps: errors::mishaps(&calls),
        })
    }

    /// What all checkers found together.
    #[must_use]
    pub fn finding(&self) -> Finding {
        worst(&self.verdicts)
    }

    /// Seconds from the first line to `time`.
    #[must_use]
    pub fn seconds(&self, time: u64) -> f64 {
        seconds(time.saturating_sub(self.begins))
    }
}

/// Nanoseconds in seconds.
#[must_use]
pub fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

/// A finding in one word.
#[must_use]
pub const fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::Holds => "holds",
        Finding::Violated => "VIOLATED",
        Finding::Unknown => "unknown",
    }
}

/// A count with its thousands apart.
#[must_use]
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn functions(calls: &[Call<'_>]) -> BTreeMap<String, (Counts, Option<Quantiles>)> {
    let mut found: BTreeMap<&str, (Counts, Vec<u64>)> = BTreeMap::new();
    for call in calls {
        let (counts, times) = found.entry(call.f()).or_default();
        counts.count(call);
        times.extend(series::served_after(call));
    }
    let told = found
        .into_iter()
        .map(|(name, (counts, mut times))| (name.to_owned(), (counts, Quantiles::of(&mut times))));
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1_000, 65_536, 1_234_567].map(count);

        assert_eq!(shown, ["0", "999", "1,000", "65,536", "1,234,567"]);
    }
}
