//! What a replica has seen of a key: a counter per actor (Dynamo §4.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dot::{Actor, Dot};

/// How one vector stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// Both have seen the same writes.
    Equal,
    /// The first has seen all that the second has, and more.
    Descends,
    /// The second has seen all that the first has, and more.
    Precedes,
    /// Each has seen a write that the other has not.
    Concurrent,
}

/// The writes of one key that somebody has seen: for each actor, all counters up to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Actor, u64)>", into = "Vec<(Actor, u64)>")]
pub struct VersionVector {
    seen: BTreeMap<Actor, u64>,
}

impl From<Vec<(Actor, u64)>> for VersionVector {
    fn from(entries: Vec<(Actor, u64)>) -> Self {
        let mut vector = Self::default();
        for (actor, counter) in entries {
            vector.add(Dot { actor, counter });
        }
        vector
    }
}

impl From<VersionVector> for Vec<(Actor, u64)> {
    fn from(vector: VersionVector) -> Self {
        vector.seen.into_iter().collect()
    }
}

impl VersionVector {
    /// Whether `dot` is among the writes seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.counter(dot.actor) >= dot.counter
    }

    /// The greatest counter seen of `actor`, 0 if none.
    #[must_use]
    pub fn counter(&self, actor: Actor) -> u64 {
        self.seen.get(&actor).copied().unwrap_or(0)
    }

    /// Takes in `dot` and, with it, the actor's earlier writes.
    pub fn add(&mut self, dot: Dot) {
        if dot.counter > 0 {
            let counter = self.seen.entry(dot.actor).or_insert(0);
            *counter = dot.counter.max(*counter);
        }
    }

    /// Takes in all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        for (&actor, &counter) in &other.seen {
            self.add(Dot { actor, counter });
        }
    }

    /// Whether this vector has seen all that `other` has. A vector descends from itself.
    #[must_use]
    pub fn descends(&self, other: &Self) -> bool {
        other.seen.iter().all(|(&actor, &counter)| self.counter(actor) >= counter)
    }

    /// How this vector stands to `other`.
    #[must_use]
    pub fn ancestry(&self, other: &Self) -> Ancestry {
        match (self.descends(other), other.descends(self)) {
            (true, true) => Ancestry::Equal,
            (true, false) => Ancestry::Descends,
            (false, true) => Ancestry::Precedes,
            (false, false) => Ancestry::Concurrent,
        }
    }

    /// The actors and their counters, in the actors' order.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, u64)> + '_ {
        self.seen.iter().map(|(&actor, &counter)| (actor, counter))
    }

    /// The number of actors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ancestry, VersionVector};
    use crate::causality::{Actor, Dot};
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn actor(id: u8) -> Actor {
        Actor { node: NodeId::from_bytes([id; 16]), boot: 1, stint: 0 }
    }

    fn vectors() -> impl Strategy<Value = VersionVector> {
        prop::collection::vec((0u8..5, 1u64..6), 0..8).prop_map(|entries| {
            entries.into_iter().map(|(id, counter)| (actor(id), counter)).collect::<Vec<_>>().into()
        })
    }

    fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(
            a in vectors(), b in vectors(), c in vectors(),
        ) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert!(merged(&a, &b).descends(&a));
        }
    }

    #[test]
    fn two_writes_that_did_not_see_each_other_are_concurrent() {
        let left: VersionVector = vec![(actor(1), 2), (actor(2), 1)].into();
        let right: VersionVector = vec![(actor(1), 1), (actor(2), 2)].into();

        assert_eq!(left.ancestry(&right), Ancestry::Concurrent);
        assert_eq!(left.ancestry(&left), Ancestry::Equal);
        assert!(left.contains(Dot { actor: actor(1), counter: 1 }));
        assert!(!left.contains(Dot { actor: actor(2), counter: 2 }));
    }
}
