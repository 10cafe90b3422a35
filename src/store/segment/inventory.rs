//! What a log holds: page by page, checked, and fresh.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::FragmentKey;
use super::index::{chunks_key, extent_key, parse_chunks_key, parse_extent_key, sealed_runs};
use super::log::SegmentLog;
use crate::store::error::StoreError;
use crate::store::meta::{Batch, Family, KeyRange, MetaStore, Visit, next_prefix};
use crate::types::{DiskId, ExtentId};

/// An extent (or fragment) whose bytes are on this disk, or are damaged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldExtent {
    /// Its id.
    pub extent: ExtentId,
    /// Its fragment.
    pub fragment: u8,
    /// Bytes of its chunks; `None` if nothing of it can be read: it answers `Damaged`.
    pub length: Option<u64>,
}

/// An extent that was sealed here and is not yet known to be in the replicated table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshExtent {
    /// Its id.
    pub extent: ExtentId,
    /// Its fragment.
    pub fragment: u8,
    /// Its row in `Family::Extents`.
    pub record: Bytes,
}

/// An extent of which every chunk was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifiedExtent {
    /// How many chunks.
    pub chunks: u32,
    /// Bytes of those that matched their checksums.
    pub verified_bytes: u64,
    /// The chunks that could not be read or did not match, in order.
    pub damaged: Vec<u32>,
}

impl SegmentLog {
    /// Extents on this disk behind `after`, in the order of their ids and fragments, at most
    /// `max`; none is the end. Begin with `None` and go on behind the last one.
    ///
    /// # Errors
    /// If rows cannot be read.
    pub async fn held(
        &self,
        after: Option<(ExtentId, u8)>,
        max: usize,
    ) -> Result<Vec<HeldExtent>, StoreError> {
        let reader = Arc::clone(&self.inner.reader);
        let disk = self.inner.ledger.disk();
        let after = after.map(|(extent, fragment)| extent_key(FragmentKey { extent, fragment }));
        let start = match after.as_deref().map(next_prefix) {
            None => Vec::new(),
            Some(Some(start)) => start,
            Some(None) => return Ok(Vec::new()),
        };
        self.inner
            .blocking(move || {
                let mut held = Vec::new();
                let range = KeyRange { start, end: None };
                reader.meta().scan(Family::Chunks, &range, &mut |key, row| {
                    if held.len() >= max {
                        return Visit::Stop;
                    }
                    if let Some(FragmentKey { extent, fragment }) = parse_chunks_key(key, disk) {
                        let length = sealed_runs(row).map(|runs| runs.length());
                        held.push(HeldExtent { extent, fragment, length });
                    }
                    Visit::Next
                })?;
                Ok(held)
            })
            .await
    }

    /// Reads and checks every chunk of an extent, 4 MiB at a time; `None` if it is certainly not
    /// here. The caller sees to pauses between extents.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the extent as a whole cannot be read.
    pub async fn verify(
        &self,
        extent: ExtentId,
        fragment: u8,
    ) -> Result<Option<VerifiedExtent>, StoreError> {
        let Some(runs) = self.inner.reader.runs(FragmentKey { extent, fragment })? else {
            return Ok(None);
        };
        let mut verified = VerifiedExtent { chunks: runs.chunks(), ..VerifiedExtent::default() };
        let mut next = 0;
        while next < verified.chunks {
            let read = self.read_many(extent, fragment, next..verified.chunks).await?;
            let Some(read) = read.filter(|read| !read.is_empty()) else { return Ok(None) };
            for chunk in read {
                match chunk {
                    Ok((_, payload)) => verified.verified_bytes += super::widened(payload.len()),
                    Err(StoreError::Damaged { .. }) => verified.damaged.push(next),
                    Err(error) => return Err(error),
                }
                next += 1;
            }
        }
        Ok(Some(verified))
    }

    /// Extents that were sealed here and wait to be [registered](Self::registered), at most `max`.
    /// Those of an earlier run are among them.
    ///
    /// # Errors
    /// If rows cannot be read.
    pub async fn fresh(&self, max: usize) -> Result<Vec<FreshExtent>, StoreError> {
        let reader = Arc::clone(&self.inner.reader);
        let disk = self.inner.ledger.disk();
        self.inner
            .blocking(move || {
                let (meta, mut fresh, mut failed) = (reader.meta(), Vec::new(), None);
                meta.scan(Family::Fresh, &KeyRange::prefix([]), &mut |key, _| {
                    if fresh.len() >= max {
                        return Visit::Stop;
                    }
                    match parse_extent_key(key).map(|key| fresh_extent(meta, disk, key)) {
                        None => {}
                        Some(Ok(found)) => fresh.extend(found),
                        Some(Err(error)) => failed = Some(error),
                    }
                    if failed.is_some() { Visit::Stop } else { Visit::Next }
                })?;
                failed.map_or(Ok(()), Err)?;
                Ok(fresh)
            })
            .await
    }

    /// Adds to `batch` that an extent is in the replicated table: [`SegmentLog::fresh`] does not
    /// name it any more.
    pub fn registered(&self, extent: ExtentId, fragment: u8, batch: &mut Batch) {
        batch.delete(Family::Fresh, extent_key(FragmentKey { extent, fragment }));
    }

    /// Told whenever extents became fresh, and once at the start. A worker waits for it, then
    /// works until [`SegmentLog::fresh`] has no more; it need not keep the log itself.
    #[must_use]
    pub fn freshened(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.fresh)
    }
}

/// A fresh extent, unless it was forgotten since.
fn fresh_extent(
    meta: &dyn MetaStore,
    disk: DiskId,
    key: FragmentKey,
) -> Result<Option<FreshExtent>, StoreError> {
    if meta.get(Family::Chunks, &chunks_key(key, disk))?.is_none() {
        return Ok(None);
    }
    let record = meta.get(Family::Extents, &extent_key(key))?;
    let FragmentKey { extent, fragment } = key;
    Ok(record.map(|record| FreshExtent { extent, fragment, record }))
}
