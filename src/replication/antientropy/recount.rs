//! Counts leaves from their rows: after an upgrade, after each start, and on suspicion.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::replication::error::ReplicationError;
use crate::replication::table::TableId;
use crate::ring::Partition;
use crate::store::{Batch, Family, Rows, StoreError};

use super::figures;
use super::local;
use super::service::Repair;

/// The row of this node's own facts that says in which form its leaves were built.
const BUILT_KEY: &[u8] = b"leaves|built";
const BUILT: &[u8] = &[1];

/// The pause between two partitions that are counted for nothing but certainty.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether leaves were ever built from these rows.
pub(super) fn is_built(rows: &Rows) -> Result<bool, StoreError> {
    Ok(rows.get(Family::Local, BUILT_KEY)?.as_deref() == Some(BUILT))
}

impl Repair {
    /// Counts the leaves of a table's partition from its rows, and corrects those that are wrong.
    pub(super) async fn recount(
        &self,
        partition: Partition,
        table: TableId,
    ) -> Result<usize, ReplicationError> {
        let _alone = self.counting.lock().await;
        let wrong = self.rows().scan_with(move |meta| local::recount(meta, partition, table));
        let wrong = wrong.await?;
        let count = wrong.len();
        if count > 0 {
            let mut batch = Batch::new();
            for (key, amount) in wrong {
                batch.add(Family::Leaves, key, amount);
            }
            self.rows().commit(batch).await?;
        }
        Ok(count)
    }

    /// As [`Repair::recount`], where nothing should be wrong.
    pub(super) async fn check(
        &self,
        partition: Partition,
        table: TableId,
    ) -> Result<(), ReplicationError> {
        let wrong = self.recount(partition, table).await?;
        if wrong > 0 {
            tracing::warn!(%partition, ?table, wrong, "leaves did not match their rows");
            figures::CORRECTED.inc_by(wrong as u64);
            self.tallies.corrected.fetch_add(wrong as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Builds all leaves if that was never done, else looks whether they are right. Before the
    /// first layout there are no rows.
    pub(super) async fn count_all(self: Arc<Self>) -> Result<(), ReplicationError> {
        let upgrade = !self.built.load(Ordering::Acquire);
        if let Ok(layout) = self.coordinator.layout() {
            for partition in layout.partitions().iter() {
                for table in TableId::SHARDED {
                    match upgrade {
                        true => drop(self.recount(partition, table).await?),
                        false => self.check(partition, table).await?,
                    }
                }
                self.pause_for(if upgrade { Duration::ZERO } else { PAUSE }).await;
            }
        }
        if upgrade {
            let mut batch = Batch::new();
            batch.put(Family::Local, BUILT_KEY, BUILT);
            self.rows().commit(batch).await?;
            self.built.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        Ok(())
    }
}
