//! What went wrong, by kind.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::call::Call;
use crate::history::Kind;

/// Kinds that are told apart; the rest is told as one.
const KINDS_MAX: usize = 16;

/// Characters of a kind.
const LENGTH_MAX: usize = 100;

/// Longer runs of digits are ports, times and the like: they tell no kinds apart.
const DIGITS_MAX: usize = 3;

/// Calls that went wrong in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mishap {
    /// In which.
    pub what: String,
    /// Whether they failed or are in doubt.
    pub outcome: Kind,
    /// How many.
    pub count: usize,
    /// Which functions.
    pub functions: BTreeSet<String>,
    /// Through which nodes.
    pub nodes: BTreeSet<usize>,
}

/// All calls that were not served, by kind, the most frequent first.
#[must_use]
pub fn mishaps(calls: &[Call<'_>]) -> Vec<Mishap> {
    let mut kinds: BTreeMap<(String, bool), Mishap> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.was_served()) {
        let error = call.end.and_then(|end| end.error.as_deref());
        let none = if call.end.is_some() { "no reason given" } else { "no answer" };
        let what = kind(error.unwrap_or(none));
        let outcome = call.outcome();
        let kind = kinds.entry((what.clone(), outcome == Kind::Fail)).or_insert_with(|| {
            let (functions, nodes) = (BTreeSet::new(), BTreeSet::new());
            Mishap { what, outcome, count: 0, functions, nodes }
        });
        kind.count += 1;
        kind.functions.insert(call.f().to_owned());
        kind.nodes.extend(call.begin.node);
    }
    let mut sorted: Vec<Mishap> = kinds.into_values().collect();
    sorted.sort_by_key(|mishap| std::cmp::Reverse(mishap.count));
    if sorted.len() > KINDS_MAX {
        let rest = sorted.split_off(KINDS_MAX - 1);
        sorted.push(Mishap {
            what: format!("{} other kinds", rest.len()),
            outcome: Kind::Info,
            count: rest.iter().map(|mishap| mishap.count).sum(),
            functions: rest.iter().flat_map(|mishap| mishap.functions.clone()).collect(),
            nodes: rest.iter().flat_map(|mishap| mishap.nodes.clone()).collect(),
        });
    }
    sorted
}

fn kind(error: &str) -> String {
    let mut kind = String::new();
    let mut digits = String::new();
    for letter in error.chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        kind.push_str(if digits.len() > DIGITS_MAX { "#" } else { &digits });
        digits.clear();
        kind.push(letter);
    }
    super::markup::shortened(kind.trim_end(), LENGTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn ports_tell_no_kinds_apart_and_codes_do() {
        assert_eq!(kind("503 from 127.0.0.1:49152"), "503 from 127.0.0.1:#");
        assert_eq!(kind("took 12345"), "took #");
        assert_eq!(kind("404"), "404");
    }
}
