//! The real tables: RocksDB, one column family per [`Family`].
//!
//! What can go wrong: a record cut in the middle of the write-ahead log by a power cut (its batch
//! was never acknowledged and is dropped); damage before the log's tail (opening is refused, never
//! rolled back in silence, which is what RocksDB's default recovery mode would do); a failed sync
//! (every later write is refused); a full disk (RocksDB resumes by itself once there is room).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, DBRawIterator, DBRecoveryMode, ErrorKind, MergeOperands, Options,
    ReadOptions, ReadTier, WriteBatch, WriteBufferManager, WriteOptions, properties,
};

use super::error::StoreError;
use super::figures::DAMAGED_ROWS;
use super::folder::with_patience;
use super::meta::{
    Batch, Cached, Durability, Family, FamilyVisitor, KeyRange, MetaFigures, MetaStore, Operation,
    Visit, decode_sum, encode_sum,
};
use crate::types::ByteCount;

/// Background threads for flushes and compactions.
const BACKGROUND_JOBS: i32 = 2;
/// Bits of bloom filter per key: about 1 % of absent keys cost a block read.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Bytes of one piece of an index or filter.
const METADATA_BLOCK: usize = 4 << 10;
/// Open table files; their indexes live in the block cache.
const OPEN_FILES_MAX: i32 = 512;
/// RocksDB's own information log: files kept, and bytes of each.
const INFO_LOGS_KEPT: usize = 3;
const INFO_LOG_BYTES_MAX: usize = 4 << 20;

/// Memory that the tables may use, in all families together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaOptions {
    /// Cached blocks, with their indexes and filters. Default 64 MiB.
    pub block_cache: ByteCount,
    /// Rows not yet in table files. Default 32 MiB.
    pub write_buffers: ByteCount,
}

impl Default for MetaOptions {
    fn default() -> Self {
        Self { block_cache: ByteCount::mib(64), write_buffers: ByteCount::mib(32) }
    }
}

/// RocksDB in a folder of its own. Every synced write is on stable storage when it returns.
pub struct RocksMeta {
    database: DB,
    path: PathBuf,
    cache: Cache,
    buffers: WriteBufferManager,
    /// What the system said when a write or sync failed; from then on nothing is written.
    stopped: Mutex<Option<String>>,
}

impl RocksMeta {
    /// Opens the tables in `path`, creating them if they are not there.
    ///
    /// # Errors
    /// [`StoreError::Io`] if another process has them open or the system refuses,
    /// [`StoreError::Damaged`] if the files do not match their checksums.
    pub fn open(path: &Path, options: MetaOptions) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path).map_err(|error| StoreError::io("create", path, &error))?;
        let cache = Cache::new_lru_cache(options.block_cache.as_usize());
        let buffers =
            WriteBufferManager::new_write_buffer_manager(options.write_buffers.as_usize(), false);
        let database = with_patience(|| {
            let families = Family::ALL.map(|family| {
                ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache, options))
            });
            DB::open_cf_descriptors(&database_options(&buffers), path, families)
                .map_err(|error| open_error(path, &error))
        })?;
        Ok(Self { database, path: path.to_owned(), cache, buffers, stopped: Mutex::new(None) })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        self.database.cf_handle(family.name()).ok_or_else(|| StoreError::Damaged {
            path: self.path.clone(),
            reason: format!("table '{}' is missing", family.name()),
        })
    }

    fn read_error(&self, error: &rocksdb::Error) -> StoreError {
        let path = self.path.clone();
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::Corruption => {
                DAMAGED_ROWS.inc();
                tracing::error!(path = %path.display(), reason, "a damaged row is not served from here");
                StoreError::Damaged { path, reason }
            }
            _ => StoreError::Io { action: "read rows in", path, reason },
        }
    }

    fn write_error(&self, error: &rocksdb::Error) -> StoreError {
        let path = self.path.clone();
        let reason = error.to_string();
        if reason.contains("No space left") || reason.contains("Disk quota exceeded") {
            return StoreError::Full { path };
        }
        self.stopped.lock().get_or_insert_with(|| reason.clone());
        StoreError::Stopped { path, reason }
    }

    fn check_running(&self) -> Result<(), StoreError> {
        match &*self.stopped.lock() {
            None => Ok(()),
            Some(reason) => {
                Err(StoreError::Stopped { path: self.path.clone(), reason: reason.clone() })
            }
        }
    }

    fn show(
        &self,
        mut rows: DBRawIterator<'_>,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StoreError> {
        rows.seek(&range.start);
        while let Some((key, value)) = rows.item() {
            match visit(key, value) {
                Visit::Next => rows.next(),
                Visit::Seek(target) => seek_ahead(&mut rows, &target),
                Visit::Stop => return Ok(()),
            }
        }
        rows.status().map_err(|error| self.read_error(&error))
    }

    fn rows_estimated(&self, family: Family) -> u64 {
        self.number(family, properties::ESTIMATE_NUM_KEYS)
    }

    fn number(&self, family: Family, property: &properties::PropName) -> u64 {
        let Ok(handle) = self.family(family) else { return 0 };
        self.database.property_int_value_cf(handle, property).ok().flatten().unwrap_or(0)
    }
}

