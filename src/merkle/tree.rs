//! The tree over a partition's leaves: its root, and the leaves in which two differ.

use std::collections::BTreeMap;

use rs_merkle::{Hasher, MerkleTree};
use serde::{Deserialize, Serialize};

use super::leaf::Leaf;

/// Bytes of one leaf on the wire: its number and its sum.
const LEAF_BYTES: usize = 2 + 16;
const WORDS: usize = Leaf::COUNT / 64;

/// The sums of a tree's leaves; leaves without rows are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSums(BTreeMap<Leaf, u128>);

/// The root of a tree: equal for equal leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Root(#[serde(with = "serde_bytes")] [u8; 16]);

/// A short name for all leaves of a tree: different leaves have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Some of a tree's leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSet([u64; WORDS]);

/// SHA-256, as the tree's crate wants it.
#[derive(Clone)]
struct Sha256;

impl Hasher for Sha256 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> Self::Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, data).as_ref());
        hash
    }
}

impl Root {
    /// The root of a tree without rows.
    pub const EMPTY: Self = Self([0; 16]);
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({})", hex::encode(self.0))
    }
}

impl LeafSums {
    /// Adds to a leaf; sums wrap around.
    pub fn add(&mut self, leaf: Leaf, amount: u128) {
        let sum = self.of(leaf).wrapping_add(amount);
        // A leaf of sum zero is a leaf without rows, so that equal trees are equal values.
        if sum == 0 {
            self.0.remove(&leaf);
        } else {
            self.0.insert(leaf, sum);
        }
    }

    /// The sum of a leaf.
    #[must_use]
    pub fn of(&self, leaf: Leaf) -> u128 {
        self.0.get(&leaf).copied().unwrap_or(0)
    }

    /// Whether no leaf has rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The root of the tree over all leaves.
    #[must_use]
    pub fn root(&self) -> Root {
        if self.is_empty() {
            return Root::EMPTY;
        }
        let mut leaves = vec![[0; 32]; Leaf::COUNT];
        for (leaf, sum) in &self.0 {
            leaves[leaf.index()][..16].copy_from_slice(&sum.to_le_bytes());
        }
        let root = MerkleTree::<Sha256>::from_leaves(&leaves).root().unwrap_or_default();
        let mut short = [0; 16];
        short.copy_from_slice(&root[..16]);
        Root(short)
    }

    /// Names these leaves, at a small part of the cost of [`LeafSums::root`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::hash(&self.encode()))
    }

    /// The leaves in which this tree and `other` differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> LeafSet {
        let mut differing = LeafSet::default();
        for leaf in self.0.keys().chain(other.0.keys()) {
            if self.of(*leaf) != other.of(*leaf) {
                differing.insert(*leaf);
            }
        }
        differing
    }

    /// What must be added to this tree's leaves to make them `other`'s.
    #[must_use]
    pub fn correction(&self, other: &Self) -> Vec<(Leaf, u128)> {
        let leaves = self.differing(other);
        leaves.iter().map(|leaf| (leaf, other.of(leaf).wrapping_sub(self.of(leaf)))).collect()
    }

    /// As it travels: number and sum of each leaf that has rows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * LEAF_BYTES);
        for (leaf, sum) in &self.0 {
            bytes.extend_from_slice(&leaf.number().to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// What [`LeafSums::encode`] made; `None` if the bytes are something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<LEAF_BYTES>();
        if !rest.is_empty() || entries.len() > Leaf::COUNT {
            return None;
        }
        let mut sums = Self::default();
        for entry in entries {
            let (number, sum) = entry.split_first_chunk::<2>()?;
            let leaf = Leaf::new(u16::from_le_bytes(*number))?;
            if sums.0.contains_key(&leaf) {
                return None;
            }
            sums.add(leaf, u128::from_le_bytes(*sum.first_chunk()?));
        }
        Some(sums)
    }
}

impl LeafSet {
    /// Every leaf.
    #[must_use]
    pub const fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// Adds a leaf.
    pub fn insert(&mut self, leaf: Leaf) {
        self.0[leaf.index() / 64] |= 1 << (leaf.index() % 64);
    }

