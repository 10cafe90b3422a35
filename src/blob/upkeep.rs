//! What goes on beside requests, so that a node holds what its rows say, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::codec::decode_format;
use crate::env::{Clock, TaskHandle};
use crate::replication::{ReplicationError, Want};
use crate::store::Family;
use crate::types::ExtentId;

use super::extent::{ExtentRecord, extent_row};
use super::extent_row::{ExtentRow, ExtentState};
use super::service::Blobs;

/// Rows that reads asked to be looked at, at once.
const LOOKING_MAX: usize = 64;

/// How thoroughly a node looks after its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// The time in which everything that is held is read and checked once; zero: never.
    /// Default 14 days.
    pub scrub_interval: Duration,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        Self { scrub_interval: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// What the workers remember; none of it is needed.
#[derive(Default)]
pub(super) struct Upkeep {
    /// Extents whose rows were purged before their bytes were registered here.
    pub(super) outlived: Mutex<BTreeMap<ExtentId, ExtentRecord>>,
    /// Extents whose rows are being looked at.
    looking: Mutex<BTreeSet<ExtentId>>,
}

impl Blobs {
    /// Starts the workers; they end when their handles are dropped.
    #[must_use]
    pub fn start_upkeep(&self, settings: UpkeepSettings) -> Vec<TaskHandle> {
        let workers: [(&'static str, BoxFuture<'static, ()>); 4] = [
            ("extent registrar", self.clone().register_for_ever().boxed()),
            ("extent fetcher", self.clone().fetch_for_ever().boxed()),
            ("compaction", self.clone().compact_for_ever().boxed()),
            ("scrubber", self.clone().scrub_for_ever(settings.scrub_interval).boxed()),
        ];
        let tasks = &self.coordinator.site().tasks;
        workers.into_iter().map(|(name, work)| tasks.spawn(name, work)).collect()
    }

    /// A read did not find an extent here. If a row says that it should be here, its bytes are
    /// fetched.
    pub(super) fn missed(&self, extent: ExtentId, routing: &Bytes) {
        {
            let mut looking = self.upkeep.looking.lock();
            let one_more = !routing.is_empty() && looking.len() < LOOKING_MAX;
            if !one_more || !looking.insert(extent) {
                return;
            }
        }
        let (blobs, routing) = (self.clone(), routing.clone());
        let work = async move {
            if let Err(error) = blobs.look_for(extent, routing).await {
                tracing::warn!(%extent, %error, "a missing extent could not be queued");
            }
            blobs.upkeep.looking.lock().remove(&extent);
        };
        self.coordinator.site().tasks.spawn("missing extent", work.boxed()).detach();
    }

    /// Queues an extent whose row says that it should be here, if it is not queued.
    pub(super) async fn look_for(
        &self,
        extent: ExtentId,
        routing: Bytes,
    ) -> Result<(), ReplicationError> {
        let row = extent_row(routing.clone(), extent);
        let partition = row.partition(&*self.coordinator.layout()?);
        let replica = self.coordinator.replica();
        let Some(record) = replica.fetch(&row, partition, Want::Record).await?.record else {
            return Ok(());
        };
        let live = decode_format::<ExtentRow>(&record)?.state == ExtentState::Live;
        let queued = replica.rows().get(Family::Fetches, &row.stored(partition))?.is_some();
        if live && !queued { replica.refresh(&row, partition).await } else { Ok(()) }
    }

    /// How long to pause after work on so many bytes, at so many in a second, so that clients do
    /// not feel it.
    pub(super) fn pause_after(&self, bytes: u64, bytes_per_second: u64) -> Duration {
        let busy = u64::from(self.coordinator.replica().pause_millis());
        Duration::from_millis(busy + bytes.saturating_mul(1000) / bytes_per_second.max(1))
    }

    /// This node's clocks.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.coordinator.site().clock)
    }
}
