//! Fewer operations that no order explains either, so that people can see why.
//!
//! Each step leaves a weaker history: any order of the whole would be one of what is left. So
//! what is left proves that the whole has none.

use std::collections::BTreeSet;

use super::register::{Action, Content};
use super::search::{Found, Operation, search};

/// How many operations all searches for a witness may look at together.
const LOOKED_AT_MAX: usize = 20_000_000;

/// Operations by their places in the history that they were taken from.
pub type Kept = Vec<(usize, Operation)>;
type Fails<'f> = dyn FnMut(&[(usize, Operation)]) -> bool + 'f;

/// A part of `operations`, which no order explains up to `line`, that no order explains: as they
/// were known at that line, and a `Swap` as a `Write` if only that was needed of it.
#[must_use]
pub fn shorten(operations: &[Operation], line: u64, states_max: usize) -> Kept {
    let mut kept: Kept = operations
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| Some((place, operation.known_at(line)?)))
        .collect();
    let mut looked_at = 0;
    let mut fails = |kept: &[(usize, Operation)]| {
        if looked_at > LOOKED_AT_MAX {
            return false;
        }
        let operations: Vec<Operation> = kept.iter().map(|(_, operation)| *operation).collect();
        let searched = search(&operations, states_max);
        looked_at += operations.len() + 10 * searched.states;
        searched.found == Found::None
    };
    loop {
        let before = kept.clone();
        drop_parts(&mut kept, &mut fails);
        relax_swaps(&mut kept, &mut fails);
        if kept == before {
            return kept;
        }
    }
}

/// Leaves out as much as can be, in ever smaller pieces.
fn drop_parts(kept: &mut Kept, fails: &mut Fails<'_>) {
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < kept.len() {
            let to = (from + size).min(kept.len());
            let rest = without(kept, from..to);
            if rest.len() < kept.len() && fails(&rest) {
                *kept = rest;
            } else {
                from = to;
            }
        }
        if size == 1 {
            return;
        }
        size = size.div_ceil(2);
    }
}

/// What is left without the operations of `range` that may be left out: observations always; a
/// write if nobody who stays saw it, and no condition was missed, which it may have been for.
fn without(kept: &Kept, range: std::ops::Range<usize>) -> Kept {
    let observes = |operation: &Operation| operation.action.written().is_none();
    let stays =
        |place: usize, operation: &Operation| !(range.contains(&place) && observes(operation));
    let rest: Vec<(usize, &(usize, Operation))> =
        kept.iter().enumerate().filter(|(place, (_, one))| stays(*place, one)).collect();
    let unlike = |one: &&(usize, &(usize, Operation))| matches!(one.1.1.action, Action::Unlike(_));
    let conditions = rest.iter().any(|one| unlike(&one));
    let seen: BTreeSet<Content> =
        rest.iter().filter_map(|(_, (_, one))| one.action.seen()).collect();
    let needed = |operation: &Operation| {
        conditions || operation.action.written().is_none_or(|written| seen.contains(&written))
    };
    rest.into_iter()
        .filter(|(place, (_, one))| {
            !range.contains(place) || matches!(one.action, Action::Swap(..)) || needed(one)
        })
        .map(|(_, kept)| *kept)
        .collect()
}

/// Takes swaps for plain writes where that suffices, so that fewer writes are needed.
fn relax_swaps(kept: &mut Kept, fails: &mut Fails<'_>) {
    for place in 0..kept.len() {
        let Action::Swap(_, new) = kept[place].1.action else {
            continue;
        };
        let strict = kept[place].1.action;
        kept[place].1.action = Action::Write(new);
        if !fails(kept) {
            kept[place].1.action = strict;
        }
    }
}
