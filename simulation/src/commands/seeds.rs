//! Without a subcommand: runs scenarios over seeds.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use quorate_simulation::entropy::Seed;
use quorate_simulation::mutations;
use quorate_simulation::scenario::{self, Report, RunOptions, Scenario};
use quorate_simulation::trace::TextLog;

#[derive(Args)]
pub(super) struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event.
    #[arg(long)]
    verbose: bool,
    /// Run each seed twice, and fail if the two traces differ.
    #[arg(long)]
    twice: bool,
    /// What to run: one of the names that --list prints; all of them if not given.
    #[arg(long)]
    scenario: Option<String>,
    /// How long faults and clients are at work, in simulated seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Plant this bug (see `mutations --list`).
    #[arg(long)]
    mutation: Option<String>,
    /// List the scenarios and stop.
    #[arg(long)]
    list: bool,
}

/// Whether all that should hold did.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.list {
        for scenario in scenario::ALL {
            println!("{:<12} {}", scenario.name, scenario.about);
        }
        return Ok(true);
    }
    let mut good = true;
    for scenario in super::scenarios(arguments.scenario.as_deref())? {
        good &= run_seeds(scenario, arguments)?;
    }
    Ok(good)
}

/// Runs one scenario over all seeds; whether all that should hold did.
fn run_seeds(scenario: Scenario, arguments: &Arguments) -> anyhow::Result<bool> {
    println!("scenario {}: {}", scenario.name, scenario.about);
    let (first, count) = arguments.seed.map_or((arguments.first, arguments.seeds), |one| (one, 1));
    let mut failed = Vec::new();
    let mut simulated = Duration::ZERO;
    let mut events = 0;
    for number in first..first.saturating_add(count) {
        let report = run_seed(scenario, Seed(number), arguments)?;
        simulated += report.trace.simulated;
        events += report.trace.events;
        if !report.violations.is_empty() {
            failed.push(number);
        }
    }
    println!(
        "{}: {count} seeds, {events} events, {:.1} simulated minutes, {} failed{}",
        scenario.name,
        simulated.as_secs_f64() / 60.0,
        failed.len(),
        again(&failed, scenario.name)
    );
    Ok(failed.is_empty())
}

fn run_seed(scenario: Scenario, seed: Seed, arguments: &Arguments) -> anyhow::Result<Report> {
    let mutation = arguments.mutation.as_deref().map(mutations::find).transpose()?;
    let text = if arguments.verbose { TextLog::On } else { TextLog::Off };
    let options = RunOptions { span: Duration::from_secs(arguments.seconds), text };
    let report = mutations::run_with(mutation, scenario, seed, options)?;
    for line in &report.lines {
        println!("{line}");
    }
    print(&report);
    if arguments.twice {
        let quiet = RunOptions { text: TextLog::Off, ..options };
        let second = mutations::run_with(mutation, scenario, seed, quiet)?;
        if second.trace != report.trace {
            let parted = report.trace.checkpoints.iter().zip(&second.trace.checkpoints);
            let place = parted.take_while(|(one, other)| one == other).count();
            bail!("seed {} is not deterministic: the runs part after event {place}000", seed.0);
        }
    }
    Ok(report)
}

fn print(report: &Report) {
    let counts = |counts: &std::collections::BTreeMap<&str, u64>| {
        let words: Vec<String> =
            counts.iter().map(|(word, count)| format!("{word} {count}")).collect();
        words.join(", ")
    };
    println!(
        "seed {:>4}  {:016x}  {:>7} events  {:>6.1} s  [{}]  faults [{}]",
        report.seed.0,
        report.trace.hash,
        report.trace.events,
        report.trace.simulated.as_secs_f64(),
        counts(&report.operations),
        counts(&report.faults()),
    );
    for violation in &report.violations {
        println!("  VIOLATION {violation}");
    }
}

fn again(failed: &[u64], scenario: &str) -> String {
    failed.first().map_or_else(String::new, |seed| {
        format!("; again: quorate-simulation --scenario {scenario} --seed {seed} --verbose")
    })
}
