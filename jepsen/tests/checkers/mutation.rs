//! One thing wrong in a history that was right. Each mutation makes a violation that follows
//! from the history alone, or says that the history has no place for it.

use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::call::{Call, calls};
use quorate_jepsen::history::{Entry, Kind};
use serde_json::{Value, json};

use super::model::{self, Draws, Shape};

pub(crate) type Mutation = fn(&[Entry], &mut Draws) -> Option<Vec<Entry>>;

/// Asserts that `finding` says so of every history of `shape` that `mutate` made wrong.
pub(crate) fn assert_found(
    name: &str,
    shape: &Shape,
    mutate: Mutation,
    finding: impl Fn(&[Entry]) -> Finding,
) {
    let mut made = 0;
    for seed in 0..200 {
        let entries = model::history(shape, seed);
        let Some(mutated) = mutate(&entries, &mut Draws::new(seed ^ 0xabcd)) else { continue };
        made += 1;
        assert_ne!(mutated, entries, "{name}, seed {seed}: nothing was changed");
        assert_eq!(finding(&mutated), Finding::Violated, "{name}, seed {seed} was not found");
    }
    assert!(made >= 50, "{name}: only {made} of 200 histories had a place for it");
}

/// The history with another answer in one line.
pub(crate) fn answered(entries: &[Entry], line: u64, value: Value) -> Vec<Entry> {
    let mut changed = entries.to_vec();
    let entry = changed.iter_mut().find(|entry| entry.index == line).unwrap();
    entry.value = value;
    changed
}

pub(crate) fn end_line(call: &Call<'_>) -> u64 {
    call.end.unwrap().index
}

pub(crate) fn reads<'a>(calls: &[Call<'a>]) -> Vec<Call<'a>> {
    calls.iter().filter(|call| call.f() == "read" && call.is_ok()).copied().collect()
}

fn writes<'a>(calls: &[Call<'a>], key: Option<&str>) -> Vec<Call<'a>> {
    let fits = |call: &&Call<'_>| call.f() == "write" && call.is_ok() && call.key() == key;
    calls.iter().filter(fits).copied().collect()
}

/// A read sees a write that another had followed and ended before it began.
pub(crate) fn stale_read(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut places = Vec::new();
    for read in reads(&calls) {
        let writes = writes(&calls, read.key());
        for old in &writes {
            if writes.iter().any(|new| old.precedes(new) && new.precedes(&read)) {
                places.push((end_line(&read), old.begin.value.clone()));
            }
        }
    }
    let (line, value) = draws.pick(&places)?.clone();
    Some(answered(entries, line, value))
}

/// All reads of an acknowledged write see what was there before it.
pub(crate) fn lost_write(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let reads = reads(&calls);
    let mut places = Vec::new();
    for key in reads.iter().map(Call::key) {
        let writes = writes(&calls, key);
        for lost in &writes {
            let saw = |read: &&Call<'_>| *read.value() == lost.begin.value;
            let before = writes.iter().rev().find(|old| old.precedes(lost));
            let told = reads.iter().filter(saw).any(|read| lost.precedes(read));
            if let Some(before) = before.filter(|_| told) {
                places.push((lost.begin.value.clone(), before.begin.value.clone()));
            }
        }
    }
    let (lost, before) = draws.pick(&places)?.clone();
    let mut changed = entries.to_vec();
    let saw =
        |entry: &&mut Entry| entry.f == "read" && entry.kind == Kind::Ok && entry.value == lost;
    changed.iter_mut().filter(saw).for_each(|entry| entry.value = before.clone());
    Some(changed)
}

pub(crate) fn invented_content(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let line = draws.pick(&reads(&calls)).map(end_line)?;
    Some(answered(entries, line, json!(1_000_000)))
}

pub(crate) fn denied_write_shows(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut places = Vec::new();
    for denied in calls.iter().filter(|call| call.f() == "write" && !call.may_be()) {
        for read in reads(&calls).iter().filter(|read| read.key() == denied.key()) {
            places.push((end_line(read), denied.begin.value.clone()));
        }
    }
    let (line, value) = draws.pick(&places)?.clone();
    Some(answered(entries, line, value))
}

/// A read sees an older write than one that ended before it began.
pub(crate) fn inversion(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let reads = reads(&calls);
    let mut places = Vec::new();
    for first in &reads {
        let writes = writes(&calls, first.key());
        let Some(new) = writes.iter().find(|new| new.begin.value == *first.value()) else {
            continue;
        };
        let Some(old) = writes.iter().rev().find(|old| old.precedes(new)) else { continue };
        for second in reads.iter().filter(|second| second.key() == first.key()) {
            if first.precedes(second) {
                places.push((end_line(second), old.begin.value.clone()));
            }
        }
    }
    let (line, value) = draws.pick(&places)?.clone();
    Some(answered(entries, line, value))
}

/// A cas succeeds though it expects what was replaced long before.
pub(crate) fn impossible_cas(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut places = Vec::new();
    for cas in calls.iter().filter(|call| call.f() == "cas" && call.is_ok()) {
        let writes = writes(&calls, cas.key());
        for old in &writes {
            if writes.iter().any(|new| old.precedes(new) && new.precedes(cas)) {
                let value = json!([old.begin.value, cas.begin.value[1]]);
                places.push((cas.begins(), end_line(cas), value));
            }
        }
    }
    let (begins, ends, value) = draws.pick(&places)?.clone();
    Some(answered(&answered(entries, begins, value.clone()), ends, value))
}
