//! What this node holds of a row: read from memory where that is enough, else off the async
//! threads, and never with bytes that do not match their checksum.

use std::sync::Arc;

use bytes::Bytes;

use crate::env::blocking;
use crate::env::mutation::{Mutation, is_planted};
use crate::ring::Partition;
use crate::store::{Batch, Cached, Decided, Family, KeyRange, StoreError, Visit};

use super::error::ReplicationError;
use super::message::{ScanRequest, Want};
use super::replica::Replica;
use super::scan::SliceRows;
use super::slice_walk::scan_slice;
use super::stored::{record_in, record_of};
use super::table::{InlineFacts, RowKey, TableId};

/// A row as this node holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRow {
    /// The record, if there is one.
    pub record: Option<Bytes>,
    /// The bytes beside it, if they were asked for and it has any.
    pub inline: Bytes,
}

impl Replica {
    /// As [`Replica::read`], off the async threads if the disk must be asked.
    ///
    /// # Errors
    /// As [`Replica::read`].
    pub async fn fetch(
        self: &Arc<Self>,
        row: &RowKey,
        partition: Partition,
        want: Want,
    ) -> Result<HeldRow, ReplicationError> {
        let key = row.stored(partition);
        if let Cached::Known(value) = self.rows.meta().get_cached(row.table.family(), &key)? {
            let Some(record) = value.as_ref().map(record_of) else {
                return Ok(HeldRow::default());
            };
            let facts = match want {
                Want::RecordAndBytes => self.schema(row.table)?.facts(&record)?.inline,
                Want::Record | Want::Digest => None,
            };
            if facts.is_none() {
                return Ok(HeldRow { record: Some(record), inline: Bytes::new() });
            }
            if let Cached::Known(inline) = self.rows.meta().get_cached(Family::Inline, &key)? {
                let inline = inline.unwrap_or_default();
                if check_inline(facts, &inline).is_ok() {
                    return Ok(HeldRow { record: Some(record), inline });
                }
            }
        }
        let (replica, row) = (Arc::clone(self), row.clone());
        let read = blocking(&self.site.tasks, move || replica.read(&row, partition, want)).await;
        read.unwrap_or_else(|| Err(StoreError::Stopping.into()))
    }

    /// What this node holds of `row`. Not for what clients wait for: it may ask the disk.
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
            let Some(record) = self.rows.get(family, &key)?.map(|value| record_of(&value)) else {
                return Ok(HeldRow::default());
            };
            if want != Want::RecordAndBytes {
                return Ok(HeldRow { record: Some(record), inline: Bytes::new() });
            }
            let Some(facts) = self.schema(row.table)?.facts(&record)?.inline else {
                return Ok(HeldRow { record: Some(record), inline: Bytes::new() });
            };
            let inline = self.rows.get(Family::Inline, &key)?.unwrap_or_default();
            let unchecked = is_planted(Mutation::InlineUnchecked);
            if check_inline(Some(facts), &inline).is_ok() || unchecked {
                return Ok(HeldRow { record: Some(record), inline });
            }
        }
        if is_planted(Mutation::DamageIsAbsence) {
            return Ok(HeldRow::default());
        }
        self.damaged.note(row, partition);
        Err(ReplicationError::Damaged(format!(
            "the inline bytes of a row of {} do not match their checksum",
            family.name()
        )))
    }

    /// Puts the bytes beside a row that belong there, if it still holds this record.
    ///
    /// # Errors
    /// [`ReplicationError::Damaged`] if they are not the record's; or if storage fails.
    pub(crate) async fn restore(
        &self,
        row: &RowKey,
        partition: Partition,
        record: &Bytes,
        inline: &Bytes,
    ) -> Result<(), ReplicationError> {
        check_inline(self.schema(row.table)?.facts(record)?.inline, inline)?;
        let key = row.stored(partition);
        self.rows
            .update(row.table.family(), key.clone(), |value| {
                let mut batch = Batch::new();
                if value.map(record_in) == Some(&record[..]) {
                    batch.put(Family::Inline, key.clone(), inline.clone());
                }
                Ok::<_, ReplicationError>(Decided { batch, outcome: () })
            })
            .await?
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
        let schema = Arc::clone(self.schema(scan.table)?);
        blocking(&self.site.tasks, move || {
            scan.slices
                .iter()
                .zip(&partitions)
                .map(|(slice, partition)| scan_slice((&*meta, &*schema), &scan, slice, *partition))
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
}

/// Whether the bytes beside a record are its own.
///
/// # Errors
/// [`ReplicationError::Damaged`] if they are not.
pub(super) fn check_inline(
    facts: Option<InlineFacts>,
    inline: &Bytes,
) -> Result<(), ReplicationError> {
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
