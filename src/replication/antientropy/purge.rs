//! Purges tombstones: the second and last step on each owner, once their deletes are proven.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::causality::HybridTime;
use crate::env::probe;
use crate::replication::error::ReplicationError;
use crate::replication::replica::digest_of;
use crate::replication::table::TableId;
use crate::ring::Partition;

use super::figures;
use super::local;
use super::service::Repair;

impl Repair {
    /// Raises the purge floor durably, then erases this node's tombstones that are not above it.
    /// Right only when all owners were proven to agree up to the floor.
    pub(super) async fn purge(
        &self,
        partition: Partition,
        floor: HybridTime,
    ) -> Result<u64, ReplicationError> {
        self.floors.raise_purged(partition, floor).await?;
        probe::crash_point("floor raised, nothing purged yet");
        let mut erased = 0;
        for table in TableId::SHARDED {
            erased += self.purge_table(partition, table, floor).await?;
        }
        if erased > 0 {
            probe::sometimes("tombstones are purged");
        }
        figures::PURGED.inc_by(erased);
        self.tallies.purged.fetch_add(erased, Ordering::Relaxed);
        Ok(erased)
    }

    async fn purge_table(
        &self,
        partition: Partition,
        table: TableId,
        floor: HybridTime,
    ) -> Result<u64, ReplicationError> {
        let replica = self.coordinator.replica();
        let mut erased = 0;
        let mut from = Some(Bytes::new());
        while let Some(start) = from {
            let page =
                self.rows().scan_with(move |meta| local::read_gone(meta, partition, table, &start));
            let (graves, next) = page.await?;
            let erasing = graves.into_iter().map(|(row, record)| async move {
                if replica.stamp_of(table, &record)?.time > floor {
                    return Ok(false);
                }
                replica.erase(&row, partition, Some(digest_of(&record))).await
            });
            for outcome in futures_util::future::join_all(erasing).await {
                let outcome: Result<bool, ReplicationError> = outcome;
                erased += u64::from(outcome?);
            }
            from = next;
            self.pause_for(std::time::Duration::ZERO).await;
        }
        Ok(erased)
    }
}
