//! Rows as a node stores them: a byte of flags before the record, and their place in the tree.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::env::mutation::{Mutation, is_planted};
use crate::merkle::{Leaf, RowHash};
use crate::ring::Partition;
use crate::store::{Batch, Family};

use super::table::{RowKey, TableId};

const GONE: u8 = 1;
const MISSING: u8 = 1 << 1;
const COPIES_SHIFT: u32 = 3;
/// Copies of rows that were stored before the number was.
const COPIES_DEFAULT: u8 = 3;

/// What is known of a stored row without decoding its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowFlags {
    /// It says that its key is gone.
    pub(crate) gone: bool,
    /// Bytes that belong to it are not here.
    pub(crate) missing: bool,
    /// Copies of it that there should be.
    pub(crate) n: u8,
}

impl RowFlags {
    fn byte(self) -> u8 {
        let gone = if self.gone { GONE } else { 0 };
        let missing = if self.missing { MISSING } else { 0 };
        gone | missing | (self.n << COPIES_SHIFT)
    }

    /// The flags of a stored value.
    pub(crate) fn of(value: &[u8]) -> Self {
        let byte = value.first().copied().unwrap_or_default();
        let n = match byte >> COPIES_SHIFT {
            0 => COPIES_DEFAULT,
            n => n,
        };
        Self { gone: byte & GONE != 0, missing: byte & MISSING != 0, n }
    }

    /// What tells rows with equal records apart in a tree.
    fn state(self) -> u8 {
        u8::from(self.missing)
    }
}

/// The stored form of `record`.
pub(crate) fn stored_value(flags: RowFlags, record: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(record.len() + 1);
    value.extend_from_slice(&[flags.byte()]);
    value.extend_from_slice(record);
    value.freeze()
}

/// The record in a stored value.
pub(crate) fn record_of(value: &Bytes) -> Bytes {
    if value.is_empty() { Bytes::new() } else { value.slice(1..) }
}

/// The record in a stored value.
pub(crate) fn record_in(value: &[u8]) -> &[u8] {
    value.get(1..).unwrap_or_default()
}

/// What is counted beside a tree, in rows of its own behind the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    /// Rows whose bytes are not here.
    Missing,
    /// Rows that say that their key is gone.
    Gone,
}

impl Count {
    const FIRST: usize = Leaf::COUNT;

    const fn number(self) -> u16 {
        // Leaves end at 1,023.
        match self {
            Self::Missing => Self::FIRST as u16,
            Self::Gone => Self::FIRST as u16 + 1,
        }
    }

    /// Whether a stored row counts.
    fn counts(self, value: &[u8]) -> bool {
        let flags = RowFlags::of(value);
        match self {
            Self::Missing => flags.missing,
            Self::Gone => flags.gone,
        }
    }

    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Missing, Self::Gone];
}

/// A row of [`Family::Leaves`] behind its table, copies and partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sum {
    /// A leaf.
    Leaf(Leaf),
    /// A count.
    Count(Count),
}

impl Sum {
    const fn number(self) -> u16 {
        match self {
            Self::Leaf(leaf) => leaf.number(),
            Self::Count(count) => count.number(),
        }
    }

    /// The sum of that number; `None` if this release keeps none.
    fn from_number(number: u16) -> Option<Self> {
        let count = Count::ALL.into_iter().find(|count| count.number() == number);
        Leaf::new(number).map(Self::Leaf).or(count.map(Self::Count))
    }
}

/// What the key of a sum begins with.
pub(crate) fn sums_prefix(table: TableId, n: u8, partition: Partition) -> [u8; 6] {
    let [a, b, c, d] = partition.to_be_bytes();
    [table.number(), n, a, b, c, d]
}

/// The key of a sum: table, copies, partition, number.
pub(crate) fn sum_key(table: TableId, n: u8, partition: Partition, sum: Sum) -> Bytes {
    let prefix = sums_prefix(table, n, partition);
    Bytes::from([&prefix[..], &sum.number().to_be_bytes()].concat())
}

/// What [`sum_key`] made a key of.
pub(crate) fn parse_sum_key(key: &[u8]) -> Option<(TableId, u8, Partition, Sum)> {
    let (&[table, n, a, b, c, d], number) = key.split_first_chunk::<6>()?;
    let sum = Sum::from_number(u16::from_be_bytes(number.try_into().ok()?))?;
    Some((TableId::from_number(table)?, n, Partition::from_be_bytes([a, b, c, d]), sum))
}

/// The key of a leaf's sum.
#[must_use]
pub fn leaf_key(table: TableId, n: u8, partition: Partition, leaf: Leaf) -> Bytes {
    sum_key(table, n, partition, Sum::Leaf(leaf))
}

/// What a stored row adds to its leaf.
#[must_use]
pub(crate) fn element_of(row: RowHash, value: &[u8]) -> u128 {
    row.element(RowFlags::of(value).state(), record_in(value))
}

/// What a stored row adds to which sums of its tree.
pub(crate) fn amounts_of(row: RowHash, value: &[u8]) -> impl Iterator<Item = (Sum, u128)> {
    let counts = Count::ALL.into_iter().filter(|count| count.counts(value));
    let counts = counts.map(|count| (Sum::Count(count), 1)).collect::<Vec<_>>();
    std::iter::once((Sum::Leaf(row.leaf()), element_of(row, value))).chain(counts)
}

/// Adds to `batch` what a change of a row changes in its tree.
pub(crate) fn change_leaf(
    batch: &mut Batch,
    row: &RowKey,
    partition: Partition,
    (before, after): (Option<&[u8]>, Option<&[u8]>),
) {
    if row.table.is_full_copy() || is_planted(Mutation::LeafLeftBehind) {
        return;
    }
    let hash = RowHash::of(&row.routing, &row.sort);
    let mut sums: BTreeMap<(u8, Sum), u128> = BTreeMap::new();
    let mut add = |value: &[u8], sign: fn(u128) -> u128| {
        for (sum, amount) in amounts_of(hash, value) {
            let total = sums.entry((RowFlags::of(value).n, sum)).or_default();
            *total = total.wrapping_add(sign(amount));
        }
    };
    if let Some(before) = before {
        add(before, u128::wrapping_neg);
    }
    if let Some(after) = after {
        add(after, |amount| amount);
    }
    for ((n, sum), amount) in sums {
        batch.add(Family::Leaves, sum_key(row.table, n, partition, sum), amount);
    }
}

#[cfg(test)]
mod tests {
    use super::{RowFlags, record_in, stored_value};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn flags_survive_the_way_to_disk(gone: bool, missing: bool, n in 1_u8..32, record: Vec<u8>) {
            let flags = RowFlags { gone, missing, n };

            let value = stored_value(flags, &record);

            prop_assert_eq!(RowFlags::of(&value), flags);
            prop_assert_eq!(record_in(&value), &record[..]);
        }
    }

    #[test]
    fn rows_of_the_first_format_have_three_copies() {
        assert_eq!(RowFlags::of(&[1]), RowFlags { gone: true, missing: false, n: 3 });
        assert_eq!(RowFlags::of(&[0]).n, 3);
    }
}
