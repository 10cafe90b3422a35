//! The values of one key that have not superseded one another (Dynamo §4.4), as a dotted version
//! vector set (Preguiça et al., "Dotted Version Vectors", 2012; Almeida et al., "Scalable and
//! Accurate Causality Tracking for Eventually Consistent Stores", 2014).
//!
//! A set is a vector of all writes that its holder has seen, and of these the ones whose values
//! still stand. A write that the vector covers and that has no value here was superseded. So two
//! copies are merged without asking anybody: a value that one copy lacks is kept if that copy has
//! not seen its write, and dropped if it has.
//!
//! # Invariants
//! 1. The vector covers every sibling's dot.
//! 2. Merging is commutative, associative and idempotent.
//! 3. A value leaves the set only when a write whose context covers its dot is merged in.
//! 4. The vector is never trimmed: an entry that was dropped would let superseded values return.

use std::collections::BTreeMap;

use super::dot::Dot;
use super::vector::VersionVector;

/// Concurrent values, each under the dot of its write, and all writes seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings<T> {
    values: BTreeMap<Dot, T>,
    seen: VersionVector,
}

impl<T> Default for Siblings<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), seen: VersionVector::default() }
    }
}

impl<T> Siblings<T> {
    /// The set of these values, whose holder has seen `seen` and, of course, their own writes.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (Dot, T)>, mut seen: VersionVector) -> Self {
        let values: BTreeMap<Dot, T> = values.into_iter().collect();
        for dot in values.keys() {
            seen.add(*dot);
        }
        Self { values, seen }
    }

    /// Adds a write that supersedes what `context` covers, and nothing else.
    pub fn write(&mut self, context: &VersionVector, dot: Dot, value: T) {
        self.values.retain(|standing, _| !context.contains(*standing));
        self.seen.merge(context);
        self.seen.add(dot);
        self.values.insert(dot, value);
    }

    /// What two copies become.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let Self { values: mine, seen: i_saw } = self;
        let Self { values: theirs, seen: they_saw } = other;
        let mut values = BTreeMap::new();
        let in_both = |dot: &Dot, there: &BTreeMap<Dot, T>| there.contains_key(dot);
        let mut kept: Vec<Dot> = Vec::new();
        kept.extend(mine.keys().filter(|dot| in_both(dot, &theirs) || !they_saw.contains(**dot)));
        kept.extend(theirs.keys().filter(|dot| !i_saw.contains(**dot)));
        // One dot is one write: which copy its value is taken from makes no difference.
        let mut all = mine;
        all.extend(theirs);
        for dot in kept {
            values.extend(all.remove_entry(&dot));
        }
        let mut seen = i_saw;
        seen.merge(&they_saw);
        Self { values, seen }
    }

    /// The values that stand, in the order of their dots.
    pub fn iter(&self) -> impl Iterator<Item = (Dot, &T)> {
        self.values.iter().map(|(dot, value)| (*dot, value))
    }

    /// How many values stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether none stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All writes seen: the context of whoever has read all values.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// The values and the vector.
    #[must_use]
    pub fn into_parts(self) -> (BTreeMap<Dot, T>, VersionVector) {
        (self.values, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::Siblings;
    use crate::causality::{Actor, Dot, VersionVector};
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn dot(node: u8, counter: u64) -> Dot {
        Dot { actor: Actor { node: NodeId::from_bytes([node; 16]), boot: 1, stint: 0 }, counter }
    }

    fn vector(entries: &[(u8, u64)]) -> VersionVector {
        entries.iter().map(|&(node, count)| (dot(node, 1).actor, count)).collect::<Vec<_>>().into()
    }

    /// Any set at all, also one that no history leads to: the laws hold for every pair of a
    /// vector and values that it covers. One dot is one write, so its value follows from it.
    fn sets() -> impl Strategy<Value = Siblings<(u8, u64)>> {
        let values = prop::collection::btree_set((0u8..4, 1u64..6), 0..5);
        let seen = prop::collection::vec((0u8..4, 1u64..6), 0..5);
        (values, seen).prop_map(|(values, seen)| {
            let values = values.into_iter().map(|(node, count)| (dot(node, count), (node, count)));
            Siblings::new(values, vector(&seen))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn merging_is_commutative_associative_and_idempotent(a in sets(), b in sets(), c in sets()) {
            let merged = |a: &Siblings<_>, b: &Siblings<_>| a.clone().merge(b.clone());

            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
        }

        #[test]
        fn the_vector_covers_every_sibling(a in sets(), b in sets()) {
            let merged = a.merge(b);

            prop_assert!(merged.iter().all(|(dot, _)| merged.seen().contains(dot)));
        }
    }

    #[test]
    fn a_write_replaces_what_its_context_covers_and_stands_beside_the_rest() {
        let mut set = Siblings::default();
        set.write(&VersionVector::default(), dot(1, 1), "a");
        set.write(&VersionVector::default(), dot(2, 1), "b");

        set.write(&vector(&[(1, 1)]), dot(1, 2), "c");

        let values: Vec<&str> = set.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, ["c", "b"]);
        assert_eq!(set.seen(), &vector(&[(1, 2), (2, 1)]));
    }

    #[test]
    fn a_blind_write_of_the_same_actor_is_a_sibling_of_its_earlier_one() {
        let mut set = Siblings::default();
        set.write(&VersionVector::default(), dot(1, 1), "a");

        set.write(&VersionVector::default(), dot(1, 2), "b");

        assert_eq!(set.len(), 2);
    }

    #[test]
    fn a_superseded_value_does_not_come_back_from_a_stale_copy() {
        let mut stale = Siblings::default();
        stale.write(&VersionVector::default(), dot(1, 1), "old");
        let mut newer = stale.clone();
        newer.write(&vector(&[(1, 1)]), dot(2, 1), "new");

        let merged = stale.merge(newer.clone());

        assert_eq!(merged, newer);
    }
}
