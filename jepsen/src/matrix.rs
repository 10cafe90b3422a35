//! Many runs, each on a fresh cluster: workloads by mixes of faults, and what came of them.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Context;
use quorate::env::{Clock, OsClock};

use crate::arena::library;
use crate::content::mix as scramble;
use crate::nemesis::{Kind, Mix};
use crate::run::{Order, Ran, run};
use crate::workload::Workload;

/// The runs to do.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The rows.
    pub workloads: Vec<Workload>,
    /// The columns.
    pub mixes: Vec<Mix>,
    /// Everything else; its workload, mix and history are those of each run.
    pub base: Order,
}

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Result {
    /// Everything held.
    Held,
    /// Something did not, or could not be told.
    Broke,
    /// Nothing broke, but no fault took effect either: that proves nothing.
    Idle,
    /// It was not done.
    Skipped(String),
}

impl Result {
    /// What came of `ran`.
    #[must_use]
    pub fn of(ran: &Ran) -> Self {
        match (ran.is_whole(), ran.is_idle()) {
            (false, _) => Self::Broke,
            (true, true) => Self::Idle,
            (true, false) => Self::Held,
        }
    }
}

impl Matrix {
    /// Does all runs, one after the other, and tells each to `tell` as it ends.
    ///
    /// # Errors
    /// If a cluster cannot be built or handled.
    pub async fn run(
        &self,
        clock: &Arc<OsClock>,
        tell: &mut dyn FnMut(&Order, &Ran),
    ) -> anyhow::Result<Vec<(String, Result)>> {
        let mut results: Vec<(String, Result)> = Vec::new();
        let pairs = self.mixes.iter().flat_map(|mix| self.workloads.iter().map(move |w| (w, mix)));
        for (number, (workload, mix)) in (0..).zip(pairs) {
            let name = format!("{workload} {mix}");
            // Two names of one workload.
            if results.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let mut order = self.base.clone();
            order.workload = *workload;
            // Everybody's first run would else have the same faults at the same times.
            order.seed = scramble(self.base.seed ^ scramble(number)) % 1_000_000;
            match possible(*workload, mix) {
                Ok(mix) => order.mix = mix,
                Err(why) => {
                    println!("=== {name}: SKIPPED, {why}");
                    results.push((name, Result::Skipped(why)));
                    continue;
                }
            }
            println!("=== {name}, seed {}", order.seed);
            let began = clock.monotonic();
            let ran = run(&order, Arc::clone(clock)).await;
            let ran = ran.with_context(|| format!("{name}, seed {}", order.seed))?;
            tell(&order, &ran);
            let took = clock.monotonic().since(began).as_secs();
            let result = Result::of(&ran);
            println!("=== {name}: {} in {took} s", word(&result));
            results.push((name, result));
        }
        Ok(results)
    }
}

/// The part of a mix that can be done to this workload on this machine.
///
/// # Errors
/// Why nothing of it can.
pub fn possible(workload: Workload, mix: &Mix) -> std::result::Result<Mix, String> {
    if mix.destroys() && workload.copies() < 2 {
        return Err("a write that is acknowledged by one node does not survive it".to_owned());
    }
    if !mix.has(Kind::Clock) || library().is_some() {
        return Ok(mix.clone());
    }
    let rest = mix.clone().without(Kind::Clock);
    if rest.kinds().is_empty() {
        return Err("clocks cannot be set without Debian's package libfaketime".to_owned());
    }
    println!("SKIPPED in {mix}: clock, for want of Debian's package libfaketime");
    Ok(rest)
}

const fn word(result: &Result) -> &'static str {
    match result {
        Result::Held => "held",
        Result::Broke => "BROKE",
        Result::Idle => "NO FAULT TOOK EFFECT",
        Result::Skipped(_) => "skipped",
    }
}

/// A table of the results.
#[must_use]
pub fn table(results: &[(String, Result)]) -> String {
    let mut text = String::new();
    for (name, result) in results {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<32} {}", word(result));
    }
    let count =
        |wanted: &Result| results.iter().filter(|(_, one)| word(one) == word(wanted)).count();
    let _ = writeln!(
        text,
        "{} runs held, {} broke, {} had no fault that took effect, {} were skipped",
        count(&Result::Held),
        count(&Result::Broke),
        count(&Result::Idle),
        count(&Result::Skipped(String::new()))
    );
    text
}

/// Whether something was done, nothing broke, and every run had a fault that took effect.
#[must_use]
pub fn all_held(results: &[(String, Result)]) -> bool {
    let held = |result: &Result| *result == Result::Held;
    let skipped = |result: &Result| matches!(result, Result::Skipped(_));
    results.iter().any(|(_, result)| held(result))
        && results.iter().all(|(_, result)| held(result) || skipped(result))
}

#[cfg(test)]
mod tests {
    use super::{Result, all_held, possible, table};
    use crate::workload::Workload;

    #[test]
    fn what_was_skipped_altogether_did_not_hold() {
        let skipped = ("a".to_owned(), Result::Skipped("because".to_owned()));
        let held = ("b".to_owned(), Result::Held);
        let broke = ("c".to_owned(), Result::Broke);

        assert!(!all_held(std::slice::from_ref(&skipped)));
        assert!(all_held(&[skipped.clone(), held.clone()]));
        assert!(!all_held(&[held.clone(), broke.clone()]));
        assert!(!all_held(&[held.clone(), ("d".to_owned(), Result::Idle)]));
        let table = table(&[skipped, held, broke]);
        let last = "1 runs held, 1 broke, 0 had no fault that took effect, 1 were skipped\n";
        assert!(table.ends_with(last), "{table}");
    }

    #[test]
    fn one_copy_is_not_put_to_a_test_that_it_cannot_pass() {
        let destroying = "x".parse().unwrap();

        assert!(possible(Workload::Lww, &destroying).is_err());
        assert!(possible(Workload::Register, &destroying).is_ok());
    }
}
