//! A seed that failed: what is needed of it, and how to see it again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use quorate::env::mutation::Mutation;
use quorate_simulation::entropy::Seed;
use quorate_simulation::mutations;
use quorate_simulation::recording::Recording;
use quorate_simulation::scenario::{RunOptions, Scenario};
use quorate_simulation::shrink::shrink;
use quorate_simulation::trace::TextLog;

/// Runs that the search for a smaller plan may take.
const TRIALS: usize = 80;

#[derive(Args)]
pub(super) struct Arguments {
    /// A file that a failed run left.
    file: PathBuf,
    /// Print every event.
    #[arg(long)]
    verbose: bool,
}

/// Shrinks the plan of a seed that failed, keeps it in a file and says how to run it.
pub(super) fn tell(
    scenario: Scenario,
    seed: Seed,
    mutation: Option<Mutation>,
    options: RunOptions,
) -> anyhow::Result<()> {
    let seconds = options.span.as_secs();
    let (name, number) = (scenario.name, seed.0);
    println!("again: quorate-simulation --scenario {name} --seed {number} --seconds {seconds}");
    println!("looking for a smaller plan that fails, in at most {TRIALS} runs");
    let plan = (scenario.draw)(seed, options.span);
    let quiet = RunOptions { text: TextLog::Off, ..options };
    let small = shrink(&plan, TRIALS, |plan| {
        let ran = mutations::run_plan(mutation, scenario, (seed, plan), quiet);
        ran.map_or(true, |report| !report.violations.is_empty())
    });
    println!("{} of {} faults are left:", small.faults.len(), plan.faults.len());
    for planned in &small.faults {
        let end = planned.at_millis + planned.lasts_millis;
        let fault = planned.fault;
        println!(
            "  {:>6}..{end:<6} ms  {} {} {} {}",
            planned.at_millis,
            fault.kind.name(),
            fault.node.short(),
            if fault.other == fault.node { String::new() } else { fault.other.short().to_string() },
            if fault.amount == 0 { String::new() } else { fault.amount.to_string() },
        );
    }
    let file = format!("simulation-{name}-{number}.json");
    let recording = Recording::of(scenario, seed, options.span, mutation, small);
    fs::write(&file, serde_json::to_vec_pretty(&recording)?)?;
    println!("again: quorate-simulation replay {file} --verbose");
    Ok(())
}

/// Runs what a file says; whether all that should hold did.
pub(super) fn replay(arguments: &Arguments) -> anyhow::Result<bool> {
    let text = if arguments.verbose { TextLog::On } else { TextLog::Off };
    let report = read(&arguments.file)?.run(text)?;
    super::seeds::print(&report);
    Ok(report.violations.is_empty())
}

fn read(file: &Path) -> anyhow::Result<Recording> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no recording", file.display()))
}
