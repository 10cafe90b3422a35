//! The registrar: makes replicated rows of what was sealed on this node.
//!
//! A seal makes bytes durable and answers the writer; that the extent *should* exist is said by
//! its replicated row, which every owner derives from its own seal, so that it costs no message.
//!
//! # What can go wrong, and what answers it
//! - *A crash between seal and row.* What waits to be registered is a row of its own
//!   ([`Family::Fresh`](crate::store::Family)), derived from the seal; it is taken up again.
//! - *The row is there already*, brought by an exchange before the bytes came, or says that the
//!   extent is gone. It is looked at again: a flag is taken away, or the bytes are forgotten.
//! - *This node stands in for an owner.* The seal says for whom; the row is written as a guest
//!   with a hint. If there are too many hints, the extent waits here: its bytes are durable. If it
//!   waited for so long that its partition is closed to it, it is brought to its owner at once.
//! - *The row was purged.* What comes so late belongs to a write that failed long ago, or whose
//!   object is gone: it is kept aside, and collected once nothing names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::codec::{decode_format, encode_format};
use crate::env::metrics;
use crate::env::probe;
use crate::replication::{Outcome, Purpose, ReplicationError, RowKey, RowWrite, Want};
use crate::ring::Partition;
use crate::store::{Batch, Family, FreshExtent};
use crate::types::{ExtentId, NodeId};

use super::extent::{ExtentRecord, extent_of, extent_row};
use super::extent_row::ExtentRow;
use super::service::{Blobs, WHOLE};
use super::wanted::{forget, record_key};

static REGISTERED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_extents_registered_total", "Sealed extents made replicated rows of.")
});

/// Extents registered at once: they share commits.
const BATCH: usize = 64;

/// A pause in which more extents gather, so that their rows share a commit.
const GATHER: Duration = Duration::from_millis(20);

/// After an extent could not be registered.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Extents that may fail in one pass before the pass is broken off.
const FAILED_MAX: usize = 4096;

/// Extents kept aside because their rows were purged; more wait until some of these are collected.
const OUTLIVED_MAX: usize = 10_000;

/// What became of one extent.
enum Registered {
    /// It has a row, or its bytes are forgotten.
    Settled,
    /// Its row was purged.
    Outlived,
}

