//! Equal seeds are equal runs: in one process, and in another.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::process::Command;
use std::time::Duration;

use quorate_simulation::entropy::Seed;
use quorate_simulation::scenario::{RunOptions, register};
use quorate_simulation::trace::{TextLog, TraceSummary};

const SECONDS: u64 = 20;

fn trace(seed: u64) -> TraceSummary {
    let options = RunOptions { span: Duration::from_secs(SECONDS), text: TextLog::Off };
    let report = register::run(Seed(seed), options).unwrap();
    assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    report.trace
}

#[test]
fn the_same_seed_is_the_same_run_in_this_process() {
    for seed in 1..=20 {
        let first = trace(seed);
        let second = trace(seed);

        assert_eq!(first, second, "seed {seed}");
        assert!(first.events > 1_000, "seed {seed} did almost nothing: {}", first.events);
    }
}

#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    let own: Vec<String> = (1..=20).map(|seed| format!("{:016x}", trace(seed).hash)).collect();

    let output = Command::new(env!("CARGO_BIN_EXE_quorate-simulation"))
        .args(["--seeds", "20", "--first", "1", "--seconds", &SECONDS.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let other: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("seed"))
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();

    assert!(output.status.success(), "{text}");
    assert_eq!(own, other);
}

#[test]
fn different_seeds_are_different_runs() {
    let mut hashes: Vec<u64> = (1..=20).map(|seed| trace(seed).hash).collect();

    hashes.sort_unstable();
    hashes.dedup();

    assert_eq!(hashes.len(), 20);
}
