use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::call::{Call, calls, numbers};
use quorate_jepsen::checker::siblings::check;
use quorate_jepsen::history::{Entry, FINAL_READS, Kind};
use serde_json::json;

use super::model::{self, Draws, Load, Shape};
use super::mutation::{self, Mutation};
use super::script::history;

fn finding(text: &str) -> Finding {
    check(&history(text), 16).unwrap().finding
}

const TWO: &str = "1 write k 1\n1 ok\n2 write k 2\n2 ok\n";

#[test]
fn values_that_nobody_covered_stand_side_by_side() {
    assert_eq!(finding(&format!("{TWO} 3 read k\n3 ok [1,2]")), Finding::Holds);
    assert_eq!(finding(&format!("{TWO} 3 read k\n3 ok [2]")), Finding::Violated);
}

#[test]
fn a_write_replaces_what_its_context_covers_and_nothing_else() {
    let text = "1 write k 1\n1 ok\n3 read k\n3 ok [1] context=a\n2 write k 2\n2 ok\n\
                3 write k 3 context=a\n3 ok\n4 read k\n4 ok ";

    assert_eq!(finding(&format!("{text} [2,3]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [3]")), Finding::Violated);
    assert_eq!(finding(&format!("{text} [1,2,3]")), Finding::Violated);
    assert_eq!(finding(&format!("{text} [1,2]")), Finding::Violated);
}

