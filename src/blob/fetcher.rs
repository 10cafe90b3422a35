//! The fetcher: brings bytes here that this node should hold and does not.
//!
//! # What can go wrong, and what answers it
//! - *The node that sends dies, or its chunk is damaged.* The next one goes on at the same chunk;
//!   what is good here already is read here.
//! - *Nobody has the bytes now.* The fetch stays queued, durable, and is tried again later and
//!   later, up to [`BACKOFF_MAX`].
//! - *This node dies in the middle.* Chunks without a seal are nothing; the fetch begins anew.
//! - *The extent goes meanwhile.* Its row says so when the bytes are sealed, and they are
//!   forgotten again.
//! - *A disk of terabytes is refilled.* A few extents at once, each through a bounded window that
//!   this node empties at the pace of its disk, with pauses that grow with what clients wait for.
//! - *A damaged extent turns out to be good* (a cable, a lie of the disk's cache). All chunks are
//!   read first; what is good is not fetched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::codec::{decode_format, encode_format};
use crate::env::probe;
use crate::env::{Clock, Monotonic, deadline_in, metrics, timeout_at};
use crate::replication::{BytesHere, ReplicationError, Want};
use crate::store::{Batch, Family, StoreError};
use crate::types::ExtentId;

use super::extent::{ExtentRef, chunks_of, extent_row};
use super::extent_row::{ExtentRow, ExtentState};
use super::reader::{Placed, Sink};
use super::service::{BlobError, Blobs, WHOLE};
use super::wanted::{Wanted, queue_from};

static MISSING: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge("quorate_extents_missing", "Extents that this node should hold and does not.")
});

static FETCHED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_extents_fetched_total", "Extents whose bytes were fetched.")
});

static FETCHED_BYTES: std::sync::LazyLock<prometheus::IntCounter> =
    std::sync::LazyLock::new(|| {
        metrics::counter("quorate_fetched_bytes_total", "Bytes of extents that were fetched.")
    });

static FAILED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_fetches_failed_total", "Fetches that found no good copy.")
});

/// Extents fetched at once.
const AT_ONCE: usize = 4;

/// Queued extents looked at in one go.
const PAGE: usize = 256;

/// Between two looks through the queue.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A pause in which what was just queued becomes durable, or what is on its way here comes.
const GATHER: Duration = Duration::from_millis(500);

/// Before a fetch is tried again, at first and at most.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// The longest that one extent may take.
const FETCH_MAX: Duration = Duration::from_secs(300);

/// Bytes that are fetched in a second at most, all fetches together.
const BYTES_PER_SECOND: u64 = 128 << 20;

/// When an extent is to be tried next.
#[derive(Clone, Copy)]
struct Later {
    at: Monotonic,
    wait: Duration,
}

/// What became of one fetch.
enum Fetched {
    /// The bytes are here, or are not wanted any more.
    Settled(u64),
    /// Nobody had a good copy.
    Nowhere,
}

impl Blobs {
    /// Fetches what is queued, for ever.
    pub(super) async fn fetch_for_ever(self) {
        let clock = Arc::clone(&self.coordinator.site().clock);
        let mut later = BTreeMap::new();
        loop {
            let again = deadline_in(&*clock, LOOK_AGAIN);
            timeout_at(&*clock, again, self.companion.queued()).await;
            clock.sleep(GATHER).await;
            if let Err(error) = self.fetch_queued(&clock, &mut later).await {
                tracing::error!(%error, "the queue of fetches cannot be worked on");
            }
        }
    }

    /// Goes once through the queue.
    async fn fetch_queued(
        &self,
        clock: &Arc<dyn Clock>,
        later: &mut BTreeMap<ExtentId, Later>,
    ) -> Result<(), ReplicationError> {
        let mut from = Some(Vec::new());
        let mut queued = 0;
        let mut seen = BTreeMap::new();
        while let Some(start) = from {
            let rows = self.coordinator.replica().rows();
            let page = rows.scan_with(move |meta| queue_from(meta, start, PAGE)).await?;
            queued += page.0.len();
            let now = clock.monotonic();
            let mut due = Vec::new();
            for wanted in page.0 {
                match later.get(&wanted.extent) {
                    Some(waits) if waits.at > now => {
                        seen.insert(wanted.extent, *waits);
                    }
                    _ => due.push(wanted),
                }
            }
            self.fetch_all(due, later, &mut seen).await?;
            from = page.1;
        }
        MISSING.set(i64::try_from(queued).unwrap_or(i64::MAX));
        *later = seen;
        Ok(())
    }

