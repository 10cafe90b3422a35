//! Rows of this node whose inline bytes do not match their checksums.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ring::Partition;

use super::table::RowKey;

/// Rows that are remembered; more are found again when they are read.
const REMEMBERED_MAX: usize = 4096;

/// Noted by whoever reads, taken by whoever mends.
#[derive(Default)]
pub(crate) struct DamagedRows {
    rows: Mutex<BTreeMap<RowKey, Partition>>,
    noted: Notify,
}

impl DamagedRows {
    /// A row was found damaged.
    pub(crate) fn note(&self, row: &RowKey, partition: Partition) {
        let mut rows = self.rows.lock();
        if rows.len() < REMEMBERED_MAX && rows.insert(row.clone(), partition).is_none() {
            self.noted.notify_one();
        }
    }

    /// All that are noted.
    pub(crate) fn all(&self) -> Vec<(RowKey, Partition)> {
        let rows = self.rows.lock();
        rows.iter().map(|(row, partition)| (row.clone(), *partition)).collect()
    }

    /// A row is whole again, or gone.
    pub(crate) fn forget(&self, row: &RowKey) {
        self.rows.lock().remove(row);
    }

    /// How many are noted.
    pub(crate) fn count(&self) -> usize {
        self.rows.lock().len()
    }

    /// Waits until a row is noted.
    pub(crate) async fn noted(&self) {
        self.noted.notified().await;
    }
}
