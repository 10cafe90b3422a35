//! Without a subcommand: runs scenarios over seeds.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use quorate::env::mutation::Mutation;
use quorate_simulation::entropy::Seed;
use quorate_simulation::mutations;
use quorate_simulation::scenario::{self, Report, RunOptions, Scenario};
use quorate_simulation::trace::TextLog;

use super::failure;
use super::sweep::{self, Totals};

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
    /// Worlds to run at once; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Plant this bug (see `mutations --list`).
    #[arg(long)]
    mutation: Option<String>,
    /// Do not look for a smaller plan that fails too.
    #[arg(long)]
    no_shrink: bool,
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
    let mutation = arguments.mutation.as_deref().map(mutations::find).transpose()?;
    let mut totals = Totals::default();
    for scenario in super::scenarios(arguments.scenario.as_deref())? {
        totals.add(run_seeds(scenario, mutation, arguments)?);
    }
    totals.print();
    Ok(totals.failed.is_empty())
}

/// Runs one scenario over all seeds.
fn run_seeds(
    scenario: Scenario,
    mutation: Option<Mutation>,
    arguments: &Arguments,
) -> anyhow::Result<Totals> {
    println!("scenario {}: {}", scenario.name, scenario.about);
    let (first, count) = arguments.seed.map_or((arguments.first, arguments.seeds), |one| (one, 1));
    let text = if arguments.verbose { TextLog::On } else { TextLog::Off };
    let options = RunOptions { span: Duration::from_secs(arguments.seconds), text };
    let one = |seed: Seed| {
        let report = mutations::run_with(mutation, scenario, seed, options)?;
        if arguments.twice {
            again_alike(mutation, scenario, options, &report)?;
        }
        Ok(report)
    };
    let seeds = first..first.saturating_add(count);
    let totals = sweep::run(scenario.name, seeds, arguments.jobs, &one, &mut print)?;
    if let (Some(&(_, seed)), false) = (totals.failed.first(), arguments.no_shrink) {
        failure::tell(scenario, Seed(seed), mutation, options)?;
    }
    Ok(totals)
}

fn again_alike(
    mutation: Option<Mutation>,
    scenario: Scenario,
    options: RunOptions,
    first: &Report,
) -> anyhow::Result<()> {
    let quiet = RunOptions { text: TextLog::Off, ..options };
    let second = mutations::run_with(mutation, scenario, first.seed, quiet)?;
    if second.trace != first.trace {
        let parted = first.trace.checkpoints.iter().zip(&second.trace.checkpoints);
        let place = parted.take_while(|(one, other)| one == other).count();
        bail!("seed {} is not deterministic: the runs part after event {place}000", first.seed.0);
    }
    Ok(())
}

/// Shows one run.
pub(super) fn print(report: &Report) {
    for line in &report.lines {
        println!("{line}");
    }
    println!(
        "seed {:>4}  {:016x}  {:>7} events  {:>6.1} s  [{}]  faults [{}]",
        report.seed.0,
        report.trace.hash,
        report.trace.events,
        report.trace.simulated.as_secs_f64(),
        sweep::words(&report.operations),
        sweep::words(&report.faults()),
    );
    for violation in &report.violations {
        println!("  VIOLATION {violation}");
    }
}
