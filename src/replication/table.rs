//! Replicated tables: what the engine must know of a record to store, order and merge it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::{HybridTime, Stamp};
use crate::codec::{Crc32c, Format, FormatError, decode_format, encode_format};
use crate::ring::{Layout, Partition};
use crate::store::Family;

use super::error::ReplicationError;
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
    /// Keys and values of the key-value API.
    Kv,
    /// Which extents should exist.
    Extents,
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
            Self::Kv => Family::Kv,
            Self::Extents => Family::ExtentRows,
        }
    }

    /// Its number in stored keys: part of the format of the tables.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Objects => 1,
            Self::Uploads => 2,
            Self::Buckets => 3,
            Self::Credentials => 4,
            Self::Kv => 5,
            Self::Extents => 6,
        }
    }

    /// Bytes of the routing key in a stored key of `length` bytes, its partition left out: part
    /// of the format of the tables. `None` if no row of this table has such a key.
    #[must_use]
    pub fn routing_length(self, length: usize) -> Option<usize> {
        match self {
            // A bucket and its index shard.
            Self::Objects | Self::Uploads | Self::Kv => (length >= 18).then_some(18),
            Self::Buckets | Self::Credentials => Some(0),
            // An extent's id comes last.
            Self::Extents => length.checked_sub(16),
        }
    }

    /// The table of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.number() == number)
    }

    /// Every table.
    pub const ALL: [Self; 6] =
        [Self::Objects, Self::Uploads, Self::Buckets, Self::Credentials, Self::Kv, Self::Extents];

    /// The tables that are spread over the ring: those that trees, hints and floors are about.
    pub const SHARDED: [Self; 4] = [Self::Objects, Self::Uploads, Self::Kv, Self::Extents];

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

    /// What an owner makes of a record that a client wrote, under the key's lock: the record with
    /// the version that `mint` makes of the one that is to be superseded.
    #[must_use]
    fn minted(
        mut self,
        current: Option<&Self>,
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Self {
        self.set_version(mint(current.map(Self::version)));
        self
    }

    /// Why an owner must refuse a client's write, which was minted from `current` to this record.
    fn refusal(&self, _current: Option<&Self>) -> Option<String> {
        None
    }

    /// Whether scans show less of a record than it holds.
    const LISTED_ABRIDGED: bool = false;

    /// What scans show of it.
    #[must_use]
    fn abridged(self) -> Self {
        self
    }

    /// Whether a write that meets a newer one at another owner has lost, and must be minted
    /// again above it. Records that keep concurrent writes side by side lose none.
    fn can_lose(&self) -> bool {
        true
    }

    /// The bytes that belong beside it, if it has any.
    fn inline(&self) -> Option<InlineFacts> {
        None
    }

    /// Whether it names extents that live as long as it does.
    fn names_extents(&self) -> bool {
        false
    }

    /// The epoch of its bucket when it was written, if it belongs to one.
    fn bucket_epoch(&self) -> Option<u64> {
        None
    }

    /// Whether concurrent values stand side by side in it.
    const HAS_SIBLINGS: bool = false;

    /// It without those of its concurrent values that are stamped not above `floor` and that
    /// `held` has not: what is so old and not held was superseded and purged.
    #[must_use]
    fn above(self, _held: Option<&Self>, _floor: HybridTime) -> Self {
        self
    }

    /// Whether it says that the key is gone.
    fn is_tombstone(&self) -> bool;
}