    /// Whether the leaf is among them.
    #[must_use]
    pub fn contains(&self, leaf: Leaf) -> bool {
        self.0[leaf.index() / 64] & (1 << (leaf.index() % 64)) != 0
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The leaves, in order.
    pub fn iter(&self) -> impl Iterator<Item = Leaf> + '_ {
        let numbers = 0..u16::try_from(Leaf::COUNT).unwrap_or(u16::MAX);
        numbers.filter_map(Leaf::new).filter(|leaf| self.contains(*leaf))
    }

    /// As it travels: a bit for each leaf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`LeafSet::encode`] made; `None` if the bytes are something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
        rest.is_empty().then(|| Self(words.map(u64::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::{LeafSet, LeafSums, Root};
    use crate::merkle::Leaf;
    use proptest::prelude::*;

    fn sums() -> impl Strategy<Value = LeafSums> {
        let rows = prop::collection::vec((0_u16..1024, prop_oneof![Just(0), any::<u128>()]), 0..60);
        rows.prop_map(|rows| of_rows(&rows))
    }

    fn of_rows(rows: &[(u16, u128)]) -> LeafSums {
        let mut sums = LeafSums::default();
        for (leaf, amount) in rows {
            sums.add(Leaf::new(*leaf).unwrap(), *amount);
        }
        sums
    }

    proptest! {
        #[test]
        fn roots_are_equal_exactly_when_leaves_are(a in sums(), b in sums()) {
            prop_assert_eq!(a.root() == b.root(), a == b);
            prop_assert_eq!(a.root(), a.clone().root());
        }

        #[test]
        fn the_order_of_rows_does_not_matter(
            rows in prop::collection::vec((0_u16..1024, any::<u128>()), 0..60),
        ) {
            let backwards: Vec<_> = rows.iter().rev().copied().collect();

            prop_assert_eq!(of_rows(&rows).root(), of_rows(&backwards).root());
        }

        #[test]
        fn a_difference_names_exactly_the_leaves_that_differ(a in sums(), b in sums()) {
            let differing = a.differing(&b);

            prop_assert_eq!(&differing, &b.differing(&a));
            for leaf in LeafSet::all().iter() {
                prop_assert_eq!(differing.contains(leaf), a.of(leaf) != b.of(leaf));
            }
            prop_assert_eq!(differing.len(), differing.iter().count());
            prop_assert_eq!(differing.is_empty(), a == b);
        }

        #[test]
        fn a_correction_makes_one_tree_of_the_other(a in sums(), b in sums()) {
            let mut corrected = a.clone();
            for (leaf, amount) in a.correction(&b) {
                corrected.add(leaf, amount);
            }

            prop_assert_eq!(corrected, b);
        }

        #[test]
        fn leaves_survive_the_way_to_a_peer(a in sums(), b in sums()) {
            prop_assert_eq!(LeafSums::decode(&a.encode()), Some(a.clone()));
            let set = a.differing(&b);
            prop_assert_eq!(LeafSet::decode(&set.encode()), Some(set));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(sums) = LeafSums::decode(&bytes) {
                prop_assert!(sums.encode().len() <= bytes.len());
            }
            prop_assert_eq!(LeafSet::decode(&bytes).is_some(), bytes.len() == 128);
        }
    }

    #[test]
    fn a_tree_without_rows_has_the_empty_root_however_it_came_to_be() {
        let leaf = Leaf::new(7).unwrap();
        let mut sums = LeafSums::default();
        sums.add(leaf, 5);
        sums.add(leaf, 5_u128.wrapping_neg());

        assert_eq!(sums.root(), Root::EMPTY);
        assert_eq!(sums, LeafSums::default());
    }

    #[test]
    fn the_root_of_given_leaves_never_changes() {
        let root = of_rows(&[(0, 1), (1023, u128::MAX)]).root();

        assert_eq!(format!("{root:?}"), "Root(8eba8338b579acf9f8f82bc084f2245e)");
    }
}
