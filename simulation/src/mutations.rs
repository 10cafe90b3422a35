//! Planted bugs: which seed or test finds which, so that it is known what a clean run proves.

use std::fmt::Write as _;
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
    Seed(Trial),
    /// This test, which was seen to fail with the bug.
    Test(&'static str),
}

/// One run in which a bug is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// Simulated seconds of faults.
    pub seconds: u64,
}

/// One planted bug and who finds it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The bug.
    pub mutation: Mutation,
    /// Who finds it.
    pub finder: Finder,
    /// What is reported, in short.
    pub says: &'static str,
}

const fn by(
    mutation: Mutation,
    (scenario, seed, seconds): (&'static str, u64, u64),
    says: &'static str,
) -> Entry {
    Entry { mutation, finder: Finder::Seed(Trial { scenario, seed, seconds }), says }
}

/// Planted bugs that were seen to be found, and by what. A bug that is not here is not proven to be.
pub const TABLE: &[Entry] = &[
    by(Mutation::SkipRowSync, ("graves", 4, 20), "I4: what was overwritten is found again"),
    by(
        Mutation::SkipSegmentSync,
        ("graves", 4, 20),
        "I3: a hint whose bytes were lost is never delivered",
    ),
    by(Mutation::ReadOne, ("objects", 3, 20), "I2: an older write is found than was acknowledged"),
    by(
        Mutation::UncertainIsFailed,
        ("graves", 6, 20),
        "I4: values that were answered as not written are found",
    ),
    by(
        Mutation::FallbackInProof,
        ("graves", 3, 20),
        "I3: a partition was proven in full without an owner",
    ),
    by(Mutation::DropHints, ("graves", 3, 20), "I3: a row is kept by a node that owns it not"),
    by(Mutation::PurgeByAge, ("graves", 3, 20), "I4: a deleted value is found again"),
    by(Mutation::ForgetFloors, ("graves", 3, 20), "I4: a deleted value is found again"),
    by(Mutation::IgnoreFloors, ("graves", 4, 20), "I4: a deleted value is found again"),
    by(Mutation::OlderWins, ("graves", 3, 20), "I4: an overwritten value is found"),
    by(Mutation::DropSiblings, ("graves", 5, 20), "I4: one of two concurrent values is missing"),
];

/// The table as it stands in the documentation.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| Bug | What it does | Found by | What is reported |\n");
    text.push_str("|---|---|---|---|\n");
    for Entry { mutation, finder, says } in TABLE {
        let by = match finder {
            Finder::Seed(Trial { scenario, seed, seconds }) => {
                format!("`{scenario}`, seed {seed}, {seconds} s")
            }
            Finder::Test(name) => format!("the test `{name}`"),
        };
        let (name, about) = (mutation.name(), mutation.about());
        let _infallible = writeln!(text, "| `{name}` | {about} | {by} | {says} |");
    }
    text
}

/// What one run with a bug came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The bug was noticed: the first thing that did not hold.
    Caught(String),
    /// Nothing was noticed.
    Survived,
    /// The same thing, or another, does not hold without the bug.
    Unclean(String),
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

/// Whether a run notices a bug, and is clean without it. A run that cannot end properly has
/// noticed the bug too.
///
/// # Errors
/// If this binary has no planted bugs in it, or there is no such scenario.
pub fn judge(mutation: Mutation, trial: Trial) -> anyhow::Result<Verdict> {
    plant(Some(mutation))?;
    let scenario = scenario_of(trial.scenario)?;
    let span = Duration::from_secs(trial.seconds);
    let options = RunOptions { span, text: TextLog::Off };
    let run = |mutation| noticed(run_with(mutation, scenario, Seed(trial.seed), options));
    Ok(match (run(Some(mutation)), run(None)) {
        (None, _) => Verdict::Survived,
        (Some(_), Some(other)) => Verdict::Unclean(other),
        (Some(what), None) => Verdict::Caught(what),
    })
}

/// The first thing that did not hold in a run, in one line.
fn noticed(ran: anyhow::Result<Report>) -> Option<String> {
    let what = match ran {
        Ok(report) => report.violations.into_iter().next()?,
        Err(error) => error.to_string(),
    };
    Some(what.lines().next().unwrap_or_default().to_owned())
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
