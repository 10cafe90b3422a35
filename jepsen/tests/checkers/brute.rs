//! The other judge of linearizability: tries every order of a few operations, without any of the
//! checker's cleverness.

use quorate_jepsen::checker::register::Content;
use quorate_jepsen::checker::search::Operation;

/// Whether some order of all certain and some uncertain operations explains what they saw.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    let uncertain: Vec<usize> =
        (0..operations.len()).filter(|place| !operations[*place].is_certain()).collect();
    (0..1_usize << uncertain.len()).any(|happened| {
        let left_out = |place: &usize| {
            let bit = uncertain.iter().position(|uncertain| uncertain == place);
            bit.is_some_and(|bit| happened >> bit & 1 == 0)
        };
        let mut taking_part: Vec<usize> =
            (0..operations.len()).filter(|place| !left_out(place)).collect();
        some_order_explains(&mut taking_part, 0, operations)
    })
}

/// All permutations by swapping; one is judged when it is complete.
fn some_order_explains(order: &mut [usize], settled: usize, operations: &[Operation]) -> bool {
    if settled == order.len() {
        return respects_time(order, operations) && explains(order, operations);
    }
    for next in settled..order.len() {
        order.swap(settled, next);
        let found = some_order_explains(order, settled + 1, operations);
        order.swap(settled, next);
        if found {
            return true;
        }
    }
    false
}

fn respects_time(order: &[usize], operations: &[Operation]) -> bool {
    order.iter().enumerate().all(|(position, one)| {
        order[position + 1..].iter().all(|later| operations[*later].ends >= operations[*one].begins)
    })
}

fn explains(order: &[usize], operations: &[Operation]) -> bool {
    let mut content: Content = None;
    order.iter().all(|place| match operations[*place].action.apply(content) {
        Some(after) => {
            content = after;
            true
        }
        None => false,
    })
}