impl MetaStore for RocksMeta {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.database
            .get_cf(self.family(family)?, key)
            .map(|value| value.map(Bytes::from))
            .map_err(|error| self.read_error(&error))
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        match self.database.get_cf_opt(self.family(family)?, key, &options) {
            Ok(value) => Ok(Cached::Known(value.map(Bytes::from))),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Cached::Unknown),
            Err(error) => Err(self.read_error(&error)),
        }
    }

    fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StoreError> {
        let rows = self.database.raw_iterator_cf_opt(self.family(family)?, within(range));
        self.show(rows, range, visit)
    }

    fn scan_together(
        &self,
        ranges: &[(Family, KeyRange)],
        visit: &mut FamilyVisitor<'_>,
    ) -> Result<(), StoreError> {
        let view = self.database.snapshot();
        for (family, range) in ranges {
            let rows = view.raw_iterator_cf_opt(self.family(*family)?, within(range));
            self.show(rows, range, &mut |key, value| visit(*family, key, value))?;
        }
        Ok(())
    }

    fn write(&self, batches: &[Batch], durability: Durability) -> Result<(), StoreError> {
        self.check_running()?;
        let mut all = WriteBatch::default();
        for operation in batches.iter().flat_map(Batch::operations) {
            match operation {
                Operation::Put { family, key, value } => {
                    all.put_cf(self.family(*family)?, key, value);
                }
                Operation::Delete { family, key } => all.delete_cf(self.family(*family)?, key),
                Operation::Add { family, key, amount } => {
                    all.merge_cf(self.family(*family)?, key, encode_sum(*amount));
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.database.write_opt(all, &options).map_err(|error| self.write_error(&error))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.check_running()?;
        self.database.flush_wal(true).map_err(|error| self.write_error(&error))
    }

    fn figures(&self) -> MetaFigures {
        let sum = |property| Family::ALL.map(|family| self.number(family, property)).iter().sum();
        MetaFigures {
            memtable_bytes: u64::try_from(self.buffers.get_usage()).unwrap_or(u64::MAX),
            cache_bytes: u64::try_from(self.cache.get_usage()).unwrap_or(u64::MAX),
            disk_bytes: sum(properties::TOTAL_SST_FILES_SIZE),
            rows_estimated: Family::ALL
                .map(|family| (family.name(), self.rows_estimated(family)))
                .to_vec(),
        }
    }
}

/// Options of an iterator that ends where the range does.
fn within(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = &range.end {
        options.set_iterate_upper_bound(end.clone());
    }
    options
}

/// A target that does not lie ahead moves on by one row, so that no visitor can loop for ever.
fn seek_ahead(rows: &mut DBRawIterator<'_>, target: &[u8]) {
    match rows.key() {
        Some(key) if target > key => rows.seek(target),
        _ => rows.next(),
    }
}

fn database_options(buffers: &WriteBufferManager) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // The default mode stops at the first damaged record of the log and drops all later ones,
    // acknowledged writes among them. This one drops a torn tail only and refuses the rest.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_write_buffer_manager(buffers);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_keep_log_file_num(INFO_LOGS_KEPT);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options
}

/// Sums of a row and what was added to it.
fn add_up(_key: &[u8], before: Option<&[u8]>, amounts: &MergeOperands) -> Option<Vec<u8>> {
    let before = before.map_or(0, decode_sum);
    let sum = amounts.iter().fold(before, |sum, amount| sum.wrapping_add(decode_sum(amount)));
    Some(encode_sum(sum).to_vec())
}

fn family_options(of: Family, cache: &Cache, options: MetaOptions) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_optimize_filters_for_memory(true);
    // Indexes and filters share the cache with the rows, in pieces of a block: whole ones of a
    // large file do not fit a shard of the cache, and would be read again for every row.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut family = Options::default();
    family.set_block_based_table_factory(&blocks);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_level_compaction_dynamic_level_bytes(true);
    // The manager bounds the sum; one busy family may use nearly all of it.
    family.set_write_buffer_size(options.write_buffers.as_usize());
    if of == Family::Leaves {
        family.set_merge_operator_associative("sum of 128 bits", add_up);
    }
    family
}

fn open_error(path: &Path, error: &rocksdb::Error) -> StoreError {
    let path = path.to_owned();
    let reason = error.to_string();
    if reason.contains("lock") && error.kind() == ErrorKind::IOError {
        let reason = format!(
            "another process holds it; stop that node first, or give this one a folder of its own ({reason})"
        );
        return StoreError::Io { action: "lock", path, reason };
    }
    match error.kind() {
        ErrorKind::Corruption => StoreError::Damaged { path, reason },
        _ => StoreError::Io { action: "open the tables in", path, reason },
    }
}
