//! The seam to one node's ordered tables of small rows.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;

/// A table of rows on one node (a RocksDB column family).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// This node's own facts: layout, clock reservation, segment checkpoint.
    Local,
    /// Heads of current objects: partition | bucket | index shard | key.
    Objects,
    /// Bytes of inline objects, under the same keys as their heads.
    Inline,
    /// Multipart uploads and their parts.
    Uploads,
    /// Extent records: which extents this node holds, derived from the segments' seals.
    Extents,
    /// Where an extent's chunks lie in the segments, derived from the segments.
    Chunks,
    /// Extents sealed here whose record is not yet in the replicated table, derived from the
    /// segments.
    Fresh,
    /// Buckets, a full copy on every node.
    Buckets,
    /// Credentials, a full copy on every node.
    Credentials,
    /// Keys and their concurrent values of the key-value API.
    Kv,
    /// Which extents should exist, replicated among their owners.
    ExtentRows,
    /// Sums over the rows of each Merkle leaf; changed by [`Operation::Add`] alone.
    Leaves,
    /// Writes that this node keeps for owners that were away.
    Hints,
    /// Extents whose bytes this node should hold and does not yet.
    Fetches,
    /// Extents that a replaced head named: to be freed once nothing names them.
    Unrefs,
    /// Writes that lost to a concurrent one, by key.
    Conflicts,
}

impl Family {
    /// Every family, in declaration order.
    pub const ALL: [Self; 16] = [
        Self::Local,
        Self::Objects,
        Self::Inline,
        Self::Uploads,
        Self::Extents,
        Self::Chunks,
        Self::Fresh,
        Self::Buckets,
        Self::Credentials,
        Self::Kv,
        Self::ExtentRows,
        Self::Leaves,
        Self::Hints,
        Self::Fetches,
        Self::Unrefs,
        Self::Conflicts,
    ];

    /// The name on disk and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Objects => "objects",
            Self::Inline => "inline",
            Self::Uploads => "uploads",
            Self::Extents => "extents",
            Self::Chunks => "chunks",
            Self::Fresh => "fresh",
            Self::Buckets => "buckets",
            Self::Credentials => "credentials",
            Self::Kv => "kv",
            Self::ExtentRows => "extent_rows",
            Self::Leaves => "leaves",
            Self::Hints => "hints",
            Self::Fetches => "fetches",
            Self::Unrefs => "unrefs",
            Self::Conflicts => "conflicts",
        }
    }
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a row.
    Put {
        /// Its table.
        family: Family,
        /// Its key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a row.
    Delete {
        /// Its table.
        family: Family,
        /// Its key.
        key: Bytes,
    },
    /// Adds to a row of [`Family::Leaves`], a 128-bit number that wraps around; a row that is
    /// not there is zero. The order of additions does not matter, so nobody need read first.
    Add {
        /// Its table.
        family: Family,
        /// Its key.
        key: Bytes,
        /// What is added.
        amount: u128,
    },
}

/// The stored form of a number that [`Operation::Add`] adds to.
#[must_use]
pub fn encode_sum(sum: u128) -> [u8; 16] {
    sum.to_le_bytes()
}

/// The number in a row that [`Operation::Add`] adds to; bytes of another length are zero, which
/// an exchange with other replicas then finds to be wrong.
#[must_use]
pub fn decode_sum(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_le_bytes)
}

/// Changes that become visible and durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
    holds: Vec<Hold>,
}

/// What must last until a batch was written, or given up.
#[derive(Clone)]
struct Hold(Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hold({})", Arc::strong_count(&self.0))
    }
}

/// Batches that change the same are equal, whoever waits for them.
impl PartialEq for Hold {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Hold {}

impl Batch {
    /// No changes.
    #[must_use]
    pub const fn new() -> Self {
        Self { operations: Vec::new(), holds: Vec::new() }
    }

    /// Sets a row.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put { family, key: key.into(), value: value.into() });
    }

