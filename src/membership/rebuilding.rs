//! A member whose data folder was emptied, on its way back: which partitions it may speak for.
//!
//! It takes writes at once, and counts for no quorum of a partition until that partition was
//! exchanged with enough other owners, bytes included, after it came back (DESIGN §4).

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::ring::Partition;
use crate::store::{Batch, Durability, Family, KeyRange, MetaStore, StoreError, Visit};

use super::lives::Folder;

/// Before the partition's number, big-endian, in the family of this node's own facts.
const KEY_PREFIX: &[u8] = b"rebuilt|";

/// Which partitions this node holds again. Of a node that never lost anything: all.
pub struct Rebuilding {
    meta: Arc<dyn MetaStore>,
    /// `None` while nothing is rebuilt.
    rebuilt: RwLock<Option<BTreeSet<u32>>>,
}

/// How far a rebuilding node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Partitions that it holds again.
    pub done: usize,
    /// Partitions that it owns.
    pub total: usize,
}

fn key(partition: u32) -> Vec<u8> {
    [KEY_PREFIX, &partition.to_be_bytes()].concat()
}

impl Rebuilding {
    /// Reads how far this node has come.
    ///
    /// # Errors
    /// If the tables cannot be read.
    pub fn open(meta: Arc<dyn MetaStore>, folder: Folder) -> Result<Arc<Self>, StoreError> {
        let mut rebuilt = None;
        if folder == Folder::Rebuilding {
            let mut found = BTreeSet::new();
            let range = KeyRange::prefix(KEY_PREFIX.to_vec());
            meta.scan(Family::Local, &range, &mut |key, _| {
                let number = key.get(KEY_PREFIX.len()..).and_then(|rest| rest.try_into().ok());
                found.extend(number.map(u32::from_be_bytes));
                Visit::Next
            })?;
            rebuilt = Some(found);
        }
        Ok(Arc::new(Self { meta, rebuilt: RwLock::new(rebuilt) }))
    }

    /// Whether this node is still on its way back.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.rebuilt.read().is_some()
    }

    /// Whether this node's copies of `partition` count for quorums and proofs.
    #[must_use]
    pub fn counts(&self, partition: Partition) -> bool {
        self.rebuilt.read().as_ref().is_none_or(|rebuilt| rebuilt.contains(&partition.as_u32()))
    }

    /// Notes durably that `partition` was exchanged with enough of its owners: from now on it
    /// counts. Blocks.
    ///
    /// # Errors
    /// If it cannot be stored; then it does not count.
    pub fn mark_rebuilt(&self, partition: Partition) -> Result<(), StoreError> {
        if self.counts(partition) {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(Family::Local, key(partition.as_u32()), Vec::new());
        self.meta.write(&[batch], Durability::Synced)?;
        if let Some(rebuilt) = self.rebuilt.write().as_mut() {
            rebuilt.insert(partition.as_u32());
        }
        Ok(())
    }

    /// How many of the `owned` partitions are back; `None` if nothing is rebuilt.
    #[must_use]
    pub fn progress(&self, owned: &[Partition]) -> Option<Progress> {
        let rebuilt = self.rebuilt.read();
        let rebuilt = rebuilt.as_ref()?;
        let done = owned.iter().filter(|partition| rebuilt.contains(&partition.as_u32())).count();
        Some(Progress { done, total: owned.len() })
    }

    /// Ends it: everything counts from now on. The identity file must say so already. Blocks.
    ///
    /// # Errors
    /// If the notes cannot be removed; they are of no consequence then.
    pub fn end(&self) -> Result<(), StoreError> {
        let Some(rebuilt) = self.rebuilt.write().take() else { return Ok(()) };
        let mut batch = Batch::new();
        rebuilt.iter().for_each(|partition| batch.delete(Family::Local, key(*partition)));
        self.meta.write(&[batch], Durability::Synced)
    }
}
