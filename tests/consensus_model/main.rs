//! The strong mode's rounds, model-checked.
mod history;
mod plan;
mod suite;
mod world;

use plan::*;
use stateright::{Checker, Model};
use std::time::Instant;

fn run(plan: Plan) -> (usize, usize, Option<usize>) {
    let name = plan.name; let m = plan.mutation;
    let started = Instant::now();
    let checker = plan.checker().threads(1).target_state_count(1_500_000).timeout(std::time::Duration::from_secs(300)).spawn_bfs().join();
    let found = checker.discoveries().into_values().next();
    let len = found.as_ref().map(|path| path.clone().into_actions().len());
    println!("{name} {m:?}: {} unique, {} gen, depth {}, {:?}, {:.1}s done={}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), len, started.elapsed().as_secs_f32(), checker.is_done());
    if let Some(path) = found && std::env::var("SHOW").is_ok() { for (state, action) in path.into_vec() { println!("   {action:?} {:?}", state.breach); } }
    (checker.unique_state_count(), checker.state_count(), len)
}

#[test]
fn probe() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for plan in suite::plans() { if plan.name.contains(&only) { run(plan); } }
}
#[test]
fn mutants() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for (mutation, name) in suite::MUTATIONS {
        if only.split(',').all(|only| !format!("{mutation:?}").contains(only)) { continue }
        let plan = suite::plans().into_iter().find(|plan| plan.name == *name).unwrap();
        run(Plan { mutation: Some(*mutation), ..plan });
    }
}
