//! Keys and values of the key-value API: read, written, deleted and scanned in order.

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use crate::causality::{CausalContext, Dot, Stamp};
use crate::codec::{Crc32c, decode_format, encode_format};
use crate::replication::{Level, NewWrite, RowKey, ScanEntry, ScanQuery, Served, TableId, Want};
use crate::store::next_prefix;
use crate::types::{ByteCount, Key};

use super::error::CatalogError;
use super::keys::{kv_row, shards};
use super::kv_row::KvRow;
use super::records::BucketRecord;
use super::service::Catalog;

/// The largest value.
pub const KV_VALUE_MAX: ByteCount = ByteCount::kib(256);

/// One value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvValueRead {
    /// The name of its write.
    pub dot: Dot,
    /// When it was written.
    pub stamp: Stamp,
    /// Its checksum.
    pub crc: Crc32c,
    /// The value.
    pub value: Bytes,
}

/// What stands under a key.
#[derive(Clone, Debug)]
pub struct KvRead {
    /// The values: none if the key is not there, several if concurrent writes left them.
    pub values: Vec<KvValueRead>,
    /// Deletions that stand beside them.
    pub deletions: usize,
    /// What whoever got this has seen; `None` if there is nothing, not even a deletion.
    pub context: Option<CausalContext>,
    /// How it was served.
    pub served: Served,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct KvWritten {
    /// How many values and deletions stand now, where the write was minted.
    pub siblings: usize,
    /// What the writer has seen, if nothing else stands: else it must read to know.
    pub context: Option<CausalContext>,
    /// How it was served.
    pub served: Served,
}

/// A page of keys to be scanned.
#[derive(Clone, Debug, Default)]
pub struct KvScan {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Groups keys that share what comes before this after the prefix; not empty if given.
    pub delimiter: Option<Bytes>,
    /// The first key of interest.
    pub from: Bytes,
    /// At most so many entries.
    pub max: usize,
}

/// One line of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEntry {
    /// A key with values.
    Key {
        /// The key.
        key: Key,
        /// How many values it has.
        siblings: usize,
        /// Their bytes, all together.
        bytes: u64,
        /// When it was last written.
        stamp: Stamp,
    },
    /// Keys that share this prefix, delimiter included.
    Prefix(Bytes),
}

/// One page of a scan, in key order.
#[derive(Clone, Debug)]
pub struct KvPage {
    /// Keys and prefixes.
    pub entries: Vec<KvEntry>,
    /// Where the next page starts, as [`KvScan::from`]; `None` at the end.
    pub next: Option<Bytes>,
    /// How it was served.
    pub served: Served,
}

/// A place among the bodies that may be on their way in.
#[derive(Debug)]
pub struct KvPlace<'a> {
    _place: SemaphorePermit<'a>,
}

/// What a causal context of that key is bound to.
#[must_use]
pub fn kv_context_scope(bucket: &BucketRecord, key: &Key) -> Vec<u8> {
    [&bucket.id.as_bytes()[..], key.as_bytes()].concat()
}

/// The first key after everything that begins with `prefix`; `None` if nothing can follow.
#[must_use]
pub fn kv_after_prefix(prefix: &[u8]) -> Option<Bytes> {
    next_prefix(prefix).map(Bytes::from)
}

impl Catalog {
    /// Reads a key.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] if too few replicas answer: never "absent" for "unknown".
    pub async fn kv_get(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        level: Level,
    ) -> Result<KvRead, CatalogError> {
        let row = kv_row(bucket, key);
        let n = usize::from(bucket.n);
        let receipt = self.coordinator.read(&row, n, level, Want::Record).await?;
        let served = receipt.served;
        let Some(record) = receipt.record else {
            return Ok(KvRead { values: Vec::new(), deletions: 0, context: None, served });
        };
        let row = decode_kv(&record)?;
        let context = Some(row.context());
        let all = row.siblings.len();
        let values: Vec<KvValueRead> = row
            .siblings
            .into_iter()
            .filter_map(|sibling| {
                let value = sibling.value?;
                Some(KvValueRead {
                    dot: sibling.dot,
                    stamp: sibling.stamp,
                    crc: value.crc,
                    value: value.bytes?,
                })
            })
            .collect();
        Ok(KvRead { deletions: all - values.len(), values, context, served })
    }