impl Blobs {
    /// Registers what is sealed here, for ever.
    pub(super) async fn register_for_ever(self) {
        let freshened = self.segments.freshened();
        let clock = std::sync::Arc::clone(&self.coordinator.site().clock);
        loop {
            freshened.notified().await;
            clock.sleep(GATHER).await;
            while let Err(error) = self.register_fresh().await {
                tracing::debug!(%error, "extents wait to be registered");
                clock.sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Registers everything that waits for it. What cannot be registered does not stop the rest.
    async fn register_fresh(&self) -> Result<(), ReplicationError> {
        let mut failed = BTreeSet::new();
        let mut first_error = None;
        loop {
            let aside = self.upkeep.outlived.lock().len() + failed.len();
            let mut fresh = self.segments.fresh(BATCH + aside).await?;
            {
                let outlived = self.upkeep.outlived.lock();
                fresh.retain(|fresh| {
                    !outlived.contains_key(&fresh.extent) && !failed.contains(&fresh.extent)
                });
            }
            if fresh.is_empty() || failed.len() >= FAILED_MAX {
                return first_error.map_or(Ok(()), Err);
            }
            let mut under_way: FuturesUnordered<_> =
                fresh.into_iter().map(|fresh| self.register_noting(fresh)).collect();
            while let Some((extent, result)) = under_way.next().await {
                if let Err(error) = result {
                    failed.insert(extent);
                    first_error.get_or_insert(error);
                }
            }
        }
    }

    async fn register_noting(
        &self,
        fresh: FreshExtent,
    ) -> (ExtentId, Result<(), ReplicationError>) {
        (fresh.extent, self.register_one(fresh).await)
    }

    async fn register_one(&self, fresh: FreshExtent) -> Result<(), ReplicationError> {
        let FreshExtent { extent, fragment, record } = fresh;
        let mut batch = Batch::new();
        match decode_format::<ExtentRecord>(&record) {
            Ok(sealed) if fragment == WHOLE => match self.register(extent, &sealed).await? {
                Registered::Settled => REGISTERED.inc(),
                Registered::Outlived => {
                    let mut outlived = self.upkeep.outlived.lock();
                    if outlived.len() >= OUTLIVED_MAX {
                        // It stays noted as fresh, until some of those were collected.
                        let reason = format!("{OUTLIVED_MAX} extents wait to be collected already");
                        return Err(ReplicationError::Busy(reason));
                    }
                    outlived.insert(extent, sealed);
                    return Ok(());
                }
            },
            Ok(_) => tracing::error!(%extent, fragment, "a fragment of an unknown kind was sealed"),
            Err(error) => tracing::error!(%extent, %error, "a sealed extent's record is damaged"),
        }
        probe::crash_point("extent registered, not noted");
        self.segments.registered(extent, fragment, &mut batch);
        Ok(self.coordinator.replica().rows().commit(batch).await?)
    }

    /// Makes the row of an extent that is sealed here, or looks at it again if it is there.
    async fn register(
        &self,
        extent: ExtentId,
        record: &ExtentRecord,
    ) -> Result<Registered, ReplicationError> {
        let row = extent_row(record.routing.clone().into(), extent);
        let partition = row.partition(&*self.coordinator.layout()?);
        let replica = self.coordinator.replica();
        let held = replica.fetch(&row, partition, Want::Record).await?.record.is_some();
        if !held || record.hinted_for.is_some() {
            let settled = self.write_row(&row, partition, record).await?;
            if let Some(settled) = settled {
                return Ok(settled);
            }
        }
        if held {
            replica.refresh(&row, partition).await?;
            return Ok(Registered::Settled);
        }
        let stands = replica.fetch(&row, partition, Want::Record).await?.record.is_some();
        Ok(if stands { Registered::Settled } else { Registered::Outlived })
    }

    /// Writes the row here; tells if the extent was brought to its owner instead.
    async fn write_row(
        &self,
        row: &RowKey,
        partition: Partition,
        record: &ExtentRecord,
    ) -> Result<Option<Registered>, ReplicationError> {
        let live = encode_format(&ExtentRow::live(record))
            .map_err(|error| ReplicationError::Damaged(error.to_string()))?;
        let purpose = match record.hinted_for {
            Some(owner) => Purpose::Hinted { owner, begun: record.begun },
            // Its bytes were acknowledged already: no fence keeps them out.
            None => Purpose::Repair,
        };
        let (live, n, inline) = (Bytes::from(live), record.n, Bytes::new());
        let write = RowWrite { row, partition, n, purpose, record: &live, inline: &inline };
        match (self.coordinator.replica().write(write).await, record.hinted_for) {
            (Err(ReplicationError::TooLate(_)), Some(owner)) => {
                self.hand_over(owner, row, n, live).await?;
                Ok(Some(Registered::Settled))
            }
            (written, _) => written.map(|_| None),
        }
    }

    /// Brings an extent that came too late for a hint to its owner at once, and forgets it here.
    async fn hand_over(
        &self,
        owner: NodeId,
        row: &RowKey,
        n: u8,
        live: Bytes,
    ) -> Result<(), ReplicationError> {
        let pushed = self.push_extent(owner, row, &live).await;
        pushed.map_err(|reason| ReplicationError::Unavailable {
            answered: 0,
            needed: 1,
            outcome: Outcome::Unknown,
            reason,
        })?;
        self.coordinator.replicate(owner, row, n, live).await?;
        let mut batch = Batch::new();
        if let Some(extent) = extent_of(row) {
            forget(&self.segments, extent, &mut batch);
        }
        Ok(self.coordinator.replica().rows().commit(batch).await?)
    }

    /// Registers an extent that is sealed here and has no row, as those of the first release.
    pub(super) async fn register_sealed(&self, extent: ExtentId) -> Result<(), ReplicationError> {
        let Some(record) = self.sealed_record(extent)? else { return Ok(()) };
        self.register(extent, &record).await.map(drop)
    }

    /// The record that an extent was sealed with here, if it was.
    pub(super) fn sealed_record(
        &self,
        extent: ExtentId,
    ) -> Result<Option<ExtentRecord>, ReplicationError> {
        let rows = self.coordinator.replica().rows();
        let record = rows.get(Family::Extents, &record_key(extent))?;
        Ok(record.map(|record| decode_format(&record)).transpose()?)
    }

    /// Extents on this disk whose rows were purged: to be forgotten once nothing names them.
    #[must_use]
    pub fn outlived(&self) -> BTreeMap<ExtentId, ExtentRecord> {
        self.upkeep.outlived.lock().clone()
    }

    /// Forgets the bytes of an outlived extent that nothing names.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn forget_outlived(&self, extent: ExtentId) -> Result<(), ReplicationError> {
        let mut batch = Batch::new();
        forget(&self.segments, extent, &mut batch);
        self.coordinator.replica().rows().commit(batch).await?;
        self.upkeep.outlived.lock().remove(&extent);
        Ok(())
    }
}
