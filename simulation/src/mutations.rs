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
    /// One of these seeds of a scenario.
    Seeds(Search),
    /// This test, which fails with the bug.
    Test(TestName),
}

/// Where a bug is looked for, and must be found.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The first seed.
    pub first: u64,
    /// The last seed.
    pub last: u64,
    /// Simulated seconds of faults.
    pub seconds: u64,
}

/// A test of this package.
#[derive(Clone, Copy, Debug)]
pub struct TestName {
    /// The test binary.
    pub target: &'static str,
    /// The test's name in it.
    pub name: &'static str,
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

/// When a bug was found, when the table was last measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The first seed that found it; 0 if it was a test.
    pub seed: u64,
    /// Seconds until then, on one core, runs without the bug included.
    pub seconds: u32,
}

/// One planted bug and who finds it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The bug.
    pub mutation: Mutation,
    /// Who finds it.
    pub finder: Finder,
    /// After how long.
    pub measured: Measured,
    /// What is reported, in short.
    pub says: &'static str,
}

const fn seeds(
    mutation: Mutation,
    (scenario, first, last, seconds): (&'static str, u64, u64, u64),
    (seed, took): (u64, u32),
    says: &'static str,
) -> Entry {
    let finder = Finder::Seeds(Search { scenario, first, last, seconds });
    Entry { mutation, finder, measured: Measured { seed, seconds: took }, says }
}

const fn test(
    mutation: Mutation,
    (target, name): (&'static str, &'static str),
    took: u32,
    says: &'static str,
) -> Entry {
    let finder = Finder::Test(TestName { target, name });
    Entry { mutation, finder, measured: Measured { seed: 0, seconds: took }, says }
}

/// Planted bugs, and what finds each. A bug that is not here is not proven to be found.
pub const TABLE: &[Entry] = &[
    seeds(
        Mutation::SkipRowSync,
        ("set", 1, 12, 20),
        (1, 1),
        "I2: an acknowledged element is not listed",
    ),
    test(
        Mutation::SkipSegmentSync,
        ("store_crash", "what_was_acknowledged_survives_a_power_cut_at_every_step"),
        3,
        "a chunk of an acknowledged extent cannot be read",
    ),
    test(
        Mutation::SkipReplay,
        ("store_crash", "what_was_acknowledged_survives_a_power_cut_at_every_step"),
        4,
        "an acknowledged extent is lost",
    ),
    test(
        Mutation::UnlinkUnsettled,
        (
            "store_compaction",
            "a_segment_goes_only_once_the_rows_that_replace_its_extents_are_durable",
        ),
        3,
        "a chunk is looked for in a segment that is gone",
    ),
    seeds(
        Mutation::ReadOne,
        ("objects", 1, 12, 20),
        (1, 28),
        "I2: an older write is found than was acknowledged",
    ),
    seeds(
        Mutation::WriteOne,
        ("objects", 1, 12, 20),
        (2, 37),
        "I2: an older write is found than was acknowledged",
    ),
    test(
        Mutation::AbsentForUnknown,
        ("catalog", "too_few_owners_cannot_say_that_there_is_nothing"),
        1,
        "one owner of three is believed that there is nothing",
    ),
    seeds(
        Mutation::UncertainIsFailed,
        ("objects", 1, 12, 20),
        (2, 22),
        "I9: a write that was answered as not done is visible",
    ),
    test(
        Mutation::FallbackInQuorum,
        ("catalog", "nobody_stands_in_for_the_owners_of_a_strict_bucket"),
        2,
        "a strict write is taken with one owner of three",
    ),
    seeds(
        Mutation::FallbackInProof,
        ("graves", 1, 12, 20),
        (3, 2),
        "I3: a partition was proven in full without an owner",
    ),
    seeds(
        Mutation::CountRebuilding,
        ("set", 1, 12, 20),
        (1, 1),
        "I2: an acknowledged element is not listed",
    ),
    seeds(
        Mutation::DropHints,
        ("sloppy", 1, 12, 20),
        (1, 5),
        "I3: a row is kept by a node that is no owner",
    ),
    test(
        Mutation::HintStruckEarly,
        ("repair", "a_hint_stays_until_its_owner_has_said_that_it_has_the_row"),
        2,
        "hints go while no request reaches their owner",
    ),
    seeds(
        Mutation::GuestForOneOnly,
        ("sloppy", 1, 12, 20),
        (2, 5),
        "I2: a hint is kept without its row",
    ),
    seeds(
        Mutation::PurgeByAge,
        ("graves", 1, 12, 20),
        (1, 2),
        "I4: a deleted value is found again",
    ),
    seeds(
        Mutation::ForgetFloors,
        ("graves", 1, 12, 20),
        (3, 3),
        "I4: a deleted value is found again",
    ),
    seeds(
        Mutation::IgnoreFloors,
        ("graves", 1, 12, 20),
        (4, 2),
        "I4: a deleted value is found again",
    ),
    test(
        Mutation::IgnoreFence,
        ("repair", "a_client_s_write_from_before_a_proof_is_refused_and_an_owner_s_is_taken"),
        1,
        "a write from below the fence is taken",
    ),
    seeds(Mutation::OlderWins, ("graves", 1, 12, 20), (1, 1), "I2: an overwritten value is found"),
    seeds(
        Mutation::DropSiblings,
        ("sloppy", 1, 12, 20),
        (1, 3),
        "I2: a concurrent value is gone, and nobody saw it",
    ),
    seeds(
        Mutation::ReuseActors,
        ("sloppy", 1, 12, 20),
        (2, 5),
        "I2: a concurrent value is gone, and nobody saw it",
    ),
    test(
        Mutation::StampBelowSeen,
        ("catalog", "nodes_that_stamped_nothing_since_they_began_stamp_above_what_they_replace"),
        2,
        "a later write is stamped below an earlier one",
    ),
    test(
        Mutation::NotMintedAgain,
        (
            "catalog",
            "a_write_through_a_slow_clock_stands_above_those_that_were_acknowledged_before",
        ),
        2,
        "an acknowledged write is hidden by one before it",
    ),
    seeds(
        Mutation::LeafLeftBehind,
        ("graves", 1, 12, 20),
        (1, 1),
        "I3: a leaf is not the sum of its rows",
    ),
    seeds(
        Mutation::InlineUnchecked,
        ("set", 1, 12, 20),
        (4, 12),
        "I1: inline bytes do not match their head",
    ),
    seeds(
        Mutation::ChunksUnchecked,
        ("objects", 1, 12, 20),
        (4, 31),
        "I5: bytes are others than were written",
    ),
    test(
        Mutation::DamageIsAbsence,
        ("repair", "rotten_inline_bytes_are_found_and_mended_before_the_other_copies_are_needed"),
        3,
        "what rotted is not mended",
    ),
    seeds(
        Mutation::FreeUnasked,
        ("objects", 1, 12, 20),
        (1, 12),
        "I9: no copy of acknowledged bytes is left",
    ),
    test(
        Mutation::OrphansEarly,
        ("catalog", "the_bytes_of_a_body_that_comes_slowly_are_no_orphans"),
        4,
        "bytes of a write that was under way are gone",
    ),
    test(
        Mutation::CompleteAgain,
        ("catalog", "a_completion_that_is_ended_late_does_not_undo_what_was_written_since"),
        4,
        "an older object stands above a later one",
    ),
    seeds(
        Mutation::IgnoreEpochs,
        ("buckets", 1, 12, 20),
        (3, 3),
        "I3: an acknowledged object's bucket is gone",
    ),
];

/// The table as it stands in the documentation.
#[must_use]
pub fn table() -> String {
    let mut text =
        String::from("| Bug | What it does | Found by | Measured | What is reported |\n");
    text.push_str("|---|---|---|---|---|\n");
    for Entry { mutation, finder, measured, says } in TABLE {
        let Measured { seed, seconds: took } = measured;
        let (by, found) = match finder {
            Finder::Seeds(Search { scenario, first, last, seconds }) => (
                format!("`{scenario}`, seeds {first} to {last}, {seconds} s"),
                format!("seed {seed}, {took} s"),
            ),
            Finder::Test(TestName { target, name, .. }) => {
                (format!("`{target}`: `{name}`"), format!("{took} s"))
            }
        };
        let (name, about) = (mutation.name(), mutation.about());
        let _infallible = writeln!(text, "| `{name}` | {about} | {by} | {found} | {says} |");
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

#[cfg(test)]
mod tests {
    use super::{Mutation, TABLE, table};

    #[test]
    fn every_planted_bug_is_looked_for_once_as_the_documentation_says() {
        for mutation in Mutation::ALL {
            let found = TABLE.iter().filter(|entry| entry.mutation == *mutation).count();
            assert_eq!(found, 1, "{}", mutation.name());
        }
        let documented = include_str!("../../docs/simulation.md");
        assert!(
            documented.contains(&table()),
            "print it with: quorate-simulation mutations --table"
        );
    }
}
