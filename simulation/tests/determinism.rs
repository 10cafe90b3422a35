//! Equal seeds are equal runs: in one process, and in another.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::process::Command;
use std::time::Duration;

use quorate_simulation::entropy::Seed;
use quorate_simulation::scenario::{self, RunOptions};
use quorate_simulation::trace::{TextLog, TraceSummary};

const SECONDS: u64 = 20;

/// A run's trace, whether or not all held that should: that is for other tests.
fn trace(scenario: &str, seed: u64) -> TraceSummary {
    let options = RunOptions { span: Duration::from_secs(SECONDS), text: TextLog::Off };
    scenario::find(scenario).unwrap().run_seed(Seed(seed), options).unwrap().trace
}

fn the_same_in_this_process(scenario: &str, seeds: u64) {
    for seed in 1..=seeds {
        let first = trace(scenario, seed);
        let second = trace(scenario, seed);

        assert_eq!(first, second, "{scenario}, seed {seed}");
        assert!(first.events > 1_000, "seed {seed} did almost nothing: {}", first.events);
    }
}

fn the_same_in_another_process(scenario: &str, seeds: u64) {
    let own: Vec<String> =
        (1..=seeds).map(|seed| format!("{:016x}", trace(scenario, seed).hash)).collect();

    let output = Command::new(env!("CARGO_BIN_EXE_quorate-simulation"))
        .args(["--scenario", scenario, "--seeds", &seeds.to_string()])
        .args(["--seconds", &SECONDS.to_string(), "--jobs", "1", "--no-shrink"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let other: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("seed"))
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();

    assert_eq!(own, other);
}

fn different_seeds_differ(scenario: &str, seeds: u64) {
    let mut hashes: Vec<u64> = (1..=seeds).map(|seed| trace(scenario, seed).hash).collect();
    let runs = hashes.len();

    hashes.sort_unstable();
    hashes.dedup();

    assert_eq!(hashes.len(), runs);
}

#[test]
fn the_same_seed_is_the_same_run_in_this_process() {
    the_same_in_this_process("register", 20);
}

#[test]
fn the_same_seed_of_real_nodes_is_the_same_run_in_this_process() {
    the_same_in_this_process("objects", 5);
}

#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    the_same_in_another_process("register", 20);
}

#[test]
fn the_same_seed_of_real_nodes_is_the_same_run_in_another_process() {
    the_same_in_another_process("objects", 5);
}

#[test]
fn different_seeds_are_different_runs() {
    different_seeds_differ("register", 20);
    different_seeds_differ("objects", 5);
}
