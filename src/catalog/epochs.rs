//! Writes of a bucket that may be changed meanwhile: owners refuse what was begun before the
//! change, and the gateway begins again, once, with the bucket as it is now.

use std::time::Duration;

use bytes::Bytes;

use crate::causality::HybridTime;
use crate::codec::encode_format;
use crate::env::deadline_in;
use crate::env::probe;
use crate::replication::{NewWrite, Record, ReplicationError, RowKey, WriteReceipt};

use super::error::CatalogError;
use super::records::BucketRecord;
use super::rows::BucketState;
use super::service::Catalog;

/// How long this node may be behind an owner that has heard of a change.
const REFRESH_WAIT: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Catalog {
    /// Writes the record that `make` makes for the bucket's epoch; if the bucket was changed
    /// meanwhile, once more as it is now.
    pub(super) async fn write_current<R: Record>(
        &self,
        bucket: &BucketRecord,
        row: &RowKey,
        make: impl Fn(u64) -> R + Send + Sync,
        (inline, begun): (Bytes, HybridTime),
    ) -> Result<WriteReceipt, CatalogError> {
        let write = |bucket: &BucketRecord| {
            let record = encode_format(&make(bucket.epoch))
                .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
            let (n, level, inline) = (usize::from(bucket.n), bucket.level, inline.clone());
            Ok::<_, CatalogError>(NewWrite { record: record.into(), inline, n, level, begun })
        };
        match self.coordinator.write(row, write(bucket)?).await {
            Err(ReplicationError::StaleBucket) => {
                probe::sometimes("a write meets a bucket that was changed");
                let fresh = self.refreshed(bucket).await?;
                Ok(self.coordinator.write(row, write(&fresh)?).await?)
            }
            written => Ok(written?),
        }
    }

    /// The bucket as it is now, at the level that the request asks for.
    async fn refreshed(&self, bucket: &BucketRecord) -> Result<BucketRecord, CatalogError> {
        let clock = &self.coordinator.site().clock;
        let deadline = deadline_in(&**clock, REFRESH_WAIT);
        loop {
            let known = self.local.known_bucket(bucket.name.as_str());
            let known = known.filter(|known| known.row.id == bucket.id);
            let Some(known) = known.filter(|known| known.row.state == BucketState::Active) else {
                return Err(CatalogError::BucketChanging);
            };
            if known.row.epoch > bucket.epoch {
                return Ok(known.record.at_level(bucket.asked)?);
            }
            if clock.monotonic() >= deadline {
                return Err(CatalogError::BucketChanging);
            }
            clock.sleep(LOOK_AGAIN).await;
        }
    }
}
