use std::time::Duration;

use quorate_jepsen::checker::Finding;
use quorate_jepsen::checker::call::calls;
use quorate_jepsen::checker::last_write::check;
use quorate_jepsen::history::{Entry, FINAL_READS};
use serde_json::{Value, json};

use super::model::{self, Draws, Load, Shape};
use super::mutation;
use super::script::history;

const SKEW: Duration = Duration::from_millis(10);
const MARK: &str = "nemesis final-reads {\"phase\":\"begin\"}\n";

fn finding(text: &str) -> Finding {
    check(&history(text), SKEW).unwrap().finding
}

#[test]
fn in_the_end_every_node_returns_the_last_write() {
    let writes = "1 write k 1\n1 ok\n+50 1 write k 2\n1 ok\n";
    let reads = |one: u64, other: u64| {
        format!("{writes}{MARK} 3 read k node=1\n3 ok {one}\n3 read k node=2\n3 ok {other}")
    };

    assert_eq!(finding(&reads(2, 2)), Finding::Holds);
    assert_eq!(finding(&reads(1, 1)), Finding::Violated);
    assert_eq!(finding(&reads(2, 1)), Finding::Violated);
}

#[test]
fn of_writes_closer_than_clocks_differ_either_may_win() {
    let text = "1 write k 1\n1 ok\n1 write k 2\n1 ok\n3 read k\n3 ok 1";

    assert_eq!(finding(text), Finding::Holds);
    assert_eq!(check(&history(text), Duration::ZERO).unwrap().finding, Finding::Violated);
}

#[test]
fn where_stamps_are_told_the_greatest_wins_whatever_the_order() {
    let writes = "1 write k 1\n1 ok ts=90.0-a\n+50 1 write k 2\n1 ok ts=9.7-b\n";

    assert_eq!(finding(&format!("{writes} 3 read k\n3 ok 1")), Finding::Holds);
    assert_eq!(finding(&format!("{writes} 3 read k\n3 ok 2")), Finding::Violated);
}

#[test]
fn reads_before_the_end_may_lag() {
    let text = "1 write k 1\n1 ok\n+50 1 write k 2\n1 ok\n3 read k\n3 ok 1\n";

    assert_eq!(finding(&format!("{text}{MARK} 3 read k\n3 ok 2")), Finding::Holds);
}

#[test]
fn a_key_may_change_to_an_unknown_write_in_the_end_and_not_back() {
    let text = format!(
        "2 write k 9\n2 info\n1 write k 1\n1 ok\n{MARK} 3 read k\n3 ok 1\n3 read k\n3 ok 9\n"
    );

    assert_eq!(finding(&text), Finding::Holds);
    assert_eq!(finding(&format!("{text} 3 read k\n3 ok 1")), Finding::Violated);
}

#[test]
fn a_deleted_key_stays_so_and_an_unwritten_one_is_absent() {
    let text = "1 write k 1\n1 ok\n+50 1 delete k\n1 ok\n3 read k\n3 ok ";

    assert_eq!(finding(&format!("{text} null")), Finding::Holds);
    assert_eq!(finding(&format!("{text} 1")), Finding::Violated);
    assert_eq!(finding("1 write k 1\n1 fail\n3 read k\n3 ok null"), Finding::Holds);
    assert_eq!(finding("1 write k 1\n1 fail\n3 read k\n3 ok 1"), Finding::Violated);
}

#[test]
fn a_written_key_that_nobody_reads_in_the_end_is_no_success() {
    assert_eq!(finding("3 read k\n3 ok null\n1 write k 1\n1 ok"), Finding::Unknown);
}

#[test]
fn histories_of_single_replicas_converge() {
    for seed in 0..300 {
        let entries = model::history(&Shape::sloppy(Load::Register), seed);

        let verdict = check(&entries, Duration::ZERO).unwrap();

        assert_eq!(verdict.finding, Finding::Holds, "seed {seed}: {verdict:#?}");
    }
}

/// The places of all final reads of one key, and what they saw.
fn finals(entries: &[Entry], draws: &mut Draws) -> Option<(Option<String>, Vec<u64>, Value)> {
    let mark = entries.iter().find(|entry| entry.f == FINAL_READS)?.index;
    let calls = calls(entries).unwrap();
    let reads = mutation::reads(&calls);
    let finals: Vec<_> = reads.iter().filter(|read| read.begins() > mark).collect();
    let key = draws.pick(&finals)?.key();
    let same: Vec<_> = finals.iter().filter(|read| read.key() == key).collect();
    let places = same.iter().map(|read| mutation::end_line(read)).collect();
    Some((key.map(str::to_owned), places, same[0].value().clone()))
}

/// All final reads of a key see a write that another followed by far.
fn beaten(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let (key, places, _) = finals(entries, draws)?;
    let calls = calls(entries).unwrap();
    let writes: Vec<_> = calls
        .iter()
        .filter(|call| call.f() == "write" && call.is_ok() && call.key() == key.as_deref())
        .collect();
    let by_far = |old: &&&quorate_jepsen::checker::call::Call<'_>| {
        let ended = old.end.unwrap().time + u64::try_from(SKEW.as_nanos()).unwrap();
        writes.iter().any(|new| new.begin.time > ended)
    };
    let old: Vec<_> = writes.iter().filter(by_far).collect();
    let value = draws.pick(&old)?.begin.value.clone();
    let changed =
        |entries: Vec<Entry>, line: &u64| mutation::answered(&entries, *line, value.clone());
    Some(places.iter().fold(entries.to_vec(), changed))
}

/// One node returns another acknowledged write than the others.
fn diverged(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let (key, places, seen) = finals(entries, draws)?;
    let calls = calls(entries).unwrap();
    let other: Vec<_> = calls
        .iter()
        .filter(|call| call.f() == "write" && call.is_ok() && call.key() == key.as_deref())
        .filter(|call| call.begin.value != seen)
        .collect();
    let value = draws.pick(&other)?.begin.value.clone();
    Some(mutation::answered(entries, *draws.pick(&places)?, value))
}

fn invented(entries: &[Entry], draws: &mut Draws) -> Option<Vec<Entry>> {
    let (_, places, _) = finals(entries, draws)?;
    Some(mutation::answered(entries, *draws.pick(&places)?, json!(1_000_000)))
}

#[test]
fn every_beaten_diverged_and_invented_end_is_found() {
    for (name, mutate) in [
        ("a beaten write stands", beaten as mutation::Mutation),
        ("replicas diverged", diverged),
        ("invented content", invented),
    ] {
        mutation::assert_found(name, &Shape::sloppy(Load::Register), mutate, |entries| {
            check(entries, SKEW).unwrap().finding
        });
    }
}
