//! Bytes that this node should hold: the extents' companion, and the durable queue of what it
//! must fetch.
//!
//! # What can go wrong, and what answers it
//! - *A live row comes without its bytes.* The same batch flags the row and queues a fetch, so
//!   that neither can be lost without the other.
//! - *Bytes come after their row, or while it is decided on.* Whoever sealed them looks at the row
//!   again afterwards (`Replica::refresh`), which takes flag and fetch away.
//! - *A row says that the extent is gone while its bytes still come in.* Their seal looks at the
//!   row too, and they are forgotten.
//! - *A chunk rots.* The extent is doubted: its row is flagged as if its bytes were not here,
//!   until all chunks were read and found good, or were written again. What is still good of it
//!   is served meanwhile, and never thrown away.
//! - *A crash while an extent is doubted.* The queued fetch says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::codec::{Format, decode_format, encode_format};
use crate::replication::{BytesHere, Change, Companion, ReplicationError, RowKey, TableId};
use crate::ring::Partition;
use crate::store::{Batch, Family, KeyRange, MetaStore, SegmentLog, StoreError, Visit};
use crate::types::ExtentId;

use super::extent::extent_of;
use super::extent_row::{ExtentRow, ExtentState};
use super::service::WHOLE;

/// Extents that may be doubted at once; others are found again by the next read or scrub.
const DOUBTED_MAX: usize = 100_000;

/// Why an extent is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FetchReason {
    /// Its bytes are not here.
    #[serde(rename = "m")]
    Missing,
    /// A part of them is damaged here.
    #[serde(rename = "d")]
    Damaged,
}

/// A row of [`Family::Fetches`], under the key of the extent's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FetchRow {
    #[serde(rename = "r")]
    pub(super) reason: FetchReason,
}

impl Format for FetchRow {
    const NAME: &'static str = "fetch";
    const NUMBER: u16 = 1;
}

/// An extent that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) partition: Partition,
    pub(super) row: RowKey,
    pub(super) extent: ExtentId,
}

impl Wanted {
    /// What the key of an extent's row stands for: partition, routing key, extent.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (partition, rest) = key.split_first_chunk::<4>()?;
        let (routing, extent) = rest.split_last_chunk::<16>()?;
        let row = RowKey {
            table: TableId::Extents,
            routing: Bytes::copy_from_slice(routing),
            sort: Bytes::copy_from_slice(extent),
        };
        let partition = Partition::from_be_bytes(*partition);
        Some(Self { partition, row, extent: ExtentId::from_bytes(*extent) })
    }
}

/// Goes with every change of an extent's row.
pub struct ExtentCompanion {
    segments: SegmentLog,
    doubted: Mutex<BTreeSet<ExtentId>>,
    queued: Notify,
}

impl ExtentCompanion {
    /// A companion that doubts what was doubted before the node stopped.
    ///
    /// # Errors
    /// If the queue cannot be read.
    pub(super) fn open(
        segments: SegmentLog,
        meta: &dyn MetaStore,
    ) -> Result<Arc<Self>, StoreError> {
        let mut doubted = BTreeSet::new();
        let everything = KeyRange { start: Vec::new(), end: None };
        meta.scan(Family::Fetches, &everything, &mut |key, value| {
            let damaged = decode_format::<FetchRow>(value)
                .is_ok_and(|fetch| fetch.reason == FetchReason::Damaged);
            if let Some(wanted) = Wanted::parse(key).filter(|_| damaged) {
                doubted.insert(wanted.extent);
            }
            Visit::Next
        })?;
        Ok(Arc::new(Self { segments, doubted: Mutex::new(doubted), queued: Notify::new() }))
    }

    /// Doubts an extent from now on; false if it is doubted already. Its row must be looked at
    /// again afterwards.
    pub(super) fn doubt(&self, extent: ExtentId) -> bool {
        let mut doubted = self.doubted.lock();
        doubted.len() < DOUBTED_MAX && doubted.insert(extent)
    }

    /// An extent's chunks were all read and found good, or written again. Its row must be looked
    /// at again afterwards.
    pub(super) fn trust(&self, extent: ExtentId) {
        self.doubted.lock().remove(&extent);
    }

    pub(super) fn is_doubted(&self, extent: ExtentId) -> bool {
        self.doubted.lock().contains(&extent)
    }

    /// Resolves when something was queued since this was last called.
    pub(super) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Whether the bytes are here as far as is known; else why they are to be fetched.
    fn lacks(&self, extent: ExtentId) -> Result<Option<FetchReason>, StoreError> {
        match self.segments.find(extent, WHOLE) {
            Ok(Some(_)) if self.is_doubted(extent) => Ok(Some(FetchReason::Damaged)),
            Ok(Some(_)) => Ok(None),
            Ok(None) => Ok(Some(FetchReason::Missing)),
            Err(StoreError::Damaged { .. }) => Ok(Some(FetchReason::Damaged)),
            Err(error) => Err(error),
        }
    }

    fn forget(&self, extent: ExtentId, batch: &mut Batch) {
        forget(&self.segments, extent, batch);
        self.trust(extent);
    }
}

impl Companion for ExtentCompanion {
    fn accompany(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<BytesHere, ReplicationError> {
        let Some(extent) = extent_of(change.row) else {
            let reason = format!("{} bytes are no extent's id", change.row.sort.len());
            return Err(ReplicationError::Damaged(reason));
        };
        let row = decode_format::<ExtentRow>(change.after)?;
        let key = change.row.stored(change.partition);
        if row.state == ExtentState::Gone {
            self.forget(extent, batch);
            batch.delete(Family::Fetches, key);
            return Ok(BytesHere::All);
        }
        let Some(reason) = self.lacks(extent)? else {
            batch.delete(Family::Fetches, key);
            return Ok(BytesHere::All);
        };
        let fetch = encode_format(&FetchRow { reason })
            .map_err(|error| ReplicationError::Damaged(error.to_string()))?;
        batch.put(Family::Fetches, key, fetch);
        self.queued.notify_one();
        Ok(BytesHere::Missing)
    }

    fn discard(&self, row: &RowKey, _record: &[u8], batch: &mut Batch) {
        // A fetch that is still queued finds that there is no row.
        if let Some(extent) = extent_of(row) {
            self.forget(extent, batch);
        }
    }
}

/// Adds to `batch` what forgets the bytes and the record of an extent on this node.
pub(super) fn forget(segments: &SegmentLog, extent: ExtentId, batch: &mut Batch) {
    segments.forget(extent, WHOLE, batch);
    batch.delete(Family::Extents, record_key(extent));
}

/// Where the record lies that an extent was sealed with.
pub(super) fn record_key(extent: ExtentId) -> Vec<u8> {
    [&extent.as_bytes()[..], &[WHOLE]].concat()
}

/// The first `max` extents that are to be fetched from the key `from` on, how many lie in the
/// queue behind them, and where to go on.
pub(super) fn queue_from(
    meta: &dyn MetaStore,
    from: Vec<u8>,
    max: usize,
) -> Result<(Vec<Wanted>, Option<Vec<u8>>), StoreError> {
    let mut wanted = Vec::new();
    let mut next = None;
    meta.scan(Family::Fetches, &KeyRange { start: from, end: None }, &mut |key, _| {
        if wanted.len() >= max {
            next = Some(key.to_vec());
            return Visit::Stop;
        }
        match Wanted::parse(key) {
            Some(found) => wanted.push(found),
            None => tracing::error!("a queued fetch cannot be read: it is left out"),
        }
        Visit::Next
    })?;
    Ok((wanted, next))
}
