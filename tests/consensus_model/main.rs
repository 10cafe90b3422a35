//! The strong mode's rounds, model-checked.
mod history;
mod plan;
mod world;

use plan::*;
use stateright::{Checker, Model};
use std::time::Instant;

fn run(plan: Plan) -> (usize, usize, Option<usize>) {
    let name = plan.name;
    let started = Instant::now();
    let checker = plan.checker().threads(1).timeout(std::time::Duration::from_secs(100)).spawn_bfs().join();
    let found = checker.discoveries().into_values().next();
    let len = found.as_ref().map(|path| path.clone().into_actions().len());
    println!("{name}: {} unique, {} gen, depth {}, {:?}, {:.1}s done={}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), len, started.elapsed().as_secs_f32(), checker.is_done());
    if let Some(path) = found { for (state, action) in path.into_vec() { println!("   {action:?} {:?}", state.breach); } }
    (checker.unique_state_count(), checker.state_count(), len)
}

#[test]
fn probe() {
    run(Plan::new("blind+blind", &[blind(1), blind(2)]));
    run(Plan::new("blind+swap", &[blind(1), swap(1, 2)]));
    run(Plan::new("blind+read", &[blind(1), read()]));
}
