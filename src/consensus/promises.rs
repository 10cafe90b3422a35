//! What a majority said before a round goes on: the value to build on, and what it knows.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::NodeId;

use super::ballot::Ballot;
use super::cell::Cell;
use super::message::Standing;
use super::operation::Seen;
use super::rules::Rules;
use super::trail::Adopted;

/// What each node says it holds: answers to a read, or to a prepare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Standings<V> {
    by_node: BTreeMap<NodeId, Standing<V>>,
}

impl<V> Default for Standings<V> {
    fn default() -> Self {
        Self { by_node: BTreeMap::new() }
    }
}

impl<V: Clone> Standings<V> {
    /// Takes in what a node says; the first answer stands.
    pub(super) fn note(&mut self, node: NodeId, standing: Standing<V>) {
        self.by_node.entry(node).or_insert(standing);
    }

    /// Who answered.
    pub(super) fn nodes(&self) -> BTreeSet<NodeId> {
        self.by_node.keys().copied().collect()
    }

    /// The value to build on.
    pub(super) fn highest(&self, rules: &impl Rules) -> Seen<V> {
        let mut highest = &Standing::Absent;
        for standing in self.by_node.values() {
            if rules.outranks(standing.ballot(), highest.ballot()) {
                highest = standing;
            }
        }
        seen(highest)
    }

    /// Who holds the value of that round; those who hold nothing, for none.
    pub(super) fn holders(&self, ballot: Option<Ballot>) -> BTreeSet<NodeId> {
        let same = self.by_node.iter().filter(|(_, standing)| standing.ballot() == ballot);
        same.map(|(node, _)| *node).collect()
    }

    /// What nodes hold, each value once.
    pub(super) fn each(&self) -> Vec<Seen<V>> {
        let different: BTreeMap<_, _> =
            self.by_node.values().map(|standing| (standing.ballot(), standing)).collect();
        different.into_values().map(seen).collect()
    }
}

fn seen<V: Clone>(standing: &Standing<V>) -> Seen<V> {
    match standing {
        Standing::Absent => Seen { ballot: None, cell: Cell::NOTHING },
        Standing::Held { ballot, cell } => Seen { ballot: Some(*ballot), cell: cell.clone() },
    }
}

/// One Accept that carried the operation's effect, and what came of it: evidence for R2 and R3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Try {
    pub(super) ballot: Ballot,
    /// Who accepted it.
    pub(super) accepted: BTreeSet<NodeId>,
    /// Who never accepted it, and never will.
    pub(super) denied: BTreeSet<NodeId>,
    /// Who did not take in the only copy that this process sent; anti-entropy may bring another,
    /// if somebody else took one in.
    pub(super) untouched: BTreeSet<NodeId>,
}

impl Try {
    pub(super) fn new(ballot: Ballot) -> Self {
        let nobody = BTreeSet::new;
        Self { ballot, accepted: nobody(), denied: nobody(), untouched: nobody() }
    }
}

/// The promises of one round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Promises<V> {
    pub(super) standings: Standings<V>,
    /// Whether any of them showed the operation's effect in another's round.
    pub(super) adopted: Adopted,
}

impl<V> Promises<V> {
    pub(super) fn none() -> Self {
        Self { standings: Standings::default(), adopted: Adopted::Never }
    }
}
