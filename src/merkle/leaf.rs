//! Which leaf a row belongs to, and what it adds to it.

/// How many leaves a tree has.
const LEAVES: u32 = 1024;

/// A leaf of a partition's tree, 0 to 1,023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leaf(u16);

impl Leaf {
    /// How many leaves a tree has.
    pub const COUNT: usize = LEAVES as usize;

    /// The leaf of that number, if there is one.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (u32::from(number) < LEAVES).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its place in a list of all leaves.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The hash of a row's key: it decides the row's leaf, and what the row adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHash(u128);

impl RowHash {
    /// The hash of the row that is routed by `routing` and sorts at `sort`.
    #[must_use]
    pub fn of(routing: &[u8], sort: &[u8]) -> Self {
        // The length keeps two keys apart that are cut in different places.
        let length = u32::try_from(routing.len()).unwrap_or(u32::MAX).to_le_bytes();
        Self(murmur(&[&length, routing, sort].concat()))
    }

    /// The leaf that the row belongs to: part of what nodes agree on.
    #[must_use]
    pub fn leaf(self) -> Leaf {
        // The top ten bits.
        Leaf(u16::try_from(self.0 >> 118).unwrap_or_default())
    }

    /// What a row of this key with this `record` adds to its leaf; `state` tells rows apart that
    /// hold the same record and are not in the same state.
    #[must_use]
    pub fn element(self, state: u8, record: &[u8]) -> u128 {
        let mut named = [0; 33];
        named[..16].copy_from_slice(&self.0.to_le_bytes());
        named[16..32].copy_from_slice(&murmur(record).to_le_bytes());
        named[32] = state;
        murmur(&named)
    }
}

fn murmur(bytes: &[u8]) -> u128 {
    // Reading from a slice cannot fail; a zero would only cost a comparison of rows.
    murmur3::murmur3_x64_128(&mut &bytes[..], 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Leaf, RowHash};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_has_a_leaf(routing in ".*", sort in ".*") {
            let leaf = RowHash::of(routing.as_bytes(), sort.as_bytes()).leaf();

            prop_assert_eq!(Leaf::new(leaf.number()), Some(leaf));
        }

        #[test]
        fn rows_that_differ_add_something_else(a in any::<[u8; 4]>(), b in any::<[u8; 4]>()) {
            let row = RowHash::of(b"routing", b"sort");

            prop_assert_eq!(row.element(0, &a) == row.element(0, &b), a == b);
            prop_assert_ne!(row.element(0, &a), row.element(1, &a));
        }
    }

    #[test]
    fn keys_that_are_cut_elsewhere_are_other_keys() {
        assert_ne!(RowHash::of(b"ab", b"c"), RowHash::of(b"a", b"bc"));
    }

    #[test]
    fn leaves_are_used_evenly() {
        let mut rows = vec![0_u32; Leaf::COUNT];
        for number in 0..100_000_u32 {
            rows[RowHash::of(b"shard", &number.to_le_bytes()).leaf().index()] += 1;
        }

        let (least, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
        assert!(*least > 50 && *most < 150, "{least} to {most} rows in a leaf of about 98");
    }
}
