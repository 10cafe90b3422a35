//! `mutations`: plants each bug and sees that it is found.
#![expect(clippy::disallowed_methods, reason = "it tells people how long they waited")]

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use quorate::env::mutation::Mutation;
use quorate_simulation::mutations::{self, Entry, Finder, Search, TABLE, TestName, Trial, Verdict};

use super::sweep::STACK_BYTES;

#[derive(Args)]
pub(super) struct Arguments {
    /// Only this bug.
    #[arg(long)]
    only: Option<String>,
    /// Bugs to look for at once; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Begin nothing more after so many seconds; what is found soonest is run first.
    #[arg(long)]
    within: Option<u64>,
    /// Leave the bugs out that tests find (they are run by cargo).
    #[arg(long)]
    no_tests: bool,
    /// Look among so many seeds for one that finds each bug, instead of running the table.
    #[arg(long)]
    search: Option<u64>,
    /// Where to look: the first of these seeds.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Where to look: simulated seconds of faults.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where to look: one scenario instead of all.
    #[arg(long)]
    scenario: Option<String>,
    /// List the bugs and stop.
    #[arg(long)]
    list: bool,
    /// Print the table as it stands in the documentation and stop.
    #[arg(long)]
    table: bool,
}

/// What became of one bug.
enum Found {
    /// It was found.
    Yes,
    /// It was not found where the table says, or something fails without it.
    No,
    /// There was no time.
    NotRun,
}

/// Whether every bug was found.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.list {
        for mutation in Mutation::ALL {
            println!("{:<22} {}", mutation.name(), mutation.about());
        }
        return Ok(true);
    }
    if arguments.table {
        print!("{}", mutations::table());
        return Ok(true);
    }
    let only = arguments.only.as_deref().map(mutations::find).transpose()?;
    let Some(seeds) = arguments.search else { return verify_all(only, arguments) };
    let mut all = true;
    for &mutation in Mutation::ALL.iter().filter(|m| only.is_none_or(|only| only == **m)) {
        all &= search(mutation, seeds, arguments)?;
    }
    Ok(all)
}

/// Runs the table, several bugs at once, those that are found soonest first.
fn verify_all(only: Option<Mutation>, arguments: &Arguments) -> anyhow::Result<bool> {
    let mut entries: Vec<&Entry> = TABLE
        .iter()
        .filter(|entry| only.is_none_or(|only| only == entry.mutation))
        .filter(|entry| !(arguments.no_tests && matches!(entry.finder, Finder::Test(_))))
        .collect();
    entries.sort_by_key(|entry| entry.measured.seconds);
    let began = Instant::now();
    let until = arguments.within.map(|seconds| began + Duration::from_secs(seconds));
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if arguments.jobs == 0 { cores } else { arguments.jobs };
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = match until {
                Some(until) if Instant::now() >= until => Ok(Found::NotRun),
                _ => verify(entry),
            };
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            results.push((entry.mutation.name(), found));
        }
    };
    thread::scope(|scope| -> anyhow::Result<()> {
        for _ in 0..jobs {
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        }
        Ok(())
    })?;
    let (mut found, mut missed, mut not_run) = (0, Vec::new(), Vec::new());
    for (name, result) in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        match result.with_context(|| format!("with {name} planted"))? {
            Found::Yes => found += 1,
            Found::No => missed.push(name),
            Found::NotRun => not_run.push(name),
        }
    }
    let took = began.elapsed().as_secs();
    println!("\n{found} of {} planted bugs were found in {took} s", Mutation::ALL.len());
    if !not_run.is_empty() {
        println!("no time for {}", not_run.join(", "));
    }
    if !missed.is_empty() {
        println!("NOT FOUND {}", missed.join(", "));
    }
    Ok(missed.is_empty() && found > 0)
}

fn verify(entry: &Entry) -> anyhow::Result<Found> {
    match entry.finder {
        Finder::Seeds(search) => verify_seeds(entry.mutation, search),
        Finder::Test(test) => verify_test(entry.mutation, test),
    }
}

/// Runs seeds until one finds the bug.
fn verify_seeds(mutation: Mutation, search: Search) -> anyhow::Result<Found> {
    let Search { scenario, first, last, seconds } = search;
    let (name, began) = (mutation.name(), Instant::now());
    for seed in first..=last {
        let verdict = mutations::judge(mutation, Trial { scenario, seed, seconds })?;
        let took = began.elapsed().as_secs_f64();
        let place = format!("{scenario:<8} {seed:>3}  {took:>6.1} s ");
        match verdict {
            Verdict::Caught(what) => {
                println!("{name:<22} {place} {what}");
                return Ok(Found::Yes);
            }
            Verdict::Survived => {}
            Verdict::Unclean(what) => {
                println!("{name:<22} {place} FAILS WITHOUT THE BUG TOO  {what}");
                return Ok(Found::No);
            }
        }
    }
    println!("{name:<22} {scenario:<8} SURVIVED seeds {first} to {last}");
    Ok(Found::No)
}

/// Runs a test with the bug, which must fail, and without it, which must pass.
fn verify_test(mutation: Mutation, test: TestName) -> anyhow::Result<Found> {
    let (bug, began) = (mutation.name(), Instant::now());
    let failed = run_test(test, Some(bug))?.contains(&format!("test {} ... FAILED", test.name));
    let passes = run_test(test, None)?.contains(&format!("test {} ... ok", test.name));
    let took = began.elapsed().as_secs_f64();
    let verdict = match (failed, passes) {
        (true, true) => "fails with the bug and passes without it",
        (false, _) => "DOES NOT FAIL with the bug",
        (true, false) => "DOES NOT PASS without the bug",
    };
    println!("{bug:<22} {:<13} {took:>6.1} s  {}: {verdict}", test.target, test.name);
    Ok(if failed && passes { Found::Yes } else { Found::No })
}

/// What the test binary says.
fn run_test(test: TestName, bug: Option<&str>) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--release", "--locked", "--features", "mutations"]);
    command.args(["-p", "quorate-simulation", "--test", test.target]);
    command.args(["--", "--exact", test.name]).stderr(Stdio::null());
    command.env_remove("QUORATE_PLANT");
    if let Some(bug) = bug {
        command.env("QUORATE_PLANT", bug);
    }
    let ran = command.output().context("cargo cannot be run")?;
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// Looks for the first seed that finds a bug.
fn search(mutation: Mutation, seeds: u64, arguments: &Arguments) -> anyhow::Result<bool> {
    let (name, seconds) = (mutation.name(), arguments.seconds);
    for scenario in super::scenarios(arguments.scenario.as_deref())? {
        if scenario.name == "register" {
            // It runs no code of the product.
            continue;
        }
        let began = Instant::now();
        let place = scenario.name;
        for seed in arguments.first..arguments.first + seeds {
            let verdict = mutations::judge(mutation, Trial { scenario: place, seed, seconds })?;
            let took = began.elapsed().as_secs_f64();
            match verdict {
                Verdict::Caught(what) => {
                    println!("{name:<22} {place:<8} seed {seed:>4} {took:>6.1} s  {what}");
                    return Ok(true);
                }
                Verdict::Unclean(what) => {
                    println!("{name:<22} {place:<8} seed {seed:>4} UNCLEAN  {what}");
                }
                Verdict::Survived => {}
            }
        }
        let took = began.elapsed().as_secs_f64();
        println!("{name:<22} {place:<8} survives {seeds} {took:>6.1} s");
    }
    Ok(false)
}
