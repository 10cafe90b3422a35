//! The collector: frees bytes that nothing names any more (DESIGN §8).
//!
//! # What can go wrong, and what answers it
//! - *A reader has just read the head that was replaced.* Nothing is freed before the read grace
//!   is over, which is at least twice the longest that a request goes without progress.
//! - *The write that replaced the head is not what stands.* The head is read anew, from the owners
//!   themselves, and must stand at a quorum of them; whatever it names stays.
//! - *A write that was not acknowledged names the bytes, on an owner that is away, and wins when
//!   it is back.* As long as an owner is away nothing of its keys is freed, for
//!   [`AWAY_GRACES`] graces; a write that is minted again above a newer one is acknowledged by
//!   a majority of the owners only, so that a read of a quorum sees it.
//! - *A part's bytes belong to the object that was made of it.* All rows of the key are asked:
//!   the head, the uploads that are being completed, the parts.
//! - *A completion was broken off, and nobody repeats it.* It keeps its bytes: it is done at last.
//! - *A list of extents cannot be read.* Then nobody knows what it names: nothing is freed.
//! - *This node dies in the middle.* What it did not come to is still noted; what is freed twice
//!   is freed once.
//! - *All owners do the same work.* Each has noted it; the later in the list, the longer it waits,
//!   and what it finds gone it strikes off.
//! - *A bucket was deleted.* Its rows name nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::blob::{ExtentRef, ExtentRow, ExtentState, ObjectName, extent_row};
use crate::codec::{decode_format, encode_format};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::env::{TaskHandle, metrics};
use crate::membership::Liveness;
use crate::replication::{
    Level, NewWrite, ReplicaPlan, RowKey, ScanEntry, ScanQuery, Standing, TableId, Want,
};
use crate::ring::Partition;
use crate::store::{Batch, Decided, Family, KeyRange, Visit};
use crate::types::ExtentId;

use super::error::CatalogError;
use super::keys::uploads_of_key;
use super::objects::decode_row;
use super::reader::load_manifest;
use super::rows::UploadRow;
use super::service::Catalog;
use super::unref::{
    Claims, Holding, UnrefName, UnrefRow, Unreferenced, place_of_upload, upload_id,
};

static PENDING: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge("quorate_unrefs", "Extents and uploads that this node is to look at and free.")
});

static FREED: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_extents_freed_total", "Extents that nothing named and were freed.")
});

static FREED_BYTES: std::sync::LazyLock<prometheus::IntCounter> = std::sync::LazyLock::new(|| {
    metrics::counter("quorate_freed_bytes_total", "Bytes of extents that were freed, one copy.")
});

/// The use of the disk, in percent, from which the read grace is as short as it may be.
const TIGHT_PERCENT: u64 = 90;

/// How many graces an owner may be away before the others decide without it.
pub(super) const AWAY_GRACES: u32 = 24;

/// The later owners of a list wait for a fraction of the grace more, each.
const STEPS_PER_GRACE: u32 = 60;

/// Keys worked on at once.
const AT_ONCE: usize = 8;

/// Rows looked at in one go, and rows of one key.
const PAGE: usize = 1024;

/// When to free what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionSettings {
    /// How long bytes are kept that lost their name. Default 1 h.
    pub read_grace: Duration,
    /// The same when the disk is nearly full: twice the longest that a request may take.
    pub read_grace_min: Duration,
    /// How long a closed upload is remembered. Default 7 days.
    pub uploads_kept: Duration,
}