/// A record's merge, for an engine that handles encoded records of any table.
pub(crate) trait Schema: Send + Sync {
    /// Merges `incoming` into `current`.
    fn merge(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Merging, FormatError>;

    /// Makes `record`, as a client wrote it, a write with the version that `mint` makes, and
    /// merges it; or says why it must be refused.
    fn mint(
        &self,
        current: Option<&[u8]>,
        record: &[u8],
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Result<Minted, ReplicationError>;

    /// `incoming` without what is too old to enter; see [`Record::above`]. `None` if records of
    /// this table are taken whole.
    fn above(
        &self,
        held: Option<&[u8]>,
        incoming: &[u8],
        floor: HybridTime,
    ) -> Result<Option<Bytes>, FormatError>;

    /// What scans show of `record`, if that is less than all of it.
    fn listed(&self, record: &[u8]) -> Option<Bytes>;

    /// `record` in the format that this release writes.
    fn upgraded(&self, record: &[u8]) -> Result<Bytes, FormatError>;

    /// The facts of `record` that the engine needs.
    fn facts(&self, record: &[u8]) -> Result<RecordFacts, FormatError>;
}

/// What came of a merge.
#[derive(Debug)]
pub(crate) struct Merging {
    /// What the replica is to store.
    pub(crate) merged: Merged,
    /// The write that was held before, if the incoming one lost to it.
    pub(crate) newer: Option<Version>,
}

/// What a merge leaves on a replica.
#[derive(Debug)]
pub(crate) enum Merged {
    /// The stored record already covers the incoming one.
    Unchanged,
    /// A new record; the bytes beside it are the incoming ones, or stay as they are.
    Changed { record: Bytes, bytes: BytesBeside, gone: bool },
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
    pub(crate) stamp: Stamp,
    pub(crate) names_extents: bool,
    pub(crate) bucket_epoch: Option<u64>,
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

fn merge_decoded<R: Record>(
    current: Option<(R, &[u8])>,
    incoming: R,
) -> Result<Merging, FormatError> {
    let Some((current, before)) = current else {
        let bytes = incoming.inline().map_or(BytesBeside::Gone, BytesBeside::Incoming);
        let gone = incoming.is_tombstone();
        let merged = Merged::Changed { record: encoded(&incoming)?, bytes, gone };
        return Ok(Merging { merged, newer: None });
    };
    let (had, brought) = (current.inline(), incoming.inline());
    let incoming_wins = incoming.version().order() > current.version().order();
    let loses = incoming.can_lose() && current.version().order() > incoming.version().order();
    let newer = loses.then(|| current.version().clone());
    let merged = current.merge(incoming);
    let record = encoded(&merged)?;
    if record == before {
        return Ok(Merging { merged: Merged::Unchanged, newer });
    }
    let bytes = match merged.inline() {
        None => BytesBeside::Gone,
        Some(_) if !incoming_wins && had.is_some() => BytesBeside::Kept,
        Some(facts) => match brought {
            Some(incoming) if incoming == facts => BytesBeside::Incoming(facts),
            _ => BytesBeside::Kept,
        },
    };
    let gone = merged.is_tombstone();
    Ok(Merging { merged: Merged::Changed { record, bytes, gone }, newer })
}

fn with_bytes<R: Record>(current: Option<&[u8]>) -> Result<Option<(R, &[u8])>, FormatError> {
    current.map(|bytes| decode_format::<R>(bytes).map(|record| (record, bytes))).transpose()
}

impl<R: Record> Schema for SchemaOf<R> {
    fn merge(&self, current: Option<&[u8]>, incoming: &[u8]) -> Result<Merging, FormatError> {
        merge_decoded(with_bytes::<R>(current)?, decode_format::<R>(incoming)?)
    }

    fn mint(
        &self,
        current: Option<&[u8]>,
        record: &[u8],
        mint: &mut dyn FnMut(Option<&Version>) -> Version,
    ) -> Result<Minted, ReplicationError> {
        let current = with_bytes::<R>(current)?;
        let record = decode_format::<R>(record)?;
        let standing = current.as_ref().map(|(current, _)| current);
        let record = record.minted(standing, mint);
        if let Some(reason) = record.refusal(standing) {
            return Err(ReplicationError::Rejected(reason));
        }
        Ok(Minted { record: encoded(&record)?, merged: merge_decoded(current, record)?.merged })
    }

    fn above(
        &self,
        held: Option<&[u8]>,
        incoming: &[u8],
        floor: HybridTime,
    ) -> Result<Option<Bytes>, FormatError> {
        if !R::HAS_SIBLINGS {
            return Ok(None);
        }
        let held = held.map(decode_format::<R>).transpose()?;
        encoded(&decode_format::<R>(incoming)?.above(held.as_ref(), floor)).map(Some)
    }

    fn listed(&self, record: &[u8]) -> Option<Bytes> {
        if !R::LISTED_ABRIDGED {
            return None;
        }
        // A record that cannot be read is shown as it is: whoever reads it will say so.
        decode_format::<R>(record).ok().and_then(|record| encoded(&record.abridged()).ok())
    }

    fn upgraded(&self, record: &[u8]) -> Result<Bytes, FormatError> {
        encoded(&decode_format::<R>(record)?)
    }

    fn facts(&self, record: &[u8]) -> Result<RecordFacts, FormatError> {
        let record = decode_format::<R>(record)?;
        Ok(RecordFacts {
            inline: record.inline(),
            tombstone: record.is_tombstone(),
            stamp: record.version().stamp,
            names_extents: record.names_extents(),
            bucket_epoch: record.bucket_epoch(),
        })
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

    /// The row whose stored key, without its partition, this is; `None` if it is too short.
    #[must_use]
    pub fn parse(table: TableId, key: &Bytes) -> Option<Self> {
        let length = table.routing_length(key.len())?;
        let (routing, sort) = (key.get(..length)?.len(), key.slice(length..));
        Some(Self { table, routing: key.slice(..routing), sort })
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
