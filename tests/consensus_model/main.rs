//! The strong mode's rounds, model-checked: the product's acceptors and proposers, driven in
//! every order of a few operations on one key, with messages lost, late and twice, coordinators
//! that die, nodes that lose power, anti-entropy, purges and a change of layout.
//!
//! In every state what clients were told, and what a new reader would find through any majority,
//! must be linearizable. Then each rule of `quorate::consensus::rules`, and each duty of the
//! drivers around it, is broken in turn: the search must find a history that shows it. What is
//! covered and what not is written in `docs/adr/0011-strong-rounds.md`.

mod history;
mod plan;
mod suite;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use plan::{EVERYWHERE, Mutation, Plan};
use world::NOTHING_BROKEN;

/// A quick run that explores more states than this has got out of hand.
const QUICK_STATES_MAX: usize = 3_000_000;
/// Where a larger run of one plan stops if it has not seen everything.
const LARGE_STATES_MAX: usize = 40_000_000;

/// Set to "large" for every message everywhere, late answers and longer plans: hours.
const SIZE: &str = "QUORATE_MODEL";

/// What a search found.
struct Found {
    states: usize,
    generated: usize,
    complete: bool,
    /// The steps to the first breach.
    breach: Option<Vec<String>>,
    missing: Vec<&'static str>,
    took: Duration,
}

fn search(plan: Plan, states_max: usize) -> Found {
    #[expect(clippy::disallowed_methods, reason = "tells a person how long the search took")]
    let started = Instant::now();
    let sometimes: Vec<&'static str> = plan.sometimes.iter().map(|(name, _)| *name).collect();
    let checker = plan.checker().target_state_count(states_max).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let breach = discoveries.remove(NOTHING_BROKEN).map(|path| {
        let (breach, mut steps) = (path.last_state().breach, Vec::new());
        steps.extend(path.into_actions().into_iter().map(|action| format!("{action:?}")));
        steps.push(format!("{breach:?}"));
        steps
    });
    let missing = sometimes.into_iter().filter(|name| !discoveries.contains_key(name)).collect();
    let (states, generated) = (checker.unique_state_count(), checker.state_count());
    Found {
        states,
        generated,
        complete: generated < states_max,
        breach,
        missing,
        took: started.elapsed(),
    }
}

/// Runs plans that must hold, and prints what was seen.
fn hold(plans: Vec<Plan>, states_max: usize) {
    println!("| plan | states | steps taken | seconds | |\n|---|---|---|---|---|");
    let mut failed = Vec::new();
    for plan in plans {
        let name = plan.name;
        let found = search(plan, states_max);
        let seconds = found.took.as_secs_f32();
        let seen = if found.complete { "complete" } else { "capped" };
        println!("| {name} | {} | {} | {seconds:.1} | {seen} |", found.states, found.generated);
        if let Some(steps) = found.breach {
            failed.push(format!("{name}:\n  {}", steps.join("\n  ")));
        }
        if found.complete && !found.missing.is_empty() {
            failed.push(format!("{name}: never seen: {}", found.missing.join(", ")));
        }
        if !found.complete && states_max == QUICK_STATES_MAX {
            failed.push(format!("{name}: not all states were seen"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn rounds_hold_in_every_order() {
    match std::env::var(SIZE).as_deref() {
        Ok("large") => hold(larger_worlds(), LARGE_STATES_MAX),
        _ => hold(suite::plans(), QUICK_STATES_MAX),
    }
}

#[test]
fn every_planted_fault_is_found() {
    println!("| fault | plan | steps to it | states | seconds |\n|---|---|---|---|---|");
    let mut unnoticed = Vec::new();
    for (mutation, name) in suite::MUTATIONS {
        let plan = suite::plans().into_iter().find(|plan| plan.name == *name);
        let plan = plan.unwrap_or_else(|| panic!("there is no plan '{name}'"));
        let plan = Plan { mutation: Some(*mutation), sometimes: Vec::new(), ..plan };
        let found = search(plan, QUICK_STATES_MAX);
        let steps = found.breach.map_or(0, |steps| steps.len() - 1);
        let (states, seconds) = (found.states, found.took.as_secs_f32());
        println!("| {mutation:?} | {name} | {steps} | {states} | {seconds:.1} |");
        if steps == 0 {
            unnoticed.push(*mutation);
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
    let planted = |mutation: &Mutation| suite::MUTATIONS.iter().any(|(known, _)| known == mutation);
    assert!(Mutation::ALL.iter().all(planted), "a fault that no plan looks for");
}

/// The same with every message everywhere, late answers, and longer plans.
fn larger_worlds() -> Vec<Plan> {
    let everywhere = |plan: Plan| {
        let ops = plan.ops.iter().map(|op| op.reaching(EVERYWHERE)).collect();
        Plan { ops, lossy: true, ..plan }
    };
    let late = |plan: Plan| Plan { delayed: true, ..plan };
    let twice = |plan: Plan| Plan { duplicates: true, ..plan };
    let mut plans = suite::larger_plans();
    plans.extend(suite::plans().into_iter().map(everywhere));
    plans.extend(suite::plans().into_iter().map(late));
    plans.extend(suite::plans().into_iter().map(twice));
    plans
}
