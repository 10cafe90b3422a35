//! Orphans: bytes whose writer died before it named them, or whose put was refused at its end.
//!
//! Every write carries when it began, before its first byte was stored, and no owner takes in one
//! that began before the fence of its partition. So once the purge floor of an object's partition
//! has passed the beginning of an extent, whatever may ever name the extent is there for a quorum
//! to see. What nothing names then is freed. Each extent is looked at once, when the floor passes
//! it: what was named loses its name only under the eyes of the collector.
//!
//! # What can go wrong, and what answers it
//! - *A put that takes longer than the floor lags behind.* Its head is refused, and says so.
//! - *The owners of the object cannot be asked.* The extent is looked at again in the next round.
//! - *The object's owners are not those of the extent.* They are asked for their floor.
//! - *A bucket is deleted with uploads in it.* What belongs to it is judged at once: nothing
//!   names it any more.
//! - *This node dies in the middle.* How far each partition was looked through is durable only
//!   when a whole round is.
//! - *An extent's row was purged before this node had registered its bytes.* It is judged by the
//!   same rule, and only this node's copy is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blob::{ExtentRef, ExtentRow, ExtentState, ObjectName, extent_of};
use crate::causality::HybridTime;
use crate::codec::{Format, decode_format, encode_format};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::env::{TaskHandle, metrics};
use crate::replication::{Level, ReplicaPlan, ReplicationError, RowKey, TableId, Want};
use crate::ring::Partition;
use crate::store::{Batch, Family, KeyRange, Visit};
use crate::types::ExtentId;

use super::collector::Candidate;
use super::error::CatalogError;
use super::full_copy::ask;
use super::reader::load_manifest;
use super::remote::{CatalogReply, CatalogRequest};
use super::service::Catalog;
use super::unref::Holding;

static ORPHANS: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_orphan_extents_total", "Extents that nothing ever named, freed.")
});

/// How far each partition was looked through, in [`Family::Local`].
const SEEN_KEY: &[u8] = b"orphans_seen";

/// Extents looked at in one go.
const PAGE: usize = 256;

/// Between two rounds, at least and at most.
const EVERY_MIN: Duration = Duration::from_secs(5);
const EVERY_MAX: Duration = Duration::from_secs(600);

/// Between two keys.
const PAUSE: Duration = Duration::from_millis(5);

/// How far a partition's past is closed.
pub trait PurgeFloors: Send + Sync {
    /// No write that began at or before this is taken in any more, and all that were are at all
    /// owners; zero if this node does not know.
    fn purged(&self, partition: Partition) -> HybridTime;
}

/// Up to which floor the extents of each partition's objects were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    #[serde(rename = "p")]
    partitions: Vec<(u32, HybridTime)>,
}

impl Format for Seen {
    const NAME: &'static str = "orphans' progress";
    const NUMBER: u16 = 1;
}

/// One round through the extents of this node.
#[derive(Default)]
struct Round {
    /// Up to where each partition was looked through before.
    seen: BTreeMap<Partition, HybridTime>,
    /// The floors that were asked for in this round.
    floors: BTreeMap<Partition, HybridTime>,
    /// Partitions of which something could not be judged.
    unsettled: BTreeSet<Partition>,
}

/// An extent whose time has come.
struct Suspect {
    candidate: Candidate,
    n: usize,
}

impl Catalog {
    /// Knows floors from now on. The first call counts.
    pub fn set_floors(&self, floors: Arc<dyn PurgeFloors>) {
        drop(self.floors.set(floors));
    }

    /// Starts looking for orphans, at most every `grace`; ends when the handle is dropped.
    #[must_use]
    pub fn start_orphanage(&self, grace: Duration) -> TaskHandle {
        let catalog = self.clone();
        let pause = grace.clamp(EVERY_MIN, EVERY_MAX);
        let work = async move {
            loop {
                catalog.coordinator.site().clock.sleep(pause).await;
                if let Err(error) = catalog.look_for_orphans().await {
                    tracing::debug!(%error, "the search for orphans broke off");
                }
            }
        };
        self.coordinator.site().tasks.spawn("orphans", Box::pin(work))
    }

    /// The purge floor of a partition as this node knows it.
    pub(super) fn own_floor(&self, partition: Partition) -> HybridTime {
        self.floors.get().map(|floors| floors.purged(partition)).unwrap_or_default()
    }