    /// Writes a value that supersedes what `context` covers; without one it supersedes nothing,
    /// and stands beside whatever is there.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] if the key would have too many concurrent values: nothing was
    /// done then, and the key stays readable.
    pub async fn kv_put(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (level, context): (Level, Option<CausalContext>),
        value: Bytes,
    ) -> Result<KvWritten, CatalogError> {
        self.kv_write(bucket, key, (level, context.unwrap_or_default()), Some(value)).await
    }

    /// Deletes what `context` covers; without one, what a read at this level finds now. A value
    /// that was written meanwhile by somebody else stays.
    ///
    /// # Errors
    /// As [`Catalog::kv_put`].
    pub async fn kv_delete(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (level, context): (Level, Option<CausalContext>),
    ) -> Result<KvWritten, CatalogError> {
        let context = match context {
            Some(context) => context,
            None => {
                let found = self.kv_get(bucket, key, level).await?;
                match found.context {
                    Some(context) if !found.values.is_empty() => context,
                    // There is nothing to delete.
                    context => {
                        let served = found.served;
                        return Ok(KvWritten { siblings: found.deletions, context, served });
                    }
                }
            }
        };
        self.kv_write(bucket, key, (level, context), None).await
    }

    async fn kv_write(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (level, context): (Level, CausalContext),
        value: Option<Bytes>,
    ) -> Result<KvWritten, CatalogError> {
        let row: RowKey = kv_row(bucket, key);
        let record = KvRow::asked((bucket.id, bucket.epoch), context, value);
        let record = encode_format(&record)
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let write = NewWrite {
            record: record.into(),
            inline: Bytes::new(),
            n: usize::from(bucket.n),
            level,
            begun: self.coordinator.site().now(),
        };
        let receipt = self.coordinator.write(&row, write).await?;
        let minted = decode_kv(&receipt.record)?;
        let siblings = minted.siblings.len();
        let context = (siblings == 1).then(|| minted.context());
        Ok(KvWritten { siblings, context, served: receipt.served })
    }

    /// Scans a page of keys, in the order of their bytes. It is no snapshot across pages.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] if a shard has no quorum.
    pub async fn kv_scan(
        &self,
        bucket: &BucketRecord,
        level: Level,
        scan: &KvScan,
    ) -> Result<KvPage, CatalogError> {
        let query = ScanQuery {
            table: TableId::Kv,
            slices: shards(bucket),
            prefix: scan.prefix.clone(),
            delimiter: scan.delimiter.clone(),
            from: scan.from.clone().max(scan.prefix.clone()),
            max: scan.max,
            n: usize::from(bucket.n),
            level,
        };
        let page = self.scan_to_something(query).await?;
        let entries = page.entries.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(KvPage { entries, next: page.next, served: page.served })
    }

    /// A place among the bodies that may be on their way in; to be held while a value is read
    /// and written.
    ///
    /// # Errors
    /// [`CatalogError::SlowDown`] if there is none.
    pub fn kv_place(&self) -> Result<KvPlace<'_>, CatalogError> {
        self.bodies.try_acquire().map(|place| KvPlace { _place: place }).map_err(|_| {
            CatalogError::SlowDown {
                reason: format!("{} bodies are on their way in", self.limits.bodies_max),
            }
        })
    }
}

fn entry(entry: &ScanEntry) -> Result<KvEntry, CatalogError> {
    let (sort, record) = match entry {
        ScanEntry::Prefix(prefix) => return Ok(KvEntry::Prefix(prefix.clone())),
        ScanEntry::Row { sort, record } => (sort, record),
    };
    let key = Key::new(sort.clone())
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
    let row = decode_kv(record)?;
    Ok(KvEntry::Key {
        key,
        siblings: row.values().count(),
        bytes: row.values().map(|(_, value)| u64::from(value.length)).sum(),
        stamp: row.version.stamp,
    })
}

fn decode_kv(record: &Bytes) -> Result<KvRow, CatalogError> {
    decode_format::<KvRow>(record)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })
}
