//! Replicated tables: what the engine must know of a record to store, order and merge it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::Stamp;
use crate::codec::{Crc32c, Format, FormatError, decode_format, encode_format};
use crate::ring::{Layout, Partition};
use crate::store::Family;

use super::version::Version;

/// A replicated table. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TableId {
    /// Heads of current objects, with the bytes of inline ones beside them.
    Objects,
    /// Multipart uploads and their parts.
    Uploads,
    /// Buckets: a full copy on every member.
    Buckets,
    /// Credentials: a full copy on every member.
    Credentials,
}

impl TableId {
    /// Where its rows are on a node.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Objects => Family::Objects,
            Self::Uploads => Family::Uploads,
            Self::Buckets => Family::Buckets,
            Self::Credentials => Family::Credentials,
        }
    }
}

impl TableId {
    /// Whether every member keeps all of it, in partition 0 under an empty routing key.
    #[must_use]
    pub const fn is_full_copy(self) -> bool {
        matches!(self, Self::Buckets | Self::Credentials)
    }
}

/// Bytes kept beside a record in the same batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFacts {
    /// How many.
    pub length: u32,
    /// Their checksum.
    pub crc: Crc32c,
}

/// A record of a replicated table.
pub trait Record: Format + Clone + Send + Sync + 'static {
    /// Its table.
    const TABLE: TableId;

    /// Its write.
    fn version(&self) -> &Version;

    /// Gives it a minted version.
    fn set_version(&mut self, version: Version);

    /// What two copies become. Commutative, associative and idempotent: replicas that have seen
    /// the same writes in any order hold the same record.
    #[must_use]
    fn merge(self, other: Self) -> Self;

    /// The bytes that belong beside it, if it has any.
    fn inline(&self) -> Option<InlineFacts> {
        None
    }

    /// Whether it says that the key is gone.
    fn is_tombstone(&self) -> bool;
}