    /// Fetches these, a few at once, and notes in `seen` which to try again.
    async fn fetch_all(
        &self,
        due: Vec<Wanted>,
        later: &BTreeMap<ExtentId, Later>,
        seen: &mut BTreeMap<ExtentId, Later>,
    ) -> Result<(), ReplicationError> {
        let clock = &*self.coordinator.site().clock;
        let mut due = due.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(wanted) = due.next()
            {
                under_way.push(async move { (wanted.extent, self.fetch_paced(&wanted).await) });
            }
            let Some((extent, fetched)) = under_way.next().await else { return Ok(()) };
            if let Fetched::Nowhere = fetched? {
                FAILED.inc();
                let wait = later.get(&extent).map_or(BACKOFF_MIN, |later| later.wait * 2);
                let wait = wait.min(BACKOFF_MAX);
                seen.insert(extent, Later { at: deadline_in(clock, wait), wait });
            }
        }
    }

    /// Fetches one extent, then pauses so that clients do not feel it.
    async fn fetch_paced(&self, wanted: &Wanted) -> Result<Fetched, ReplicationError> {
        let clock = &*self.coordinator.site().clock;
        let deadline = deadline_in(clock, FETCH_MAX);
        let fetched = timeout_at(clock, deadline, self.fetch(wanted)).await;
        let fetched = match fetched {
            Some(Ok(fetched)) => fetched,
            Some(Err(error @ ReplicationError::Store(StoreError::Stopped { .. }))) => {
                return Err(error);
            }
            Some(Err(error)) => {
                tracing::warn!(extent = %wanted.extent, %error, "an extent cannot be fetched");
                Fetched::Nowhere
            }
            None => {
                self.segments.abandon(wanted.extent, WHOLE);
                Fetched::Nowhere
            }
        };
        if let Fetched::Settled(bytes) = fetched {
            clock.sleep(self.pause_after(bytes * AT_ONCE as u64, BYTES_PER_SECOND)).await;
        }
        Ok(fetched)
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Fetched, ReplicationError> {
        let replica = self.coordinator.replica();
        let held = replica.fetch(&wanted.row, wanted.partition, Want::Record).await?;
        let Some(record) = held.record else {
            let mut batch = Batch::new();
            batch.delete(Family::Fetches, wanted.row.stored(wanted.partition));
            replica.rows().commit(batch).await?;
            return Ok(Fetched::Settled(0));
        };
        let row = decode_format::<ExtentRow>(&record)?;
        let wanted_still = row.state == ExtentState::Live;
        if wanted_still && self.check_here(wanted.extent, row.length).await? == BytesHere::Missing {
            let placed = Placed {
                extent: ExtentRef { id: wanted.extent, length: row.length },
                routing: wanted.row.routing.clone(),
            };
            if let Err(error) = self.bring(&placed, &row).await {
                tracing::debug!(extent = %wanted.extent, %error, "no good copy within reach");
                return Ok(Fetched::Nowhere);
            }
            FETCHED.inc();
            probe::sometimes("an extent is fetched");
            probe::crash_point("extent fetched, row not refreshed");
            FETCHED_BYTES.inc_by(row.length);
        }
        self.companion.trust(wanted.extent);
        replica.refresh(&wanted.row, wanted.partition).await?;
        Ok(Fetched::Settled(row.length))
    }

    /// Whether all chunks of an extent are here and good.
    pub(super) async fn check_here(
        &self,
        extent: ExtentId,
        length: u64,
    ) -> Result<BytesHere, StoreError> {
        match self.segments.verify(extent, WHOLE).await {
            Ok(Some(verified)) if verified.verified_bytes == length => Ok(BytesHere::All),
            Ok(_) | Err(StoreError::Damaged { .. }) => Ok(BytesHere::Missing),
            Err(error) => Err(error),
        }
    }

    /// Brings an extent's bytes here, from whoever has a good copy, and seals them.
    async fn bring(&self, placed: &Placed, row: &ExtentRow) -> Result<(), BlobError> {
        let (extent, length) = (placed.extent.id, row.length);
        let unreadable = |reason: String| BlobError::Unreadable { extent, reason };
        let record = encode_format(&row.record(&placed.routing))
            .map_err(|error| unreadable(error.to_string()))?;
        let brought = async {
            if length > 0 {
                let mut sink = Sink::log(&self.segments, extent);
                let n = usize::from(row.n);
                let whole = self.deliver_extent(placed, n, 0..length, &mut sink).await?;
                if !whole {
                    return Err(unreadable(sink.failure()));
                }
            }
            let sealed = self.segments.seal(extent, WHOLE, chunks_of(length), record.into()).await;
            sealed.map_err(|error| BlobError::Replication(error.into()))
        }
        .await;
        if brought.is_err() {
            self.segments.abandon(extent, WHOLE);
        }
        brought
    }

    /// Doubts an extent of which a chunk failed its check here, so that it is fetched anew.
    pub(super) fn doubt(&self, extent: ExtentId) {
        if !self.companion.doubt(extent) {
            return;
        }
        let blobs = self.clone();
        let work = async move {
            if let Err(error) = blobs.queue_doubted(extent).await {
                // The next read or scrub finds it again.
                tracing::warn!(%extent, %error, "a damaged extent could not be queued");
                blobs.companion.trust(extent);
            }
        };
        self.coordinator.site().tasks.spawn("doubted extent", Box::pin(work)).detach();
    }

    async fn queue_doubted(&self, extent: ExtentId) -> Result<(), ReplicationError> {
        match self.sealed_record(extent)? {
            Some(record) => self.look_again(extent, record.routing.into()).await,
            None => {
                self.companion.trust(extent);
                Ok(())
            }
        }
    }

    /// Looks again whether the bytes of a row of this node are here; makes the row if there is
    /// none and there are bytes.
    pub(super) async fn look_again(
        &self,
        extent: ExtentId,
        routing: Bytes,
    ) -> Result<(), ReplicationError> {
        let row = extent_row(routing, extent);
        let partition = row.partition(&*self.coordinator.layout()?);
        let replica = self.coordinator.replica();
        if replica.fetch(&row, partition, Want::Record).await?.record.is_none() {
            self.register_sealed(extent).await?;
        }
        replica.refresh(&row, partition).await
    }
}
