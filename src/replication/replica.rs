//! This node's copies of replicated rows: reads, merges and scans of what it holds itself.
//!
//! # Invariants
//! 1. An answer shows durable state only (I9): a merge is answered after its batch was synced.
//! 2. Inline bytes are checked against their checksum when they come in and when they leave the
//!    disk; damage is an error, never absence (I5).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use crate::causality::{HybridTime, Stamp};
use crate::env::blocking;
use crate::ring::Partition;
use crate::store::{Batch, Decided, Family, KeyRange, MetaStore, Rows, StoreError, Visit};

use super::error::ReplicationError;
use super::message::{ScanRequest, SliceRequest, Want};
use super::scan::{ROWS_PASSED_MAX, ScanItem, SliceRows, Tombstone};
use super::site::Site;
use super::table::{
    BytesBeside, InlineFacts, Merged, Minted, RowKey, Schema, TableId, Tables, stored_key,
};
use super::tally::Digest;

/// The row of this node's own facts that keeps the highest hybrid time minted here.
pub const HYBRID_TIME_KEY: &[u8] = b"hybrid_time";

/// Whether a bucket still takes writes: asked of the node's own copy of the buckets before a row
/// of theirs is merged, so that a bucket that is being deleted takes nothing more in.
pub trait Admission: Send + Sync {
    /// Whether rows of `table` that are routed so may be written.
    fn admits(&self, table: TableId, routing: &[u8]) -> bool;
}

/// Called with the row key's sort part and the merged record after it became durable.
pub type Watcher = Box<dyn Fn(&[u8], &Bytes) + Send + Sync>;

/// This node's copies.
pub struct Replica {
    rows: Rows,
    tables: Tables,
    site: Arc<Site>,
    admission: OnceLock<Arc<dyn Admission>>,
    watchers: OnceLock<BTreeMap<TableId, Watcher>>,
}

/// A row as this node holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRow {
    /// The record, if there is one.
    pub record: Option<Bytes>,
    /// The bytes beside it, if they were asked for and it has any.
    pub inline: Bytes,
}

const GONE_FLAG: u8 = 1;

/// What one answer to a scan may hold, all slices together: well below what a message may.
const SCAN_BYTES_MAX: usize = 2 << 20;

/// What an item takes besides its keys and record.
const ITEM_BYTES: usize = 32;

/// The stored form of a record: one byte of flags that scans read without decoding it.
fn stored_value(schema: &dyn Schema, record: &[u8]) -> Result<Bytes, ReplicationError> {
    let flags = if schema.facts(record)?.tombstone { GONE_FLAG } else { 0 };
    let mut value = BytesMut::with_capacity(record.len() + 1);
    value.extend_from_slice(&[flags]);
    value.extend_from_slice(record);
    Ok(value.freeze())
}

fn record_of(value: Bytes) -> Bytes {
    if value.is_empty() { value } else { value.slice(1..) }
}

fn record_in(value: &[u8]) -> &[u8] {
    value.get(1..).unwrap_or_default()
}

/// The short name of a record's contents.
#[must_use]
pub(crate) fn digest_of(record: &[u8]) -> [u8; 16] {
    // Reading from a slice cannot fail; a zero digest would only cost a full read.
    murmur3::murmur3_x64_128(&mut &record[..], 0).unwrap_or_default().to_le_bytes()
}

/// The digest of what a replica holds.
#[must_use]
pub(crate) fn digest_of_held(record: Option<&Bytes>) -> Digest {
    record.map(|record| digest_of(record))
}

impl Replica {
    /// A replica over `rows` that knows `tables`.
    #[must_use]
    pub fn new(rows: Rows, tables: Tables, site: Arc<Site>) -> Arc<Self> {
        Arc::new(Self { rows, tables, site, admission: OnceLock::new(), watchers: OnceLock::new() })
    }