impl Default for CollectionSettings {
    fn default() -> Self {
        Self {
            read_grace: Duration::from_secs(3600),
            read_grace_min: Duration::from_secs(60),
            uploads_kept: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// How long what is noted waits.
#[derive(Clone, Copy)]
struct Waits {
    /// Bytes, and the parts of closed uploads.
    grace: Duration,
    /// Completions that were begun: no longer than that whoever began one may still go on.
    completing: Duration,
    /// Closed uploads.
    kept: Duration,
}

/// What was noted of one key, and is due.
struct Due {
    object: ObjectName,
    n: usize,
    /// Whether an owner that is away is waited for.
    level: Level,
    /// Whether an earlier owner of the list has had the time to do the work.
    is_late: bool,
    rows: Vec<(Bytes, UnrefRow, [u8; 16])>,
}

/// An extent that is perhaps to be freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) extent: ExtentRef,
    pub(super) holding: Holding,
}

impl Catalog {
    /// Starts the collector; it ends when its handle is dropped.
    #[must_use]
    pub fn start_collection(&self, settings: CollectionSettings) -> TaskHandle {
        let work = self.clone().collect_for_ever(settings);
        self.coordinator.site().tasks.spawn("collector", Box::pin(work))
    }

    async fn collect_for_ever(self, settings: CollectionSettings) {
        let clock = Arc::clone(&self.coordinator.site().clock);
        loop {
            let grace = self.grace(settings).await;
            // Often enough that the pause adds little to the grace.
            let pause = (grace / 10).clamp(Duration::from_millis(500), Duration::from_secs(30));
            clock.sleep(pause).await;
            if self.coordinator.layout().is_err() {
                continue;
            }
            let waits = Waits {
                grace,
                completing: settings.read_grace_min.min(grace),
                kept: settings.uploads_kept,
            };
            if let Err(error) = self.collect_once(waits).await {
                tracing::warn!(%error, "the collector's round broke off");
            }
        }
    }

    async fn grace(&self, settings: CollectionSettings) -> Duration {
        let tight = self.blobs.used_percent().await.is_ok_and(|used| used >= TIGHT_PERCENT);
        if tight { settings.read_grace_min } else { settings.read_grace }
    }

    /// Goes once through all that is noted.
    async fn collect_once(&self, waits: Waits) -> Result<(), CatalogError> {
        let mut from = Some(Vec::new());
        let mut pending = 0;
        while let Some(start) = from {
            let (rows, next) = self.noted(start).await?;
            pending += rows.len();
            let due = self.due(rows, waits)?;
            let mut due = due.into_iter();
            let mut under_way = FuturesUnordered::new();
            loop {
                while under_way.len() < AT_ONCE
                    && let Some(due) = due.next()
                {
                    under_way.push(Box::pin(self.settle(due)));
                }
                if under_way.next().await.is_none() {
                    break;
                }
                let pause = u64::from(self.coordinator.replica().pause_millis());
                self.coordinator.site().clock.sleep(Duration::from_millis(pause)).await;
            }
            from = next;
        }
        PENDING.set(i64::try_from(pending).unwrap_or(i64::MAX));
        Ok(())
    }

    /// A page of what is noted, whole keys only unless one has more than a page.
    async fn noted(
        &self,
        start: Vec<u8>,
    ) -> Result<(Vec<(UnrefName, Bytes)>, Option<Vec<u8>>), CatalogError> {
        let rows = self.coordinator.replica().rows();
        let page = rows.scan_with(move |meta| {
            let mut rows: Vec<(UnrefName, Bytes)> = Vec::new();
            let mut next = None;
            meta.scan(Family::Unrefs, &KeyRange { start, end: None }, &mut |key, value| {
                let Some(name) = UnrefName::parse(key) else {
                    tracing::error!("a note of unnamed bytes cannot be read: it is left out");
                    return Visit::Next;
                };
                let another = rows.last().is_none_or(|(last, _)| last.object != name.object);
                if rows.len() >= PAGE && (another || rows.len() >= 16 * PAGE) {
                    next = Some(key.to_vec());
                    return Visit::Stop;
                }
                rows.push((name, Bytes::copy_from_slice(value)));
                Visit::Next
            })?;
            Ok((rows, next))
        });
        Ok(page.await.map_err(crate::replication::ReplicationError::from)?)
    }

    /// What of these is due, by key.
    fn due(
        &self,
        rows: Vec<(UnrefName, Bytes)>,
        Waits { grace, completing, kept }: Waits,
    ) -> Result<Vec<Due>, CatalogError> {
        let now = self.coordinator.site().clock.wall().0;
        let layout = self.coordinator.layout()?;
        let mut due: Vec<Due> = Vec::new();
        for (name, value) in rows {
            let Ok(row) = decode_format::<UnrefRow>(&value) else {
                tracing::error!("a note of unnamed bytes is damaged: it is left out");
                continue;
            };
            let n = usize::from(row.n).max(1);
            let partition = layout.partition_of(&name.object.routing);
            let plan =
                ReplicaPlan::for_partition(Arc::clone(&layout), partition, n, Level::Strict)?;
            let (place, away) = self.place_among(&plan);
            let wait = match row.what {
                Unreferenced::Upload => kept,
                Unreferenced::Completing => completing,
                Unreferenced::Parts | Unreferenced::Extent { .. } => grace,
            };
            let wait = wait + grace / STEPS_PER_GRACE * place;
            let age = Duration::from_millis(now.saturating_sub(row.since.millis()));
            let patient = age < grace * AWAY_GRACES;
            if age < wait || (away && patient) {
                continue;
            }
            let level = if patient { Level::All } else { Level::Strict };
            let entry = (name.key(), row, name.id);
            match due.last_mut() {
                Some(last) if last.object == name.object && last.level == level => {
                    last.rows.push(entry);
                }
                _ => due.push(Due {
                    object: name.object,
                    n,
                    level,
                    is_late: place > 0,
                    rows: vec![entry],
                }),
            }
        }
        Ok(due)
    }

    /// How many living owners come before this node, and whether any owner is away.
    fn place_among(&self, plan: &ReplicaPlan) -> (u32, bool) {
        let me = self.coordinator.site().node;
        let peers = self.coordinator.peers();
        let up = |node: &&_| **node == me || peers.liveness(**node) == Liveness::Up;
        let living: Vec<_> = plan.owners.iter().filter(up).collect();
        let place = living.iter().position(|node| **node == me).unwrap_or(living.len());
        (u32::try_from(place).unwrap_or(u32::MAX), living.len() < plan.owners.len())
    }

    /// Works on what is due of one key; what cannot be settled now stays noted.
    async fn settle(&self, due: Due) {
        if let Err(error) = self.try_settle(&due).await {
            tracing::debug!(%error, "unnamed bytes wait to be freed");
        }
    }

    async fn try_settle(&self, due: &Due) -> Result<(), CatalogError> {
        let mut candidates = Vec::new();
        for (key, row, id) in &due.rows {
            match row.what {
                Unreferenced::Extent { length, holding } => {
                    let extent = ExtentRef { id: ExtentId::from_bytes(*id), length };
                    let candidate = Candidate { extent, holding };
                    if self.is_gone(due, &candidate).await? {
                        self.strike_off(key, row).await?;
                    } else {
                        candidates.push((key, row, candidate));
                    }
                }
                Unreferenced::Completing => {
                    self.finish_completion(&due.object, due.n, upload_id(*id)).await?;
                    self.strike_off(key, row).await?;
                }
                Unreferenced::Parts => {
                    self.take_back_parts(&due.object, due.n, upload_id(*id)).await?;
                    self.note_instead(key, row, Unreferenced::Upload).await?;
                }
                Unreferenced::Upload => {
                    self.take_back_upload(&due.object, due.n, upload_id(*id)).await?;
                    self.strike_off(key, row).await?;
                }
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        let Some(claims) = self.claims_of(&due.object, due.n, due.level).await? else {
            return Ok(());
        };
        let mut named = claims.direct;
        let unclear = |candidate: &Candidate| {
            candidate.holding == Holding::Manifest || !named.contains(&candidate.extent.id)
        };
        if candidates.iter().any(|(_, _, candidate)| unclear(candidate)) {
            for list in &claims.manifests {
                let extents = load_manifest(&self.blobs, list, due.n).await?;
                named.extend(extents.iter().map(|extent| extent.id));
            }
        }
        self.free_lists(due, &candidates, &named).await?;
        for (key, row, candidate) in candidates {
            if !named.contains(&candidate.extent.id) {
                self.free(&due.object, due.n, &candidate).await?;
            }
            self.strike_off(key, row).await?;
        }
        Ok(())
    }

    /// Frees what a list names that is itself to be freed: first, or nobody would know of it.
    async fn free_lists(
        &self,
        due: &Due,
        candidates: &[(&Bytes, &UnrefRow, Candidate)],
        named: &BTreeSet<ExtentId>,
    ) -> Result<(), CatalogError> {
        // A list fits in one extent: that of an object of 5 TB has 80,000 entries.
        let lists: Vec<ExtentRef> = candidates
            .iter()
            .filter(|(_, _, candidate)| candidate.holding == Holding::Manifest)
            .map(|(_, _, candidate)| candidate.extent)
            .filter(|extent| !named.contains(&extent.id))
            .collect();
        for list in lists {
            let extents = load_manifest(&self.blobs, &[list], due.n).await?;
            for extent in extents.into_iter().filter(|extent| !named.contains(&extent.id)) {
                let candidate = Candidate { extent, holding: Holding::Own };
                if !self.is_gone(due, &candidate).await? {
                    self.free(&due.object, due.n, &candidate).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether an extent is gone already: by this node's own row, or by the owners' if somebody
    /// else was to free it.
    async fn is_gone(&self, due: &Due, candidate: &Candidate) -> Result<bool, CatalogError> {
        let row = row_of(&due.object, candidate);
        let partition = row.partition(&*self.coordinator.layout()?);
        let held = self.coordinator.replica().fetch(&row, partition, Want::Record).await?.record;
        let record = match held {
            Some(record) => Some(record),
            None if due.is_late => {
                let read = self.coordinator.read(&row, due.n, Level::Strict, Want::Record).await?;
                read.record
            }
            None => None,
        };
        let row = record.map(|record| decode_format::<ExtentRow>(&record)).transpose();
        let row = row.map_err(crate::replication::ReplicationError::from)?;
        Ok(row.is_some_and(|row| row.state == ExtentState::Gone))
    }

    /// What all rows of a key name, if that is certain now.
    pub(super) async fn claims_of(
        &self,
        object: &ObjectName,
        n: usize,
        level: Level,
    ) -> Result<Option<Claims>, CatalogError> {
        let mut claims = Claims::default();
        if self.is_of_deleted_bucket(object) || is_planted(Mutation::FreeUnasked) {
            return Ok(Some(claims));
        }
        // The head last: a completion moves names from uploads to it, and never back, so what is
        // named nowhere here was named by nothing at some moment.
        for prefix in uploads_of_key(&object.sort) {
            self.scan_uploads(object, n, prefix, &mut |_, row| {
                claims.add_if(place_of_upload(&row));
            })
            .await?;
        }
        let row = RowKey {
            table: TableId::Objects,
            routing: object.routing.clone(),
            sort: object.sort.clone(),
        };
        let read = self.coordinator.read(&row, n, level, Want::Record).await?;
        if read.standing != Standing::Quorum {
            return Ok(None);
        }
        if let Some(head) = read.record.as_ref().map(decode_row).transpose()?
            && let Some(live) = &head.object
        {
            claims.add(&live.body);
        }
        Ok(Some(claims))
    }

    /// Shows the rows of the uploads table that begin so.
    pub(super) async fn scan_uploads(
        &self,
        object: &ObjectName,
        n: usize,
        prefix: Bytes,
        show: &mut (dyn FnMut(Bytes, UploadRow) + Send),
    ) -> Result<(), CatalogError> {
        let mut from = prefix.clone();
        loop {
            let query = ScanQuery {
                table: TableId::Uploads,
                slices: vec![object.routing.clone()],
                prefix: prefix.clone(),
                delimiter: None,
                from,
                max: PAGE,
                n,
                level: Level::Strict,
            };
            let page = self.coordinator.scan(&query).await?;
            for entry in page.entries {
                if let ScanEntry::Row { sort, record } = entry {
                    let row = decode_format::<UploadRow>(&record);
                    show(sort, row.map_err(crate::replication::ReplicationError::from)?);
                }
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Says for ever that an extent should not exist.
    pub(super) async fn free(
        &self,
        object: &ObjectName,
        n: usize,
        candidate: &Candidate,
    ) -> Result<(), CatalogError> {
        let copies = u8::try_from(n).unwrap_or(u8::MAX);
        let gone = ExtentRow::gone(candidate.extent.length, copies, Some(object.clone()));
        let record = encode_format(&gone)
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let begun = self.coordinator.site().now();
        let (record, inline) = (record.into(), Bytes::new());
        let write = NewWrite { record, inline, n, level: Level::Strict, begun };
        self.coordinator.write(&row_of(object, candidate), write).await?;
        FREED.inc();
        probe::sometimes("an extent is freed");
        probe::crash_point("extent freed, note not struck off");
        FREED_BYTES.inc_by(candidate.extent.length);
        tracing::debug!(extent = %candidate.extent.id, "nothing names an extent: it is freed");
        Ok(())
    }

    async fn strike_off(&self, key: &Bytes, seen: &UnrefRow) -> Result<(), CatalogError> {
        self.change_note(key, seen, None).await
    }

    async fn note_instead(
        &self,
        key: &Bytes,
        seen: &UnrefRow,
        what: Unreferenced,
    ) -> Result<(), CatalogError> {
        self.change_note(key, seen, Some(UnrefRow { what, ..*seen })).await
    }

    /// Replaces a note by another, or by none, if it was not made anew meanwhile.
    async fn change_note(
        &self,
        key: &Bytes,
        seen: &UnrefRow,
        next: Option<UnrefRow>,
    ) -> Result<(), CatalogError> {
        let next = next.map(|row| encode_format(&row)).transpose();
        let next = next.map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let rows = self.coordinator.replica().rows();
        let changed = rows.update(Family::Unrefs, key.clone(), |value| {
            let mut batch = Batch::new();
            let same = value.is_some_and(|value| {
                decode_format::<UnrefRow>(value).is_ok_and(|row| row == *seen)
            });
            match next {
                Some(next) if same => batch.put(Family::Unrefs, key.clone(), next),
                None if same => batch.delete(Family::Unrefs, key.clone()),
                Some(_) | None => {}
            }
            Ok::<_, CatalogError>(Decided { batch, outcome: () })
        });
        changed.await.map_err(crate::replication::ReplicationError::from)?
    }

    /// The partition of an object's rows.
    pub(super) fn partition_of(&self, object: &ObjectName) -> Result<Partition, CatalogError> {
        Ok(self.coordinator.layout()?.partition_of(&object.routing))
    }
}

/// The row of an extent that `object` named.
fn row_of(object: &ObjectName, candidate: &Candidate) -> RowKey {
    let id = candidate.extent.id;
    match candidate.holding {
        Holding::Attached => extent_row(object.routing.clone(), id),
        Holding::Own | Holding::Manifest => extent_row(Bytes::copy_from_slice(id.as_bytes()), id),
    }
}
