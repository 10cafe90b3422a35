use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::call::{Call, calls, numbers};
use quorate_jepsen::checker::regular::Stale;
use quorate_jepsen::checker::{counter, set};
use quorate_jepsen::history::Entry;
use serde_json::json;

use super::model::{self, Draws, Load, Shape};
use super::mutation::{self, Mutation};
use super::script::history;

fn finding(text: &str) -> Finding {
    set::check(&history(text), Stale::Violation).unwrap().finding
}

fn figure(text: &str, name: &str) -> String {
    let verdict = set::check(&history(text), Stale::Counted).unwrap();
    verdict.figures.into_iter().find(|(figure, _)| figure == name).unwrap().1
}

const ADDED: &str = "1 add s 1\n1 ok\n1 add s 2\n1 ok\n";

#[test]
fn an_acknowledged_element_is_read() {
    assert_eq!(finding(&format!("{ADDED} 2 read s\n2 ok [1,2]")), Finding::Holds);
    assert_eq!(finding(&format!("{ADDED} 2 read s\n2 ok [2]")), Finding::Violated);
}

#[test]
fn an_element_that_was_missed_once_is_stale_and_not_lost() {
    let text = format!("{ADDED} 2 read s\n2 ok [2]\n+100 2 read s\n2 ok [1,2]");

    assert_eq!(finding(&text), Finding::Violated);
    assert_eq!(figure(&text, "stale"), "1");
    assert_eq!(figure(&text, "lost"), "0");
    let counted = set::check(&history(&text), Stale::Counted).unwrap();
    assert_eq!(counted.finding, Finding::Holds);
}

#[test]
fn an_element_of_unknown_outcome_may_be_shown_and_then_not_yet() {
    let text = "1 add s 1\n1 info\n3 add s 2\n3 ok\n2 read s\n2 ok [1,2]\n2 read s\n2 ok [2]\n2 read s\n2 ok [1,2]";

    assert_eq!(finding(text), Finding::Holds);
    assert_eq!(figure(text, "inversions"), "1");
}

#[test]
fn an_element_that_was_read_and_then_is_not_is_lost_even_if_unacknowledged() {
    let text = "1 add s 1\n1 info\n2 read s\n2 ok [1]\n2 read s\n2 ok []";

    assert_eq!(finding(text), Finding::Violated);
    assert_eq!(figure(text, "lost"), "1");
}

#[test]
fn an_unknown_element_that_shows_is_recovered_and_one_that_does_not_is_nothing() {
    let text = "1 add s 1\n1 info\n3 add s 2\n3 info\n4 add s 3\n4 ok\n2 read s\n2 ok [1,3]";

    assert_eq!(finding(text), Finding::Holds);
    assert_eq!(figure(text, "recovered"), "1");
}

#[test]
fn elements_that_nobody_added_failed_or_show_twice_are_found() {
    assert_eq!(finding(&format!("{ADDED} 2 read s\n2 ok [1,2,3]")), Finding::Violated);
    assert_eq!(finding(&format!("{ADDED} 2 read s\n2 ok [1,2,2]")), Finding::Violated);
    let failed = format!("{ADDED} 1 add s 3\n1 fail\n2 read s\n2 ok [1,2,3]");
    assert_eq!(finding(&failed), Finding::Violated);
}

#[test]
fn a_read_beside_an_add_shows_it_or_not() {
    let text = "1 add s 1\n2 read s\n1 ok\n";

    assert_eq!(finding(&format!("{text} 2 ok []\n2 read s\n2 ok [1]")), Finding::Holds);
    assert_eq!(finding(&format!("{text} 2 ok [1]")), Finding::Holds);
}

#[test]
fn a_set_that_is_not_read_at_the_end_is_no_success() {
    assert_eq!(finding(ADDED), Finding::Unknown);
}

#[test]
fn histories_of_merging_replicas_lose_nothing() {
    for seed in 0..200 {
        let majorities = model::history(&Shape::majorities(Load::Set), seed);
        let sloppy = model::history(&Shape::sloppy(Load::Set), seed);

        let majorities = set::check(&majorities, Stale::Counted).unwrap();
        let sloppy = set::check(&sloppy, Stale::Counted).unwrap();

        assert_eq!(majorities.finding, Finding::Holds, "seed {seed}: {majorities:#?}");
        assert_eq!(sloppy.finding, Finding::Holds, "seed {seed}: {sloppy:#?}");
    }
}

