//! Gives the room of forgotten bytes back, step by step, behind the clients' backs.
//!
//! # What can go wrong, and what answers it
//! - *The disk is busy, or clients wait.* Steps are small, and the pauses between them grow with
//!   what is waiting.
//! - *The disk is nearly full.* Segments with fewer dead bytes are worth it then.
//! - *A chunk that should be moved is damaged.* Its segment stays, and the extent is fetched anew.

use std::time::Duration;

use crate::store::{CompactionLimits, CompactionStep, StoreError};

use super::service::Blobs;

/// Between two looks when nothing is worth it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Bytes that are copied in a second at most.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// Use of the disk, in percent, from which segments with fewer dead bytes are compacted.
const TIGHT_PERCENT: u64 = 85;

/// Dead bytes of a segment then, in percent.
const DEAD_PERCENT_TIGHT: u8 = 15;

impl Blobs {
    /// Compacts what is worth it, for ever.
    pub(super) async fn compact_for_ever(self) {
        let clock = self.clock();
        loop {
            let pause = match self.compact_once().await {
                Ok(pause) => pause,
                Err(error @ (StoreError::Stopped { .. } | StoreError::Stopping)) => {
                    tracing::error!(%error, "no compaction any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "segments are not compacted");
                    LOOK_AGAIN
                }
            };
            clock.sleep(pause).await;
        }
    }

    /// Does one step and tells how long to pause.
    async fn compact_once(&self) -> Result<Duration, StoreError> {
        let mut limits = CompactionLimits::default();
        if self.used_percent().await? >= TIGHT_PERCENT {
            limits.dead_percent_min = DEAD_PERCENT_TIGHT;
        }
        let report = self.segments.compact(limits).await?;
        for (extent, _) in &report.damaged {
            self.doubt(*extent);
        }
        match report.step {
            CompactionStep::Idle | CompactionStep::Kept => Ok(LOOK_AGAIN),
            CompactionStep::Copied | CompactionStep::Removed => {
                tracing::info!(?report, "segments are compacted");
                Ok(self.pause_after(report.copied_bytes, BYTES_PER_SECOND))
            }
        }
    }

    /// How much of the segments' disk is used, in percent.
    ///
    /// # Errors
    /// If the system does not tell.
    pub async fn used_percent(&self) -> Result<u64, StoreError> {
        let space = self.segments.space().await?;
        let used = space.total.saturating_sub(space.free);
        Ok(used.saturating_mul(100) / space.total.max(1))
    }
}