/// A record's merge, for an engine that handles encoded records of any table.
pub(crate) trait Schema: Send + Sync {
    /// Merges `incoming` into `current`.
    fn merge(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Merged, FormatError>;

    /// The order of `current` if it is greater than that of `incoming`.
    fn newer(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Newer, FormatError>;

    /// Gives `record` the version that `mint` makes from the current record's, and merges.
    fn mint(
        &self,
        current: Option<&[u8]>,
        record: &[u8],
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Result<Minted, FormatError>;

    /// `record` in the format that this release writes.
    fn upgraded(&self, record: &[u8]) -> Result<Bytes, FormatError>;

    /// The facts of `record` that the engine needs.
    fn facts(&self, record: &[u8]) -> Result<RecordFacts, FormatError>;
}

/// The order of a write that a replica holds, if it is greater than that of the incoming one.
pub(crate) type Newer = Option<Stamp>;

/// What a merge leaves on a replica.
#[derive(Debug)]
pub(crate) enum Merged {
    /// The stored record already covers the incoming one.
    Unchanged,
    /// A new record; the bytes beside it are the incoming ones, or stay as they are.
    Changed { record: Bytes, bytes: BytesBeside },
}

/// Whose bytes stand beside a merged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BytesBeside {
    /// Those that came with the incoming record.
    Incoming(InlineFacts),
    /// None: the merged record has no inline bytes.
    Gone,
    /// Those that are stored already.
    Kept,
}

/// A record with its new version, and what it left on the minting replica.
#[derive(Debug)]
pub(crate) struct Minted {
    /// The record to send to the other owners.
    pub(crate) record: Bytes,
    /// What the local replica stores.
    pub(crate) merged: Merged,
}

/// What the engine knows of an encoded record.
#[derive(Clone, Debug)]
pub(crate) struct RecordFacts {
    pub(crate) inline: Option<InlineFacts>,
    pub(crate) tombstone: bool,
}

/// The schema of one record type.
pub(crate) struct SchemaOf<R>(std::marker::PhantomData<fn() -> R>);

impl<R: Record> SchemaOf<R> {
    pub(crate) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

fn encoded<R: Record>(record: &R) -> Result<Bytes, FormatError> {
    match encode_format(record) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(FormatError::Unwritable { name: R::NAME, reason: error.to_string() }),
    }
}

fn merge_decoded<R: Record>(current: Option<R>, incoming: R) -> Result<Merged, FormatError> {
    let Some(current) = current else {
        let bytes = incoming.inline().map_or(BytesBeside::Gone, BytesBeside::Incoming);
        return Ok(Merged::Changed { record: encoded(&incoming)?, bytes });
    };
    let before = encoded(&current)?;
    let (had, brought) = (current.inline(), incoming.inline());
    let incoming_wins = incoming.version().order() > current.version().order();
    let merged = current.merge(incoming);
    let record = encoded(&merged)?;
    if record == before {
        return Ok(Merged::Unchanged);
    }
    let bytes = match merged.inline() {
        None => BytesBeside::Gone,
        Some(_) if !incoming_wins && had.is_some() => BytesBeside::Kept,
        Some(facts) => match brought {
            Some(incoming) if incoming == facts => BytesBeside::Incoming(facts),
            _ => BytesBeside::Kept,
        },
    };
    Ok(Merged::Changed { record, bytes })
}

impl<R: Record> Schema for SchemaOf<R> {
    fn merge(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Merged, FormatError> {
        let current = current.map(decode_format::<R>).transpose()?;
        merge_decoded(current, decode_format::<R>(incoming)?)
    }

    fn newer(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Newer, FormatError> {
        let Some(current) = current.map(decode_format::<R>).transpose()? else {
            return Ok(None);
        };
        let (held, brought) =
            (current.version().order(), decode_format::<R>(incoming)?.version().order());
        Ok((held > brought).then_some(held.1))
    }

    fn mint(
        &self,
        current: Option<&[u8]>,
        record: &[u8],
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Result<Minted, FormatError> {
        let current = current.map(decode_format::<R>).transpose()?;
        let mut record = decode_format::<R>(record)?;
        record.set_version(mint(current.as_ref().map(Record::version)));
        Ok(Minted { record: encoded(&record)?, merged: merge_decoded(current, record)? })
    }

    fn upgraded(&self, record: &[u8]) -> Result<Bytes, FormatError> {
        encoded(&decode_format::<R>(record)?)
    }

    fn facts(&self, record: &[u8]) -> Result<RecordFacts, FormatError> {
        let record = decode_format::<R>(record)?;
        Ok(RecordFacts { inline: record.inline(), tombstone: record.is_tombstone() })
    }
}

/// The tables that a node serves.
#[derive(Clone, Default)]
pub struct Tables {
    schemas: std::collections::BTreeMap<TableId, Arc<dyn Schema>>,
}

impl Tables {
    /// Adds the table of `R`.
    #[must_use]
    pub fn with<R: Record>(mut self) -> Self {
        self.schemas.insert(R::TABLE, Arc::new(SchemaOf::<R>::new()));
        self
    }

    /// A stored record in the format that this release writes; `None` for a table that is not
    /// among these.
    ///
    /// # Errors
    /// [`FormatError`] if the record is damaged or from a newer release.
    pub fn upgraded(&self, table: TableId, record: &[u8]) -> Option<Result<Bytes, FormatError>> {
        Some(self.schema(table)?.upgraded(record))
    }

    pub(crate) fn schema(&self, table: TableId) -> Option<&Arc<dyn Schema>> {
        self.schemas.get(&table)
    }
}

/// The key of a replicated row: which partition it belongs to, and where it sorts there.
///
/// Stored as partition (big-endian) | routing key | sort key, so that a partition, and within
/// it everything routed alike, is one contiguous range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The table.
    pub table: TableId,
    /// What is hashed to find the partition.
    pub routing: Bytes,
    /// The place among rows that are routed alike.
    pub sort: Bytes,
}

impl RowKey {
    /// The partition of this row under `layout`.
    #[must_use]
    pub fn partition(&self, layout: &Layout) -> Partition {
        partition_in(layout, self.table, &self.routing)
    }

    /// The key of the stored row.
    #[must_use]
    pub fn stored(&self, partition: Partition) -> Bytes {
        stored_key(partition, &self.routing, &self.sort)
    }
}

/// The partition of rows of `table` that are routed so.
#[must_use]
pub(crate) fn partition_in(layout: &Layout, table: TableId, routing: &[u8]) -> Partition {
    if table.is_full_copy() { Partition(0) } else { layout.partition_of(routing) }
}

/// The key of a stored row.
#[must_use]
pub(crate) fn stored_key(partition: Partition, routing: &[u8], sort: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(4 + routing.len() + sort.len());
    key.extend_from_slice(&partition.as_u32().to_be_bytes());
    key.extend_from_slice(routing);
    key.extend_from_slice(sort);
    key.into()
}