    /// Asks `admission` before every write from now on. The first call counts.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        drop(self.admission.set(admission));
    }

    /// Calls these after every durable change of their tables. The first call counts.
    pub fn set_watchers(&self, watchers: BTreeMap<TableId, Watcher>) {
        drop(self.watchers.set(watchers));
    }

    /// The rows below.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    fn schema(&self, table: TableId) -> Result<&Arc<dyn Schema>, ReplicationError> {
        self.tables
            .schema(table)
            .ok_or_else(|| ReplicationError::Damaged(format!("table {table:?} is not served here")))
    }

    fn check_admission(&self, row: &RowKey) -> Result<(), ReplicationError> {
        match self.admission.get() {
            Some(admission) if !admission.admits(row.table, &row.routing) => {
                Err(ReplicationError::StaleBucket)
            }
            _ => Ok(()),
        }
    }

    /// Merges `record` into this node's copy; durable when it returns. Tells the order of what
    /// was held before if that is greater: the record then lost the merge here.
    ///
    /// # Errors
    /// [`ReplicationError`] if the bytes beside it do not match, or storage fails.
    pub async fn write(
        &self,
        row: &RowKey,
        partition: Partition,
        record: &Bytes,
        inline: &Bytes,
    ) -> Result<Option<Stamp>, ReplicationError> {
        let schema = Arc::clone(self.schema(row.table)?);
        check_inline(schema.facts(record)?.inline, inline)?;
        let key = row.stored(partition);
        let family = row.table.family();
        let (merged, newer) = self
            .rows
            .update(family, key.clone(), |current| {
                self.check_admission(row)?;
                let current = current.map(record_in);
                let merged = schema.merge(current, record)?;
                // The sender must learn of a newer write: its own has lost here.
                let newer = schema.newer(current, record)?;
                let (batch, record) = batch_of(&*schema, family, &key, merged, inline)?;
                Ok::<_, ReplicationError>(Decided { batch, outcome: (record, newer) })
            })
            .await??;
        self.notify(row, merged).await?;
        Ok(newer)
    }

    /// Gives `record` a version that supersedes this node's copy and lies above `floor`, shows
    /// the minted record to `minted` at once, and merges it; durable when it returns.
    ///
    /// # Errors
    /// As [`Replica::write`]; if `minted` was not called, nothing was done.
    pub async fn mint(
        &self,
        (row, partition): (&RowKey, Partition),
        record: &Bytes,
        inline: &Bytes,
        floor: HybridTime,
        minted: impl FnOnce(Bytes) + Send,
    ) -> Result<(), ReplicationError> {
        let schema = Arc::clone(self.schema(row.table)?);
        check_inline(schema.facts(record)?.inline, inline)?;
        let key = row.stored(partition);
        let family = row.table.family();
        let site = Arc::clone(&self.site);
        let updated = self
            .rows
            .update(family, key.clone(), |current| {
                self.check_admission(row)?;
                let mut time = HybridTime::default();
                let made = schema.mint(current.map(record_in), record, &mut |current| {
                    let (version, clock) = site.mint(current, floor);
                    time = clock;
                    version
                })?;
                let Minted { record, merged } = made;
                let (mut batch, stored) = batch_of(&*schema, family, &key, merged, inline)?;
                batch.put(Family::Local, HYBRID_TIME_KEY, time.0.to_le_bytes().to_vec());
                minted(record);
                Ok::<_, ReplicationError>(Decided { batch, outcome: stored })
            })
            .await;
        if updated.is_err() {
            // Others may have the minted dot, and this node has forgotten it.
            self.site.forget_actors();
        }
        self.notify(row, updated??).await
    }

    /// Tells a full-copy table's watcher of a durable change, and lets everything that was
    /// decided before it heard of it become durable: a bucket's fence is up when this returns.
    async fn notify(&self, row: &RowKey, changed: Option<Bytes>) -> Result<(), ReplicationError> {
        let watcher = self.watchers.get().and_then(|watchers| watchers.get(&row.table));
        if let (Some(watcher), Some(record)) = (watcher, changed) {
            watcher(&row.sort, &record);
            self.rows.barrier().await?;
        }
        Ok(())
    }

    /// What this node holds of `row`.
    ///
    /// # Errors
    /// [`ReplicationError::Damaged`] if the row or its bytes do not match their checksums.
    pub fn read(
        &self,
        row: &RowKey,
        partition: Partition,
        want: Want,
    ) -> Result<HeldRow, ReplicationError> {
        let key = row.stored(partition);
        let family = row.table.family();
        // An overwrite between the two gets shows as bytes of another record: look again.
        for _ in 0..3 {
            let Some(record) = self.rows.get(family, &key)?.map(record_of) else {
                return Ok(HeldRow::default());
            };
            if want != Want::RecordAndBytes {
                return Ok(HeldRow { record: Some(record), inline: Bytes::new() });
            }
            let Some(facts) = self.schema(row.table)?.facts(&record)?.inline else {
                return Ok(HeldRow { record: Some(record), inline: Bytes::new() });
            };
            let inline = self.rows.get(Family::Inline, &key)?.unwrap_or_default();
            if check_inline(Some(facts), &inline).is_ok() {
                return Ok(HeldRow { record: Some(record), inline });
            }
        }
        Err(ReplicationError::Damaged(format!(
            "the inline bytes of a row of {} do not match their checksum",
            family.name()
        )))
    }

    /// Scans this node's copies of several ranges.
    ///
    /// # Errors
    /// If storage fails or a row is damaged.
    pub(crate) async fn scan(
        &self,
        partitions: Vec<Partition>,
        scan: ScanRequest,
    ) -> Result<Vec<SliceRows>, ReplicationError> {
        let meta = Arc::clone(self.rows.meta());
        blocking(&self.site.tasks, move || {
            scan.slices
                .iter()
                .zip(&partitions)
                .map(|(slice, partition)| scan_slice(&*meta, &scan, slice, *partition))
                .collect::<Result<Vec<_>, StoreError>>()
        })
        .await
        .unwrap_or(Err(StoreError::Stopping))
        .map_err(ReplicationError::from)
    }

    /// Every record of a table that is kept whole on every member, by sort key.
    ///
    /// # Errors
    /// If storage fails.
    pub fn all_rows(&self, table: TableId) -> Result<Vec<(Bytes, Bytes)>, ReplicationError> {
        let mut rows = Vec::new();
        let everything = KeyRange { start: Vec::new(), end: None };
        self.rows.meta().scan(table.family(), &everything, &mut |key, value| {
            // Partition zero and an empty routing key stand before the sort key.
            if let Some(sort) = key.get(4..) {
                rows.push((Bytes::copy_from_slice(sort), Bytes::copy_from_slice(record_in(value))));
            }
            Visit::Next
        })?;
        Ok(rows)
    }

    /// Completes when writes queued before it are durable; for an orderly stop.
    pub fn settle(self: &Arc<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        let rows = self.rows.clone();
        Box::pin(async move { rows.barrier().await })
    }
}