    /// Removes a row.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.operations.push(Operation::Delete { family, key: key.into() });
    }

    /// Keeps `hold` until this batch and all its copies were written or dropped.
    pub(super) fn hold(&mut self, hold: Arc<dyn Any + Send + Sync>) {
        self.holds.push(Hold(hold));
    }

    /// Adds to a row of [`Family::Leaves`].
    pub fn add(&mut self, family: Family, key: impl Into<Bytes>, amount: u128) {
        if amount != 0 {
            self.operations.push(Operation::Add { family, key: key.into(), amount });
        }
    }

    /// Takes in the changes of `other`, after its own.
    pub fn append(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.holds.extend(other.holds);
    }

    /// The changes, in order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Bytes of keys and values, for the bound of a group commit.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.operations
            .iter()
            .map(|operation| match operation {
                Operation::Put { key, value, .. } => key.len() + value.len(),
                Operation::Delete { key, .. } => key.len(),
                Operation::Add { key, .. } => key.len() + size_of::<u128>(),
            })
            .sum()
    }
}

/// Whether a write is durable when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage.
    Synced,
    /// In memory and in the operating system's hands: for rows that are derived from other
    /// durable data and replayed after a crash.
    Derived,
}

/// Keys from `start` (inclusive) to `end` (exclusive; `None` is the table's end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key that is not in the range.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let end = next_prefix(&start);
        Self { start, end }
    }
}

/// The least key that is greater than every key beginning with `prefix`, if there is one.
#[must_use]
pub fn next_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// What a scan does after a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Goes on with the next row.
    Next,
    /// Goes on with the first row at or after this key, which must lie ahead.
    Seek(Vec<u8>),
    /// Ends.
    Stop,
}

/// Is shown rows of several families.
pub type FamilyVisitor<'a> = dyn FnMut(Family, &[u8], &[u8]) -> Visit + 'a;

/// Sizes for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaFigures {
    /// Bytes in memory tables.
    pub memtable_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Bytes in table files on disk.
    pub disk_bytes: u64,
    /// Estimated rows of each family, in [`Family::ALL`]'s order.
    pub rows_estimated: Vec<(&'static str, u64)>,
}

/// One node's tables. Calls block; point gets are short enough to be made from async code,
/// scans and writes go through `env::blocking`.
pub trait MetaStore: Send + Sync + 'static {
    /// The value of one row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if its block does not match its checksum: never `None` for that.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The value of one row, if that is known without asking the disk.
    ///
    /// # Errors
    /// As for [`MetaStore::get`].
    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StoreError> {
        self.get(family, key).map(Cached::Known)
    }

    /// Shows the rows of `range` to `visit`, in key order, from one consistent view.
    ///
    /// # Errors
    /// If a block cannot be read; rows before it may have been shown.
    fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StoreError>;

    /// Shows the rows of several ranges, one range after the other, all from one consistent view;
    /// stopping ends the range only.
    ///
    /// # Errors
    /// As for [`MetaStore::scan`].
    fn scan_together(
        &self,
        ranges: &[(Family, KeyRange)],
        visit: &mut FamilyVisitor<'_>,
    ) -> Result<(), StoreError>;

    /// Applies `batches` as one atomic write.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] after a failed sync: from then on every write fails.
    fn write(&self, batches: &[Batch], durability: Durability) -> Result<(), StoreError>;

    /// Makes every earlier write durable, derived rows included.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] as for a write.
    fn sync(&self) -> Result<(), StoreError>;

    /// Sizes for `/metrics`.
    fn figures(&self) -> MetaFigures;
}

/// What memory alone knows of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Its value, or that there is none.
    Known(Option<Bytes>),
    /// The disk must be asked.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::next_prefix;

    #[test]
    fn the_end_of_a_prefix_carries_over_full_bytes() {
        assert_eq!(next_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(next_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(next_prefix(&[0xff]), None);
        assert_eq!(next_prefix(b""), None);
    }
}
