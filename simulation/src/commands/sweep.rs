//! Runs seeds on several threads, tells how it goes, and adds up what they met.
#![expect(clippy::disallowed_methods, reason = "it tells people how fast it is")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use quorate_simulation::coverage::{Counts, MARKS, POINTS};
use quorate_simulation::entropy::Seed;
use quorate_simulation::scenario::Report;

/// How often it is told how it goes.
const TOLD_EVERY: Duration = Duration::from_secs(15);

/// Enough for a world of seven nodes in which everything is polled in everything.
pub(super) const STACK_BYTES: usize = 16 << 20;

/// What many runs met.
#[derive(Default)]
pub(super) struct Totals {
    seeds: u64,
    events: u64,
    simulated: Duration,
    took: Duration,
    faults: Counts,
    operations: Counts,
    passed: Counts,
    died: Counts,
    /// The scenarios and seeds that failed.
    pub(super) failed: Vec<(&'static str, u64)>,
}

impl Totals {
    fn count(&mut self, scenario: &'static str, report: &Report) {
        self.seeds += 1;
        self.events += report.trace.events;
        self.simulated += report.trace.simulated;
        add(&mut self.faults, &report.faults());
        add(&mut self.operations, &report.operations);
        add(&mut self.passed, &report.passed);
        add(&mut self.died, &report.died);
        if !report.violations.is_empty() {
            self.failed.push((scenario, report.seed.0));
        }
    }

    /// Adds what other runs met.
    pub(super) fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.simulated += other.simulated;
        self.took += other.took;
        add(&mut self.faults, &other.faults);
        add(&mut self.operations, &other.operations);
        add(&mut self.passed, &other.passed);
        add(&mut self.died, &other.died);
        self.failed.extend(other.failed);
    }

    fn pace(&self) -> String {
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        let minutes = self.took.as_secs_f64().max(0.001) / 60.0;
        format!(
            "{} seeds, {} events, {hours:.2} simulated hours, {:.2} of them per minute, {} failed",
            self.seeds,
            self.events,
            hours / minutes,
            self.failed.len()
        )
    }

    /// Tells everything.
    pub(super) fn print(&self) {
        println!("\nall: {}", self.pace());
        println!("operations  {}", words(&self.operations));
        println!("faults      {}", words(&self.faults));
        println!("died at     {}", words(&self.died));
        let reached: Counts = self
            .passed
            .iter()
            .filter(|(name, _)| MARKS.contains(name))
            .map(|(name, count)| (*name, *count))
            .collect();
        println!("reached     {}", words(&reached));
        let missed = |all: &[&'static str], seen: &Counts| -> Vec<&'static str> {
            all.iter().copied().filter(|name| !seen.contains_key(name)).collect()
        };
        println!("NOT REACHED {}", list(&missed(MARKS, &self.passed)));
        println!("NEVER DIED  {}", list(&missed(POINTS, &self.died)));
        for (scenario, seed) in &self.failed {
            println!("FAILED      --scenario {scenario} --seed {seed}");
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "(none)".to_owned() } else { names.join("; ") }
}

fn add(sums: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sums.entry(name).or_default() += count;
    }
}

/// Counters as words.
pub(super) fn words(counts: &Counts) -> String {
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{word} {count}")).collect();
    words.join(", ")
}

/// Runs `one` for each seed and shows the reports in the order of the seeds.
///
/// # Errors
/// The first error of a run, after all runs that had begun.
pub(super) fn run(
    scenario: &'static str,
    seeds: Range<u64>,
    jobs: usize,
    one: &(dyn Fn(Seed) -> anyhow::Result<Report> + Sync),
    show: &mut dyn FnMut(&Report),
) -> anyhow::Result<Totals> {
    let count = seeds.end - seeds.start;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if jobs == 0 { cores } else { jobs };
    let next = AtomicU64::new(seeds.start);
    let began = Instant::now();
    let mut totals = Totals::default();
    let mut told = began;
    let mut waiting: BTreeMap<u64, Report> = BTreeMap::new();
    let mut upcoming = seeds.start;
    let mut failure = None;
    thread::scope(|scope| -> anyhow::Result<()> {
        let (sender, results) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, next, end) = (sender.clone(), &next, seeds.end);
            let work = move || loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || sender.send((seed, one(Seed(seed)))).is_err() {
                    return;
                }
            };
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        }
        drop(sender);
        for (seed, result) in results {
            match result {
                Ok(report) => drop(waiting.insert(seed, report)),
                Err(error) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
            while let Some(report) = waiting.remove(&upcoming) {
                show(&report);
                totals.count(scenario, &report);
                upcoming += 1;
            }
            totals.took = began.elapsed();
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                println!("{scenario}: of {count}: {}", totals.pace());
            }
        }
        Ok(())
    })?;
    println!("{scenario}: {}", totals.pace());
    failure.map_or(Ok(totals), Err)
}
