//! Makes a failing plan small: fewer faults, clients, keys and nodes that still fail.

use std::ops::Range;

use crate::faults::PlannedFault;
use crate::scenario::Plan;

/// Looks for a smaller plan that `fails`, running at most `budget` plans.
///
/// Faults first, by delta debugging (Zeller and Hildebrandt, 2002): halves, then ever smaller
/// pieces are left out; then clients, keys and power failures.
pub fn shrink(plan: &Plan, budget: usize, fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut trials = Trials { left: budget, fails };
    let mut best = plan.clone();
    trials.fewer_faults(&mut best);
    for smaller in [
        |plan: &Plan| Plan { mains: crate::cluster::Mains::Steady, ..plan.clone() },
        |plan: &Plan| Plan { clients: 1, ..plan.clone() },
        |plan: &Plan| Plan { keys: (plan.keys / 4).max(1), ..plan.clone() },
        |plan: &Plan| Plan { keys: (plan.keys / 2).max(1), ..plan.clone() },
        |plan: &Plan| Plan { blocking_millis: 0, ..plan.clone() },
    ] {
        let candidate = smaller(&best);
        if candidate != best && trials.fails(&candidate) {
            best = candidate;
        }
    }
    trials.fewer_faults(&mut best);
    best
}

struct Trials<F> {
    left: usize,
    fails: F,
}

impl<F: FnMut(&Plan) -> bool> Trials<F> {
    fn fails(&mut self, plan: &Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        (self.fails)(plan)
    }

    fn fewer_faults(&mut self, best: &mut Plan) {
        let mut pieces = 2;
        while !best.faults.is_empty() && self.left > 0 {
            let count = best.faults.len();
            pieces = pieces.min(count);
            let size = count.div_ceil(pieces);
            let without = (0..pieces).map(|piece| piece * size..((piece + 1) * size).min(count));
            let found = without
                .map(|range| Plan { faults: left_out(&best.faults, range), ..best.clone() })
                .find(|candidate| self.fails(candidate));
            match found {
                Some(smaller) => {
                    *best = smaller;
                    pieces = pieces.saturating_sub(1).max(2);
                }
                None if pieces >= count => return,
                None => pieces *= 2,
            }
        }
    }
}

fn left_out(faults: &[PlannedFault], range: Range<usize>) -> Vec<PlannedFault> {
    let kept = faults.iter().enumerate().filter(|(place, _)| !range.contains(place));
    kept.map(|(_, fault)| *fault).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::shrink;
    use crate::entropy::Seed;
    use crate::faults::NETWORK;
    use crate::scenario::Plan;

    #[test]
    fn two_faults_that_are_needed_together_are_all_that_is_left() {
        let plan = Plan::sized(Seed(1), 3).with_swarm(Seed(1), Duration::from_secs(60), &[NETWORK]);
        assert!(plan.faults.len() > 20, "{}", plan.faults.len());
        let needed = [plan.faults[3], plan.faults[17]];

        let small = shrink(&plan, 1_000, |plan| {
            plan.keys >= 2 && needed.iter().all(|fault| plan.faults.contains(fault))
        });

        assert_eq!(small.faults, needed);
        assert!(small.clients == 1 && small.keys < plan.keys);
    }

    #[test]
    fn a_plan_that_never_fails_alone_stays_as_it_is() {
        let plan = Plan::sized(Seed(2), 3).with_swarm(Seed(2), Duration::from_secs(20), &[NETWORK]);

        assert_eq!(shrink(&plan, 50, |_| false), plan);
    }
}
