//! Planted bugs: which seed or test finds which, so that it is known what a clean run proves.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Context;
use quorate::env::mutation::Mutation;

use crate::entropy::Seed;
use crate::scenario::{self, Plan, Report, RunOptions, Scenario};
use crate::trace::TextLog;

/// Who finds a planted bug.
#[derive(Clone, Copy, Debug)]
pub enum Finder {
    /// This seed of a scenario, which is clean without the bug.
    Seed {
        /// The scenario's name.
        scenario: &'static str,
        /// The first seed that finds it.
        seed: u64,
    },
    /// Nobody yet.
    Nobody,
}

/// One planted bug and who finds it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The bug.
    pub mutation: Mutation,
    /// The invariant of the design that it breaks first.
    pub invariant: &'static str,
    /// Who finds it.
    pub finder: Finder,
}

const fn by(
    mutation: Mutation,
    invariant: &'static str,
    scenario: &'static str,
    seed: u64,
) -> Entry {
    Entry { mutation, invariant, finder: Finder::Seed { scenario, seed } }
}

/// Simulated seconds of faults in each run of the table.
pub const SECONDS: u64 = 60;

/// Every planted bug. CI runs each with its seed, and fails if one is not found.
pub const TABLE: &[Entry] = &[by(Mutation::SkipRowSync, "I1", "objects", 1)];

/// What one run with a bug came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The bug was noticed: the first thing that did not hold.
    Caught(String),
    /// Nothing was noticed.
    Survived,
}

/// Runs one seed with a bug planted.
///
/// # Errors
/// If this binary has no planted bugs in it, or the run cannot be made.
pub fn run_with(
    mutation: Option<Mutation>,
    scenario: Scenario,
    seed: Seed,
    options: RunOptions,
) -> anyhow::Result<Report> {
    run_plan(mutation, scenario, (seed, &(scenario.draw)(seed, options.span)), options)
}

/// Runs a plan with a bug planted.
///
/// # Errors
/// As [`run_with`].
pub fn run_plan(
    mutation: Option<Mutation>,
    scenario: Scenario,
    (seed, plan): (Seed, &Plan),
    options: RunOptions,
) -> anyhow::Result<Report> {
    plant(mutation)?;
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(seed, plan, options)));
    plant(None).or_else(|error| if mutation.is_none() { Ok(()) } else { Err(error) })?;
    match ran {
        Ok(report) => report,
        Err(_) => anyhow::bail!("seed {} of {} panicked", seed.0, scenario.name),
    }
}

#[cfg(feature = "mutations")]
fn plant(mutation: Option<Mutation>) -> anyhow::Result<()> {
    quorate::env::mutation::plant(mutation);
    Ok(())
}

#[cfg(not(feature = "mutations"))]
fn plant(mutation: Option<Mutation>) -> anyhow::Result<()> {
    match mutation {
        None => Ok(()),
        Some(_) => anyhow::bail!("build with --features mutations to plant bugs"),
    }
}

/// Whether a seed notices a bug. A run that cannot end properly has noticed it too.
///
/// # Errors
/// If this binary has no planted bugs in it.
pub fn judge(mutation: Mutation, scenario: Scenario, seed: Seed) -> anyhow::Result<Verdict> {
    plant(None)?;
    let span = Duration::from_secs(SECONDS);
    let options = RunOptions { span, text: TextLog::Off };
    plant(Some(mutation))?;
    Ok(match run_with(Some(mutation), scenario, seed, options) {
        Ok(report) => match report.violations.first() {
            Some(first) => Verdict::Caught(first.lines().next().unwrap_or_default().to_owned()),
            None => Verdict::Survived,
        },
        Err(error) => Verdict::Caught(error.to_string()),
    })
}

/// The bug of that name.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> anyhow::Result<Mutation> {
    let found = Mutation::ALL.iter().find(|mutation| mutation.name() == name);
    found.copied().with_context(|| format!("no mutation '{name}'; try: mutations --list"))
}

/// The scenario that an entry of the table names.
///
/// # Errors
/// If there is none.
pub fn scenario_of(name: &str) -> anyhow::Result<Scenario> {
    scenario::find(name).with_context(|| format!("no scenario '{name}'; try --list"))
}