#[test]
fn histories_of_one_copy_are_never_stale() {
    for seed in 0..200 {
        let entries = model::history(&Shape::atomic(Load::Set), seed);

        let verdict = set::check(&entries, Stale::Violation).unwrap();

        assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
    }
}

/// (an acknowledged add, the reads that began after)
fn later_reads<'a>(entries: &'a [Entry], draws: &mut Draws) -> Option<(u64, Vec<Call<'a>>)> {
    let calls = calls(entries).unwrap();
    let adds: Vec<_> =
        calls.iter().filter(|call| call.f() == "add" && call.is_ok()).copied().collect();
    let add = *draws.pick(&adds)?;
    let mut reads = mutation::reads(&calls);
    reads.retain(|read| read.key() == add.key() && add.precedes(read));
    Some((add.begin.value.as_u64()?, reads))
}

fn without(entries: &[Entry], reads: &[Call<'_>], element: u64) -> Vec<Entry> {
    reads.iter().fold(entries.to_vec(), |entries, read| {
        let values = numbers(read.value()).unwrap();
        let rest: Vec<u64> = values.into_iter().filter(|value| *value != element).collect();
        mutation::answered(&entries, mutation::end_line(read), json!(rest))
    })
}

fn dropped(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let (element, reads) = later_reads(entries, draws)?;
    Some(without(entries, &reads, element)).filter(|changed| changed != entries)
}

fn stale(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let (element, reads) = later_reads(entries, draws)?;
    let read = *draws.pick(&reads)?;
    Some(without(entries, &[read], element))
}

fn changed_read(
    entries: &[Entry],
    draws: &mut Draws,
    change: impl Fn(&mut Vec<u64>),
) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let mut reads = mutation::reads(&calls);
    reads.retain(|read| read.value().as_array().is_some_and(|values| !values.is_empty()));
    let read = draws.pick(&reads)?;
    let mut values = numbers(read.value()).unwrap();
    change(&mut values);
    Some(mutation::answered(entries, mutation::end_line(read), json!(values)))
}

fn doubled(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    changed_read(entries, draws, |values| values.push(values[0]))
}

fn invented(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    changed_read(entries, draws, |values| values.push(1_000_000))
}

#[test]
fn every_dropped_stale_doubled_and_invented_element_is_found() {
    for (name, mutate) in [
        ("dropped", dropped as Mutation),
        ("stale", stale),
        ("doubled", doubled),
        ("invented", invented),
    ] {
        mutation::assert_found(name, &Shape::atomic(Load::Set), mutate, |entries| {
            set::check(entries, Stale::Violation).unwrap().finding
        });
    }
}

#[test]
fn a_counter_lies_between_what_was_and_what_may_have_been_added() {
    let text = "1 add n 5\n1 ok\n2 add n 3\n2 info\n3 add n -1\n4 read n\n3 ok\n4 ok ";
    let finding = |seen: i64| counter::check(&history(&format!("{text} {seen}"))).unwrap().finding;

    for (seen, expected) in [
        (3, Finding::Violated),
        (4, Finding::Holds),
        (5, Finding::Holds),
        (8, Finding::Holds),
        (9, Finding::Violated),
    ] {
        assert_eq!(finding(seen), expected, "{seen}");
    }
    assert_eq!(counter::check(&history("1 add n 1\n1 ok")).unwrap().finding, Finding::Unknown);
}

/// A last read lacks what was certainly added and nobody took away.
fn miscounted(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let calls = calls(entries).unwrap();
    let reads = mutation::reads(&calls);
    let read = draws.pick(&reads)?;
    let all: i64 = calls
        .iter()
        .filter(|call| call.f() == "add" && call.may_be())
        .map(|call| call.begin.value.as_i64().unwrap().max(0))
        .sum();
    Some(mutation::answered(entries, mutation::end_line(read), json!(all + 1)))
}

#[test]
fn histories_of_one_counter_keep_their_bounds_and_a_wrong_sum_is_found() {
    let finding = |entries: &[Entry]| counter::check(entries).unwrap().finding;
    for seed in 0..200 {
        let entries = model::history(&Shape::atomic(Load::Counter), seed);
        assert_eq!(finding(&entries), Finding::Holds, "seed {seed}");
    }
    mutation::assert_found("miscounted", &Shape::atomic(Load::Counter), miscounted, finding);
}