#[test]
fn the_context_of_a_write_covers_its_value() {
    let text = "1 write k 1\n1 ok context=w\n1 write k 2 context=w\n1 ok\n4 read k\n4 ok ";

    assert_eq!(finding(&format!("{text} 2")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [1,2]")), Finding::Violated);
}

#[test]
fn an_unknown_write_may_have_replaced_what_it_covers() {
    let text = "1 write k 1\n1 ok\n3 read k\n3 ok [1] context=a\n3 write k 3 context=a\n3 info\n\
                4 read k\n4 ok ";

    assert_eq!(finding(&format!("{text} [1]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [3]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} []")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [1,3]")), Finding::Violated);
}

#[test]
fn a_blind_delete_may_take_what_was_begun_before_it_ended_and_nothing_later() {
    let text = "1 write k 1\n2 delete k\n1 ok\n2 ok\n3 write k 3\n3 ok\n4 read k\n4 ok ";

    assert_eq!(finding(&format!("{text} [3]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [1,3]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} [1]")), Finding::Violated);
}

#[test]
fn a_delete_with_a_context_leaves_what_it_did_not_cover() {
    let text = "1 write k 1\n1 ok\n3 read k\n3 ok [1] context=a\n2 write k 2\n2 ok\n\
                3 delete k context=a\n3 ok\n4 read k\n4 ok ";

    assert_eq!(finding(&format!("{text} [2]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} null")), Finding::Violated);
}

#[test]
fn a_lagging_read_is_held_to_nothing_before_the_end_but_at_strict_levels() {
    let mark = "nemesis final-reads {\"phase\":\"begin\"}\n5 read k\n5 ok [1]";
    let text = |level: &str| {
        format!("1 write k 1 mode={level}\n1 ok\n3 read k mode={level}\n3 ok []\n{mark}")
    };

    assert_eq!(finding(&text("eventual")), Finding::Holds);
    assert_eq!(finding(&text("strict")), Finding::Violated);
}

#[test]
fn in_the_end_all_nodes_return_the_same_values() {
    let text = "1 write k 1\n1 ok\n2 delete k\n3 read k\n3 ok [1]\n2 ok\n";
    let mark = "nemesis final-reads {\"phase\":\"begin\"}\n";
    let reads = |one: &str, other: &str| {
        format!("{text}{mark}5 read k node=1\n5 ok {one}\n5 read k node=2\n5 ok {other}")
    };

    assert_eq!(finding(&reads("[]", "[]")), Finding::Holds);
    assert_eq!(finding(&reads("[1]", "[1]")), Finding::Holds);
    assert_eq!(finding(&reads("[1]", "[]")), Finding::Violated);
}

#[test]
fn more_values_than_are_allowed_are_a_violation() {
    let many: String = (1..=17).map(|n| format!("1 write k {n}\n1 ok\n")).collect();
    let all: Vec<u64> = (1..=17).collect();
    let text = format!("{many} 2 read k\n2 ok {}", json!(all));

    assert_eq!(finding(&text), Finding::Violated);
    assert_eq!(check(&history(&text), 17).unwrap().finding, Finding::Holds);
}

#[test]
fn histories_of_merging_replicas_lose_and_return_nothing() {
    for shape in [Shape::sloppy(Load::Siblings), Shape::majorities(Load::Siblings)] {
        for seed in 0..200 {
            let entries = model::history(&shape, seed);

            let verdict = check(&entries, 100).unwrap();

            assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
        }
    }
}

struct Places<'a> {
    calls: Vec<Call<'a>>,
    finals: Vec<Call<'a>>,
}

impl<'a> Places<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let mark = entries.iter().find(|entry| entry.f == FINAL_READS).unwrap().index;
        let calls = calls(entries).unwrap();
        let finals =
            mutation::reads(&calls).into_iter().filter(|read| read.begins() > mark).collect();
        Self { calls, finals }
    }

    /// (value, the acknowledged write that covered it by a read's context)
    fn covered(&self) -> Vec<(u64, Call<'a>)> {
        let mut covered = Vec::new();
        for write in self.calls.iter().filter(|call| call.is_ok()) {
            let Some(context) = &write.begin.context else { continue };
            let read = self.calls.iter().find(|call| {
                call.f() == "read"
                    && call.end.is_some_and(|end| end.context.as_ref() == Some(context))
            });
            let values = read.map(|read| numbers(read.value()).unwrap()).unwrap_or_default();
            covered.extend(values.into_iter().map(|value| (value, *write)));
        }
        covered
    }
}

/// A value of the last reads is in none of them.
fn lost(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let places = Places::of(entries);
    let acknowledged = |value: &u64| {
        places
            .calls
            .iter()
            .any(|call| call.f() == "write" && call.is_ok() && call.begin.value == json!(value))
    };
    let uncovered = |value: &u64| {
        let key = places.calls.iter().find(|call| call.begin.value == json!(value)).unwrap().key();
        // No delete and no unknown outcome that could explain it.
        !places.calls.iter().any(|call| {
            call.key() == key
                && (call.outcome() == Kind::Info
                    || call.f() == "delete" && call.begin.context.is_none())
        })
    };
    let mut standing = Vec::new();
    for read in &places.finals {
        standing.extend(numbers(read.value()).unwrap());
    }
    standing.retain(|value| acknowledged(value) && uncovered(value));
    let value = *draws.pick(&standing)?;
    let mut changed = entries.to_vec();
    for read in &places.finals {
        let entry = &mut changed[usize::try_from(mutation::end_line(read)).unwrap()];
        entry.value = numbers(&entry.value).unwrap().into_iter().filter(|n| *n != value).collect();
    }
    Some(changed)
}

fn with_value(entries: &[Entry], read: &Call<'_>, value: u64) -> Vec<Entry> {
    let mut values = numbers(read.value()).unwrap();
    values.push(value);
    mutation::answered(entries, mutation::end_line(read), json!(values))
}

/// A replaced value is in a last read.
fn resurrected(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let places = Places::of(entries);
    let covered = places.covered();
    let (value, write) = draws.pick(&covered)?;
    let finals: Vec<_> = places.finals.iter().filter(|read| read.key() == write.key()).collect();
    Some(with_value(entries, draws.pick(&finals)?, *value))
}

/// A read in the middle shows a value beside the one that replaced it.
fn beside(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let places = Places::of(entries);
    let mut found = Vec::new();
    for (value, write) in places.covered().into_iter().filter(|(_, write)| write.f() == "write") {
        for read in mutation::reads(&places.calls) {
            let shown = numbers(read.value()).unwrap();
            if read.key() == write.key() && shown.contains(&write.begin.value.as_u64().unwrap()) {
                found.push((read, value));
            }
        }
    }
    let (read, value) = *draws.pick(&found)?;
    Some(with_value(entries, &read, value))
}

fn invented(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let reads = mutation::reads(&calls);
    Some(with_value(entries, draws.pick(&reads)?, 1_000_000))
}

#[test]
fn every_lost_resurrected_and_invented_value_is_found() {
    let shape = Shape { unknown: 1, keys: 4, calls: 60, ..Shape::sloppy(Load::Siblings) };
    for (name, mutate) in [
        ("lost", lost as Mutation),
        ("resurrected", resurrected),
        ("beside its successor", beside),
        ("invented", invented),
    ] {
        mutation::assert_found(name, &shape, mutate, |entries| {
            check(entries, 100).unwrap().finding
        });
    }
}