fn check_inline(facts: Option<InlineFacts>, inline: &Bytes) -> Result<(), ReplicationError> {
    let fits = match facts {
        None => inline.is_empty(),
        Some(facts) => u32::try_from(inline.len()) == Ok(facts.length) && facts.crc.matches(inline),
    };
    if fits {
        return Ok(());
    }
    Err(ReplicationError::Damaged(format!(
        "{} inline bytes do not match their record's length or checksum",
        inline.len()
    )))
}

fn batch_of(
    schema: &dyn Schema,
    family: Family,
    key: &Bytes,
    merged: Merged,
    inline: &Bytes,
) -> Result<(Batch, Option<Bytes>), ReplicationError> {
    let mut batch = Batch::new();
    let Merged::Changed { record, bytes } = merged else {
        return Ok((batch, None));
    };
    batch.put(family, key.clone(), stored_value(schema, &record)?);
    if family == Family::Objects {
        match bytes {
            BytesBeside::Incoming(_) => batch.put(Family::Inline, key.clone(), inline.clone()),
            BytesBeside::Gone => batch.delete(Family::Inline, key.clone()),
            BytesBeside::Kept => {}
        }
    }
    Ok((batch, Some(record)))
}

fn scan_slice(
    meta: &dyn MetaStore,
    scan: &ScanRequest,
    slice: &SliceRequest,
    partition: Partition,
) -> Result<SliceRows, StoreError> {
    let base = stored_key(partition, &slice.routing, b"");
    let from = stored_key(partition, &slice.routing, &slice.from.clone().max(scan.prefix.clone()));
    let whole = stored_key(partition, &slice.routing, &scan.prefix);
    let range = KeyRange { start: from.to_vec(), end: KeyRange::prefix(whole.to_vec()).end };
    let mut walk = SliceWalk {
        scan,
        limit: slice.limit as usize,
        passed: 0,
        bytes: 0,
        bytes_max: SCAN_BYTES_MAX / scan.slices.len().max(1),
        items: Vec::new(),
        next: None,
    };
    meta.scan(scan.table.family(), &range, &mut |key, value| {
        walk.visit(&base, key.get(base.len()..).unwrap_or_default(), value)
    })?;
    Ok(SliceRows { items: walk.items, next: walk.next })
}

