//! Rows as a node stores them: a byte of flags before the record, and their place in the tree.

use bytes::{Bytes, BytesMut};

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

/// The key of a leaf's sum: table, copies, partition, leaf.
#[must_use]
pub fn leaf_key(table: TableId, n: u8, partition: Partition, leaf: Leaf) -> Bytes {
    let mut key = BytesMut::with_capacity(8);
    key.extend_from_slice(&[table.number(), n]);
    key.extend_from_slice(&partition.as_u32().to_be_bytes());
    key.extend_from_slice(&leaf.number().to_be_bytes());
    key.freeze()
}

/// What a stored row adds to its leaf.
#[must_use]
pub(crate) fn element_of(row: RowHash, value: &[u8]) -> u128 {
    row.element(RowFlags::of(value).state(), record_in(value))
}

/// Adds to `batch` what a change of a row changes in its tree.
pub(crate) fn change_leaf(
    batch: &mut Batch,
    row: &RowKey,
    partition: Partition,
    (before, after): (Option<&[u8]>, Option<&[u8]>),
) {
    if row.table.is_full_copy() {
        return;
    }
    let hash = RowHash::of(&row.routing, &row.sort);
    let mut add = |value: &[u8], amount: u128| {
        let n = RowFlags::of(value).n;
        batch.add(Family::Leaves, leaf_key(row.table, n, partition, hash.leaf()), amount);
    };
    if let Some(before) = before {
        add(before, element_of(hash, before).wrapping_neg());
    }
    if let Some(after) = after {
        add(after, element_of(hash, after));
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
