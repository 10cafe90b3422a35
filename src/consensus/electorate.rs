//! Who votes on a key, and how many of them are enough.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Counts the electorates of one partition: each step of a layout change is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ElectorateNumber(pub u64);

/// One set of owners, a majority of which decides.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    owners: BTreeSet<NodeId>,
    voters: BTreeSet<NodeId>,
}

impl Group {
    fn new(owners: BTreeSet<NodeId>) -> Self {
        Self { voters: owners.clone(), owners }
    }

    /// Votes needed: a majority of all owners, of those too that may not vote.
    fn needed(&self) -> usize {
        self.owners.len() / 2 + 1
    }

    fn count(&self, nodes: &BTreeSet<NodeId>) -> usize {
        self.voters.intersection(nodes).count()
    }
}

/// The owners of a partition, as one round counts them: fixed for the round's whole life.
///
/// While a layout changes there are two groups, the old owners and the new, and everything,
/// fast reads too, needs a majority of each (rule 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electorate {
    number: ElectorateNumber,
    groups: Vec<Group>,
}

impl Hash for Electorate {
    /// By its number, which is its name within its partition.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Electorate {
    /// The electorate between changes.
    #[must_use]
    pub fn new(number: ElectorateNumber, owners: BTreeSet<NodeId>) -> Self {
        Self { number, groups: vec![Group::new(owners)] }
    }

    /// The electorate during a change.
    #[must_use]
    pub fn joint(number: ElectorateNumber, old: BTreeSet<NodeId>, new: BTreeSet<NodeId>) -> Self {
        Self { number, groups: vec![Group::new(old), Group::new(new)] }
    }

    /// The same, in which `rebuilding` owners take what they are sent and do not vote: a node
    /// that may have forgotten its votes (rule 9). What a majority is does not shrink with them.
    #[must_use]
    pub fn without(mut self, rebuilding: &BTreeSet<NodeId>) -> Self {
        for group in &mut self.groups {
            group.voters = group.owners.difference(rebuilding).copied().collect();
        }
        self
    }

    /// Its number, which every message of its rounds carries.
    #[must_use]
    pub const fn number(&self) -> ElectorateNumber {
        self.number
    }

    /// Everybody that a round writes to, each once, voters or not.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.groups.iter().flat_map(|group| &group.owners).copied().collect()
    }

    /// Whether `nodes` hold a majority in every group.
    #[must_use]
    pub fn is_majority(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.groups.iter().all(|group| group.count(nodes) >= group.needed())
    }

    /// Whether a majority can still come together without `lost`.
    #[must_use]
    pub fn can_do_without(&self, lost: &BTreeSet<NodeId>) -> bool {
        let enough = |group: &Group| group.voters.len() - group.count(lost) >= group.needed();
        self.groups.iter().all(enough)
    }

    /// Whether `nodes` are all members.
    #[must_use]
    pub fn is_everybody(&self, nodes: &BTreeSet<NodeId>) -> bool {
        self.groups.iter().all(|group| group.owners.is_subset(nodes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Electorate, ElectorateNumber};
    use crate::types::NodeId;

    const FIRST: ElectorateNumber = ElectorateNumber(1);

    fn nodes(names: &[u8]) -> BTreeSet<NodeId> {
        names.iter().map(|name| NodeId::from_bytes([*name; 16])).collect()
    }

    fn subset(bits: u8) -> BTreeSet<NodeId> {
        let names: Vec<u8> = (0..8).filter(|name| bits & (1 << name) != 0).collect();
        nodes(&names)
    }

    #[test]
    fn a_change_needs_a_majority_of_the_old_and_of_the_new_owners() {
        let joint = Electorate::joint(FIRST, nodes(&[1, 2, 3]), nodes(&[3, 4, 5]));

        assert!(!joint.is_majority(&nodes(&[1, 2])), "of the old ones only");
        assert!(!joint.is_majority(&nodes(&[4, 5])), "of the new ones only");
        assert!(joint.is_majority(&nodes(&[1, 3, 5])));
        assert!(!joint.can_do_without(&nodes(&[4, 5])));
        assert_eq!(joint.members(), nodes(&[1, 2, 3, 4, 5]));
    }

    #[test]
    fn who_rebuilds_does_not_vote_and_does_not_make_a_majority_smaller() {
        let electorate = Electorate::new(FIRST, nodes(&[1, 2, 3])).without(&nodes(&[3]));

        assert!(!electorate.is_majority(&nodes(&[1, 3])));
        assert!(electorate.is_majority(&nodes(&[1, 2])));
        assert!(!electorate.can_do_without(&nodes(&[1])));
        assert!(!electorate.is_everybody(&nodes(&[1, 2])), "it is written to all the same");
    }

    proptest! {
        #[test]
        fn any_two_majorities_share_a_voter(
            owners in 1_u8.., others in 1_u8.., rebuilding: u8, one: u8, two: u8,
        ) {
            let joint = Electorate::joint(FIRST, subset(owners), subset(others));
            let old = Electorate::new(FIRST, subset(owners)).without(&subset(rebuilding));
            let joint = joint.without(&subset(rebuilding));
            let shared = subset(one & two & !rebuilding & owners);

            if joint.is_majority(&subset(one)) && old.is_majority(&subset(two)) {
                prop_assert!(!shared.is_empty());
            }
            prop_assert!(!joint.is_majority(&subset(one)) || joint.can_do_without(&subset(!one)));
        }
    }
}