/// The state of one slice's scan.
struct SliceWalk<'a> {
    scan: &'a ScanRequest,
    limit: usize,
    passed: usize,
    bytes: usize,
    bytes_max: usize,
    items: Vec<ScanItem>,
    next: Option<Bytes>,
}

impl SliceWalk<'_> {
    fn visit(&mut self, base: &[u8], sort: &[u8], value: &[u8]) -> Visit {
        let full = self.items.len() >= self.limit || self.bytes >= self.bytes_max;
        if full || self.passed >= ROWS_PASSED_MAX {
            self.next = Some(Bytes::copy_from_slice(sort));
            return Visit::Stop;
        }
        self.passed += 1;
        let gone = value.first().is_some_and(|flags| flags & GONE_FLAG != 0);
        let record = record_in(value);
        if let Some(prefix) = self.common_prefix(sort) {
            if gone {
                return Visit::Next;
            }
            self.bytes += sort.len() + prefix.len() + ITEM_BYTES;
            let mut seek = base.to_vec();
            seek.extend_from_slice(&prefix);
            self.items.push(ScanItem::Prefix {
                witness: Bytes::copy_from_slice(sort),
                digest: digest_of(record),
                prefix,
            });
            return crate::store::next_prefix(&seek).map_or(Visit::Stop, Visit::Seek);
        }
        let whole = self.scan.want != Want::Digest;
        self.bytes += sort.len() + ITEM_BYTES + if whole { record.len() } else { 0 };
        self.items.push(ScanItem::Row {
            sort: Bytes::copy_from_slice(sort),
            digest: digest_of(record),
            tombstone: if gone { Tombstone::Gone } else { Tombstone::Live },
            record: whole.then(|| Bytes::copy_from_slice(record)),
        });
        Visit::Next
    }

    fn common_prefix(&self, sort: &[u8]) -> Option<Bytes> {
        common_prefix(sort, &self.scan.prefix, self.scan.delimiter.as_deref())
    }
}

/// What `sort` is grouped under: itself up to and with the first delimiter after `prefix`.
#[must_use]
pub(crate) fn common_prefix(sort: &[u8], prefix: &[u8], delimiter: Option<&[u8]>) -> Option<Bytes> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = sort.strip_prefix(prefix)?;
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(Bytes::copy_from_slice(&sort[..prefix.len() + at + delimiter.len()]))
}
