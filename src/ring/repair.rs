//! Chains of moves, for where no single move brings a node within its band.
//!
//! Placing copies is a flow from partitions through zones to nodes, and a chain found by
//! breadth-first search is a shortest augmenting path (Edmonds and Karp, 1972): if any sequence
//! of moves helps, one is found. Each chain is applied from its far end, so the rows are sound
//! after every single move.

use std::collections::VecDeque;

use super::owners::Owners;
use super::placement::VACANT;
use super::roster::Rank;

/// One node hands one slot to another.
#[derive(Clone, Copy)]
struct Move {
    from: Rank,
    to: Rank,
    partition: u32,
    slot: usize,
}

/// How a search reached a node.
#[derive(Clone, Copy)]
enum Reached {
    Not,
    AsStart,
    By(Move),
}

/// How often all nodes are gone through: a chain may take a node that was done out of its band.
const ROUNDS_MAX: usize = 3;

/// Brings every node within its band as far as any chain can.
pub(super) fn level(owners: &mut Owners<'_>) {
    for _ in 0..ROUNDS_MAX {
        for rank in owners.roster.ranks() {
            shed(owners, rank);
            gather(owners, rank);
        }
        if owners.roster.ranks().all(|rank| in_band(owners, rank)) {
            return;
        }
    }
}

/// Chains away what a node holds above its most.
fn shed(owners: &mut Owners<'_>, rank: Rank) {
    while owners.load(rank) > owners.shares.most(rank) {
        let chain = search(owners, &[rank], &|owners, rank| has_room(owners, rank));
        let more = |owners: &Owners<'_>, chain: &[Move]| {
            let end = chain.last().is_some_and(|step| has_room(owners, step.to));
            end && owners.load(rank) > owners.shares.most(rank)
        };
        if !chain.is_some_and(|chain| repeat(owners, chain, &more)) {
            break;
        }
    }
}

/// Chains in what a node lacks to its least.
fn gather(owners: &mut Owners<'_>, rank: Rank) {
    while owners.load(rank) < owners.shares.least(rank) {
        let givers: Vec<Rank> = owners
            .roster
            .ranks()
            .filter(|giver| *giver != rank && can_give(owners, *giver))
            .collect();
        let chain = search(owners, &givers, &|_, reached| reached == rank);
        let more = |owners: &Owners<'_>, chain: &[Move]| {
            let start = chain.first().is_some_and(|step| can_give(owners, step.from));
            start && owners.load(rank) < owners.shares.least(rank)
        };
        if !chain.is_some_and(|chain| repeat(owners, chain, &more)) {
            break;
        }
    }
}

fn in_band(owners: &Owners<'_>, rank: Rank) -> bool {
    let load = owners.load(rank);
    load >= owners.shares.least(rank) && load <= owners.shares.most(rank)
}

fn can_give(owners: &Owners<'_>, rank: Rank) -> bool {
    owners.load(rank) > owners.shares.least(rank)
}

fn has_room(owners: &Owners<'_>, rank: Rank) -> bool {
    owners.load(rank) < owners.shares.most(rank)
}

/// The shortest chain of moves from one of `starts` to a node that is a `goal`.
fn search(
    owners: &Owners<'_>,
    starts: &[Rank],
    goal: &dyn Fn(&Owners<'_>, Rank) -> bool,
) -> Option<Vec<Move>> {
    let held = slots_held(owners);
    let mut reached = vec![Reached::Not; owners.roster.len()];
    let mut queue: VecDeque<Rank> = starts.iter().copied().collect();
    for start in starts {
        reached[usize::from(*start)] = Reached::AsStart;
    }
    let mut unreached: Vec<Rank> =
        owners.roster.ranks().filter(|rank| !starts.contains(rank)).collect();
    while let Some(from) = queue.pop_front() {
        for (partition, slot) in &held[usize::from(from)] {
            let (partition, slot) = (*partition, *slot);
            let next: Vec<Rank> = unreached
                .iter()
                .copied()
                .filter(|to| owners.admits(partition, slot, *to))
                .collect();
            unreached.retain(|rank| !next.contains(rank));
            for to in next {
                reached[usize::from(to)] = Reached::By(Move { from, to, partition, slot });
                if goal(owners, to) {
                    return Some(chain_to(&reached, to));
                }
                queue.push_back(to);
            }
        }
    }
    None
}

/// The filled slots of every node.
fn slots_held(owners: &Owners<'_>) -> Vec<Vec<(u32, usize)>> {
    let mut held = vec![Vec::new(); owners.roster.len()];
    for partition in 0..owners.table.partitions() {
        for (slot, rank) in owners.table.row(partition).iter().enumerate() {
            if *rank != VACANT {
                held[usize::from(*rank)].push((partition, slot));
            }
        }
    }
    held
}

fn chain_to(reached: &[Reached], end: Rank) -> Vec<Move> {
    let mut chain = Vec::new();
    let mut at = end;
    while let Reached::By(step) = reached[usize::from(at)] {
        chain.push(step);
        at = step.from;
    }
    chain.reverse();
    chain
}

/// Applies a chain, then the same chain of nodes through other partitions, for as long as there
/// is `more` to do: one search serves many moves. False if not even the first chain fits.
fn repeat(
    owners: &mut Owners<'_>,
    mut chain: Vec<Move>,
    more: &dyn Fn(&Owners<'_>, &[Move]) -> bool,
) -> bool {
    if !apply(owners, &chain) {
        return false;
    }
    for step in &mut chain {
        step.partition = 0;
    }
    while more(owners, &chain) {
        let found = chain.iter_mut().all(|step| advance(owners, step));
        if !found || !apply(owners, &chain) {
            break;
        }
    }
    true
}

/// Finds the next partition, from the step's own on, in which the step fits.
fn advance(owners: &Owners<'_>, step: &mut Move) -> bool {
    for partition in step.partition..owners.table.partitions() {
        let held = owners.table.row(partition).iter().position(|rank| *rank == step.from);
        if let Some(slot) = held.filter(|slot| owners.admits(partition, *slot, step.to)) {
            (step.partition, step.slot) = (partition, slot);
            return true;
        }
    }
    false
}

/// Applies a chain from its far end; false if a move no longer fits (what was moved stays).
fn apply(owners: &mut Owners<'_>, chain: &[Move]) -> bool {
    for step in chain.iter().rev() {
        let held = owners.table.row(step.partition)[step.slot] == step.from;
        if !held || !owners.admits(step.partition, step.slot, step.to) {
            return false;
        }
        owners.assign(step.partition, step.slot, step.to);
    }
    true
}
