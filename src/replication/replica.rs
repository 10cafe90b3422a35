//! This node's copies of replicated rows: reads, merges and scans of what it holds itself.
//!
//! # Invariants
//! 1. An answer shows durable state only (I9): a merge is answered after its batch was synced.
//! 2. Inline bytes are checked against their checksum when they come in and when they leave the
//!    disk; damage is an error, never absence (I5).
//! 3. Every change of a row carries, in its own batch, what it changes in the row's tree and what
//!    the row's companion adds: all of it becomes durable, or nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::causality::{HybridTime, Stamp};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::ring::Partition;
use crate::store::{Batch, Decided, Family, Rows, StoreError};
use crate::types::NodeId;

use super::companion::{BytesHere, Change, Companion, Guard, Incoming, Purpose, RowWrite, Verdict};
use super::damaged::DamagedRows;
use super::error::ReplicationError;
use super::held::check_inline;
use super::hints::{HintName, HintRow};
use super::site::{CLOCK_DRIFT_MAX, Site};
use super::stored::{RowFlags, change_leaf, record_in, stored_value};
use super::table::{BytesBeside, Merged, Minted, RecordFacts, RowKey, Schema, TableId, Tables};
use super::tally::Digest;
use super::version::Version;

/// The row of this node's own facts that keeps the highest hybrid time minted here.
pub const HYBRID_TIME_KEY: &[u8] = b"hybrid_time";

/// The longest that somebody who brings rows in the background is asked to wait.
const PAUSE_MILLIS_MAX: u32 = 1_000;

/// Updates on their way to the disk from which on new writes of clients are refused; the store
/// itself lets in 8,192.
const CLIENT_COMMITS_MAX: usize = 6_144;

/// Called with the row key's sort part and the merged record after it became durable.
pub type Watcher = Box<dyn Fn(&[u8], &Bytes) + Send + Sync>;

/// This node's copies.
pub struct Replica {
    pub(super) rows: Rows,
    tables: Tables,
    pub(super) site: Arc<Site>,
    guards: OnceLock<Vec<Arc<dyn Guard>>>,
    companions: OnceLock<BTreeMap<TableId, Arc<dyn Companion>>>,
    watchers: OnceLock<BTreeMap<TableId, Watcher>>,
    pub(super) damaged: DamagedRows,
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

/// The hash by which this node's stints know a row.
fn slot_of(key: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest_of(key);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A write that is minted and not durable yet. Dropped so, by an error or by a caller that does
/// not wait any longer, it ends all stints.
struct Unsettled<'a>(&'a Site);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.forget_actors();
    }
}

/// What a decision under a row's lock comes to.
struct Settled {
    batch: Batch,
    /// The record, if it changed.
    changed: Option<Bytes>,
}

impl Replica {
    /// A replica over `rows` that knows `tables`.
    #[must_use]
    pub fn new(rows: Rows, tables: Tables, site: Arc<Site>) -> Arc<Self> {
        Arc::new(Self {
            rows,
            tables,
            site,
            guards: OnceLock::new(),
            companions: OnceLock::new(),
            watchers: OnceLock::new(),
            damaged: DamagedRows::default(),
        })
    }

    /// Asks these before every write from now on. The first call counts.
    pub fn set_guards(&self, guards: Vec<Arc<dyn Guard>>) {
        drop(self.guards.set(guards));
    }

    /// Lets these add to every change of their tables. The first call counts.
    pub fn set_companions(&self, companions: BTreeMap<TableId, Arc<dyn Companion>>) {
        drop(self.companions.set(companions));
    }

    /// Calls these after every durable change of their tables. The first call counts.
    pub fn set_watchers(&self, watchers: BTreeMap<TableId, Watcher>) {
        drop(self.watchers.set(watchers));
    }

    /// Rows of this node whose bytes were found not to match their checksums.
    pub(crate) fn damaged(&self) -> &DamagedRows {
        &self.damaged
    }

