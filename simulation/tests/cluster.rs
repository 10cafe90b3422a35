//! Real nodes on simulated seams keep what they promise, over a bounded number of seeds.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::time::Duration;

use quorate_simulation::entropy::Seed;
use quorate_simulation::faults::CLOCKS;
use quorate_simulation::scenario::{Report, RunOptions, find, objects};
use quorate_simulation::trace::TextLog;

fn run(seed: u64, seconds: u64) -> Report {
    let options = RunOptions { span: Duration::from_secs(seconds), text: TextLog::Off };
    find("objects").unwrap().run_seed(Seed(seed), options).unwrap()
}

fn assert_holds(seed: u64, seconds: u64) {
    let report = run(seed, seconds);
    assert!(
        report.violations.is_empty(),
        "again: quorate-simulation --scenario objects --seed {seed} --seconds {seconds}\n{}",
        report.violations.join("\n")
    );
}

fn has_wrong_clocks(seed: u64, seconds: u64) -> bool {
    objects::draw(Seed(seed), Duration::from_secs(seconds)).strikes(CLOCKS)
}

#[test]
fn nothing_acknowledged_is_lost_while_links_and_machines_fail() {
    for seed in (1..=30).filter(|seed| !has_wrong_clocks(*seed, 40)) {
        assert_holds(seed, 40);
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_clocks_fail_too() {
    for seed in (1..=30).filter(|seed| has_wrong_clocks(*seed, 40)) {
        assert_holds(seed, 40);
    }
}

/// A run that does nothing proves nothing.
#[test]
fn the_seeds_reach_every_kind_of_operation_outcome_and_fault() {
    let reports: Vec<Report> = (1..=24).map(|seed| run(seed, 30)).collect();

    for word in [
        "read done",
        "read failed",
        "upload done",
        "upload not begun",
        "write done",
        "write not done",
        "write unknown",
    ] {
        let count: u64 = reports.iter().filter_map(|report| report.operations.get(word)).sum();
        assert!(count > 0, "no operation ended as '{word}'");
    }
    for fault in [
        "clock drift",
        "clock jump",
        "crash",
        "isolation",
        "lossy link",
        "one-way cut",
        "power cut",
        "reset",
        "slow link",
        "split",
    ] {
        assert!(reports.iter().any(|report| report.faults().contains_key(fault)), "no {fault}");
    }
}