    async fn look_for_orphans(&self) -> Result<(), CatalogError> {
        let mut round = Round { seen: self.seen()?, ..Round::default() };
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let (rows, next) = self.page_of_extents(start).await?;
            let suspects = self.suspects(rows, &mut round).await?;
            for (object, suspects) in suspects {
                if let Err(error) = self.judge(&object, suspects).await {
                    tracing::debug!(%error, "an orphan waits to be judged");
                    round.unsettled.insert(self.partition_of(&object)?);
                }
                let busy = u64::from(self.coordinator.replica().pause_millis());
                let pause = PAUSE + Duration::from_millis(busy);
                self.coordinator.site().clock.sleep(pause).await;
            }
            from = next;
        }
        self.judge_outlived(&mut round).await?;
        self.note_seen(round).await
    }

    fn seen(&self) -> Result<BTreeMap<Partition, HybridTime>, CatalogError> {
        let stored = self.coordinator.replica().rows().get(Family::Local, SEEN_KEY);
        let Some(stored) = stored.map_err(ReplicationError::from)? else {
            return Ok(BTreeMap::new());
        };
        // What cannot be read is looked through once more.
        let seen = decode_format::<Seen>(&stored).unwrap_or_default();
        Ok(seen.partitions.into_iter().map(|(number, time)| (number.into(), time)).collect())
    }

    async fn note_seen(&self, round: Round) -> Result<(), CatalogError> {
        let mut seen = round.seen;
        seen.extend(round.floors);
        seen.retain(|partition, _| !round.unsettled.contains(partition));
        let partitions = seen.into_iter().map(|(number, time)| (number.as_u32(), time)).collect();
        let stored = encode_format(&Seen { partitions })
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let mut batch = Batch::new();
        batch.put(Family::Local, SEEN_KEY, stored);
        let rows = self.coordinator.replica().rows();
        Ok(rows.commit(batch).await.map_err(ReplicationError::from)?)
    }

    /// The next rows of extents on this node, by their keys.
    async fn page_of_extents(
        &self,
        start: Vec<u8>,
    ) -> Result<(Vec<RowKey>, Option<Vec<u8>>), CatalogError> {
        let rows = self.coordinator.replica().rows();
        let page = rows.scan_with(move |meta| {
            let mut keys = Vec::new();
            let mut next = None;
            meta.scan(Family::ExtentRows, &KeyRange { start, end: None }, &mut |key, _| {
                if keys.len() >= PAGE {
                    next = Some(key.to_vec());
                    return Visit::Stop;
                }
                if let Some((routing, sort)) =
                    key.get(4..).and_then(|rest| rest.split_last_chunk::<16>())
                {
                    keys.push(RowKey {
                        table: TableId::Extents,
                        routing: Bytes::copy_from_slice(routing),
                        sort: Bytes::copy_from_slice(sort),
                    });
                }
                Visit::Next
            })?;
            Ok((keys, next))
        });
        Ok(page.await.map_err(ReplicationError::from)?)
    }

    /// Those of these extents that the floor has passed since they were looked at last.
    async fn suspects(
        &self,
        rows: Vec<RowKey>,
        round: &mut Round,
    ) -> Result<BTreeMap<ObjectName, Vec<Suspect>>, CatalogError> {
        let layout = self.coordinator.layout()?;
        let mut suspects: BTreeMap<ObjectName, Vec<Suspect>> = BTreeMap::new();
        for key in rows {
            let held =
                self.coordinator.replica().read(&key, key.partition(&layout), Want::Record)?;
            let Some(record) = held.record else { continue };
            let row = decode_format::<ExtentRow>(&record).map_err(ReplicationError::from)?;
            let (ExtentState::Live, Some(object), Some(id)) =
                (row.state, row.object, extent_of(&key))
            else {
                continue;
            };
            let n = usize::from(row.n).max(1);
            // A deleted bucket takes nothing in, and its rows are not taken back one by one.
            let closed = self.is_of_deleted_bucket(&object);
            if !closed && !self.has_passed(&object, n, row.begun, round).await? {
                continue;
            }
            let attached = key.routing == object.routing;
            let holding = if attached { Holding::Attached } else { Holding::Own };
            let extent = ExtentRef { id, length: row.length };
            let suspect = Suspect { candidate: Candidate { extent, holding }, n };
            suspects.entry(object).or_default().push(suspect);
        }
        Ok(suspects)
    }

    /// Whether the floor of an object's partition has passed `begun`, and had not when it was
    /// looked at before.
    async fn has_passed(
        &self,
        object: &ObjectName,
        n: usize,
        begun: HybridTime,
        round: &mut Round,
    ) -> Result<bool, CatalogError> {
        let partition = self.partition_of(object)?;
        let before = round.seen.get(&partition).copied().unwrap_or_default();
        if begun <= before {
            return Ok(false);
        }
        let floor = match round.floors.get(&partition) {
            Some(floor) => *floor,
            None => {
                let floor = self.floor_of(partition, n).await?.max(before);
                round.floors.insert(partition, floor);
                floor
            }
        };
        Ok(begun <= floor || is_planted(Mutation::OrphansEarly))
    }

    /// The purge floor of a partition, asking its owners if this node is none of them.
    async fn floor_of(&self, partition: Partition, n: usize) -> Result<HybridTime, CatalogError> {
        let layout = self.coordinator.layout()?;
        let plan = ReplicaPlan::for_partition(layout, partition, n, Level::Strict)?;
        if plan.is_owner(self.coordinator.site().node) {
            return Ok(self.own_floor(partition));
        }
        let request = CatalogRequest::PurgeFloor { partition: partition.as_u32() };
        let me = self.coordinator.site().node;
        for owner in plan.nearest_first(me, &**self.coordinator.peers()) {
            // Any owner's floor will do; one that cannot be asked leaves it to the next.
            if let Ok(CatalogReply::PurgeFloor { floor }) =
                ask(&self.coordinator, owner, &request).await
            {
                return Ok(floor);
            }
        }
        Ok(HybridTime::default())
    }

    /// Frees those of an object's extents that nothing names.
    async fn judge(&self, object: &ObjectName, suspects: Vec<Suspect>) -> Result<(), CatalogError> {
        let n = suspects.iter().map(|suspect| suspect.n).max().unwrap_or(1);
        let named = self.named(object, n, &suspects).await?;
        for suspect in suspects {
            if !named.contains(&suspect.candidate.extent.id) {
                self.free(object, suspect.n, &suspect.candidate).await?;
                ORPHANS.inc();
                probe::sometimes("an orphan is freed");
            }
        }
        Ok(())
    }

    /// What all rows of a key name; lists are looked into only if something is not named yet.
    async fn named(
        &self,
        object: &ObjectName,
        n: usize,
        suspects: &[Suspect],
    ) -> Result<BTreeSet<ExtentId>, CatalogError> {
        let Some(claims) = self.claims_of(object, n, Level::Strict).await? else {
            let reason = "the head does not stand at a quorum".to_owned();
            return Err(CatalogError::Internal { reason });
        };
        let mut named = claims.direct;
        for list in &claims.manifests {
            if suspects.iter().all(|suspect| named.contains(&suspect.candidate.extent.id)) {
                break;
            }
            let extents = load_manifest(&self.blobs, list, n).await?;
            named.extend(extents.iter().map(|extent| extent.id));
        }
        Ok(named)
    }

    /// Forgets bytes on this node whose rows were purged, if nothing names them.
    async fn judge_outlived(&self, round: &mut Round) -> Result<(), CatalogError> {
        for (extent, record) in self.blobs.outlived() {
            let Some(origin) = record.origin else { continue };
            let n = usize::from(record.n).max(1);
            let object = origin.object;
            // It may lie below what was looked through already: its row was not here then.
            round.seen.remove(&self.partition_of(&object)?);
            if !self.has_passed(&object, n, record.begun, round).await? {
                continue;
            }
            let extent_ref = ExtentRef { id: extent, length: record.length };
            let candidate = Candidate { extent: extent_ref, holding: Holding::Own };
            let suspects = [Suspect { candidate, n }];
            if self.named(&object, n, &suspects).await.is_ok_and(|named| !named.contains(&extent)) {
                self.blobs.forget_outlived(extent).await?;
                ORPHANS.inc();
            }
        }
        Ok(())
    }
}