    /// The rows below.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn schema(&self, table: TableId) -> Result<&Arc<dyn Schema>, ReplicationError> {
        self.tables
            .schema(table)
            .ok_or_else(|| ReplicationError::Damaged(format!("table {table:?} is not served here")))
    }

    fn judge(
        &self,
        write: &RowWrite<'_>,
        facts: &RecordFacts,
        stamp: Option<Stamp>,
        value: Option<&[u8]>,
    ) -> Result<Verdict, ReplicationError> {
        let incoming = Incoming {
            row: write.row,
            partition: write.partition,
            purpose: write.purpose,
            stamp,
            bucket_epoch: facts.bucket_epoch,
            bytes: (write.record.len() + write.inline.len()) as u64,
            held: value.is_some(),
        };
        let mut verdict = Verdict::Take;
        for guard in self.guards.get().into_iter().flatten() {
            match guard.judge(&incoming)? {
                Verdict::Take => {}
                Verdict::TakeAbove(floor) => verdict = Verdict::TakeAbove(floor),
                Verdict::Outlived => return Ok(Verdict::Outlived),
            }
        }
        Ok(verdict)
    }

    /// Refuses new writes while too many are on their way to the disk: waiting would only make
    /// the queue longer, and repairs need room too.
    fn check_room(&self, purpose: Purpose) -> Result<(), ReplicationError> {
        let waiting = self.rows.waiting();
        if purpose.begun().is_none() || waiting < CLIENT_COMMITS_MAX {
            return Ok(());
        }
        Err(ReplicationError::Busy(format!(
            "{waiting} writes wait for the disk of node {}",
            self.site.node.short()
        )))
    }

    /// Refuses new writes from the future, but those that had to be stamped so because the row
    /// is: a clock that was wrong once must not lock its keys until that time has come.
    fn check_clock(
        &self,
        write: &RowWrite<'_>,
        schema: &dyn Schema,
        facts: &RecordFacts,
        value: Option<&[u8]>,
    ) -> Result<(), ReplicationError> {
        if write.purpose.begun().is_none() {
            return Ok(());
        }
        let Err(refusal) = self.site.check_stamp(facts.stamp.time) else { return Ok(()) };
        let held = value.map(|value| schema.facts(record_in(value))).transpose()?;
        let held = held.map_or(0, |held| held.stamp.time.millis());
        let step = facts.stamp.time.millis().saturating_sub(held);
        if u128::from(step) <= CLOCK_DRIFT_MAX.as_millis() { Ok(()) } else { Err(refusal) }
    }

    /// Merges a record into this node's copy; durable when it returns. Tells the write that was
    /// held before if that is greater: the record then lost the merge here.
    ///
    /// # Errors
    /// [`ReplicationError`] if a guard refuses it, the bytes beside it do not match, or storage
    /// fails.
    pub async fn write(&self, write: RowWrite<'_>) -> Result<Option<Version>, ReplicationError> {
        let schema = Arc::clone(self.schema(write.row.table)?);
        let facts = schema.facts(write.record)?;
        check_inline(facts.inline, write.inline)?;
        self.check_room(write.purpose)?;
        let key = write.row.stored(write.partition);
        let (changed, newer) = self
            .rows
            .update(write.row.table.family(), key.clone(), |value| {
                self.check_clock(&write, &*schema, &facts, value)?;
                let held = value.map(record_in);
                let incoming = match self.judge(&write, &facts, Some(facts.stamp), value)? {
                    Verdict::Take => write.record.clone(),
                    Verdict::TakeAbove(floor) => schema
                        .above(held, write.record, floor)?
                        .unwrap_or_else(|| write.record.clone()),
                    Verdict::Outlived => {
                        probe::sometimes("a row that was outlived is kept out");
                        return Ok(Decided { batch: Batch::new(), outcome: (None, None) });
                    }
                };
                let merging = schema.merge(held, &incoming)?;
                let settled = self.decide(&write, &key, value, (&incoming, merging.merged))?;
                let outcome = (settled.changed, merging.newer);
                Ok::<_, ReplicationError>(Decided { batch: settled.batch, outcome })
            })
            .await??;
        probe::crash_point("row durable");
        self.notify(write.row, changed).await?;
        Ok(newer)
    }

    /// Gives a record a version that supersedes this node's copy and `above`, shows the minted
    /// record to `minted` at once, and merges it; durable when it returns.
    ///
    /// # Errors
    /// As [`Replica::write`]; if `minted` was not called, nothing was done.
    pub async fn mint(
        &self,
        write: RowWrite<'_>,
        above: Option<&Version>,
        minted: impl FnOnce(Bytes) + Send,
    ) -> Result<(), ReplicationError> {
        let schema = Arc::clone(self.schema(write.row.table)?);
        let facts = schema.facts(write.record)?;
        check_inline(facts.inline, write.inline)?;
        self.check_room(write.purpose)?;
        let key = write.row.stored(write.partition);
        let site = Arc::clone(&self.site);
        let slot = slot_of(&key);
        // If it breaks off, others may have the minted dot, and this node has forgotten it.
        let unsettled = Unsettled(&self.site);
        let updated = self
            .rows
            .update(write.row.table.family(), key.clone(), |value| {
                self.judge(&write, &facts, None, value)?;
                let mut clock = HybridTime::default();
                let made = schema.mint(value.map(record_in), write.record, &mut |current| {
                    let (version, time) = site.mint(slot, current, above);
                    clock = time;
                    version
                })?;
                let Minted { record, merged } = made;
                let mut settled = self.decide(&write, &key, value, (&record, merged))?;
                let time = clock.0.to_le_bytes().to_vec();
                settled.batch.put(Family::Local, HYBRID_TIME_KEY, time);
                minted(record);
                let outcome = settled.changed;
                Ok::<_, ReplicationError>(Decided { batch: settled.batch, outcome })
            })
            .await;
        probe::crash_point("minted row durable");
        if updated.is_ok() {
            std::mem::forget(unsettled);
        }
        self.notify(write.row, updated??).await
    }

    /// What a merge leaves on this node: the row, the bytes beside it, its tree, its hint, and
    /// what its companion adds.
    fn decide(
        &self,
        write: &RowWrite<'_>,
        key: &Bytes,
        value: Option<&[u8]>,
        (incoming, merged): (&Bytes, Merged),
    ) -> Result<Settled, ReplicationError> {
        let mut batch = Batch::new();
        if let Purpose::Hinted { owner, begun } = write.purpose
            && !is_planted(Mutation::DropHints)
        {
            // Also if the record is here already: it may be here for another owner.
            HintRow::of(write, begun).put(&mut batch, owner, write, &self.rows)?;
        }
        let Merged::Changed { record, bytes, gone } = merged else {
            return Ok(Settled { batch, changed: None });
        };
        let change = Change {
            row: write.row,
            partition: write.partition,
            n: write.n,
            purpose: write.purpose,
            before: value.map(record_in),
            incoming,
            after: &record,
        };
        let missing = self.accompany(&change, &mut batch)? == BytesHere::Missing;
        let stored = stored_value(RowFlags { gone, missing, n: write.n }, &record);
        change_leaf(&mut batch, write.row, write.partition, (value, Some(&stored)));
        batch.put(write.row.table.family(), key.clone(), stored);
        if write.row.table == TableId::Objects {
            match bytes {
                BytesBeside::Incoming(_) => {
                    batch.put(Family::Inline, key.clone(), write.inline.clone());
                }
                BytesBeside::Gone => batch.delete(Family::Inline, key.clone()),
                BytesBeside::Kept => {}
            }
        }
        Ok(Settled { batch, changed: Some(record) })
    }

    fn accompany(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<BytesHere, ReplicationError> {
        let companions = self.companions.get();
        match companions.and_then(|companions| companions.get(&change.row.table)) {
            Some(companion) => companion.accompany(change, batch),
            None => Ok(BytesHere::All),
        }
    }

    /// Looks again whether the bytes of a row are here, and notes it with the row.
    ///
    /// # Errors
    /// As [`Replica::write`].
    pub async fn refresh(
        &self,
        row: &RowKey,
        partition: Partition,
    ) -> Result<(), ReplicationError> {
        let key = row.stored(partition);
        self.rows
            .update(row.table.family(), key.clone(), |value| {
                let mut batch = Batch::new();
                let Some(value) = value else {
                    return Ok(Decided { batch, outcome: () });
                };
                let (record, flags) = (record_in(value), RowFlags::of(value));
                let change = Change {
                    row,
                    partition,
                    n: flags.n,
                    purpose: Purpose::Repair,
                    before: Some(record),
                    incoming: record,
                    after: record,
                };
                let missing = self.accompany(&change, &mut batch)? == BytesHere::Missing;
                if missing != flags.missing {
                    let stored = stored_value(RowFlags { missing, ..flags }, record);
                    change_leaf(&mut batch, row, partition, (Some(value), Some(&stored)));
                    batch.put(row.table.family(), key.clone(), stored);
                }
                Ok::<_, ReplicationError>(Decided { batch, outcome: () })
            })
            .await?
    }

    /// Removes a row with all that belongs to it, if it still holds the record of this digest.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn erase(
        &self,
        row: &RowKey,
        partition: Partition,
        digest: Digest,
    ) -> Result<bool, ReplicationError> {
        self.erase_with(row, partition, digest, |_| Ok(Batch::new())).await
    }

    /// As [`Replica::erase`]; `more` is called under the row's lock if the row holds that record
    /// still, and its batch becomes durable together with the removal.
    pub(crate) async fn erase_with(
        &self,
        row: &RowKey,
        partition: Partition,
        digest: Digest,
        more: impl FnOnce(&Rows) -> Result<Batch, ReplicationError> + Send,
    ) -> Result<bool, ReplicationError> {
        let key = row.stored(partition);
        self.rows
            .update(row.table.family(), key.clone(), |value| {
                let held = value.map(|value| digest_of(record_in(value)));
                if held != digest {
                    return Ok(Decided { batch: Batch::new(), outcome: false });
                }
                let mut batch = more(&self.rows)?;
                self.remove(row, partition, value, &mut batch);
                Ok::<_, ReplicationError>(Decided { batch, outcome: true })
            })
            .await?
    }

    /// Adds the removal of a row to `batch`.
    fn remove(&self, row: &RowKey, partition: Partition, value: Option<&[u8]>, batch: &mut Batch) {
        let Some(value) = value else { return };
        let key = row.stored(partition);
        self.site.forget_row(slot_of(&key));
        change_leaf(batch, row, partition, (Some(value), None));
        if let Some(companion) = self.companions.get().and_then(|all| all.get(&row.table)) {
            companion.discard(row, record_in(value), batch);
        }
        batch.delete(row.table.family(), key.clone());
        if row.table == TableId::Objects {
            batch.delete(Family::Inline, key);
        }
    }

    /// Deletes a hint if its row still holds the record of this digest. With `guest_of`, the
    /// other owners of the row, the row goes too, unless it is kept for one of them.
    ///
    /// # Errors
    /// If storage fails.
    pub(crate) async fn retire_hint(
        &self,
        name: &HintName,
        digest: [u8; 16],
        guest_of: Option<&[NodeId]>,
    ) -> Result<bool, ReplicationError> {
        let key = name.row.stored(name.partition);
        self.rows
            .update(name.row.table.family(), key, |value| {
                let mut batch = Batch::new();
                if value.map(|value| digest_of(record_in(value))) != Some(digest) {
                    return Ok(Decided { batch, outcome: false });
                }
                batch.delete(Family::Hints, name.key());
                let mut kept = guest_of.is_none();
                let others = guest_of.filter(|_| !is_planted(Mutation::GuestForOneOnly));
                for &owner in others.unwrap_or_default() {
                    let other = HintName { owner, ..name.clone() };
                    kept |= self.rows.newest(Family::Hints, &other.key())?.is_some();
                }
                if kept && guest_of.is_some() {
                    probe::sometimes("a guest's row is kept for another owner");
                }
                if !kept {
                    self.remove(&name.row, name.partition, value, &mut batch);
                }
                Ok::<_, ReplicationError>(Decided { batch, outcome: true })
            })
            .await?
    }

    /// When and where a record of `table` was minted.
    ///
    /// # Errors
    /// [`ReplicationError::Damaged`] if it cannot be read.
    pub(crate) fn stamp_of(
        &self,
        table: TableId,
        record: &[u8],
    ) -> Result<crate::causality::Stamp, ReplicationError> {
        Ok(self.schema(table)?.facts(record)?.stamp)
    }

    /// How long somebody who brings rows in the background should wait before the next, so that
    /// clients do not feel it: longer, the more writes wait for the disk.
    #[must_use]
    pub fn pause_millis(&self) -> u32 {
        let waiting = u32::try_from(self.rows.waiting()).unwrap_or(u32::MAX);
        waiting.saturating_mul(2).min(PAUSE_MILLIS_MAX)
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

    /// Completes when writes queued before it are durable; for an orderly stop.
    pub fn settle(self: &Arc<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        let rows = self.rows.clone();
        Box::pin(async move { rows.barrier().await })
    }
}
