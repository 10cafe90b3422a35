//! The scrubber: reads everything that this node holds, once in a long while, and looks whether
//! this node holds everything that its rows say.
//!
//! # What can go wrong, and what answers it
//! - *A chunk rots that nobody reads.* It is found here and fetched anew, before the other copies
//!   rot too.
//! - *Bytes vanish without a trace* (a lost file, an index restored from elsewhere). Their row is
//!   found without them, and they are fetched.
//! - *The node is restarted often.* Where the round stands is durable.
//! - *Terabytes are held.* The round is spread evenly over the interval.

use std::time::Duration;

use bytes::Bytes;

use crate::env::metrics;
use crate::replication::ReplicationError;
use crate::store::{Batch, Family, HeldExtent, KeyRange, MetaStore, SegmentLog, StoreError, Visit};
use crate::types::ExtentId;

use super::service::{Blobs, WHOLE};
use super::wanted::Wanted;

static SCRUBBED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_scrubbed_bytes_total", "Bytes of extents read by the scrubber.")
});

static DAMAGED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_scrub_damaged_total", "Extents that the scrubber found damaged.")
});

static ROUNDS: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_scrub_rounds_total", "Rounds in which everything was read once.")
});

/// Where the round stands, in [`Family::Local`].
const CURSOR_KEY: &[u8] = b"scrub_cursor";

/// Extents, or rows, looked at in one go.
const PAGE: usize = 128;

/// Pauses are not shorter than this: many small extents share one.
const PAUSE_MIN: Duration = Duration::from_millis(100);

impl Blobs {
    /// Scrubs for ever, a round in each `interval`; not at all if that is zero.
    pub(super) async fn scrub_for_ever(self, interval: Duration) {
        if interval.is_zero() {
            return;
        }
        let clock = self.clock();
        loop {
            let begun = clock.monotonic();
            match self.scrub_round(interval).await {
                Ok(()) => ROUNDS.inc(),
                Err(error) => tracing::error!(%error, "the scrubber's round broke off"),
            }
            let spent = clock.monotonic().since(begun);
            clock.sleep(interval.saturating_sub(spent).max(PAUSE_MIN)).await;
        }
    }

    async fn scrub_round(&self, interval: Duration) -> Result<(), ReplicationError> {
        self.scrub_rows().await?;
        let rows = self.coordinator.replica().rows().clone();
        let cursor = rows.get(Family::Local, CURSOR_KEY)?;
        let mut after = cursor
            .and_then(|bytes| Some(ExtentId::from_bytes(bytes.as_ref().try_into().ok()?)))
            .map(|extent| (extent, WHOLE));
        let clock = self.clock();
        let mut owed = Duration::ZERO;
        loop {
            let page = self.segments.held(after, PAGE).await?;
            let Some(last) = page.last().map(|held| (held.extent, held.fragment)) else { break };
            let total = self.segments.figures().live_bytes.max(1);
            for held in page {
                let bytes = self.scrub_extent(held).await?;
                let share = u128::from(bytes) * interval.as_millis() / u128::from(total);
                owed += Duration::from_millis(u64::try_from(share).unwrap_or(0));
                if owed >= PAUSE_MIN {
                    clock.sleep(std::mem::take(&mut owed).min(interval)).await;
                }
            }
            self.note_cursor(Some(last.0)).await?;
            after = Some(last);
        }
        self.note_cursor(None).await
    }

    async fn note_cursor(&self, at: Option<ExtentId>) -> Result<(), ReplicationError> {
        let mut batch = Batch::new();
        match at {
            Some(extent) => {
                batch.put(Family::Local, CURSOR_KEY, Bytes::copy_from_slice(extent.as_bytes()));
            }
            None => batch.delete(Family::Local, CURSOR_KEY),
        }
        Ok(self.coordinator.replica().rows().commit(batch).await?)
    }

    /// Reads one extent and returns how many bytes that were.
    async fn scrub_extent(&self, held: HeldExtent) -> Result<u64, ReplicationError> {
        let (extent, fragment) = (held.extent, held.fragment);
        match self.segments.verify(extent, fragment).await {
            Ok(None) => return Ok(0),
            Ok(Some(verified)) if verified.damaged.is_empty() => {
                SCRUBBED.inc_by(verified.verified_bytes);
                self.see_to_row(extent).await?;
                return Ok(verified.verified_bytes);
            }
            Ok(Some(_)) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        DAMAGED.inc();
        tracing::warn!(%extent, "the scrubber found damage");
        self.doubt(extent);
        Ok(held.length.unwrap_or_default())
    }

    /// Extents of the first release have no row until they are met here.
    async fn see_to_row(&self, extent: ExtentId) -> Result<(), ReplicationError> {
        let Some(record) = self.sealed_record(extent)? else { return Ok(()) };
        if record.origin.is_some() {
            return Ok(());
        }
        self.register_sealed(extent).await
    }

    /// Looks for rows that say that bytes are here which are not.
    async fn scrub_rows(&self) -> Result<(), ReplicationError> {
        let mut from = Some(Vec::new());
        let clock = self.clock();
        while let Some(start) = from {
            let segments = self.segments.clone();
            let rows = self.coordinator.replica().rows();
            let page = rows.scan_with(move |meta| lost_rows(meta, &segments, start)).await?;
            let (lost, next) = page;
            for row in lost {
                self.look_for(row.extent, row.row.routing).await?;
            }
            from = next;
            clock.sleep(self.pause_after(0, 1).max(Duration::from_millis(5))).await;
        }
        Ok(())
    }
}

/// Rows of a page whose extents are not here, and where the next page begins.
fn lost_rows(
    meta: &dyn MetaStore,
    segments: &SegmentLog,
    start: Vec<u8>,
) -> Result<(Vec<Wanted>, Option<Vec<u8>>), StoreError> {
    let mut rows = Vec::new();
    let mut next = None;
    meta.scan(Family::ExtentRows, &KeyRange { start, end: None }, &mut |key, _| {
        if rows.len() >= PAGE {
            next = Some(key.to_vec());
            return Visit::Stop;
        }
        rows.extend(Wanted::parse(key));
        Visit::Next
    })?;
    rows.retain(|row| matches!(segments.find(row.extent, WHOLE), Ok(None)));
    Ok((rows, next))
}
