//! This node's side of an exchange: its trees, its rows, and whether the two agree. Blocks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::merkle::{LeafSet, LeafSums, RowHash};
use crate::replication::replica::digest_of;
use crate::replication::stored::{
    Count, RowFlags, Sum, amounts_of, parse_sum_key, record_in, sum_key, sums_prefix,
};
use crate::replication::table::{RowKey, TableId};
use crate::ring::Partition;
use crate::store::{Family, KeyRange, MetaStore, StoreError, Visit, next_prefix};

use super::exchange::{RowDigest, RowPage};
use super::message::TreeName;

/// Bytes of one page of rows, and rows that it may pass.
const PAGE_BYTES_MAX: usize = 1 << 20;
const PAGE_ROWS_PASSED_MAX: usize = 50_000;

/// The most copies that a stored row can name.
const COPIES_MAX: u8 = 31;

/// A partition's trees on this node, from one consistent view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trees {
    /// The leaves of each tree that has rows.
    pub(super) sums: BTreeMap<TreeName, LeafSums>,
    /// Rows whose bytes are not here.
    pub(super) missing: u64,
    /// Rows that say that their key is gone.
    pub(super) gone: u64,
}

/// A count that was added to and subtracted from; one below zero is wrong, and counts as zero.
fn counted(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

/// Reads the trees of a partition.
pub(super) fn read_trees(meta: &dyn MetaStore, partition: Partition) -> Result<Trees, StoreError> {
    let mut trees = Trees::default();
    let everything = KeyRange { start: Vec::new(), end: None };
    meta.scan(Family::Leaves, &everything, &mut |key, value| {
        let Some((table, n, found, sum)) = parse_sum_key(key) else { return Visit::Next };
        match found.cmp(&partition) {
            Ordering::Less => Visit::Seek(sums_prefix(table, n, partition).to_vec()),
            Ordering::Greater => {
                let next = n.checked_add(1).map(|n| sums_prefix(table, n, partition).to_vec());
                next.or_else(|| next_prefix(&[table.number()])).map_or(Visit::Stop, Visit::Seek)
            }
            Ordering::Equal => {
                let amount = crate::store::decode_sum(value);
                match sum {
                    Sum::Leaf(leaf) => {
                        trees.sums.entry(TreeName { table, n }).or_default().add(leaf, amount);
                    }
                    Sum::Count(Count::Missing) => trees.missing += counted(amount),
                    Sum::Count(Count::Gone) => trees.gone += counted(amount),
                }
                Visit::Next
            }
        }
    })?;
    trees.sums.retain(|_, sums| !sums.is_empty());
    Ok(trees)
}

/// How many rows of a partition lack bytes here.
pub(super) fn read_missing(meta: &dyn MetaStore, partition: Partition) -> Result<u64, StoreError> {
    let mut missing = 0;
    for n in 1..=COPIES_MAX {
        let key = sum_key(TableId::Extents, n, partition, Sum::Count(Count::Missing));
        let sum = meta.get(Family::Leaves, &key)?;
        missing += sum.map_or(0, |sum| counted(crate::store::decode_sum(&sum)));
    }
    Ok(missing)
}

fn rows_of(partition: Partition, from: &[u8]) -> KeyRange {
    let prefix = partition.to_be_bytes();
    KeyRange { start: [&prefix[..], from].concat(), end: next_prefix(&prefix) }
}

/// Reads the rows of some leaves from a key on.
pub(super) fn read_page(
    meta: &dyn MetaStore,
    partition: Partition,
    tree: TreeName,
    leaves: &LeafSet,
    from: &[u8],
) -> Result<RowPage, StoreError> {
    let mut page = RowPage::default();
    let (mut passed, mut bytes) = (0, 0);
    meta.scan(tree.table.family(), &rows_of(partition, from), &mut |key, value| {
        let key = key.get(4..).unwrap_or_default();
        if passed >= PAGE_ROWS_PASSED_MAX || bytes >= PAGE_BYTES_MAX {
            page.next = Some(Bytes::copy_from_slice(key));
            return Visit::Stop;
        }
        passed += 1;
        let flags = RowFlags::of(value);
        let Some(hash) = hash_of(tree.table, key) else { return Visit::Next };
        if flags.n == tree.n && leaves.contains(hash.leaf()) {
            let row = RowDigest {
                key: Bytes::copy_from_slice(key),
                digest: digest_of(record_in(value)),
                missing: flags.missing,
            };
            bytes += row.weight();
            page.rows.push(row);
        }
        Visit::Next
    })?;
    Ok(page)
}

fn hash_of(table: TableId, key: &[u8]) -> Option<RowHash> {
    let (routing, sort) = key.split_at_checked(table.routing_length(key.len())?)?;
    Some(RowHash::of(routing, sort))
}

/// What must be added to the stored sums of a table's partition to make them those of its rows,
/// from one consistent view: every change of a row changes both alike, so this stays right
/// whatever is written meanwhile.
pub(super) fn recount(
    meta: &dyn MetaStore,
    partition: Partition,
    table: TableId,
) -> Result<Vec<(Bytes, u128)>, StoreError> {
    let mut ranges = vec![(table.family(), rows_of(partition, b""))];
    ranges
        .extend((1..=COPIES_MAX).map(|n| {
            (Family::Leaves, KeyRange::prefix(sums_prefix(table, n, partition).to_vec()))
        }));
    let mut corrections: BTreeMap<(u8, Sum), u128> = BTreeMap::new();
    meta.scan_together(&ranges, &mut |family, key, value| {
        if family == Family::Leaves {
            if let Some((_, n, _, sum)) = parse_sum_key(key) {
                let total = corrections.entry((n, sum)).or_default();
                *total = total.wrapping_sub(crate::store::decode_sum(value));
            }
            return Visit::Next;
        }
        if let Some(hash) = hash_of(table, key.get(4..).unwrap_or_default()) {
            let n = RowFlags::of(value).n;
            for (sum, amount) in amounts_of(hash, value) {
                let total = corrections.entry((n, sum)).or_default();
                *total = total.wrapping_add(amount);
            }
        }
        Visit::Next
    })?;
    corrections.retain(|_, amount| *amount != 0);
    let keyed = corrections.into_iter();
    Ok(keyed.map(|((n, sum), amount)| (sum_key(table, n, partition, sum), amount)).collect())
}

/// Some rows that say that their key is gone, with their records, and where to go on.
pub(super) type Graves = (Vec<(RowKey, Bytes)>, Option<Bytes>);

/// Reads rows of a partition that say that their key is gone, from a key on.
pub(super) fn read_gone(
    meta: &dyn MetaStore,
    partition: Partition,
    table: TableId,
    from: &[u8],
) -> Result<Graves, StoreError> {
    const ROWS_MAX: usize = 512;
    let (mut graves, mut next) = (Vec::new(), None);
    let mut passed = 0;
    meta.scan(table.family(), &rows_of(partition, from), &mut |key, value| {
        let key = Bytes::copy_from_slice(key.get(4..).unwrap_or_default());
        if passed >= PAGE_ROWS_PASSED_MAX || graves.len() >= ROWS_MAX {
            next = Some(key);
            return Visit::Stop;
        }
        passed += 1;
        if RowFlags::of(value).gone
            && let Some(row) = RowKey::parse(table, &key)
        {
            graves.push((row, Bytes::copy_from_slice(record_in(value))));
        }
        Visit::Next
    })?;
    Ok((graves, next))
}
